//! Weights on disk: safetensors with one JSON object of metadata under the key `wmic`.
//!
//! A run's `model.safetensors` holds the best weights of all seeds, every tensor with the seeds as its outermost axis; `wmic export`
//! writes one seed with PyTorch's shapes. The metadata is one key so that the same weights are the same bytes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::files::{read_limited, write_atomic};
use crate::data::Dataset;
use crate::graph::Layout;
use crate::run::config::Config;

/// Larger files are no weights of ours.
const SIZE_LIMIT: u64 = 16 << 30;
/// Features of a clip; datasets have fewer.
const MAX_INPUTS: usize = 1 << 30;
const METADATA: &str = "wmic";

/// What is said about weights beside the numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    pub version: String,
    pub model: String,
    /// In the order of the model's outputs.
    pub classes: Vec<String>,
    /// T that the weights were trained on.
    pub instances: usize,
    /// F
    pub width: usize,
    /// What the stored features are multiplied by to become inputs, in words.
    pub input: String,
    pub seeds: Vec<u64>,
    /// The epoch (from 0) that each seed's weights are of.
    pub best_epochs: Vec<usize>,
    /// (R, K): from which probability on each seed takes a class for present, tuned on its validation clips once it is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Vec<Vec<f64>>>,
}

impl About {
    /// Of weights of the first epoch, not tuned yet.
    pub fn new(config: &Config, data: &Dataset, input: &str) -> About {
        About {
            version: env!("CARGO_PKG_VERSION").into(),
            model: config.model.clone(),
            classes: data.classes.clone(),
            instances: data.features.instances,
            width: data.features.width,
            input: input.into(),
            seeds: config.seeds.clone(),
            best_epochs: vec![0; config.seeds.len()],
            thresholds: None,
        }
    }

    /// Of one of the seeds.
    pub fn of_seed(&self, r: usize) -> About {
        About {
            seeds: vec![self.seeds[r]],
            best_epochs: vec![self.best_epochs[r]],
            thresholds: self.thresholds.as_ref().map(|all| vec![all[r].clone()]),
            ..self.clone()
        }
    }

    /// Whether there are thresholds for all seeds and classes, if there are any.
    fn has_sound_thresholds(&self) -> bool {
        let sound =
            |of_seed: &Vec<f64>| of_seed.len() == self.classes.len() && of_seed.iter().all(|t| (0.0..=1.0).contains(t));
        self.thresholds.as_ref().is_none_or(|all| all.len() == self.seeds.len() && all.iter().all(sound))
    }
}

/// One replica's two blocks: trained parameters and running statistics, as a [`Layout`] lays them out.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub trained: Vec<f32>,
    pub stats: Vec<f32>,
}

/// Named tensors of raw 4-byte elements, with metadata.
pub(crate) fn save<M: Serialize>(
    path: &Path,
    tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)],
    about: &M,
) -> Result<()> {
    let bad = |e: &dyn std::fmt::Display| Error::checkpoint(path, format!("cannot be written: {e}"));
    let text = serde_json::to_string(about).map_err(|e| bad(&e))?;
    let views: Vec<(&str, TensorView)> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<_, safetensors::SafeTensorError>>()
        .map_err(|e| bad(&e))?;
    let metadata = HashMap::from([(METADATA.to_owned(), text)]);
    let bytes = serialize(views, Some(metadata)).map_err(|e| bad(&e))?;
    write_atomic(path, |out| out.write_all(&bytes))
}

/// A file of tensors in memory, and what its metadata says.
pub(crate) struct File {
    pub bytes: Vec<u8>,
    about: Option<String>,
}

