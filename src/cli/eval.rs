//! `wmic eval`

use std::path::PathBuf;

use super::common::{load_dataset, print_evaluation};
use super::{Device, Verdict};
use wmic::train::{RunDir, Split, Trained};

/// Score a run on a split of a dataset: every seed, their ensemble, each class
#[derive(clap::Args)]
pub struct Args {
    /// Run directory of `wmic train`
    run: PathBuf,
    /// Folder in OpenMIC-2018's layout, with the classes the run was trained on
    dataset: PathBuf,
    /// Which clips; val and train are each seed's own, drawn from the training split as in the run
    #[arg(long, value_enum, default_value = "test")]
    split: Split,
    #[command(flatten)]
    device: Device,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trained = Trained::load(&RunDir::open(&self.run)?)?;
        let data = load_dataset(&self.dataset)?;
        let gpu = self.device.open()?;
        print_evaluation(&trained.evaluate(&gpu, &data, self.split)?, self.json)?;
        Ok(Verdict::Done)
    }
}
