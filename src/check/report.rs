//! The outcomes of all checks on a device, as data.

use serde::{Deserialize, Deserializer, Serialize};

use super::run::Outcome;
use crate::core::numbers::percent;

/// What `wmic check --json` prints, and what the page of `wmic check --web` saves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckReport {
    pub device: String,
    /// The browser, of a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Empty in files of earlier versions.
    #[serde(default)]
    pub wmic_version: String,
    pub checks: Vec<Row>,
    pub passed: usize,
    pub failed: usize,
}

/// An outcome as it is listed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub op: String,
    pub case: String,
    pub variant: String,
    /// Largest error as a fraction of its tolerance; null when it is not finite.
    #[serde(deserialize_with = "or_nan")]
    pub forward: f64,
    /// As `forward`; null also for ops without gradients.
    pub gradient: Option<f64>,
    pub passed: bool,
    pub failures: Vec<String>,
}

impl CheckReport {
    pub fn new(device: String, checks: Vec<Row>) -> CheckReport {
        let passed = checks.iter().filter(|row| row.passed).count();
        let (failed, wmic_version) = (checks.len() - passed, env!("CARGO_PKG_VERSION").into());
        CheckReport { device, agent: None, wmic_version, checks, passed, failed }
    }
}

impl From<Outcome> for Row {
    fn from(o: Outcome) -> Row {
        let passed = o.passed();
        let (op, variant, failures) = (o.op.to_owned(), o.target.to_string(), o.failures);
        Row { op, case: o.case, variant, forward: o.forward, gradient: o.gradient, passed, failures }
    }
}

/// An error as a percentage of its tolerance.
pub fn share(error: f64) -> String {
    match error {
        error if error.is_nan() => "-".into(),
        error if error >= 100.0 => "> 9999 %".into(),
        error => percent(error),
    }
}

fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}
