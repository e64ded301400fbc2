//! Segments from activity curves, and their agreement with ground truth.

use std::ops::Range;

use crate::core::error::{Error, Result};
use crate::metrics::counts::Counts;
use crate::predict::recognition::Segment;

/// How the activity of an instrument becomes segments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segmentation {
    /// Seconds: shorter segments are dropped, but for the one with the largest total activity of a present instrument.
    pub min_duration: f64,
    /// Seconds of the median filter over the activity; 0 for none.
    pub median: f64,
}

impl Segmentation {
    pub const DEFAULT: Segmentation = Segmentation { min_duration: 0.3, median: 0.0 };
}

impl Default for Segmentation {
    fn default() -> Segmentation {
        Segmentation::DEFAULT
    }
}

/// Seconds. Pauses between notes and breaths of an instrument that still plays are shorter.
const BRIDGED: f64 = 0.5;
/// Fractions of an instrument's largest activity in a recording: a segment reaches the first, and lasts as long as the
/// second. Found best on synthetic clips with known times.
const ONSET: f32 = 0.6;
const SUSTAIN: f32 = 0.4;
/// Seconds: limits of the options.
const LONGEST: f64 = 60.0;

impl Segmentation {
    /// # Errors
    /// `Usage` for durations out of range.
    pub fn check(&self) -> Result<()> {
        for (what, seconds) in [("minimum duration", self.min_duration), ("median filter", self.median)] {
            if !(0.0..=LONGEST).contains(&seconds) {
                return Err(Error::Usage(format!("{what} {seconds} s is out of range: 0 to {LONGEST} s")));
            }
        }
        Ok(())
    }

    /// When a present instrument plays: at least one segment. What counts is its activity relative to its own maximum
    /// in the recording; that it is present at all is decided elsewhere. Units and rules as [`Segmentation::above`].
    pub fn of_present(&self, activity: &[f32], cell: f64, duration: f64) -> Vec<Segment> {
        let most = |of: &[f32]| of.iter().copied().fold(0.0, f32::max);
        let filtered = self.filtered(activity, cell);
        // What the filter removes altogether is all that there is of the instrument.
        let activity = if most(&filtered) > 0.0 { &filtered } else { activity };
        let most = most(activity);
        self.above(activity, cell, duration, [SUSTAIN * most, ONSET * most])
    }

    /// The runs of cells whose activity is at least `thresholds[0]` and in one cell or more at least `thresholds[1]`,
    /// in order and without overlaps. Gaps shorter than 0.5 s are bridged; then runs shorter than the minimum duration
    /// are dropped, but for the one with the largest total activity.
    ///
    /// `cell` and `duration` are in seconds, above 0; cells beyond the duration are ignored, one across its end is cut
    /// there. A segment's confidence is the mean activity of its cells.
    pub fn above(&self, activity: &[f32], cell: f64, duration: f64, thresholds: [f32; 2]) -> Vec<Segment> {
        let [low, high] = thresholds;
        let inside = activity.len().min((duration / cell).ceil() as usize);
        let mut runs: Vec<(usize, usize)> = vec![];
        for i in (0..inside).filter(|&i| activity[i] >= low) {
            match runs.last_mut() {
                Some((_, end)) if *end == i => *end = i + 1,
                _ => runs.push((i, i + 1)),
            }
        }
        let peak = |&(first, end): &(usize, usize)| activity[first..end].iter().copied().fold(f32::MIN, f32::max);
        runs.retain(|run| peak(run) >= high);
        let mut bridged: Vec<(usize, usize)> = vec![];
        for run in runs {
            match bridged.last_mut() {
                Some((_, end)) if ((run.0 - *end) as f64) * cell < BRIDGED => *end = run.1,
                _ => bridged.push(run),
            }
        }
        let total = |(first, end): (usize, usize)| activity[first..end].iter().map(|&a| f64::from(a)).sum::<f64>();
        let main = bridged.iter().copied().reduce(|a, b| if total(b) > total(a) { b } else { a });
        let segment = |run: (usize, usize)| {
            let (first, end) = run;
            let start = first as f64 * cell;
            // Not the difference of start and end, whose rounding would drop a run of exactly the shortest length.
            let length = ((end - first) as f64 * cell).min(duration - start);
            let confidence = total(run) / (end - first) as f64;
            let kept = length > 0.0 && (length >= self.min_duration || Some(run) == main);
            kept.then(|| Segment { start, end: (end as f64 * cell).min(duration), confidence })
        };
        bridged.into_iter().filter_map(segment).collect()
    }

    /// The median of as many cells as the filter spans, an odd number, fewer at both ends.
    fn filtered(&self, activity: &[f32], cell: f64) -> Vec<f32> {
        let half = (self.median / cell / 2.0).floor() as usize;
        let median = |i: usize| {
            let mut around = activity[i.saturating_sub(half)..(i + half + 1).min(activity.len())].to_vec();
            let middle = around.len() / 2;
            *around.select_nth_unstable_by(middle, f32::total_cmp).1
        };
        if half == 0 { activity.to_vec() } else { (0..activity.len()).map(median).collect() }
    }
}

/// `curve`, an entry per `cell` seconds, resampled to `columns` entries over `span` (seconds): the mean of what each
/// covers. Beyond its end the curve is 0.
pub fn resample(curve: &[f32], cell: f64, span: Range<f64>, columns: usize) -> Vec<f32> {
    let (first, width) = (span.start / cell, (span.end - span.start) / cell / columns as f64);
    let column = |i: usize| {
        let (start, end) = (first + i as f64 * width, first + (i + 1) as f64 * width);
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
