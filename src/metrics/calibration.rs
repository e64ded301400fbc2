//! Calibration of probabilities on validation clips, and how well calibrated they are.
//!
//! Each seed and class has a logistic curve of its own (Platt 1999), fitted to the validation labels. A class often has
//! only tens of them, so its curve is drawn towards the one that is common to all classes of the seed, and that one
//! towards the identity. The order of the clips stays the same, so ranking metrics do not change.

use serde::{Deserialize, Serialize};

/// Precision (inverse variance) of the Gaussian priors of slope and intercept.
const PRIOR: f64 = 10.0;
/// Log-odds beyond these, which f32 probabilities of 0 and 1 have, count as these.
const LARGEST_LOGIT: f64 = 16.0;
const ITERATIONS: usize = 50;
/// Of a [`Reliability`].
const BINS: usize = 10;

/// p -> sigmoid(slope logit(p) + intercept), of one seed and class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Above 0.
    pub slope: f64,
    pub intercept: f64,
}

impl Calibration {
    pub const IDENTITY: Calibration = Calibration { slope: 1.0, intercept: 0.0 };

    /// Fits the pairs of probability and label of each class of a seed.
    pub fn of_classes(labelled: &[Vec<(f32, bool)>]) -> Vec<Calibration> {
        let common = Calibration::fit(&labelled.concat(), Calibration::IDENTITY);
        labelled.iter().map(|class| Calibration::fit(class, common)).collect()
    }

    /// The most probable curve, given pairs of probability and label, with Gaussian priors around those of `prior`;
    /// `prior` itself where higher probabilities do not mean more labels.
    pub fn fit(labelled: &[(f32, bool)], prior: Calibration) -> Calibration {
        let points: Vec<(f64, f64)> =
            labelled.iter().map(|(p, label)| (logit(f64::from(*p)), f64::from(u8::from(*label)))).collect();
        let off = |c: &Calibration| [c.slope - prior.slope, c.intercept - prior.intercept];
        let loss = |c: &Calibration| -> f64 {
            // -(t ln s(z) + (1 - t) ln(1 - s(z))) = ln(1 + e^z) - t z, without overflow.
            let term = |(x, t): &(f64, f64)| {
                let z = c.slope * x + c.intercept;
                z.max(0.0) + (-z.abs()).exp().ln_1p() - t * z
            };
            points.iter().map(term).sum::<f64>() + PRIOR / 2.0 * off(c).iter().map(|v| v * v).sum::<f64>()
        };
        let (mut fit, mut current) = (prior, loss(&prior));
        for _ in 0..ITERATIONS {
            // Newton's step for the convex loss, halved until it descends.
            let (mut g, mut h) = (off(&fit).map(|v| PRIOR * v), [PRIOR, 0.0, PRIOR]);
            for (x, t) in &points {
                let s = sigmoid(fit.slope * x + fit.intercept);
                let (d, w) = (s - t, s * (1.0 - s));
                (g[0], g[1]) = (g[0] + d * x, g[1] + d);
                (h[0], h[1], h[2]) = (h[0] + w * x * x, h[1] + w * x, h[2] + w);
            }
            let determinant = h[0] * h[2] - h[1] * h[1];
            let step = [(h[2] * g[0] - h[1] * g[1]) / determinant, (h[0] * g[1] - h[1] * g[0]) / determinant];
            let next = (0..30).map(|halvings| {
                let scale = 0.5f64.powi(halvings);
                Calibration { slope: fit.slope - scale * step[0], intercept: fit.intercept - scale * step[1] }
            });
            let Some((better, lower)) = next.map(|c| (c, loss(&c))).find(|(_, l)| *l < current) else { break };
            let done = current - lower < 1e-9 * current.abs();
            (fit, current) = (better, lower);
            if done {
                break;
            }
        }
        if fit.is_valid() { fit } else { prior }
    }

    /// For clips of which the fraction `to` has the class instead of `from`, both between 0 and 1: the odds grow as
    /// those of the fractions (Saerens, Latinne, Decaestecker: "Adjusting the outputs of a classifier to new a priori
    /// probabilities", 2002).
    pub fn with_prior(self, from: f64, to: f64) -> Calibration {
        Calibration { intercept: self.intercept + logit(to) - logit(from), ..self }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.slope > 0.0 && self.slope.is_finite() && self.intercept.is_finite()
    }

