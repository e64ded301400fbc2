//! Decision thresholds: the same for all classes, or tuned for each class on validation clips.
//!
//! Each seed has its own thresholds, from its own validation clips, so that it scores as if it had been trained alone.
//! In an ensemble, the mean of the probabilities is compared with the mean of the thresholds: the mean margin decides.
//!
//! The thresholds are stored in the metadata of the weights of every finished run, even if it uses a fixed one.
//! `thresholds.json` is for people and other programs, and is not read: the ensemble's tuned ones, of calibrated
//! probabilities.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::core::error::Result;
use crate::metrics::counts::Counts;

/// Threshold of a class that cannot be tuned.
const DEFAULT: f64 = 0.5;

/// Kind of threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Spelled", into = "Spelled")]
pub enum Threshold {
    /// This probability, for all classes.
    Fixed(f64),
    /// Tuned per class.
    Tuned,
    /// The lowest with this expected precision, 0.5 to 0.99, of all classes together.
    Precision(f64),
}

impl Default for Threshold {
    fn default() -> Threshold {
        Threshold::Fixed(DEFAULT)
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Threshold, String> {
        match text.parse() {
            Ok(v) => Spelled::Number(v).try_into(),
            Err(_) => Spelled::Name(text.into()).try_into(),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Threshold::Fixed(v) => write!(f, "{v}"),
            Threshold::Tuned => f.write_str(TUNED),
            Threshold::Precision(v) => write!(f, "{PRECISION}{v}"),
        }
    }
}

const TUNED: &str = "tuned";
const PRECISION: &str = "precision:";

/// As stored in files: a number or a string.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Spelled {
    Number(f64),
    Name(String),
}

const EXPECTED: &str = "a number from 0 to 1, tuned, or precision:P with P from 0.5 to 0.99 is expected";

impl TryFrom<Spelled> for Threshold {
    type Error = String;

    fn try_from(spelled: Spelled) -> Result<Threshold, String> {
        match spelled {
            Spelled::Number(v) if (0.0..=1.0).contains(&v) => Ok(Threshold::Fixed(v)),
            Spelled::Name(name) if name == TUNED => Ok(Threshold::Tuned),
            Spelled::Name(name) => {
                let wanted = name.strip_prefix(PRECISION).and_then(|text| text.parse().ok());
                wanted.filter(|v| (0.5..=0.99).contains(v)).map(Threshold::Precision).ok_or(EXPECTED.into())
            }
            Spelled::Number(_) => Err(EXPECTED.into()),
        }
    }
}

impl From<Threshold> for Spelled {
    fn from(level: Threshold) -> Spelled {
        match level {
            Threshold::Fixed(v) => Spelled::Number(v),
            Threshold::Tuned | Threshold::Precision(_) => Spelled::Name(level.to_string()),
        }
    }
}

/// The threshold with the best f1_pn of a class, from pairs of probability and label: half-way between two neighbouring
/// probabilities, and among equals the one nearest to 0.5. 0.5 unless both labels occur.
pub(crate) fn tune(pairs: &[(f32, bool)]) -> f64 {
    let present = pairs.iter().filter(|a| a.1).count() as u64;
    let absent = pairs.len() as u64 - present;
    if present == 0 || absent == 0 {
        return DEFAULT;
    }
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Starts at threshold 0, where all are predicted present.
    let mut counts = Counts { tp: present, fp: absent, fn_: 0, tn: 0 };
    let mut best = (counts.f1_pn(), 0.0);
    for (i, (p, truth)) in sorted.iter().enumerate() {
        match truth {
            true => (counts.tp, counts.fn_) = (counts.tp - 1, counts.fn_ + 1),
            false => (counts.fp, counts.tn) = (counts.fp - 1, counts.tn + 1),
        }
        let next = sorted.get(i + 1).map_or(1.0, |next| next.0);
        if next > *p {
            let at = (f64::from(*p) + f64::from(next)) / 2.0;
            let score = counts.f1_pn();
            if score > best.0 || score == best.0 && (at - DEFAULT).abs() < (best.1 - DEFAULT).abs() {
                best = (score, at);
            }
        }
    }
    best.1
}

/// The mean over the seeds of their thresholds (R, K), for their ensemble.
pub fn common(of_seeds: &[Vec<f64>]) -> Vec<f64> {
    let first = &of_seeds[0];
    // By the differences from the first, so that the mean of equal ones is exact.
    let off = |k: usize| of_seeds.iter().map(|of_seed| of_seed[k] - first[k]).sum::<f64>() / of_seeds.len() as f64;
    first.iter().enumerate().map(|(k, t)| t + off(k)).collect()
}
