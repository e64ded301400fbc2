//! Ground-truth times of instruments in recordings, and how well results agree with them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use crate::audio::is_audio;
use crate::core::error::Result;
use crate::core::numbers;
use crate::data::{normalised, read_times};
use crate::metrics::counts::Counts;
use crate::metrics::events::{Event, EventCounts, by_events, by_segments};
use crate::predict::recognition::{Recognition, Segment};
use crate::predict::timeline::frame_counts;

/// When each instrument of a recording plays: (start, end) in seconds.
type Times = BTreeMap<String, Vec<(f64, f64)>>;

/// The true times of instruments in recordings, and the agreement of the results compared so far.
#[derive(Debug)]
pub struct Truth {
    /// By recording, without its extension; instruments as in the class map of own labels.
    intervals: HashMap<PathBuf, Times>,
    agreement: Agreement,
    /// Recordings that were compared, by their names in the table.
    compared: HashSet<PathBuf>,
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
    /// Reads a table of labels with times, with the columns of the user's own labels: file, instrument, start and end,
    /// or sample_key, instrument, start_s and end_s. Rows without times are left out.
    ///
    /// # Errors
    /// `Io`, and `Data`, with the line, for a table without these columns or with invalid times.
    pub fn read(path: &Path) -> Result<Truth> {
        let mut intervals: HashMap<PathBuf, Times> = HashMap::new();
        for (file, instrument, [start, end]) in read_times(path)? {
            let of_recording = intervals.entry(plain(Path::new(&file.replace('\\', "/")))).or_default();
            of_recording.entry(instrument).or_default().push((start, end));
        }
        Ok(Truth { intervals, agreement: Agreement::default(), compared: HashSet::new(), unknown: 0, duplicates: 0 })
    }

    /// The name of a recording in the table, the longest that its path ends with, and its times.
    fn find(&self, r: &Recognition) -> Option<(&PathBuf, &Times)> {
        let path = plain(&r.file);
        let parts: Vec<Component> = path.components().collect();
        (0..parts.len()).find_map(|first| self.intervals.get_key_value(&parts[first..].iter().collect::<PathBuf>()))
    }

    /// The true (start, end) times of an instrument in a recording, in seconds; empty if it has none.
    pub fn times(&self, r: &Recognition, instrument: &str) -> &[(f64, f64)] {
        self.find(r).map_or(&[], |(_, of_recording)| times(of_recording, instrument))
    }

    /// Compares the result for a recording. Only the first of its name counts.
    pub fn compare(&mut self, r: &Recognition) {
        let Some((key, of_recording)) = self.find(r) else {
            self.unknown += 1;
            return;
        };
        let (key, of_recording) = (key.clone(), of_recording.clone());
        if !self.compared.insert(key) {
            self.duplicates += 1;
            return;
        }
        let classes: HashSet<String> = r.instruments.iter().filter_map(|i| normalised(&i.name).ok()).collect();
        let unknown = of_recording.keys().filter(|name| !classes.contains(*name));
        self.agreement.unknown_instruments.extend(unknown.cloned());
        self.agreement.add(r, &of_recording);
    }

    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// The F1, precision and recall of all frames of all instruments and what `sed_eval` reports; what could not be
    /// compared.
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
                    "\nnot classes of the model: {} of the ground truth ({}{more})",
                    numbers::of(n, "instrument", "instruments"),
                    names.join(", ")
                )
            }
        };
        format!(
            "frames of 1 s: F1 {} (precision {}, recall {}) over {}{missing}\n\
             sed_eval: segments of 1 s F1 {}, error rate {}; events with a collar of 0.2 s F1 {}{unknown}",
            score(all.f1_pos()),
            score(all.precision_pos()),
            score(all.recall_pos()),
            numbers::of(self.compared.len(), "recording", "recordings"),
            score(segments.f1()),
            score(segments.error_rate()),
            score(events.f1()),
        )
    }
}

impl Agreement {
    fn add(&mut self, r: &Recognition, truth: &Times) {
        self.recordings += 1;
        if self.frames.is_empty() {
            self.frames = r.instruments.iter().map(|i| (i.name.clone(), Counts::default())).collect();
        }
        let (mut estimated, mut real) = (vec![], vec![]);
        for (class, instrument) in r.instruments.iter().enumerate() {
            let times = times(truth, &instrument.name);
            self.frames[class].1 += frame_counts(&instrument.segments, times, r.duration);
            estimated.extend(instrument.segments.iter().map(|&Segment { start, end, .. }| Event { class, start, end }));
            real.extend(times.iter().map(|&(start, end)| Event { class, start, end }));
        }
        self.segments += by_segments(&estimated, &real, r.instruments.len(), r.duration);
        self.events += by_events(&estimated, &real);
    }
}

/// A file as recordings are named: without the extension of an audio file.
fn plain(file: &Path) -> PathBuf {
    let file: PathBuf = file.components().filter(|part| *part != Component::CurDir).collect();
    if is_audio(&file) { file.with_extension("") } else { file }
}

fn times<'a>(of_recording: &'a Times, instrument: &str) -> &'a [(f64, f64)] {
    let known = normalised(instrument).ok().and_then(|name| of_recording.get(&name));
    known.map_or(&[], Vec::as_slice)
}
