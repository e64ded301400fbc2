//! A dataset of clip features in memory.

use super::mapped::Mapped;
use super::mix::Mixer;
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::hash::Fingerprint;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Features per instance: the width of a VGGish embedding.
pub(super) const WIDTH: usize = 128;

/// N clips with features, labels for K classes, and a train/test split.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The folder with `class-map.json`.
    pub path: PathBuf,
    /// K names, in the order of the class map.
    pub classes: Vec<String>,
    /// A vector of norm 1 for each class, in pre-training on words; else none.
    pub word_vectors: Vec<Vec<f32>>,
    /// N distinct clip keys.
    pub keys: Vec<String>,
    pub features: Features,
    /// (N, K) row-major: 1.0 where the relevance is at least 0.5, else 0.0. Valid only where `observed`.
    pub targets: Vec<f32>,
    /// (N, K) row-major: whether the label is known.
    pub observed: Vec<bool>,
    /// (N, T, K) row-major: labels of the instances (strong labels), if any are known; each one of [`instance`].
    pub strong: Option<Arc<Vec<u8>>>,
    /// Makes more clips to train on, new ones in each epoch.
    pub mixer: Option<Arc<Mixer>>,
    /// Clip indices in the order of the split file.
    pub train: Vec<u32>,
    /// Validation clips, none of them in `train`; `None`: each seed draws its own from `train`.
    pub validation: Option<Vec<u32>>,
    /// Clip indices in the order of the split file.
    pub test: Vec<u32>,
    /// Of what the splits were drawn on loading, if they are not files of the dataset: a run records them.
    pub drawn: Option<Drawn>,
    /// Warnings, one line each, with counts.
    pub warnings: Vec<String>,
}

/// Units that splits are drawn of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// Seconds of single notes.
    Notes,
    /// Recordings with the user's own labels, which may say themselves to which split they belong.
    Recordings,
}

/// Labels of an instance.
pub mod instance {
    pub const UNKNOWN: u8 = 0;
    pub const ABSENT: u8 = 1;
    pub const PRESENT: u8 = 2;
}

/// The model inputs of N clips of up to T instances of F values.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// (N, T, F) row-major; zeros beyond a clip's length.
    pub values: FeatureValues,
    /// T, the length of the longest clip, in instances.
    pub instances: usize,
    /// F, values per instance.
    pub width: usize,
    /// (N) valid instances of each clip, in 1..=T.
    pub lengths: Vec<u32>,
    /// (N, T, S), of embeddings and feature maps of known sound: mean and standard deviation over each instance of the
    /// bands of its log-mel spectrum, by which clips unlike the training clips are found. No model input.
    pub spectrum: Option<FeatureValues>,
}

/// Features as they are stored and uploaded. Clones share the values.
#[derive(Clone, Debug, PartialEq)]
pub enum FeatureValues {
    /// The model input is value / 255.
    U8(Arc<Vec<u8>>),
    /// The model input itself.
    F32(Arc<Vec<f32>>),
    /// The model input itself, in a memory-mapped file.
    F16(Mapped),
}

