//! Datasets of clip features with partially observed labels, in the layout of OpenMIC-2018
//! (Humphrey, Durand, McFee: "OpenMIC-2018: An open dataset for multiple instrument recognition", ISMIR 2018).
//!
//! All input is untrusted: memory is bounded by the size of the files, nothing in them is executed, and errors name the
//! file.

mod audio_set;
mod excerpts;
mod features;
mod features_npz;
mod json_features;
mod labels;
mod layout;
mod mapped;
mod npz;
mod openmic;
mod own_labels;
mod pickle;
mod split;
mod synth;
mod synth_audio;

pub use audio_set::AudioSet;
pub use excerpts::Excerpts;
pub use features::FeatureScale;
pub use features_npz::{npz_note, write_npz};
pub use mapped::Mapped;
pub use own_labels::Unlisted;
pub use split::{SplitBy, SplitConfig, validation_split};
pub use synth::synth;
pub use synth_audio::synth_audio;

use crate::core::array::Array;
use crate::core::error::Result;
use crate::core::hash::Fingerprint;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Features per instance: the width of a VGGish embedding.
const WIDTH: usize = 128;

/// N clips with features, labels for K classes, and a train/test split.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The folder with `class-map.json`.
    pub path: PathBuf,
    /// K names, in the order of the class map.
    pub classes: Vec<String>,
    /// N distinct clip keys.
    pub keys: Vec<String>,
    pub features: Features,
    /// (N, K) row-major: 1.0 where the relevance is at least 0.5, else 0.0. Valid only where `observed`.
    pub targets: Vec<f32>,
    /// (N, K) row-major: whether the label is known.
    pub observed: Vec<bool>,
    /// (N, T, K) row-major: labels of the instances (strong labels), if any are known; each one of [`instance`].
    pub strong: Option<Arc<Vec<u8>>>,
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
    /// (N, T, S), of embeddings and feature maps of known sound: mean and standard deviation over each instance of the bands of its
    /// log-mel spectrum, by which clips unlike the training clips are found. No model input.
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
    pub fn spectrum_of(&self, clip: usize) -> Option<Array<f32>> {
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
    /// Loads the dataset in the folder `path`, or in its subfolder `openmic-2018`.
    ///
    /// Features and labels come from `openmic-2018.npz`; without it, from `vggish/**/KEY.json` and
    /// `openmic-2018-aggregated-labels.csv`. Classes come from `class-map.json`, splits from `partitions/`.
    ///
    /// # Errors
    /// Anything missing, damaged or contradictory, with the file and what to do about it: features that are not (N, T,
    /// 128), not finite or outside 0..=255; labels of other classes than the class map's; a key twice or in both
    /// splits; an empty split, or one without any observed label.
    pub fn load(path: impl AsRef<Path>) -> Result<Dataset> {
        openmic::load(path.as_ref(), true, None)
    }

    /// As [`Dataset::load`], but for evaluation on all clips: splits may be missing or empty, which is a warning, as
    /// long as any label is observed. [`Dataset::check_splits`] checks whether it can be used for training. `scale`:
    /// scale of features stored as floats, see [`load_features`].
    pub fn load_labelled(path: impl AsRef<Path>, scale: Option<FeatureScale>) -> Result<Dataset> {
        openmic::load(path.as_ref(), false, scale)
    }

    /// Loads labels, classes and splits from the folder `path` and features from another archive, joined by
    /// `sample_key`.
    ///
    /// Labels come from the folder's `openmic-2018-aggregated-labels.csv`; without it from its `openmic-2018.npz`;
    /// without that from `npz` itself, which otherwise needs only `X` and `sample_key`. Clips keep the order of `npz`;
    /// those without features are skipped with a warning, and splits may be empty as in [`Dataset::load_labelled`].
    ///
    /// # Errors
    /// As [`Dataset::load`]; `Data` if `npz` has no `sample_key`.
    pub fn load_with(path: impl AsRef<Path>, npz: impl AsRef<Path>, scale: Option<FeatureScale>) -> Result<Dataset> {
        openmic::load_with(path.as_ref(), npz.as_ref(), scale)
    }

    /// # Errors
    /// `Data` if the train or the test split has no clips or no observed label.
    pub fn check_splits(&self) -> Result<()> {
        labels::check_splits(&self.path, &self.observed, self.classes.len(), &self.train, &self.test)
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
                return Err(crate::Error::data(&self.path, format!("{reason}, but {model} is a single-label model")));
            }
        }
        Ok(())
    }

    /// Fingerprint of the labels of instances, which affect only training; `None` if there are none.
    pub fn strong_fingerprint(&self) -> Option<u64> {
        let mut fingerprint = Fingerprint::default();
        self.strong.as_ref()?.iter().for_each(|&code| fingerprint.mix(code.into()));
        Some(fingerprint.finish())
    }

    /// Fingerprint of the dataset: FNV-1a over everything that affects training and evaluation, but for the labels of instances.
    pub fn fingerprint(&self) -> u64 {
        let mut fingerprint = Fingerprint::default();
        let mut mix = |word: u64| fingerprint.mix(word);
        match &self.features.values {
            FeatureValues::U8(bytes) => bytes.iter().for_each(|&b| mix(b.into())),
            FeatureValues::F32(values) => values.iter().for_each(|v| mix(v.to_bits().into())),
            // May be gigabytes on disk: a sample is enough to distinguish versions.
            FeatureValues::F16(map) => {
                let step = (map.bytes().len() / (1 << 20)).max(1) | 1;
                map.bytes().iter().step_by(step).for_each(|&b| mix(b.into()));
            }
        }
        if self.validation.is_some() {
            // Separates the splits.
            [self.train.len(), self.test.len()].into_iter().for_each(|n| mix(n as u64));
        }
        let splits = self.train.iter().chain(self.validation.iter().flatten()).chain(&self.test);
        self.features.lengths.iter().chain(splits).for_each(|&n| mix(n.into()));
        self.targets.iter().zip(&self.observed).for_each(|(t, &o)| mix(if o { 1 + t.to_bits() as u64 } else { 0 }));
        self.classes.iter().for_each(|name| name.bytes().chain([0xff]).for_each(|b| mix(b.into())));
        fingerprint.finish()
    }

    /// The folder's name, for reports.
    pub fn name(&self) -> String {
        let full = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        full.file_name().map_or_else(|| full.display().to_string(), |n| n.to_string_lossy().into_owned())
    }
}

