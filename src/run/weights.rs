//! Weights on disk: safetensors with one JSON object of metadata under the key `wmic`.
//!
//! A run's `model.safetensors` has the best weights of all seeds, with the seeds as the outermost axis of every tensor;
//! `wmic export` writes one seed with PyTorch's shapes. The metadata is a single key, so that equal weights give equal
//! bytes.

use std::path::{Path, PathBuf};

use half::f16;
use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::tensors::{File, Tensor, floats, integers, reject_extra, save};
use crate::data::Dataset;
use crate::graph::{Layout, Param};
use crate::metrics::calibration::{self, Calibration};
use crate::run::config::Config;

/// Maximum number of feature values of a clip.
const MAX_INPUTS: usize = 1 << 30;

/// Metadata of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    pub version: String,
    pub model: String,
    /// In the order of the model's outputs.
    pub classes: Vec<String>,
    /// T of the training clips.
    pub instances: usize,
    /// F
    pub width: usize,
    /// How stored features become inputs, as text.
    pub input: String,
    pub seeds: Vec<u64>,
    /// Epoch (from 0) of each seed's weights.
    pub best_epochs: Vec<usize>,
    /// (R, K): decision thresholds, tuned on each seed's validation clips after training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Vec<Vec<f64>>>,
    /// (R, K): calibrations, fitted to the same clips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrations: Option<Vec<Vec<Calibration>>>,
    /// (R, K, P): thresholds of calibrated probabilities for each of [`calibration::precisions`], from the same clips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision_thresholds: Option<Vec<Vec<Vec<f64>>>>,
}

impl About {
    /// Metadata of a new run: first epoch, thresholds not tuned.
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
            calibrations: None,
            precision_thresholds: None,
        }
    }

    /// Metadata of one seed.
    pub fn of_seed(&self, r: usize) -> About {
        About {
            seeds: vec![self.seeds[r]],
            best_epochs: vec![self.best_epochs[r]],
            thresholds: self.thresholds.as_ref().map(|all| vec![all[r].clone()]),
            calibrations: self.calibrations.as_ref().map(|all| vec![all[r].clone()]),
            precision_thresholds: self.precision_thresholds.as_ref().map(|all| vec![all[r].clone()]),
            ..self.clone()
        }
    }

    /// # Errors
    /// `Checkpoint` for impossible dimensions and inconsistent metadata; `path` for messages.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        let inputs = self.instances.checked_mul(self.width).filter(|n| (1..=MAX_INPUTS).contains(n));
        if inputs.is_none() || self.classes.is_empty() {
            return Err(Error::checkpoint(path, "has metadata of clips without features or without classes"));
        }
        if self.seeds.is_empty() || self.best_epochs.len() != self.seeds.len() || !self.is_valid() {
            return Err(Error::checkpoint(path, "has inconsistent metadata"));
        }
        Ok(())
    }

    /// Whether thresholds and calibrations, if there are any, exist for all seeds and classes, within their ranges.
    fn is_valid(&self) -> bool {
        fn all<T>(table: &Option<Vec<Vec<T>>>, [seeds, classes]: [usize; 2], valid: impl Fn(&T) -> bool) -> bool {
            let of_seed = |row: &Vec<T>| row.len() == classes && row.iter().all(&valid);
            table.as_ref().is_none_or(|table| table.len() == seeds && table.iter().all(of_seed))
        }
        let shape = [self.seeds.len(), self.classes.len()];
        let threshold = |t: &f64| (0.0..=1.0).contains(t);
        all(&self.thresholds, shape, threshold)
            && all(&self.calibrations, shape, Calibration::is_valid)
            && all(&self.precision_thresholds, shape, |each| {
                each.len() == calibration::precisions().count() && each.iter().all(threshold)
            })
    }
}

/// One replica's two blocks: trained parameters and running statistics, in the order of a [`Layout`].
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub trained: Vec<f32>,
    pub stats: Vec<f32>,
}

/// Writes the weights of all seeds, each tensor (R, ...).
pub(crate) fn save_model(path: &Path, layout: &Layout, blocks: &[Block], about: &About) -> Result<()> {
    save(path, &tensors(layout, blocks, "", Dtype::F32), about)
}

