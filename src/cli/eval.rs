//! `wmic eval`

use std::path::PathBuf;
use std::process::ExitCode;

use super::common::{load_dataset, print_evaluation};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::train::{RunDir, Split, Trained};

/// Score a run on a split of a dataset: every seed, their ensemble, each class
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run directory of `wmic train`
    run: PathBuf,
    /// Folder in OpenMIC-2018's layout, with the classes the run was trained on
    dataset: PathBuf,
    /// Which clips; val and train are each seed's own, drawn from the training split as in the run
    #[arg(long, value_enum, default_value = "test")]
    split: Split,
    /// Adapter: its index in `wmic devices` or a part of its name [default: the fastest kind]
    #[arg(long, value_name = "NAME|INDEX")]
    device: Option<String>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let trained = Trained::load(&RunDir::open(&args.run)?)?;
    let data = load_dataset(&args.dataset)?;
    let gpu = Gpu::open(args.device.as_deref())?;
    print_evaluation(&trained.evaluate(&gpu, &data, args.split)?, args.json)?;
    Ok(ExitCode::SUCCESS)
}
