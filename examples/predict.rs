//! Says which instruments the first clips of a dataset have: `cargo run --release --example predict RUN DATASET`, for example with
//! the run and the dataset of the example `train`.

use std::path::Path;

use wmic::{Dataset, Error, Gpu, Result, RunDir, Trained};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, data] = &arguments[..] else {
        return Err(Error::Usage("a run and a dataset are expected".into()));
    };
    let gpu = Gpu::open(None)?;
    let trained = Trained::load(&RunDir::open(Path::new(run))?)?;
    let dataset = Dataset::load(Path::new(data))?;

    let clips = [0, 1, 2];
    let predictions = trained.predict_some(&gpu, &dataset.features, &clips)?;
    let thresholds = trained.common_thresholds()?;
    for (row, clip) in clips.into_iter().enumerate() {
        println!("{}", dataset.keys[clip as usize]);
        for (k, class) in dataset.classes.iter().enumerate() {
            // The seeds of the run answer together.
            let sum: f32 = predictions.probabilities.iter().map(|of_seed| of_seed.row(row)[k]).sum();
            let p = f64::from(sum) / predictions.probabilities.len() as f64;
            if p >= thresholds[k] {
                println!("  {class} {p:.2}");
            }
        }
    }
    Ok(())
}