/// The weights of all seeds, each tensor (R, ...), with `prefix` before its name, in f32, or the trained ones rounded
/// to f16. Statistics are not: a small deviation would be 0, by which inputs are divided.
pub(crate) fn tensors(layout: &Layout, blocks: &[Block], prefix: &str, dtype: Dtype) -> Vec<Tensor> {
    let each: Vec<Vec<(String, Array<f32>)>> = blocks.iter().map(|b| layout.unpack(&b.trained, &b.stats)).collect();
    let tensor = |(i, p): (usize, &Param)| {
        let shape = [&[blocks.len()], p.shape.dims()].concat();
        let values = each.iter().flat_map(|b| b[i].1.data());
        let dtype = if p.trainable { dtype } else { Dtype::F32 };
        let bytes = match dtype {
            Dtype::F16 => values.flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            _ => values.flat_map(|v| v.to_le_bytes()).collect(),
        };
        (format!("{prefix}{}", p.name), dtype, shape, bytes)
    };
    layout.params.iter().enumerate().map(tensor).collect()
}

/// The weights of `replicas` seeds, from tensors as [`tensors`] makes them.
///
/// # Errors
/// `Checkpoint` for a tensor that is missing or is not as in `layout`; `path` for messages.
pub(crate) fn blocks(
    path: &Path,
    tensors: &SafeTensors,
    prefix: &str,
    layout: &Layout,
    replicas: usize,
) -> Result<Vec<Block>> {
    // Nothing of the layout's size is allocated before the file is known to be as large.
    let of_all =
        |p: &Param| floats(path, tensors, &format!("{prefix}{}", p.name), &[&[replicas], p.shape.dims()].concat());
    let each = layout.params.iter().map(of_all).collect::<Result<Vec<_>>>()?;
    let mut blocks = vec![Block { trained: vec![0.0; layout.trained], stats: vec![0.0; layout.stats] }; replicas];
    for (p, values) in layout.params.iter().zip(each) {
        for (block, part) in blocks.iter_mut().zip(values.chunks_exact(p.shape.len())) {
            let into = if p.trainable { &mut block.trained } else { &mut block.stats };
            into[p.offset..p.offset + part.len()].copy_from_slice(part);
        }
    }
    Ok(blocks)
}

/// An open model file: metadata and weights.
pub struct ModelFile {
    path: PathBuf,
    file: File,
    pub about: About,
}

impl ModelFile {
    /// # Errors
    /// `Checkpoint` for a damaged file, for one that `wmic train` has not written, and for impossible dimensions.
    pub fn open(path: &Path) -> Result<ModelFile> {
        let file = File::read(path)?;
        let about: About = file.about(path)?;
        about.check(path)?;
        Ok(ModelFile { path: path.into(), file, about })
    }

    /// The weights of all seeds.
    ///
    /// # Errors
    /// `Checkpoint` when the tensors are not those of `layout`.
    pub fn blocks(&self, layout: &Layout) -> Result<Vec<Block>> {
        self.reject_others(&|name| layout.params.iter().any(|p| p.name == name))?;
        blocks(&self.path, &self.file.tensors(), "", layout, self.about.seeds.len())
    }

    /// # Errors
    /// `Checkpoint` for a tensor with an unknown name.
    pub(crate) fn reject_others(&self, is_known: &dyn Fn(&str) -> bool) -> Result<()> {
        reject_extra(&self.path, &self.file.tensors(), is_known)
    }

    /// The finite values of a tensor that must have `shape`.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        floats(&self.path, &self.file.tensors(), name, shape)
    }

    /// The u32 values of a tensor that must have `shape`.
    pub(crate) fn integers(&self, name: &str, shape: &[usize]) -> Result<Vec<u32>> {
        integers(&self.path, &self.file.tensors(), name, shape)
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
    reject_extra(path, &tensors, &|name| layout.params.iter().any(|p| p.name == name))?;
    let mut block = Block { trained: vec![0.0; layout.trained], stats: vec![0.0; layout.stats] };
    for p in &layout.params {
        let values = floats(path, &tensors, &p.name, p.shape.dims())?;
        let into = if p.trainable { &mut block.trained } else { &mut block.stats };
        into[p.offset..p.offset + values.len()].copy_from_slice(&values);
    }
    Ok(block)
}
