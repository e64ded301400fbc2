//! `wmic export`

use std::path::PathBuf;

use serde_json::json;

use super::common::Status;
use super::output::{note, print_json};
use wmic::Error;
use wmic::predict::trained::Trained;
use wmic::run::run_dir::RunDir;

/// Export the best weights of one seed with PyTorch's names and shapes (of a forest, its trees)
#[derive(clap::Args)]
pub struct Args {
    /// Run directory of `wmic train`
    run: PathBuf,
    /// Seed to export
    #[arg(long)]
    seed: u64,
    /// File to write; an existing one is replaced
    #[arg(value_name = "OUT.safetensors")]
    out: PathBuf,
    /// Print one JSON object: seed, epoch, file
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let trained = Trained::load(&RunDir::open(&self.run)?)?;
        let seeds = &trained.about.seeds;
        let Some(r) = seeds.iter().position(|s| *s == self.seed) else {
            return Err(Error::Usage(format!("the run has no seed {}; it has {seeds:?}", self.seed)).into());
        };
        trained.export(&self.out, r)?;
        let (seed, epoch, file) = (self.seed, trained.about.best_epochs[r].saturating_add(1), self.out.display());
        match self.json {
            true => print_json(&json!({ "seed": seed, "epoch": epoch, "file": file.to_string() }))?,
            false => note(&format!("seed {seed}, as of epoch {epoch}, written to {file}")),
        }
        Ok(Status::Done)
    }
}
