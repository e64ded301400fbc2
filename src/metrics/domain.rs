//! Whether clips resemble those that a model was trained on.
//!
//! Noise lies between the training clips rather than beyond them, so a distance from their mean does not tell it from
//! music. What does is how much of its energy lies along which directions: each instance is projected onto the
//! principal axes of the training instances, all scaled to unit variance there, and a clip has four numbers: the log
//! energies along the leading and along the trailing half of the axes, of its instances and of the differences between
//! one instance and the next. Their Mahalanobis distance from those of the training clips is the statistic.

use serde::{Deserialize, Serialize};
use smartcore::linalg::basic::arrays::Array as _;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linalg::traits::evd::EVDDecomposable;

use crate::core::array::Array;
use crate::metrics::scores::{mean, std_dev};

/// Added to each eigenvalue, as a fraction of their mean: directions without variance in the training clips.
const RIDGE: f64 = 0.01;
/// Below any energy of recorded sound.
const FAINTEST: f64 = 1e-6;
/// Standard deviations of the log distances of clips that were not fitted, above their mean, at the limit.
const DEVIATIONS: f64 = 3.0;
/// Clips below which nothing is fitted.
const FEWEST: usize = 50;
/// Clips below which no limit is set for a length.
pub(crate) const FEWEST_OTHERS: usize = 10;

/// Log energies of a clip.
const ENERGIES: usize = 4;

/// What the training clips are like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    instances: Axes,
    clips: Axes,
    /// Of clips of 2, 3 ... instances, as many as the longest training clips have.
    limits: Vec<f64>,
    /// Whether instances are the moments of the sound's log-mel spectrum, which the model does not see.
    #[serde(default)]
    pub of_spectrum: bool,
}

/// Principal axes of D values, scaled to unit variance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Axes {
    /// (D)
    mean: Vec<f32>,
    /// (D, D), the leading axis first.
    axes: Vec<f32>,
}

impl Axes {
    fn fit<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone) -> Option<Axes> {
        let (d, n) = (rows.clone().next()?.len(), rows.clone().count() as f64);
        let mut mean = vec![0.0; d];
        rows.clone().for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v) / n));
        let mut covariance = vec![0.0; d * d];
        for row in rows {
            let off: Vec<f64> = row.iter().zip(&mean).map(|(v, mean)| f64::from(*v) - mean).collect();
            for (i, into) in covariance.chunks_exact_mut(d).enumerate() {
                // The lower triangle.
                into[..=i].iter_mut().zip(&off).for_each(|(sum, v)| *sum += off[i] * v / n);
            }
        }
        for i in 0..d {
            (0..i).for_each(|j| covariance[j * d + i] = covariance[i * d + j]);
        }
        // The decomposition of anything else does not end.
        if !covariance.iter().all(|v| v.is_finite()) {
            return None;
        }
        let found = DenseMatrix::new(d, d, covariance, false).ok()?.evd(true).ok()?;
        let ridge = RIDGE * found.d.iter().sum::<f64>() / d as f64;
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by(|&a, &b| found.d[b].total_cmp(&found.d[a]));
        let axis = |&k: &usize| {
            let scale = (found.d[k].max(0.0) + ridge).sqrt();
            let vector = &found.V;
            (0..d).map(move |i| (vector.get((i, k)) / scale) as f32)
        };
        let axes = Axes { mean: mean.iter().map(|v| *v as f32).collect(), axes: order.iter().flat_map(axis).collect() };
        axes.is_valid().then_some(axes)
    }

    fn is_valid(&self) -> bool {
        let d = self.mean.len();
        d > 0 && self.axes.len() == d * d && self.mean.iter().chain(&self.axes).all(|v| v.is_finite())
    }

    fn project(&self, row: &[f32]) -> Vec<f64> {
        let off: Vec<f64> = row.iter().zip(&self.mean).map(|(v, mean)| f64::from(v - mean)).collect();
        let along = |axis: &[f32]| axis.iter().zip(&off).map(|(a, v)| f64::from(*a) * v).sum();
        self.axes.chunks_exact(self.mean.len()).map(along).collect()
    }
}

