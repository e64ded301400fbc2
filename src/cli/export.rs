//! `wmic export`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::{Error, Result};
use crate::train::weights::{About, export};
use crate::train::{RunDir, Trained};

/// Write one seed's best weights with PyTorch's names and shapes
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run directory of `wmic train`
    run: PathBuf,
    /// Which seed's weights
    #[arg(long)]
    seed: u64,
    /// File to write; an existing one is replaced
    #[arg(value_name = "OUT.safetensors")]
    out: PathBuf,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let trained = Trained::load(&RunDir::open(&args.run)?)?;
    let seeds = &trained.about.seeds;
    let Some(r) = seeds.iter().position(|s| *s == args.seed) else {
        return Err(Error::Usage(format!("the run has no seed {}; it has {seeds:?}", args.seed)));
    };
    let best_epochs = vec![trained.about.best_epochs[r]];
    let about = About { seeds: vec![args.seed], best_epochs, ..trained.about.clone() };
    export(&args.out, &trained.layout, &trained.blocks[r], &about)?;
    eprintln!("seed {} (epoch {}) written to {}", args.seed, about.best_epochs[0], args.out.display());
    Ok(ExitCode::SUCCESS)
}
