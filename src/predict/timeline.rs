//! Segments from activity curves, and their agreement with ground truth.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use crate::core::error::{Error, Result};
use crate::core::files::read_limited;
use crate::metrics::scores::Counts;
use crate::predict::recognition::{Recognition, Segment};

/// Maximum size of a table of true times.
const MAX_TRUTH: u64 = 256 << 20;

/// Seconds. Silence between notes and breaths of an instrument that still plays is shorter.
const BRIDGED: f64 = 0.5;
/// Seconds. Shorter segments are rather noise of the model or the tail of another instrument.
const SHORTEST: f64 = 0.3;

/// When an instrument plays: the runs of cells whose activity is at least `threshold`, in order and without overlaps.
/// Gaps shorter than 0.5 s are bridged; then runs shorter than 0.3 s are dropped, unless the recording itself is that
/// short.
///
/// `cell` and `duration` are in seconds, above 0; cells beyond the duration are ignored, one across its end is cut
/// there. A segment's confidence is the mean activity of its cells.
pub fn segments(activity: &[f32], cell: f64, threshold: f64, duration: f64) -> Vec<Segment> {
    let inside = activity.len().min((duration / cell).ceil() as usize);
    let mut runs: Vec<(usize, usize)> = vec![];
    for i in (0..inside).filter(|&i| f64::from(activity[i]) >= threshold) {
        match runs.last_mut() {
            Some((_, end)) if *end == i || ((i - *end) as f64) * cell < BRIDGED => *end = i + 1,
            _ => runs.push((i, i + 1)),
        }
    }
    let shortest = if duration < SHORTEST { 0.0 } else { SHORTEST };
    let segment = |(first, end): (usize, usize)| {
        let start = first as f64 * cell;
        // Not the difference of start and end, whose rounding would drop a run of exactly the shortest length.
        let length = ((end - first) as f64 * cell).min(duration - start);
        let confidence = activity[first..end].iter().map(|&a| f64::from(a)).sum::<f64>() / (end - first) as f64;
        (length > 0.0 && length >= shortest).then(|| Segment {
            start,
            end: (end as f64 * cell).min(duration),
            confidence,
        })
    };
    runs.into_iter().filter_map(segment).collect()
}

/// `curve`, an entry per `cell` seconds, resampled to `columns` entries over `duration`: the mean of what each covers.
/// Beyond its end the curve is 0.
pub fn resample(curve: &[f32], cell: f64, duration: f64, columns: usize) -> Vec<f32> {
    let width = duration / cell / columns as f64;
    let column = |i: usize| {
        let (start, end) = (i as f64 * width, (i + 1) as f64 * width);
        let last = (end.ceil() as usize).min(curve.len());
        let covered = (start as usize..last).map(|j| {
            let share = (end.min(j as f64 + 1.0) - start.max(j as f64)).max(0.0);
            share * f64::from(curve[j])
        });
        (covered.sum::<f64>() / width) as f32
    };
    (0..columns).map(column).collect()
}

/// Compares estimated segments with the true (start, end) intervals, in seconds, by frames of one second.
/// A frame is active if at least half of it is covered; the last may be shorter than the others.
/// Intervals may overlap, be out of order, and reach beyond the recording.
///
/// Add the counts up over recordings and instruments; the frame F1 of them all is [`Counts::f1_pos`] of the sum.
pub fn frame_counts(estimated: &[Segment], truth: &[(f64, f64)], duration: f64) -> Counts {
    let estimated: Vec<(f64, f64)> = estimated.iter().map(|s| (s.start, s.end)).collect();
    let (estimated, truth) = (active_frames(&estimated, duration), active_frames(truth, duration));
    let count = |e, t| estimated.iter().zip(&truth).filter(|&pair| pair == (&e, &t)).count() as u64;
    Counts { tp: count(true, true), fp: count(true, false), fn_: count(false, true), tn: count(false, false) }
}

