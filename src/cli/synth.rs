//! `wmic synth`

use std::path::PathBuf;

use super::Verdict;
use super::output::note;
use wmic::data::synth;

/// Write a small dataset whose answer is known, in OpenMIC-2018's layout
#[derive(clap::Args)]
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

impl Args {
    pub fn run(self) -> anyhow::Result<Verdict> {
        synth(&self.dir, self.clips as usize, self.seed)?;
        let dir = self.dir.display();
        note(&format!("{} clips written to {dir}; train on them with: wmic train {dir}", self.clips));
        Ok(Verdict::Done)
    }
}