impl Domain {
    /// Fits `training` clips, (instances, D) each, and sets the limits by other clips of the same kind. `None` if there
    /// are too few of two or more instances, or if all are the same.
    pub fn fit(training: &[Array<f32>], others: &[Array<f32>]) -> Option<Domain> {
        let rows = training.iter().flat_map(|clip| clip.data().chunks_exact(clip.dims()[1]));
        let instances = Axes::fit(rows)?;
        let clips = Axes { mean: vec![], axes: vec![] };
        let mut domain = Domain { instances, clips, limits: vec![], of_spectrum: false };
        let of_clips: Vec<_> = training.iter().filter_map(|clip| domain.energies(&domain.projected(clip))).collect();
        if of_clips.len() < FEWEST {
            return None;
        }
        domain.clips = Axes::fit(of_clips.iter().map(<[f32; ENERGIES]>::as_slice))?;
        let others: Vec<Vec<Vec<f64>>> = others.iter().map(|clip| domain.projected(clip)).collect();
        for count in 2..=others.iter().map(Vec::len).max()? {
            // Shorter clips vary more: their limits are those of the beginnings of longer ones.
            let distances = others.iter().filter_map(|clip| domain.distance_of(clip.get(..count)?));
            let logs: Vec<Option<f64>> = distances.map(|d| Some(d.max(FAINTEST).ln())).collect();
            if logs.len() < FEWEST_OTHERS {
                break;
            }
            let (centre, spread) = (mean(logs.iter().copied())?, std_dev(logs.iter().copied())?);
            domain.limits.push((centre + DEVIATIONS * spread).exp());
        }
        domain.is_valid().then_some(domain)
    }

    /// Whether its parts fit together, as in one that was fitted.
    pub(crate) fn is_valid(&self) -> bool {
        let positive = |limit: &f64| limit.is_finite() && *limit > 0.0;
        let sized = self.instances.is_valid() && self.clips.is_valid() && self.clips.mean.len() == ENERGIES;
        sized && !self.limits.is_empty() && self.limits.iter().all(positive)
    }

    /// D: values of an instance.
    pub fn width(&self) -> usize {
        self.instances.mean.len()
    }

    /// How far a clip of (instances, D) is from the training clips, relative to the limit for so many instances: above
    /// 1 it is out of the domain. `None` for a single instance. Panics for another D.
    pub fn distance(&self, clip: &Array<f32>) -> Option<f64> {
        assert_eq!(clip.dims()[1], self.width(), "values of an instance");
        let count = clip.dims()[0].min(self.limits.len() + 1);
        Some(self.distance_of(&self.projected(clip)[..count])? / self.limits[count - 2])
    }

    fn distance_of(&self, along: &[Vec<f64>]) -> Option<f64> {
        let off = self.clips.project(&self.energies(along)?);
        Some(off.iter().map(|v| v * v).sum::<f64>().sqrt())
    }

    /// The instances of a clip along the axes.
    fn projected(&self, clip: &Array<f32>) -> Vec<Vec<f64>> {
        (0..clip.dims()[0]).map(|i| self.instances.project(clip.row(i))).collect()
    }

    /// Of the instances of a clip along the axes; `None` for less than two.
    fn energies(&self, along: &[Vec<f64>]) -> Option<[f32; ENERGIES]> {
        let changes: Vec<Vec<f64>> =
            along.windows(2).map(|pair| pair[0].iter().zip(&pair[1]).map(|(a, b)| b - a).collect()).collect();
        if changes.is_empty() {
            return None;
        }
        let half = self.width().div_ceil(2);
        let energy = |rows: &[Vec<f64>], trailing: bool| {
            let part = |row: &Vec<f64>| {
                let part = if trailing { &row[half..] } else { &row[..half] };
                part.iter().map(|v| v * v).sum::<f64>() / part.len().max(1) as f64
            };
            (rows.iter().map(part).sum::<f64>() / rows.len() as f64 + FAINTEST).ln() as f32
        };
        Some([energy(along, false), energy(along, true), energy(&changes, false), energy(&changes, true)])
    }
}