fn active_frames(intervals: &[(f64, f64)], duration: f64) -> Vec<bool> {
    let mut covered = vec![0.0; duration.ceil() as usize];
    let mut sorted = intervals.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut done = 0.0;
    for (start, end) in sorted {
        // What an earlier interval covers does not count twice.
        let (start, end) = (start.max(done), end.min(duration));
        if start < end {
            for (i, frame) in covered.iter_mut().enumerate().take(end.ceil() as usize).skip(start as usize) {
                *frame += end.min(i as f64 + 1.0) - start.max(i as f64);
            }
            done = end;
        }
    }
    let half = |i: usize| (duration - i as f64).min(1.0) / 2.0;
    // A frame half covered by decimal fractions of a second must not fail by their rounding.
    covered.iter().enumerate().map(|(i, &c)| c >= half(i) - 1e-9).collect()
}

/// Ground-truth times of instruments in recordings, and the agreement of results with them.
pub struct Truth {
    /// (start, end) in seconds, by recording (see [`Recognition::name`]) and instrument.
    intervals: HashMap<(String, String), Vec<(f64, f64)>>,
    recordings: HashSet<String>,
    counts: Counts,
    /// Recordings that were compared, by name.
    compared: HashSet<String>,
    unknown: usize,
    /// Recordings with the name of another one, which the table cannot distinguish.
    namesakes: usize,
}

impl Truth {
    /// Reads a CSV with the columns sample_key, instrument, start_s and end_s.
    ///
    /// # Errors
    /// `Io`, and `Data` for a table without these columns or with invalid times.
    pub fn read(path: &Path) -> Result<Truth> {
        let bytes = read_limited(path, MAX_TRUTH)?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(&bytes[..]);
        let mut truth = Truth {
            intervals: HashMap::new(),
            recordings: HashSet::new(),
            counts: Counts { tp: 0, fp: 0, fn_: 0, tn: 0 },
            compared: HashSet::new(),
            unknown: 0,
            namesakes: 0,
        };
        for row in reader.deserialize::<Interval>() {
            let fail = |reason: String| Error::data(path, reason);
            let row = row.map_err(|e| {
                fail(format!(
                    "is not a table with sample_key,instrument,start_s,end_s ({})",
                    e.to_string().replace('\n', " ")
                ))
            })?;
            if !(row.start_s >= 0.0 && row.start_s <= row.end_s && row.end_s.is_finite()) {
                let Interval { sample_key, start_s, end_s, .. } = row;
                return Err(fail(format!("{start_s} to {end_s} s is not an interval (in {sample_key})")));
            }
            truth.recordings.insert(row.sample_key.clone());
            truth.intervals.entry((row.sample_key, row.instrument)).or_default().push((row.start_s, row.end_s));
        }
        Ok(truth)
    }

    /// Compares the result of a recording. Only the first of its name counts.
    pub fn compare(&mut self, r: &Recognition) {
        let key = r.name();
        if !self.recordings.contains(&key) {
            self.unknown += 1;
            return;
        }
        if !self.compared.insert(key.clone()) {
            self.namesakes += 1;
            return;
        }
        for instrument in &r.instruments {
            let truth = self.intervals.get(&(key.clone(), instrument.name.clone()));
            let truth = truth.map_or(&[][..], Vec::as_slice);
            let Counts { tp, fp, fn_, tn } = frame_counts(&instrument.segments, truth, r.duration);
            self.counts.tp += tp;
            self.counts.fp += fp;
            self.counts.fn_ += fn_;
            self.counts.tn += tn;
        }
    }

    /// A line: the F1 of all frames of all instruments, and precision and recall.
    pub fn summary(&self) -> String {
        let Counts { tp, fp, fn_, .. } = self.counts;
        if self.compared.is_empty() {
            return format!("none of {} recordings is in the table of ground-truth times", self.unknown);
        }
        let ratio = |n: u64, of: u64| n as f64 / of.max(1) as f64;
        let skipped = |n: usize, why: &str| if n > 0 { format!(", {n} {why} skipped") } else { String::new() };
        let missing = skipped(self.unknown, "without ground truth") + &skipped(self.namesakes, "with a duplicate name");
        format!(
            "frames of 1 s: F1 {:.3} (precision {:.3}, recall {:.3}) over {} recordings{missing}",
            ratio(2 * tp, 2 * tp + fp + fn_),
            ratio(tp, tp + fp),
            ratio(tp, tp + fn_),
            self.compared.len()
        )
    }
}

#[derive(Deserialize)]
struct Interval {
    sample_key: String,
    instrument: String,
    start_s: f64,
    end_s: f64,
}
