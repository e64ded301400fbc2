//! Trains two seeds of ATT side by side on a synthetic dataset and evaluates them:
//! `cargo run --release --example train`.

use wmic::{Config, Dataset, Event, Gpu, Result, Session};

fn main() -> Result<()> {
    let folder = std::env::temp_dir().join("wmic-example");
    let (data, run) = (folder.join("data"), folder.join("run"));
    if !data.is_dir() {
        wmic::data::synth(&data, 300, 0)?;
    }
    let dataset = Dataset::load(&data)?;
    let gpu = Gpu::open(None)?;

    // The protocol of the model's paper, with these changes.
    let config = Config { seeds: vec![0, 1], epochs: 10, ..Config::of("att", &data)? };
    let mut session = Session::begin(&gpu, &config, &dataset, &run, true)?;
    session.train(&|| false, &mut |event| {
        if let Event::Epoch { rows, clips_per_s } = event {
            let of_seeds: Vec<String> = rows.iter().map(|row| format!("{:.3}", row.val_loss)).collect();
            println!("epoch {}: validation losses {}; {clips_per_s:.0} clips/s", rows[0].epoch, of_seeds.join(", "));
        }
    })?;

    let outcome = session.finish()?;
    wmic::report::write(&outcome, &dataset)?;
    println!("macro F1 {:.3}; see {}", outcome.evaluation.mean.f1_pn.unwrap_or(0.0), outcome.run.report().display());
    Ok(())
}
