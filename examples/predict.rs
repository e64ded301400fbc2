//! Predicts the instruments in audio files, RUN being a directory of `wmic train`:
//! `cargo run --release --example predict RUN FILE`

use std::path::Path;

use wmic::predict::recogniser::Options;
use wmic::{Error, Gpu, Recogniser, Result, RunDir, Trained};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, file] = &arguments[..] else {
        return Err(Error::Usage("a run and a sound file are expected".into()));
    };
    let trained = Trained::load(&RunDir::open(Path::new(run))?)?;
    let mut recogniser = Recogniser::new(&Gpu::open(None)?, trained, Options::default())?;
    let recognised = recogniser.recognise_file(file)?;
    for instrument in recognised.recognition.ranked() {
        let mark = if instrument.present { '*' } else { ' ' };
        println!("{mark} {:.2} {}", instrument.probability, instrument.name);
    }
    Ok(())
}
