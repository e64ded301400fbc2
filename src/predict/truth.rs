//! Ground-truth times of instruments in recordings, and how well results agree with them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use crate::core::error::{Error, Result};
use crate::core::files::read_limited;
use crate::metrics::counts::Counts;
use crate::metrics::events::{Event, EventCounts, by_events, by_segments};
use crate::predict::recognition::{Recognition, Segment};
use crate::predict::timeline::frame_counts;

/// Maximum size of a table of true times.
const MAX_TRUTH: u64 = 256 << 20;

/// The true times of instruments in recordings, and the agreement of the results compared so far.
#[derive(Debug)]
pub struct Truth {
    /// (start, end) in seconds, by recording (see [`Recognition::name`]) and instrument.
    intervals: HashMap<String, BTreeMap<String, Vec<(f64, f64)>>>,
    agreement: Agreement,
    /// Recordings that were compared, by name.
    compared: HashSet<String>,
    /// Recordings without ground truth, and those whose name another one has.
    unknown: usize,
    duplicates: usize,
}

/// How well results agree with the true times, over all recordings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Frames of 1 s, by instrument, in the order of the class map.
    pub frames: Vec<(String, Counts)>,
    /// As `sed_eval` counts them: segments of 1 s, and events with a collar of 0.2 s.
    pub segments: EventCounts,
    pub events: EventCounts,
    /// Instruments of the compared recordings' ground truth that are not classes of the model.
    pub unknown_instruments: BTreeSet<String>,
    /// Recordings.
    pub recordings: usize,
}

impl Truth {
    /// Reads a CSV with the columns sample_key, instrument, start_s and end_s.
    ///
    /// # Errors
    /// `Io`, and `Data` for a table without these columns or with invalid times.
    pub fn read(path: &Path) -> Result<Truth> {
        let bytes = read_limited(path, MAX_TRUTH)?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(&bytes[..]);
        let mut intervals: HashMap<String, BTreeMap<String, Vec<(f64, f64)>>> = HashMap::new();
        for row in reader.deserialize::<Interval>() {
            let fail = |reason: String| Error::data(path, reason);
            let row = row.map_err(|e| {
                let reason = e.to_string().replace('\n', " ");
                fail(format!("is not a table of sample_key,instrument,start_s,end_s ({reason})"))
            })?;
            if !(row.start_s >= 0.0 && row.start_s <= row.end_s && row.end_s.is_finite()) {
                let Interval { sample_key, start_s, end_s, .. } = row;
                return Err(fail(format!("{start_s} to {end_s} s is not a valid interval (in {sample_key})")));
            }
            let of_recording = intervals.entry(row.sample_key).or_default();
            of_recording.entry(row.instrument).or_default().push((row.start_s, row.end_s));
        }
        Ok(Truth { intervals, agreement: Agreement::default(), compared: HashSet::new(), unknown: 0, duplicates: 0 })
    }

    /// The true (start, end) times of an instrument in a recording, in seconds; empty if it has none.
    pub fn times(&self, r: &Recognition, instrument: &str) -> &[(f64, f64)] {
        self.intervals.get(&r.name()).and_then(|of| of.get(instrument)).map_or(&[], Vec::as_slice)
    }

    /// Compares the result for a recording. Only the first of its name counts.
    pub fn compare(&mut self, r: &Recognition) {
        let key = r.name();
        let Some(of_recording) = self.intervals.get(&key) else {
            self.unknown += 1;
            return;
        };
        if !self.compared.insert(key) {
            self.duplicates += 1;
            return;
        }
        let known = |name: &String| r.instruments.iter().any(|i| i.name == *name);
        self.agreement.unknown_instruments.extend(of_recording.keys().filter(|name| !known(name)).cloned());
        self.agreement.add(r, of_recording);
    }

    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// The F1, precision and recall of all frames of all instruments and what `sed_eval` reports; what could not be compared.
    pub fn summary(&self) -> String {
        if self.compared.is_empty() {
            return format!("none of {} recordings is in the table of ground-truth times", self.unknown);
        }
        let skipped = |n: usize, why: &str| if n > 0 { format!(", {n} {why} skipped") } else { String::new() };
        let missing =
            skipped(self.unknown, "without ground truth") + &skipped(self.duplicates, "with a duplicate name");
        let Agreement { segments, events, unknown_instruments, .. } = &self.agreement;
        let all = self.agreement.frames.iter().fold(Counts::default(), |sum, (_, counts)| sum + *counts);
        let score = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.3}"));
        let unknown = match unknown_instruments.len() {
            0 => String::new(),
            n => {
                let names: Vec<&str> = unknown_instruments.iter().take(5).map(String::as_str).collect();
                let more = if n > names.len() { ", ..." } else { "" };
                format!(
                    "\n{n} instruments of the ground truth are not classes of the model: {}{more}",
                    names.join(", ")
                )
            }
        };
        format!(
            "frames of 1 s: F1 {} (precision {}, recall {}) over {} recordings{missing}\n\
             sed_eval: segments of 1 s F1 {}, error rate {}; events with a collar of 0.2 s F1 {}{unknown}",
            score(all.f1_pos()),
            score(all.precision_pos()),
            score(all.recall_pos()),
            self.compared.len(),
            score(segments.f1()),
            score(segments.error_rate()),
            score(events.f1()),
        )
    }
}

impl Agreement {
    fn add(&mut self, r: &Recognition, truth: &BTreeMap<String, Vec<(f64, f64)>>) {
        self.recordings += 1;
        if self.frames.is_empty() {
            self.frames = r.instruments.iter().map(|i| (i.name.clone(), Counts::default())).collect();
        }
        let (mut estimated, mut real) = (vec![], vec![]);
        for (class, instrument) in r.instruments.iter().enumerate() {
            let times = truth.get(&instrument.name).map_or(&[][..], Vec::as_slice);
            self.frames[class].1 += frame_counts(&instrument.segments, times, r.duration);
            estimated.extend(instrument.segments.iter().map(|&Segment { start, end, .. }| Event { class, start, end }));
            real.extend(times.iter().map(|&(start, end)| Event { class, start, end }));
        }
        self.segments += by_segments(&estimated, &real, r.instruments.len(), r.duration);
        self.events += by_events(&estimated, &real);
    }
}

#[derive(Deserialize)]
struct Interval {
    sample_key: String,
    instrument: String,
    start_s: f64,
    end_s: f64,
}
