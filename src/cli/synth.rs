//! `wmic synth`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::data::synth;
use crate::error::Result;

/// Write a small dataset whose answer is known, in OpenMIC-2018's layout
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder to create
    dir: PathBuf,
    /// Number of clips, about three quarters of them for training
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(40..=100_000))]
    clips: u32,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub fn run(args: Args) -> Result<ExitCode> {
    synth(&args.dir, args.clips as usize, args.seed)?;
    let dir = args.dir.display();
    eprintln!("{} clips written to {dir}; train on them with: wmic train {dir}", args.clips);
    Ok(ExitCode::SUCCESS)
}
