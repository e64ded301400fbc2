//! Labels of recordings, and what tables and annotation files say of them.

use super::times::Times;
use crate::core::error::{Error, Result};
use crate::core::files::read_limited;
use crate::data::split::{TEST_FRACTION, draw};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The table of labels in a folder of recordings.
pub(super) const TABLE: &str = "labels.csv";
/// Maximum size of a table or an annotation file, bytes.
const MAX_LABELS: u64 = 256 << 20;
/// The latest time, in seconds: a year.
const MAX_TIME: f64 = 366.0 * 86400.0;

/// Whether an instrument that the labels of a recording do not mention is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unlisted {
    Unknown,
    Absent,
}

/// Labels of N recordings for K classes.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnLabels {
    /// Where they are from: the table, or the folder of annotation files.
    pub source: PathBuf,
    /// K names, sorted.
    pub classes: Vec<String>,
    /// N files.
    pub files: Vec<PathBuf>,
    /// (N, K) row-major, 1.0 if present; valid only where `observed`.
    pub targets: Vec<f32>,
    /// (N, K) row-major: whether the label is known.
    pub observed: Vec<bool>,
    pub times: Times,
    /// (N) number of the group of each file; a split has whole groups.
    pub groups: Vec<u32>,
    /// (N), if the labels say to which split files belong.
    pub given: Option<Vec<Option<Part>>>,
    /// A line each.
    pub warnings: Vec<String>,
}

impl OwnLabels {
    /// The split of each file: as the labels say, else a tenth drawn for the test. If they do not say which files are
    /// for validation, a fraction of those that are not for the test is.
    pub(in crate::data) fn parts(&self, validation: f64) -> Vec<Option<Part>> {
        let mut parts = self.given.clone().unwrap_or_else(|| {
            let tested = self.draw(&vec![true; self.files.len()], TEST_FRACTION);
            tested.into_iter().map(|test| Some(if test { Part::Test } else { Part::Train })).collect()
        });
        if !parts.contains(&Some(Part::Validation)) {
            let train: Vec<bool> = parts.iter().map(|part| *part == Some(Part::Train)).collect();
            let drawn = self.draw(&train, validation);
            parts
                .iter_mut()
                .zip(drawn)
                .filter(|(_, drawn)| *drawn)
                .for_each(|(part, _)| *part = Some(Part::Validation));
        }
        parts
    }

    /// Draws a fraction of the files for a split, in whole groups, out of the `candidates`.
    fn draw(&self, candidates: &[bool], fraction: f64) -> Vec<bool> {
        let k = self.classes.len();
        let mut groups: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
        for (file, &group) in self.groups.iter().enumerate().filter(|(file, _)| candidates[*file]) {
            let present = (0..k).filter(|class| self.targets[file * k + class] >= 0.5);
            groups.entry(group).or_default().extend(present);
        }
        let classes: Vec<Vec<usize>> = groups.values().map(|of| of.iter().copied().collect()).collect();
        let drawn: BTreeMap<u32, bool> = groups.keys().copied().zip(draw(&classes, fraction)).collect();
        self.groups.iter().zip(candidates).map(|(group, candidate)| *candidate && drawn[group]).collect()
    }
}

/// Whether the folder has a table of labels.
pub(in crate::data) fn has_table(root: &Path) -> bool {
    root.join(TABLE).exists()
}

/// A split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Train,
    Validation,
    Test,
}

/// What a line of a table, or of an annotation, says of a recording.
pub(super) struct Statement {
    /// The name of the file in the table.
    pub(super) name: String,
    /// As in the table; `None` for a line on the file only.
    pub(super) instrument: Option<String>,
    /// `None`: explicitly unknown.
    pub(super) present: Option<bool>,
    /// Start and end of a segment, in seconds.
    pub(super) times: Option<[f64; 2]>,
    pub(super) group: Option<String>,
    pub(super) part: Option<Part>,
    /// 0 if it has none.
    pub(super) line: u64,
}

/// Checks the times of a segment, in seconds.
pub(super) fn segment(start: f64, end: f64) -> Result<[f64; 2], String> {
    match () {
        _ if !start.is_finite() || !end.is_finite() => Err(format!("{start} to {end} s are not times in seconds")),
        _ if start > MAX_TIME || end > MAX_TIME => Err(format!("{start:e} to {end:e} s are longer than a year")),
        _ if start < 0.0 || end < 0.0 => Err(format!("{start} to {end} s: a time is negative")),
        _ if end < start => Err(format!("{start} to {end} s: the end is before the start")),
        _ => Ok([start, end]),
    }
}

/// The text of a file, without a byte order mark.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let text = String::from_utf8(read_limited(path, MAX_LABELS)?).map_err(|e| {
        let bytes = e.as_bytes();
        let line = 1 + bytes[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Error::data_at(path, line as u64, "is not UTF-8 text; save it as UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
