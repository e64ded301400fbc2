//! The probability from which on each class counts as present, tuned on the validation clips.

use std::collections::BTreeMap;

use super::metrics::Counts;
use super::run::RunDir;
use crate::error::{Error, Result};
use crate::files::{read_limited, write_atomic};

/// Where nothing can be learnt about a class.
const DEFAULT: f64 = 0.5;
/// No run has so many classes.
const SIZE_LIMIT: u64 = 16 << 20;

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

/// Writes the run's thresholds.
pub fn save(run: &RunDir, classes: &[String], thresholds: &[f64]) -> Result<()> {
    let table: BTreeMap<&str, f64> = classes.iter().map(String::as_str).zip(thresholds.iter().copied()).collect();
    let text = serde_json::to_string_pretty(&table).expect("a table serialises");
    write_atomic(run.thresholds(), |out| writeln!(out, "{text}"))
}

/// Reads the run's thresholds, in the order of `classes`.
///
/// # Errors
/// `Usage` if the run has none, `Data` for a damaged file.
pub fn load(run: &RunDir, classes: &[String]) -> Result<Vec<f64>> {
    let path = run.thresholds();
    if !path.exists() {
        let run = run.path().display();
        return Err(Error::Usage(format!("{run} has no tuned thresholds: its training has not ended; give a number")));
    }
    let damaged = || Error::data(&path, "is no table of thresholds of the run's classes");
    let table: BTreeMap<String, f64> =
        serde_json::from_slice(&read_limited(&path, SIZE_LIMIT)?).map_err(|_| damaged())?;
    let each = classes.iter().map(|class| table.get(class).copied().filter(|t| (0.0..=1.0).contains(t)));
    each.collect::<Option<_>>().ok_or_else(damaged)
}
