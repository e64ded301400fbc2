//! Post-processing of VGGish's embeddings: PCA in 8 bits, or scaling of each dimension by its minimum and maximum in 16
//! bits.

use std::path::Path;

use half::f16;
use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::data::read_array;
use crate::nn::front_ends::vggish::EMBEDDING;

/// How embeddings become inputs of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// PCA, clipped to [-2, 2], in 8 bits: AudioSet's features, and so OpenMIC's.
    #[default]
    Pca8,
    /// Each dimension from its minimum to its maximum over the training split's instances to [0, 1], in 16 bits.
    Minmax,
}

/// Minimum and maximum of each dimension of an embedding, (128) each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Bounds")]
pub struct Range {
    min: Vec<f32>,
    max: Vec<f32>,
}

/// A range as read, not validated.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    min: Vec<f32>,
    max: Vec<f32>,
}

impl TryFrom<Bounds> for Range {
    type Error = String;

    fn try_from(Bounds { min, max }: Bounds) -> Result<Range, String> {
        Range::new(min, max)
    }
}

impl Range {
    /// # Errors
    /// A line if the number of values is not that of an embedding, a value is not finite, or a maximum is below its
    /// minimum.
    pub fn new(min: Vec<f32>, max: Vec<f32>) -> Result<Range, String> {
        let fits = min.len() == EMBEDDING && max.len() == EMBEDDING;
        match fits && min.iter().zip(&max).all(|(low, high)| low.is_finite() && high.is_finite() && low <= high) {
            true => Ok(Range { min, max }),
            false => Err(format!("needs {EMBEDDING} finite minima and as many maxima, none below its minimum")),
        }
    }

    /// Of some embeddings, (128) each, at least one.
    pub fn of<'a>(embeddings: impl Iterator<Item = &'a [f16]>) -> Range {
        let (mut min, mut max) = (vec![f32::INFINITY; EMBEDDING], vec![f32::NEG_INFINITY; EMBEDDING]);
        for embedding in embeddings {
            for ((low, high), value) in min.iter_mut().zip(&mut max).zip(embedding) {
                (*low, *high) = (low.min(value.to_f32()), high.max(value.to_f32()));
            }
        }
        Range { min, max }
    }

    /// The union of both.
    pub(crate) fn union(self, other: Range) -> Range {
        let merged = |one: Vec<f32>, two: Vec<f32>, of: fn(f32, f32) -> f32| {
            one.into_iter().zip(two).map(|(a, b)| of(a, b)).collect()
        };
        Range { min: merged(self.min, other.min, f32::min), max: merged(self.max, other.max, f32::max) }
    }

    /// An embedding, rounded to f16, in [0, 1]: values outside of the range are clipped, a dimension with an empty
    /// range gives 0.
    pub fn scale<'a>(&'a self, embedding: &'a [f16]) -> impl Iterator<Item = f16> + 'a {
        self.min.iter().zip(&self.max).zip(embedding).map(|((low, high), value)| {
            let share = if high > low { (value.to_f32() - low) / (high - low) } else { 0.0 };
            f16::from_f32(share.clamp(0.0, 1.0))
        })
    }
}

/// Post-processing of AudioSet's (and OpenMIC's) embeddings: PCA, whitened, in 8 bits. In double precision, so that
/// rounding does not depend on the order of sums.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PostProcess {
    /// (128, 128), E.
    pub(super) matrix: Vec<f64>,
    /// (128).
    pub(super) mean: Vec<f64>,
}

/// Clipping limit.
const CLIP: f64 = 2.0;

impl PostProcess {
    /// For random weights, which have no PCA: only rounding to 8 bits.
    pub(crate) fn identity() -> PostProcess {
        let matrix = (0..EMBEDDING * EMBEDDING).map(|i| f64::from(i / EMBEDDING == i % EMBEDDING)).collect();
        PostProcess { matrix, mean: vec![0.0; EMBEDDING] }
    }

    /// Reads `pca_eigen_vectors` (128, 128) and `pca_means` (128) or (128, 1) from an npz.
    ///
    /// # Errors
    /// `Data` if they are missing, or of other shapes.
    pub fn read(path: &Path) -> Result<PostProcess> {
        let matrix = read_array(path, "pca_eigen_vectors", EMBEDDING * EMBEDDING)?;
        let mean = read_array(path, "pca_means", EMBEDDING)?;
        PostProcess::new(matrix, mean).map_err(|reason| Error::data(path, reason))
    }

    /// From the matrix (128, 128) and the mean (128).
    ///
    /// # Errors
    /// A line if there are fewer or more values, or one is not finite.
    pub(super) fn new(matrix: Vec<f64>, mean: Vec<f64>) -> Result<PostProcess, &'static str> {
        if matrix.len() != EMBEDDING * EMBEDDING || mean.len() != EMBEDDING {
            return Err("has a PCA of other sizes than 128 x 128 and 128");
        }
        match matrix.iter().chain(&mean).all(|v| v.is_finite()) {
            true => Ok(PostProcess { matrix, mean }),
            false => Err("has a PCA with values that are not finite"),
        }
    }

    /// v = E (x - mean), clipped to [-2, 2], as floor((v + 2) 255 / 4).
    pub fn quantise(&self, embedding: &[f32]) -> Vec<u8> {
        let centred: Vec<f64> = embedding.iter().zip(&self.mean).map(|(x, mean)| f64::from(*x) - mean).collect();
        let quantised = |row: &[f64]| {
            let v: f64 = row.iter().zip(&centred).map(|(e, x)| e * x).sum();
            ((v.clamp(-CLIP, CLIP) + CLIP) * (255.0 / (2.0 * CLIP))) as u8
        };
        self.matrix.chunks_exact(EMBEDDING).map(quantised).collect()
    }
}
