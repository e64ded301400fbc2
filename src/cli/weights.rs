//! `wmic weights`: published weights, downloaded and kept for every run.

use std::fs;
use std::path::PathBuf;

use wmic::Error;
use wmic::core::numbers::bytes;
use wmic::features::weight_store::{self, Stored};
use wmic::nn::front_ends::network::Network;

use super::common::Status;
use super::download::{Published, address, download};
use super::output::{note, print, print_json};
use super::settings::variant;

/// Keep published weights of VGGish and YAMNet, for --frontend-weights vggish and --frontend yamnet
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    Get(Get),
    Add(Add),
    List(List),
}

/// Download published weights and keep them in your data folder
///
/// From the publisher's address: VGGish's with the PCA of its embeddings (torchvggish, 289 MB), YAMNet's (MediaPipe,
/// 4 MB). The SHA-256 of each file is compared with the published one, of which torchvggish names the first eight
/// digits only. A download that was interrupted continues. No other command uses the network.
#[derive(clap::Args)]
struct Get {
    /// Whose weights
    #[arg(value_parser = variant::<Network>())]
    network: Network,
    /// Download the same files from this address instead, to which their names are appended
    #[arg(long, value_name = "URL", value_parser = address)]
    from: Option<String>,
    /// Replace other weights that are there
    #[arg(long)]
    force: bool,
    /// Print one JSON object: {name, sha256, pca (of VGGish), file, bytes}
    #[arg(long)]
    json: bool,
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
            Action::Get(Get { network, from, force, json }) => show(&get(network, from.as_deref(), force)?, json)?,
            Action::Add(Add { files, force, json }) => {
                let stored = weight_store::add(&files, force)?;
                if !is_published(&stored) {
                    note(&format!(
                        "warning: by its SHA-256 this is not the published file of {}; it is kept",
                        stored.name
                    ));
                }
                show(&stored, json)?;
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

/// Whether they came from the file that `wmic weights get` downloads.
fn is_published(stored: &Stored) -> bool {
    Network::ALL.iter().any(|of| of.name() == stored.name && Published::of(*of)[0].is(&stored.sha256))
}

/// Downloads and adds a network's weights, unless the same are there.
fn get(network: Network, mirror: Option<&str>, force: bool) -> anyhow::Result<Stored> {
    let files = Published::of(network);
    let all = match weight_store::list() {
        // What is damaged is replaced.
        Err(_) if force => vec![],
        all => all?,
    };
    if let Some(there) = all.into_iter().find(|stored| stored.name == network.name()) {
        if files[0].is(&there.sha256) && there.pca != Some(false) {
            note(&format!("the weights of {} are there already; nothing is downloaded", network.title()));
            return Ok(there);
        }
        if !files[0].is(&there.sha256) && !force {
            let (name, sha256) = (there.name, there.sha256);
            let reason = format!("other weights of {name} are there, of SHA-256 {sha256}: --force replaces them");
            return Err(Error::Usage(reason).into());
        }
    }
    let folder = weight_store::folder();
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let paths = files.iter().map(|file| download(file, &folder, mirror)).collect::<anyhow::Result<Vec<_>>>()?;
    let stored = weight_store::add(&paths, force)?;
    for path in paths {
        fs::remove_file(&path).map_err(Error::io(path))?;
    }
    Ok(stored)
}

fn show(stored: &Stored, json: bool) -> anyhow::Result<()> {
    if json { print_json(stored) } else { print(&describe(stored)) }
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