impl FeatureValues {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            FeatureValues::U8(bytes) => bytes.len(),
            FeatureValues::F32(values) => values.len(),
            FeatureValues::F16(map) => map.bytes().len() / 2,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Features {
    /// The model input of a clip, (its length, F). Panics if there is no such clip.
    pub fn clip(&self, clip: usize) -> Array<f32> {
        self.rows(&self.values, clip)
    }

    /// [`Features::spectrum`] of a clip, (its length, S).
    pub(crate) fn spectrum_of(&self, clip: usize) -> Option<Array<f32>> {
        self.spectrum.as_ref().map(|values| self.rows(values, clip))
    }

    fn rows(&self, values: &FeatureValues, clip: usize) -> Array<f32> {
        let width = values.len() / (self.lengths.len() * self.instances);
        let (each, rows) = (self.instances * width, self.lengths[clip] as usize);
        let range = clip * each..clip * each + rows * width;
        let values = match values {
            FeatureValues::U8(bytes) => bytes[range].iter().map(|v| f32::from(*v) / 255.0).collect(),
            FeatureValues::F32(values) => values[range].to_vec(),
            FeatureValues::F16(map) => {
                let halves = map.bytes()[2 * range.start..2 * range.end].chunks_exact(2);
                halves.map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
        };
        Array::new([rows, width], values)
    }
}

impl Dataset {
    /// # Errors
    /// `Data` if the train or the test split has no clips or no observed label.
    pub fn check_splits(&self) -> Result<()> {
        check_splits(&self.path, &self.observed, self.classes.len(), &self.train, &self.test)
    }

    /// # Errors
    /// `Data` if a clip does not have exactly one class, or has unknown labels.
    pub fn check_single_label(&self, model: &str) -> Result<()> {
        let k = self.classes.len();
        let clips = self.keys.iter().zip(self.targets.chunks(k)).zip(self.observed.chunks(k));
        for ((key, targets), observed) in clips {
            let present = targets.iter().zip(observed).filter(|(y, seen)| **y >= 0.5 && **seen).count();
            if present != 1 || observed.contains(&false) {
                let reason = match observed.contains(&false) {
                    true => format!("clip {key} has unknown labels"),
                    false => format!("clip {key} has {present} classes"),
                };
                return Err(Error::data(&self.path, format!("{reason}, but {model} is a single-label model")));
            }
        }
        Ok(())
    }

    /// Fingerprint of the clips: their keys, features and labels, and which of them are for the test. It does not
    /// depend on how the others are split into training and validation.
    pub fn fingerprint(&self) -> u64 {
        let mut fingerprint = Fingerprint::default();
        match &self.features.values {
            FeatureValues::U8(bytes) => fingerprint.mix_bytes(bytes),
            FeatureValues::F32(values) => fingerprint.mix_bytes(bytemuck::cast_slice(values)),
            FeatureValues::F16(map) => fingerprint.mix_bytes(map.bytes()),
        }
        self.features.lengths.iter().for_each(|&n| fingerprint.mix(n.into()));
        self.classes.iter().chain(&self.keys).for_each(|name| fingerprint.mix_bytes(name.as_bytes()));
        self.word_vectors.iter().for_each(|vector| fingerprint.mix_bytes(bytemuck::cast_slice(vector)));
        for (&target, &observed) in self.targets.iter().zip(&self.observed) {
            fingerprint.mix(if observed { 1 + u64::from(target.to_bits()) } else { 0 });
        }
        let learnt = self.train.iter().chain(self.validation.iter().flatten()).copied();
        for mut clips in [learnt.collect::<Vec<u32>>(), self.test.clone()] {
            clips.sort_unstable();
            fingerprint.mix_bytes(bytemuck::cast_slice(&clips));
        }
        fingerprint.finish()
    }

    /// Fingerprint of the splits: their clips, in order.
    pub fn splits_fingerprint(&self) -> u64 {
        let mut fingerprint = Fingerprint::default();
        [&self.train, &self.test].into_iter().chain(&self.validation).for_each(|clips| {
            fingerprint.mix_bytes(bytemuck::cast_slice(clips));
        });
        fingerprint.finish()
    }

    /// Fingerprint of the labels of instances, which affect only training; `None` if there are none.
    pub fn strong_fingerprint(&self) -> Option<u64> {
        let mut fingerprint = Fingerprint::default();
        fingerprint.mix_bytes(self.strong.as_ref()?);
        Some(fingerprint.finish())
    }

    /// Fingerprint of the notes of mixtures; `None` if there are none.
    pub fn notes_fingerprint(&self) -> Option<u64> {
        self.mixer.as_ref().map(|mixer| mixer.fingerprint())
    }

    /// The folder's name, for reports.
    pub fn name(&self) -> String {
        let full = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        full.file_name().map_or_else(|| full.display().to_string(), |n| n.to_string_lossy().into_owned())
    }
}

/// Fails if a split has no clip, or no known label. `observed` is (N, K).
pub(super) fn check_splits(path: &Path, observed: &[bool], classes: usize, train: &[u32], test: &[u32]) -> Result<()> {
    for (split, rows) in [("train", train), ("test", test)] {
        let any = |&row: &u32| observed[row as usize * classes..][..classes].contains(&true);
        if !rows.iter().any(any) {
            let lack = if rows.is_empty() { "clip" } else { "known label" };
            let reason = format!("the {split} split has no {lack}; it cannot be used for training or evaluation");
            return Err(Error::data(path, reason));
        }
    }
    Ok(())
}
