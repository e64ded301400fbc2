//! `wmic export`

use std::path::{Path, PathBuf};

use serde_json::json;

use super::common::Status;
use super::models::Models;
use super::output::{note, print_json};
use wmic::predict::bundled::Parts;
use wmic::predict::recogniser::Options;
use wmic::predict::trained::Trained;
use wmic::run::run_dir::RunDir;
use wmic::web::page::write_recogniser;
use wmic::{Error, Result};

/// Export the best weights of one seed with PyTorch's names and shapes (of a forest, its trees); with --web a page that
/// recognises recordings in the browser
///
/// The page has all seeds, and answers as `wmic predict` does, on the visitor's GPU. Without a run it is of the bundled
/// model on musicnn; RUN may also be a file of `wmic bundle`.
#[derive(clap::Args)]
#[command(override_usage = "wmic export <RUN> --seed <SEED> <OUT.safetensors>\n       wmic export [RUN] --web <DIR>")]
pub struct Args {
    /// Run directory of `wmic train`
    #[arg(required_unless_present = "web")]
    run: Option<PathBuf>,
    /// Seed to export
    #[arg(long, required_unless_present = "web", conflicts_with = "web")]
    seed: Option<u64>,
    /// File to write; an existing one is replaced
    #[arg(value_name = "OUT.safetensors", required_unless_present = "web", conflicts_with = "web")]
    out: Option<PathBuf>,
    /// Write a web page into this new or empty folder, to be put on a web server
    #[arg(long, value_name = "DIR")]
    web: Option<PathBuf>,
    /// Print one JSON object: seed, epoch, file; of a page: folder, files, bytes
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        match (&self.web, &self.run, &self.out, self.seed) {
            (Some(dir), run, ..) => self.page(dir, run.as_ref())?,
            (None, Some(run), Some(out), Some(seed)) => self.weights(run, out, seed)?,
            _ => unreachable!("clap requires the others without --web"),
        }
        Ok(Status::Done)
    }

    fn weights(&self, run: &Path, out: &Path, seed: u64) -> anyhow::Result<()> {
        let trained = Trained::load(&RunDir::open(run)?)?;
        let seeds = &trained.about.seeds;
        let Some(r) = seeds.iter().position(|s| *s == seed) else {
            return Err(Error::Usage(format!("the run has no seed {seed}; it has {seeds:?}")).into());
        };
        trained.export(out, r)?;
        let (epoch, file) = (trained.about.best_epochs[r].saturating_add(1), out.display());
        match self.json {
            true => print_json(&json!({ "seed": seed, "epoch": epoch, "file": file.to_string() }))?,
            false => note(&format!("seed {seed}, as of epoch {epoch}, written to {file}")),
        }
        Ok(())
    }

    fn page(&self, dir: &Path, run: Option<&PathBuf>) -> anyhow::Result<()> {
        let parts = run.is_none().then_some(Parts::Musicnn);
        let models = Models::load(&run.cloned().into_iter().collect::<Vec<_>>(), parts)?;
        write_recogniser(dir, models.mixture, &Options::default())?;
        let sizes = std::fs::read_dir(dir)
            .map_err(Error::io(dir))?
            .map(|entry| Ok(entry.and_then(|entry| entry.metadata()).map_err(Error::io(dir))?.len()));
        let sizes = sizes.collect::<Result<Vec<u64>>>()?;
        let (files, bytes) = (sizes.len(), sizes.iter().sum::<u64>());
        let dir = dir.display();
        match self.json {
            true => print_json(&json!({ "folder": dir.to_string(), "files": files, "bytes": bytes }))?,
            false => {
                let bytes = wmic::core::numbers::bytes(bytes);
                note(&format!("{bytes} in {files} files written to {dir}; try: python3 -m http.server -d {dir}"));
            }
        }
        Ok(())
    }
}