/// Whether [`Dataset::load`] finds features in the folder.
pub fn has_features(path: impl AsRef<Path>) -> bool {
    openmic::has_features(path.as_ref())
}

/// The `openmic-2018.npz` that [`Dataset::load`] reads in the folder, if there is one.
pub fn features_npz(path: impl AsRef<Path>) -> Option<PathBuf> {
    openmic::npz_of(path.as_ref())
}

/// Whether the folder is meant as a dataset in OpenMIC-2018's layout.
pub fn has_class_map(path: impl AsRef<Path>) -> bool {
    openmic::find_root(path.as_ref()).is_ok()
}

/// Whether the folder has labels of the user's own: `labels.csv`, or annotation files beside recordings.
pub fn has_own_labels(path: impl AsRef<Path>) -> bool {
    own_labels::are_in(path.as_ref())
}

/// Loads features alone, for prediction: from an npz with `X` (N, T, 128) and, optionally, `sample_key` (else the keys
/// are "0", "1", ...) and `lengths` (N, see [`write_npz`]), or from a dataset folder, whose labels and splits are then
/// not needed. Returns the N keys and the features, and a remark on their scale if they are floats.
///
/// Integers are 8-bit codes, whatever their values; floats have the scale in the archive's note, else `scale`, else are
/// codes if any is above 1.
///
/// # Errors
/// As [`Dataset::load`]; `Data` for floats of at most 1 of unknown scale.
pub fn load_features(
    path: impl AsRef<Path>,
    scale: Option<FeatureScale>,
) -> Result<(Vec<String>, Features, Option<String>)> {
    openmic::load_features(path.as_ref(), scale)
}

/// Reads the array `name` of an npz, which must have `len` elements, in any shape.
///
/// # Errors
/// `Data` if there is none, or of another size.
pub(crate) fn read_array(path: &Path, name: &str, len: usize) -> Result<Vec<f64>> {
    let mut npz = npz::Npz::open(path)?;
    let member = npz.member(name)?;
    if member.shape().iter().product::<usize>() != len {
        return Err(member.error(format!("has shape {:?}; {len} elements are expected", member.shape())));
    }
    let mut values = Vec::with_capacity(len);
    member.numbers(|_, value| {
        values.push(value);
        Ok(())
    })?;
    Ok(values)
}
