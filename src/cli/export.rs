//! `wmic export`

use std::path::PathBuf;

use super::Verdict;
use super::output::note;
use wmic::Error;
use wmic::train::weights::{About, export};
use wmic::train::{RunDir, Trained};

/// Write one seed's best weights with PyTorch's names and shapes
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
        let best_epochs = vec![trained.about.best_epochs[r]];
        let about = About { seeds: vec![self.seed], best_epochs, ..trained.about.clone() };
        export(&self.out, &trained.layout, &trained.blocks[r], &about)?;
        note(&format!(
            "seed {}, as of epoch {}, written to {}",
            self.seed,
            about.best_epochs[0].saturating_add(1),
            self.out.display()
        ));
        Ok(Verdict::Done)
    }
}
