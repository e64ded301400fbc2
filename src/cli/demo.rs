//! `wmic demo`

use std::path::PathBuf;

use super::common::load_dataset;
use super::output::print;
use super::{Device, Verdict, predict, train};
use wmic::data::synth;
use wmic::train::{Config, RunDir};

/// See everything once: make a small dataset, train on it, evaluate, predict (under two minutes without a GPU)
#[derive(clap::Args)]
pub struct Args {
    /// Folder for the dataset and the run; a former demo's dataset is used again, its run is replaced
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
        let gpu = self.device.open()?;
        print(&format!("1. A dataset of {CLIPS} clips whose answer is known: {}\n", dataset.display()))?;
        if !dataset.join("openmic-2018.npz").is_file() {
            synth(&dataset, CLIPS, 0)?;
        }
        print(&format!("2. Training att with {SEEDS} seeds for {EPOCHS} epochs\n"))?;
        let data = load_dataset(&dataset)?;
        let path = train::absolute(&data.path)?;
        let config = Config { seeds: (0..SEEDS).collect(), epochs: EPOCHS, ..Config::of("att", path)? };
        let verdict = train::train(&gpu, &config, &data, &run, true, false)?;
        if verdict != Verdict::Done {
            return Ok(verdict);
        }
        print("3. What it says about the first test clips, and in which second it hears it\n")?;
        let first: Vec<usize> = data.test.iter().take(3).map(|&i| i as usize).collect();
        predict::show(&gpu, &RunDir::open(&run)?, &data, &first)?;
        print("Now on real recordings: wmic train openmic-2018/ --seeds 10\n")?;
        Ok(Verdict::Done)
    }
}
