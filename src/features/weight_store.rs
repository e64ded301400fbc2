//! Published weights that the user has downloaded, converted and kept in the user's data folder by the SHA-256 of the
//! file that they came from: VGGish's and YAMNet's, one file of each.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde::Serialize;

use crate::core::error::{Error, Result};
use crate::core::files::{is_leftover, open_file, read_start, sha256, try_lock_directory, write_atomic};
use crate::core::tensors::{self, File, Tensor};
use crate::core::{tflite, torch};
use crate::data::has_array;
use crate::features::scaling::PostProcess;
use crate::features::weights::{About, Weights};
use crate::features::yamnet;
use crate::nn::front_ends::network::Network;
use crate::nn::front_ends::vggish::{EMBEDDING, Width};

const EXTENSION: &str = "safetensors";
/// The PCA's tensors, as torchvggish names them; without the prefix in files of the PCA alone.
const PREFIX: &str = "pproc.";
const PCA: [&str; 2] = ["pca_eigen_vectors", "pca_means"];

/// Weights in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// The network's.
    pub name: &'static str,
    /// SHA-256 of the file that was added, in hexadecimal.
    pub sha256: String,
    /// Whether VGGish's have the PCA of the embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pca: Option<bool>,
    pub file: PathBuf,
    pub bytes: u64,
}

/// What a file has.
enum Content {
    /// A network, VGGish perhaps with its PCA; what wmic recorded when it wrote the file.
    Network(Network, Vec<Tensor>, Option<About>),
    Pca(PostProcess),
}

/// The folder of the store: `wmic/weights` in the user's data directory.
pub fn folder() -> PathBuf {
    dirs::data_dir().unwrap_or_else(std::env::temp_dir).join("wmic").join("weights")
}

/// Converts files and keeps what is in them: YAMNet's model of TensorFlow Lite, torchvggish's state dict (`.pth` of
/// either layout), either in safetensors, and the PCA of VGGish's embeddings (`.pth` or npz), which belongs to the
/// weights that are added with it or are there already. What a file is, is told from its content. `replace`: whether
/// other weights of the network give way.
///
/// # Errors
/// `Checkpoint`, `Data` and `Io` for a file that is damaged or something else; `Usage` for two files of weights, a PCA
/// without weights, and if other weights are there. Then nothing has changed.
pub fn add(files: &[PathBuf], replace: bool) -> Result<Stored> {
    let (mut network, mut weights, mut pca) = (Network::Vggish, None, None);
    for path in files {
        let twice = |what: &str| Err(Error::Usage(format!("{} is a second file of {what}", path.display())));
        match recognise(path)? {
            Content::Network(..) if weights.is_some() => return twice("weights: add one network at a time"),
            Content::Network(of, tensors, about) => {
                network = of;
                let sha256 = sha256(&mut open_file(path)?).map_err(Error::io(path))?;
                weights = Some((path, sha256, tensors, about));
            }
            Content::Pca(_) if pca.is_some() => return twice("a PCA"),
            Content::Pca(read) => pca = Some(read),
        }
    }
    if pca.is_some() && network != Network::Vggish {
        return Err(Error::Usage(format!("the PCA is VGGish's, not {}'s: add it with VGGish", network.title())));
    }
    let folder = folder();
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let _lock = try_lock_directory(&folder, "another process is adding weights")?;
    let old = stored_files(network)?;
    let kept = match old.first().map(|(file, _)| (file, recognise(file))) {
        Some((_, Ok(kept))) => Some(kept),
        Some((file, Err(_))) if !replace => {
            return Err(Error::Usage(format!("{} is damaged: `force` replaces it", file.display())));
        }
        _ => None,
    };
    let (path, sha256, mut tensors, about) = match (weights, old.first(), &kept) {
        (Some(weights), ..) => weights,
        (None, Some((file, sha256)), Some(Content::Network(_, tensors, about))) => {
            (file, sha256.clone(), tensors.clone(), about.clone())
        }
        _ => return Err(Error::Usage("the PCA is of no use without VGGish's weights: add both".into())),
    };
    let there = |what: &str, sha256: &str| {
        Err(Error::Usage(format!("{what} is there already, of SHA-256 {sha256}: `force` replaces it")))
    };
    if let Some((_, other)) = old.iter().find(|(_, other)| *other != sha256).filter(|_| !replace) {
        return there(network.name(), other);
    }
    if let Some(pca) = pca {
        tensors.retain(|tensor| !is_pca(tensor));
        tensors.extend(pca_tensors(&pca));
    }
    if let (Some(Content::Network(_, known, _)), true) = (&kept, old.iter().any(|(_, other)| *other == sha256)) {
        // The same weights: they keep their PCA.
        let [known, given] = [known, &tensors].map(|all| {
            let mut pca: Vec<Tensor> = all.iter().filter(|tensor| is_pca(tensor)).cloned().collect();
            pca.sort_by(|a, b| a.0.cmp(&b.0));
            pca
        });
        if given.is_empty() {
            tensors.extend(known);
        } else if !known.is_empty() && known != given && !replace {
            return there("another PCA of these weights", &sha256);
        }
    }
    let bytes = tensors::to_bytes(path, &tensors, about.as_ref())?;
    let file = File::parse(path, bytes)?;
    Weights::of(path, &file, None)?;

    let to = folder.join(format!("{}-{sha256}.{EXTENSION}", network.name()));
    write_atomic(&to, |out| out.write_all(&file.bytes))?;
    let others = old.into_iter().map(|(other, _)| other).filter(|other| *other != to);
    let entries = fs::read_dir(&folder).map_err(Error::io(&folder))?.flatten().map(|entry| entry.path());
    for other in others.chain(entries.filter(|path| is_leftover(path))) {
        fs::remove_file(&other).map_err(Error::io(other))?;
    }
    Ok(stored(network, to, sha256, &file))
}