    /// The calibrated probability.
    pub fn apply(&self, p: f64) -> f64 {
        if *self == Calibration::IDENTITY { p } else { sigmoid(self.slope * logit(p) + self.intercept) }
    }

    /// The probability whose calibrated one is `p`.
    pub(crate) fn invert(&self, p: f64) -> f64 {
        if *self == Calibration::IDENTITY { p } else { sigmoid((logit(p) - self.intercept) / self.slope) }
    }
}

/// Clips whose probabilities lie in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    pub count: usize,
    /// Mean of the probabilities; 0 in an empty bin.
    pub probability: f64,
    /// Fraction of them whose label is present; 0 in an empty bin.
    pub present: f64,
}

/// Sorts pairs of probability and label into `bins` intervals of [0, 1] of equal width, for a reliability diagram.
pub fn reliability(labelled: &[(f64, bool)], bins: usize) -> Vec<Bin> {
    let mut sums = vec![Bin::default(); bins];
    for (p, present) in labelled {
        let bin = &mut sums[((p * bins as f64) as usize).min(bins - 1)];
        bin.count += 1;
        bin.probability += p;
        bin.present += f64::from(u8::from(*present));
    }
    let mean = |bin: Bin| {
        let n = bin.count.max(1) as f64;
        Bin { probability: bin.probability / n, present: bin.present / n, ..bin }
    };
    sums.into_iter().map(mean).collect()
}

/// Expected calibration error: the mean over the clips of |fraction present - mean probability| of their bin; 0 without
/// clips.
pub fn expected_error(bins: &[Bin]) -> f64 {
    let total: usize = bins.iter().map(|bin| bin.count).sum();
    let gap = |bin: &Bin| bin.count as f64 * (bin.present - bin.probability).abs();
    bins.iter().map(gap).sum::<f64>() / total.max(1) as f64
}

/// How well the probabilities of a split are calibrated, of all classes together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Ten bins each.
    pub before: Vec<Bin>,
    pub after: Vec<Bin>,
    /// Expected calibration errors.
    pub error_before: f64,
    pub error_after: f64,
}

impl Reliability {
    /// From pairs of probability and label before and after calibration.
    pub fn new(before: &[(f64, bool)], after: &[(f64, bool)]) -> Reliability {
        let [before, after] = [before, after].map(|labelled| reliability(labelled, BINS));
        let (error_before, error_after) = (expected_error(&before), expected_error(&after));
        Reliability { before, after, error_before, error_after }
    }
}

/// The precisions for which thresholds are stored with a run: 0.5, 0.51 ... 0.99.
pub fn precisions() -> impl Iterator<Item = f64> {
    (50..100).map(|percent| f64::from(percent) / 100.0)
}

/// Which of [`precisions`] is `wanted`, which must be one of them.
pub(crate) fn precision_index(wanted: f64) -> usize {
    precisions().position(|p| p >= wanted - 1e-9).expect("within the range")
}

/// What is less likely than this is not present, even where others are so certain, or so many of the clips that were
/// labelled have what they were labelled for, that the mean would still be the precision wanted.
const LEAST: f64 = 0.2;

/// For each of [`precisions`], the lowest threshold at which it is expected of what is named, of all classes together,
/// from calibrated probabilities of validation clips and the weight of each: the mean of those at or above a threshold
/// is the expected fraction that is right. 1 where none reaches it, so that nothing below certainty counts as present;
/// never below [`LEAST`].
///
/// Thresholds of single classes would depend on the few clips of each: a class of which no clip is certain could not be
/// named at all.
pub fn precision_thresholds(calibrated: &[(f64, f64)]) -> Vec<f64> {
    let mut sorted = calibrated.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    // The mean of falling numbers falls. Equal ones count together.
    let (mut sum, mut total) = (0.0, 0.0);
    let mut reached = vec![];
    for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
        (sum, total) = equal.iter().fold((sum, total), |(sum, total), (p, weight)| (sum + p * weight, total + weight));
        reached.push((sum / total, equal[0].0));
    }
    let lowest = |wanted: f64| {
        while reached.last().is_some_and(|(precision, _)| *precision < wanted) {
            reached.pop();
        }
        reached.last().map_or(1.0, |(_, threshold)| threshold.max(LEAST))
    };
    precisions().map(lowest).collect()
}

/// Log-odds, within +-16.
pub(crate) fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln().clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
}

pub(crate) fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}