impl File {
    pub fn read(path: &Path) -> Result<File> {
        // A device may never end, and a pipe never begin.
        if !std::fs::metadata(path).map_err(Error::io(path))?.is_file() {
            return Err(Error::checkpoint(path, "is not a file"));
        }
        let bytes = read_limited(path, SIZE_LIMIT)?;
        let bad = |e| Error::checkpoint(path, format!("is no safetensors file ({e}); it may be cut off"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(bad)?;
        SafeTensors::deserialize(&bytes).map_err(bad)?;
        let about = header.metadata().as_ref().and_then(|m| m.get(METADATA)).cloned();
        Ok(File { bytes, about })
    }

    pub fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("deserialised when it was read")
    }

    pub fn about<M: DeserializeOwned>(&self, path: &Path) -> Result<M> {
        let text = self.about.as_ref().ok_or_else(|| Error::checkpoint(path, "was not written by wmic train"))?;
        serde_json::from_str(text).map_err(|e| Error::checkpoint(path, format!("has unreadable metadata: {e}")))
    }
}

/// The 4-byte elements of a tensor that must have this type and shape.
fn words(path: &Path, tensors: &SafeTensors, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Vec<[u8; 4]>> {
    let view = tensors
        .tensor(name)
        .map_err(|_| Error::checkpoint(path, format!("has no tensor {name}: weights of another model?")))?;
    if view.dtype() != dtype || view.shape() != shape {
        let got = format!("{:?} {:?}", view.dtype(), view.shape());
        return Err(Error::checkpoint(
            path,
            format!("{name} is {got}, expected {dtype:?} {shape:?}: weights of another model?"),
        ));
    }
    Ok(view.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect())
}

/// The f32 values of a tensor that must have `shape`.
pub(crate) fn floats(path: &Path, tensors: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let words = words(path, tensors, name, Dtype::F32, shape)?;
    let values: Vec<f32> = words.into_iter().map(f32::from_le_bytes).collect();
    match values.iter().find(|v| !v.is_finite()) {
        Some(v) => Err(Error::checkpoint(path, format!("{name} holds {v}"))),
        None => Ok(values),
    }
}

/// PyTorch's count of steps, which a state dict carries beside a batch norm's statistics and nobody needs.
fn is_ignored(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

fn refuse_extra(path: &Path, tensors: &SafeTensors, is_known: &dyn Fn(&str) -> bool) -> Result<()> {
    match tensors.names().iter().find(|n| !is_ignored(n) && !is_known(n)) {
        Some(extra) => Err(Error::checkpoint(
            path,
            format!("has a tensor {extra} that the model has not: weights of another model?"),
        )),
        None => Ok(()),
    }
}

/// Writes the weights of all seeds, each tensor (R, ...).
pub fn save_model(path: &Path, layout: &Layout, blocks: &[Block], about: &About) -> Result<()> {
    let each: Vec<Vec<(String, Array<f32>)>> = blocks.iter().map(|b| layout.unpack(&b.trained, &b.stats)).collect();
    let tensors: Vec<_> = layout
        .params
        .iter()
        .enumerate()
        .map(|(i, p)| {
            let shape = [&[blocks.len()], p.shape.dims()].concat();
            let bytes = each.iter().flat_map(|b| b[i].1.data().iter().flat_map(|v| v.to_le_bytes())).collect();
            (p.name.clone(), Dtype::F32, shape, bytes)
        })
        .collect();
    save(path, &tensors, about)
}

/// A model file, read once: what it says about itself, and then its weights.
pub struct ModelFile {
    path: PathBuf,
    file: File,
    pub about: About,
}

impl ModelFile {
    /// # Errors
    /// `Checkpoint` for a damaged file, for one that `wmic train` has not written, and for dimensions that no dataset has.
    pub fn open(path: &Path) -> Result<ModelFile> {
        let file = File::read(path)?;
        let about: About = file.about(path)?;
        let inputs = about.instances.checked_mul(about.width).filter(|n| (1..=MAX_INPUTS).contains(n));
        if inputs.is_none() || about.classes.is_empty() {
            return Err(Error::checkpoint(path, "has metadata of clips without features or without classes"));
        }
        if about.seeds.is_empty() || about.best_epochs.len() != about.seeds.len() || !about.has_sound_thresholds() {
            return Err(Error::checkpoint(path, "has metadata that contradicts itself"));
        }
        Ok(ModelFile { path: path.into(), file, about })
    }

    /// The weights of all seeds.
    ///
    /// # Errors
    /// `Checkpoint` when the tensors are not those of `layout`.
    pub fn blocks(&self, layout: &Layout) -> Result<Vec<Block>> {
        self.refuse_others(&|name| layout.params.iter().any(|p| p.name == name))?;
        let replicas = self.about.seeds.len();
        // Nothing of the layout's size is made before the file is known to be as large.
        let each = layout.params.iter().map(|p| self.floats(&p.name, &[&[replicas], p.shape.dims()].concat()));
        let each = each.collect::<Result<Vec<_>>>()?;
        let mut blocks = vec![Block { trained: vec![0.0; layout.trained], stats: vec![0.0; layout.stats] }; replicas];
        for (p, values) in layout.params.iter().zip(each) {
            for (block, part) in blocks.iter_mut().zip(values.chunks_exact(p.shape.len())) {
                let into = if p.trainable { &mut block.trained } else { &mut block.stats };
                into[p.offset..p.offset + part.len()].copy_from_slice(part);
            }
        }
        Ok(blocks)
    }

    /// # Errors
    /// `Checkpoint` for a tensor whose name is not known.
    pub(crate) fn refuse_others(&self, is_known: &dyn Fn(&str) -> bool) -> Result<()> {
        refuse_extra(&self.path, &self.file.tensors(), is_known)
    }

    /// The finite values of a tensor that must have `shape`.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        floats(&self.path, &self.file.tensors(), name, shape)
    }

    /// The u32 values of a tensor that must have `shape`.
    pub(crate) fn integers(&self, name: &str, shape: &[usize]) -> Result<Vec<u32>> {
        let words = words(&self.path, &self.file.tensors(), name, Dtype::U32, shape)?;
        Ok(words.into_iter().map(u32::from_le_bytes).collect())
    }

    pub(crate) fn damaged(&self, what: &str) -> Error {
        Error::checkpoint(&self.path, what)
    }
}

/// Writes one seed with PyTorch's names and shapes.
pub fn export(path: &Path, layout: &Layout, block: &Block, about: &About) -> Result<()> {
    let tensors: Vec<_> = layout
        .unpack(&block.trained, &block.stats)
        .into_iter()
        .map(|(name, a)| (name, Dtype::F32, a.dims().to_vec(), a.data().iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    save(path, &tensors, about)
}

/// Reads one replica's weights with PyTorch's names and shapes, as `export` or PyTorch wrote them.
pub fn import(path: &Path, layout: &Layout) -> Result<Block> {
    let file = File::read(path)?;
    let tensors = file.tensors();
    refuse_extra(path, &tensors, &|name| layout.params.iter().any(|p| p.name == name))?;
    let mut block = Block { trained: vec![0.0; layout.trained], stats: vec![0.0; layout.stats] };
    for p in &layout.params {
        let values = floats(path, &tensors, &p.name, p.shape.dims())?;
        let into = if p.trainable { &mut block.trained } else { &mut block.stats };
        into[p.offset..p.offset + values.len()].copy_from_slice(&values);
    }
    Ok(block)
}