/// What is in the store.
///
/// # Errors
/// `Io` if it cannot be read, `Usage` for a damaged file.
pub fn list() -> Result<Vec<Stored>> {
    let mut all = vec![];
    for network in Network::ALL {
        for (path, sha256) in stored_files(network)? {
            let file = File::read(&path).map_err(damaged)?;
            all.push(stored(network, path, sha256, &file));
        }
    }
    Ok(all)
}

/// What to do about a damaged file of the store.
fn damaged(error: Error) -> Error {
    match error {
        Error::Checkpoint { .. } | Error::Data { .. } => {
            Error::Usage(format!("{error}; remove the file, and add the weights again"))
        }
        other => other,
    }
}

/// A network's weights, of VGGish with a `width` if that is known.
///
/// # Errors
/// As [`file`]; `Usage` for a damaged one, `Checkpoint` for another width.
pub(super) fn read(network: Network, width: Option<Width>) -> Result<Weights> {
    let path = file(network)?;
    Weights::read(&path, width).map_err(|error| match Weights::read(&path, None) {
        Ok(_) => error,
        Err(_) => damaged(error),
    })
}

/// The file of a network's weights.
///
/// # Errors
/// `Usage` if there are none; `Io` if the store cannot be read.
pub(super) fn file(network: Network) -> Result<PathBuf> {
    stored_files(network)?.into_iter().next().map(|(path, _)| path).ok_or_else(|| missing(network))
}

/// What to do where a network's weights are missing.
pub(crate) fn missing(network: Network) -> Error {
    let (name, title) = (network.name(), network.title());
    Error::Usage(format!(
        "{title}'s weights are not there: download them with wmic weights get {name}, or, if you have the file, \
         add them with wmic weights add FILE"
    ))
}

