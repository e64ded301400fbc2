//! `wmic export`

use std::path::PathBuf;

use super::Verdict;
use super::output::note;
use wmic::Error;
use wmic::predict::trained::Trained;
use wmic::run::run_dir::RunDir;

/// Write one seed's best weights with PyTorch's names and shapes; of a forest its trees, as the run holds them
#[derive(clap::Args)]
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

impl Args {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trained = Trained::load(&RunDir::open(&self.run)?)?;
        let seeds = &trained.about.seeds;
        let Some(r) = seeds.iter().position(|s| *s == self.seed) else {
            return Err(Error::Usage(format!("the run has no seed {}; it has {seeds:?}", self.seed)).into());
        };
        trained.export(&self.out, r)?;
        note(&format!(
            "seed {}, as of epoch {}, written to {}",
            self.seed,
            trained.about.best_epochs[r].saturating_add(1),
            self.out.display()
        ));
        Ok(Verdict::Done)
    }
}
