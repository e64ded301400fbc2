//! What was found in all recordings of a folder of results.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::output::archive::entry::{Entry, Findings, Outcome};

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Recognised, including the damaged ones; their length in seconds.
    pub recordings: usize,
    pub seconds: f64,
    /// Recognised with warnings, and those of them that are damaged in the middle.
    pub with_warnings: usize,
    pub damaged: usize,
    /// Not recognised.
    pub failed: usize,
    /// The instruments that are present anywhere, in the most recordings first.
    pub instruments: Vec<Presence>,
}

/// Where an instrument is present.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Presence {
    pub name: String,
    pub recordings: usize,
    /// That it plays, in all.
    pub seconds: f64,
}

#[derive(Default)]
pub(super) struct Counter {
    summary: Summary,
    instruments: BTreeMap<String, (usize, f64)>,
}

impl Counter {
    pub fn add(&mut self, entry: Entry) {
        let Summary { recordings, seconds, with_warnings, damaged, failed, .. } = &mut self.summary;
        match entry.outcome {
            Outcome::Failed { .. } => *failed += 1,
            Outcome::Done { result: Findings { duration, present, warnings, damaged: is_damaged }, .. } => {
                *recordings += 1;
                *seconds += duration;
                *with_warnings += usize::from(!warnings.is_empty());
                *damaged += usize::from(is_damaged);
                for (name, seconds) in present {
                    let counts = self.instruments.entry(name).or_default();
                    *counts = (counts.0 + 1, counts.1 + seconds);
                }
            }
        }
    }

    pub fn summary(self) -> Summary {
        let presence = |(name, (recordings, seconds))| Presence { name, recordings, seconds };
        let mut instruments: Vec<Presence> = self.instruments.into_iter().map(presence).collect();
        instruments.sort_by_key(|presence| std::cmp::Reverse(presence.recordings));
        Summary { instruments, ..self.summary }
    }
}
