//! `wmic weights`: published weights, kept for every run.

use std::path::PathBuf;

use wmic::core::numbers::bytes;
use wmic::features::weight_store::{self, Stored};

use super::common::Status;
use super::output::{print, print_json};

/// Keep published weights of VGGish and YAMNet, for --frontend-weights vggish and --frontend yamnet
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    Add(Add),
    List(List),
}

/// Convert downloaded weights and keep them in your data folder
///
/// What a file is, is told from its content: VGGish's weights as torchvggish publishes them (.pth), YAMNet's of
/// TensorFlow Lite (.tflite), either in safetensors, and the PCA of VGGish's embeddings (.pth or .npz). Nothing in a
/// file is executed.
#[derive(clap::Args)]
struct Add {
    /// Weights of a network, VGGish's PCA, or both
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Replace other weights that are there
    #[arg(long)]
    force: bool,
    /// Print one JSON object: {name, sha256, pca (of VGGish), file, bytes}
    #[arg(long)]
    json: bool,
}

/// List the weights in your data folder
#[derive(clap::Args)]
struct List {
    /// Print a JSON array of {name, sha256, pca (of VGGish), file, bytes}
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        match self.action {
            Action::Add(Add { files, force, json }) => {
                let stored = weight_store::add(&files, force)?;
                if json { print_json(&stored)? } else { print(&describe(&stored))? }
            }
            Action::List(List { json }) => {
                let all = weight_store::list()?;
                match json {
                    true => print_json(&all)?,
                    false if all.is_empty() => print(&format!("No weights in {}\n", weight_store::folder().display()))?,
                    false => all.iter().try_for_each(|stored| print(&describe(stored)))?,
                }
            }
        }
        Ok(Status::Done)
    }
}

fn describe(stored: &Stored) -> String {
    let pca = match stored.pca {
        Some(true) => "  with the PCA of its embeddings",
        Some(false) => "  without the PCA of its embeddings",
        None => "",
    };
    let facts = [
        ("size", bytes(stored.bytes)),
        ("SHA-256", format!("{} (of the file that was added)", stored.sha256)),
        ("file", stored.file.display().to_string()),
    ];
    let lines = facts.map(|(name, value)| format!("   {name:<8} {value}\n"));
    format!("{}{pca}\n{}", stored.name, lines.concat())
}
