//! Datasets of clip features with partially observed labels, in the layout of OpenMIC-2018
//! (Humphrey, Durand, McFee: "OpenMIC-2018: An open dataset for multiple instrument recognition", ISMIR 2018).
//!
//! Everything read here is treated as hostile: memory is bounded by what the files can justify, nothing in them is executed,
//! and what is wrong with them is one error that names the file.

mod features;
mod json_features;
mod layout;
mod npz;
mod openmic;
mod pickle;
mod split;
mod synth;
mod synth_audio;

pub use split::validation_split;
pub use synth::synth;
pub use synth_audio::synth_audio;

use crate::error::Result;
use std::path::{Path, PathBuf};

/// Features per instance: the width of a VGGish embedding.
const WIDTH: usize = 128;

/// N clips with features, labels for K classes, and a train/test split.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The folder that holds `class-map.json`.
    pub path: PathBuf,
    /// K names, in the order of the class map.
    pub classes: Vec<String>,
    /// N distinct clip keys.
    pub keys: Vec<String>,
    pub features: Features,
    /// (N, K) row-major: 1.0 where the relevance is at least 0.5, else 0.0. Of meaning only where `observed`.
    pub targets: Vec<f32>,
    /// (N, K) row-major: whether anyone said if the class is present.
    pub observed: Vec<bool>,
    /// Clip indices in the order of the split file.
    pub train: Vec<u32>,
    /// Clip indices in the order of the split file.
    pub test: Vec<u32>,
    /// What is odd about the dataset but not fatal, one line each, with counts.
    pub warnings: Vec<String>,
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
}

/// Features as they are stored and uploaded.
#[derive(Clone, Debug, PartialEq)]
pub enum FeatureValues {
    /// The model input is value / 255.
    U8(Vec<u8>),
    /// The model input itself, in 0..=1.
    F32(Vec<f32>),
}

impl Dataset {
    /// Loads the dataset in the folder `path`, or in its subfolder `openmic-2018`.
    ///
    /// Features and labels come from `openmic-2018.npz`; without it, from `vggish/**/KEY.json` and
    /// `openmic-2018-aggregated-labels.csv`. Classes come from `class-map.json`, splits from `partitions/`.
    ///
    /// # Errors
    /// Anything missing, damaged or contradictory, with the file and what to do about it: features that are not (N, T, 128),
    /// not finite or outside 0..=255; labels of other classes than the class map's; a key twice or in both splits;
    /// an empty split, or one without any observed label.
    pub fn load(path: impl AsRef<Path>) -> Result<Dataset> {
        openmic::load(path.as_ref())
    }

    /// A number that another dataset, or another version of this one, is most unlikely to have: FNV-1a over all that a model
    /// learns from and is scored by.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3);
        match &self.features.values {
            FeatureValues::U8(bytes) => bytes.iter().for_each(|&b| mix(b.into())),
            FeatureValues::F32(values) => values.iter().for_each(|v| mix(v.to_bits().into())),
        }
        self.features.lengths.iter().chain(&self.train).chain(&self.test).for_each(|&n| mix(n.into()));
        self.targets.iter().zip(&self.observed).for_each(|(t, &o)| mix(if o { 1 + t.to_bits() as u64 } else { 0 }));
        self.classes.iter().for_each(|name| name.bytes().chain([0xff]).for_each(|b| mix(b.into())));
        hash
    }

    /// The folder's name, for reports.
    pub fn name(&self) -> String {
        let full = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        full.file_name().map_or_else(|| full.display().to_string(), |n| n.to_string_lossy().into_owned())
    }
}

/// Loads features alone, for prediction: from an npz with `X` (N, T, 128) and, optionally, `sample_key` (else the keys are
/// "0", "1", ...), or from a dataset folder, whose labels and splits are then not needed.
/// Returns the N keys and the features. Errors as [`Dataset::load`].
pub fn load_features(path: impl AsRef<Path>) -> Result<(Vec<String>, Features)> {
    openmic::load_features(path.as_ref())
}