/// Paths of a network's files, and what they have of the names.
fn stored_files(network: Network) -> Result<Vec<(PathBuf, String)>> {
    let folder = folder();
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(Error::io(&folder))?,
    };
    let changed = |path: &PathBuf| fs::metadata(path).and_then(|about| about.modified()).ok();
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(Error::io(&folder))?;
    // The newest first: a process that is killed may leave the one that it was about to replace.
    paths.sort_by_key(|path| std::cmp::Reverse(changed(path)));
    let sha256 = |path: &Path| {
        let rest = path.file_name()?.to_str()?.strip_prefix(network.name())?.strip_prefix('-')?;
        rest.strip_suffix(EXTENSION)?.strip_suffix('.').filter(|text| text.len() == 64).map(str::to_owned)
    };
    Ok(paths.into_iter().filter_map(|path| sha256(&path).map(|sha256| (path, sha256))).collect())
}

fn stored(network: Network, path: PathBuf, sha256: String, file: &File) -> Stored {
    let has_pca = || file.tensors().tensor(&format!("{PREFIX}{}", PCA[0])).is_ok();
    let pca = (network == Network::Vggish).then(has_pca);
    Stored { name: network.name(), sha256, pca, file: path, bytes: file.bytes.len() as u64 }
}

fn not_known(path: &Path) -> Error {
    Error::checkpoint(
        path,
        "is not a file of weights that wmic knows; those are torchvggish's (.pth), YAMNet's (.tflite), either in \
         safetensors, and the PCA of VGGish's embeddings (.pth or .npz)",
    )
}

fn recognise(path: &Path) -> Result<Content> {
    let start = read_start(path, torch::LEGACY.len())?;
    let of = |name, shape, values: &[f32]| (name, Dtype::F32, shape, bytes(values));
    if tflite::is_tflite(&start) {
        let tensors = yamnet::read(path)?.into_iter().map(|(name, shape, values)| of(name, shape, &values));
        return Ok(Content::Network(Network::Yamnet, tensors.collect(), None));
    }
    if !torch::is_torch(&start) {
        let file = File::read(path).map_err(|e| match e {
            Error::Checkpoint { .. } => not_known(path),
            other => other,
        })?;
        let about = file.has_about().then(|| file.about(path)).transpose()?;
        let tensors = file.tensors();
        let of = |(name, view): (String, safetensors::tensor::TensorView)| {
            (name, view.dtype(), view.shape().to_vec(), view.data().to_vec())
        };
        let network = Weights::network_of(&tensors);
        return Ok(Content::Network(network, tensors.tensors().into_iter().map(of).collect(), about));
    }
    match PostProcess::read(path) {
        Ok(pca) => return Ok(Content::Pca(pca)),
        Err(error) if has_array(path, PCA[0]) => return Err(error),
        Err(_) => {}
    }
    let read = torch::read(path)?;
    if read.is_empty() || !read.iter().all(|tensor| PCA.contains(&tensor.name.as_str())) {
        let tensors = read.into_iter().map(|tensor| of(tensor.name, tensor.shape, &tensor.values));
        return Ok(Content::Network(Network::Vggish, tensors.collect(), None));
    }
    let [matrix, mean] = PCA.map(|name| {
        let values = read.iter().find(|tensor| tensor.name == name).map_or(&[][..], |tensor| &tensor.values);
        values.iter().map(|value| f64::from(*value)).collect()
    });
    PostProcess::new(matrix, mean).map(Content::Pca).map_err(|reason| Error::checkpoint(path, reason))
}

fn is_pca((name, ..): &Tensor) -> bool {
    PCA.iter().any(|pca| name.strip_prefix(PREFIX) == Some(pca))
}

fn pca_tensors(pca: &PostProcess) -> [Tensor; 2] {
    let tensor = |name: &str, shape: Vec<usize>, values: &[f64]| {
        let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        (format!("{PREFIX}{name}"), Dtype::F32, shape, bytes(&values))
    };
    [tensor(PCA[0], vec![EMBEDDING, EMBEDDING], &pca.matrix), tensor(PCA[1], vec![EMBEDDING], &pca.mean)]
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
