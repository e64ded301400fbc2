//! `wmic demo`

use std::path::PathBuf;

use super::common::load_dataset;
use super::{Device, Verdict, predict, train};
use wmic::data::synth;
use wmic::train::{Config, RunDir};

/// See everything once: make a small dataset, train on it, evaluate, predict (under two minutes without a GPU)
#[derive(clap::Args)]
pub struct Args {
    /// Folder for the dataset and the run; a former demo there is replaced
    #[arg(long, value_name = "DIR", default_value = "wmic-demo")]
    out: PathBuf,
    #[command(flatten)]
    device: Device,
}

const CLIPS: usize = 2000;
const EPOCHS: usize = 30;
const SEEDS: u64 = 3;

impl Args {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let (dataset, run) = (self.out.join("dataset"), self.out.join("run"));
        println!("1. A dataset of {CLIPS} clips whose answer is known: {}", dataset.display());
        if !dataset.join("openmic-2018.npz").is_file() {
            synth(&dataset, CLIPS, 0)?;
        }
        println!("2. Training att with {SEEDS} seeds for {EPOCHS} epochs");
        let data = load_dataset(&dataset)?;
        let gpu = self.device.open()?;
        let config = Config { seeds: (0..SEEDS).collect(), epochs: EPOCHS, ..Config::of("att", &data.path)? };
        let run_dir = RunDir::create(&run, true)?;
        let verdict = train::train(&gpu, &config, &data, &run_dir, false, false)?;
        if verdict != Verdict::Done {
            return Ok(verdict);
        }
        println!("3. What it says about the first test clips, and in which second it hears it");
        let first: Vec<usize> = data.test.iter().take(3).map(|&i| i as usize).collect();
        predict::show(&gpu, &run_dir, &data, &first)?;
        println!("Now on real recordings: wmic train openmic-2018/ --seeds 10");
        Ok(Verdict::Done)
    }
}
