//! From which probability on a class counts as present: everywhere the same, or tuned for each class on validation
//! clips.
//!
//! Each seed has thresholds of its own, from its own validation clips, so that it scores as it would if it had been
//! trained alone. Where the seeds answer together, the mean of their probabilities is held against the mean of their
//! thresholds: the mean of their margins decides.
//!
//! The thresholds that count lie in the metadata of the weights, of every run that has ended, whichever of the two it
//! uses. `thresholds.json` is a copy for people and other programs, and is not read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::core::error::Result;
use crate::metrics::scores::Counts;

/// Where nothing can be learnt about a class.
const DEFAULT: f64 = 0.5;

/// Which thresholds count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Spelled", into = "Spelled")]
pub enum Level {
    /// This probability, for all classes.
    Fixed(f64),
    /// Each class's own.
    Tuned,
}

impl Default for Level {
    fn default() -> Level {
        Level::Fixed(DEFAULT)
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Level, String> {
        match text.parse() {
            Ok(v) => Spelled::Number(v).try_into(),
            Err(_) => Spelled::Name(text.into()).try_into(),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Level::Fixed(v) => write!(f, "{v}"),
            Level::Tuned => f.write_str(TUNED),
        }
    }
}

const TUNED: &str = "tuned";

/// As files have it: a number, or a word.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Spelled {
    Number(f64),
    Name(String),
}

impl TryFrom<Spelled> for Level {
    type Error = String;

    fn try_from(spelled: Spelled) -> Result<Level, String> {
        match spelled {
            Spelled::Number(v) if (0.0..=1.0).contains(&v) => Ok(Level::Fixed(v)),
            Spelled::Name(name) if name == TUNED => Ok(Level::Tuned),
            _ => Err("a number from 0 to 1, or tuned, is expected".into()),
        }
    }
}

impl From<Level> for Spelled {
    fn from(level: Level) -> Spelled {
        match level {
            Level::Fixed(v) => Spelled::Number(v),
            Level::Tuned => Spelled::Name(TUNED.into()),
        }
    }
}

/// The threshold with the best f1_pn of a class, of pairs of probability and truth: half-way between two neighbouring
/// probabilities, and of equals the one nearest to 0.5. 0.5 unless both truths occur.
pub fn tune(answers: &[(f32, bool)]) -> f64 {
    let present = answers.iter().filter(|a| a.1).count() as u64;
    let absent = answers.len() as u64 - present;
    if present == 0 || absent == 0 {
        return DEFAULT;
    }
    let mut sorted = answers.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    // From the threshold 0 on, at which all are taken for present.
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

/// The mean over the seeds of their thresholds (R, K), for what they answer together.
pub fn common(of_seeds: &[Vec<f64>]) -> Vec<f64> {
    let first = &of_seeds[0];
    // By the differences from the first, so that equal ones stay what they are.
    let off = |k: usize| of_seeds.iter().map(|of_seed| of_seed[k] - first[k]).sum::<f64>() / of_seeds.len() as f64;
    first.iter().enumerate().map(|(k, t)| t + off(k)).collect()
}
