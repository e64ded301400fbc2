//! Agreement of estimated and true events in time, by segments and by events, as `sed_eval` counts them (Mesaros,
//! Heittola, Virtanen 2016, "Metrics for polyphonic sound event detection").

use std::ops::AddAssign;

/// Seconds of a segment.
pub(crate) const SEGMENT: f64 = 1.0;
/// Seconds by which the onset of a matching event may be off, and its offset unless half its length is more.
pub(crate) const COLLAR: f64 = 0.2;
/// Fraction of a true event's length by which the offset of a matching one may be off.
const LENGTH_FRACTION: f64 = 0.5;

/// A stretch of time in which a class is active, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    pub class: usize,
    pub start: f64,
    pub end: f64,
}

/// Counts of decisions, to be added up over recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// True ones: active segments of all classes, or events.
    pub reference: u64,
    /// Estimated ones.
    pub estimated: u64,
    /// Those that agree.
    pub correct: u64,
    /// Of segments: a class taken for another, missed without one, and estimated without one.
    pub substituted: u64,
    pub deleted: u64,
    pub inserted: u64,
}

impl EventCounts {
    /// Fraction of the estimated ones that are correct; `None` if there are none.
    pub fn precision(&self) -> Option<f64> {
        (self.estimated > 0).then(|| self.correct as f64 / self.estimated as f64)
    }

    /// Fraction of the true ones that were found; `None` if there are none.
    pub fn recall(&self) -> Option<f64> {
        (self.reference > 0).then(|| self.correct as f64 / self.reference as f64)
    }

    pub fn f1(&self) -> Option<f64> {
        let both = self.reference + self.estimated;
        (both > 0).then(|| 2.0 * self.correct as f64 / both as f64)
    }

    /// Substitutions, deletions and insertions for each true one; may exceed 1. `None` if there are none.
    pub fn error_rate(&self) -> Option<f64> {
        let errors = self.substituted + self.deleted + self.inserted;
        (self.reference > 0).then(|| errors as f64 / self.reference as f64)
    }
}

impl AddAssign for EventCounts {
    fn add_assign(&mut self, other: EventCounts) {
        self.reference += other.reference;
        self.estimated += other.estimated;
        self.correct += other.correct;
        self.substituted += other.substituted;
        self.deleted += other.deleted;
        self.inserted += other.inserted;
    }
}

/// Compares the segments of 1 s of a recording of `duration` seconds: a class is active in each that one of its events
/// touches.
pub fn by_segments(estimated: &[Event], truth: &[Event], classes: usize, duration: f64) -> EventCounts {
    let segments = (duration / SEGMENT).ceil() as usize;
    let roll = |events: &[Event]| {
        let mut roll = vec![false; segments * classes];
        for event in events {
            let end = ((event.end / SEGMENT).ceil() as usize).min(segments);
            for segment in (event.start / SEGMENT) as usize..end {
                roll[segment * classes + event.class] = true;
            }
        }
        roll
    };
    let (estimated, truth) = (roll(estimated), roll(truth));
    let mut counts = EventCounts::default();
    for (e, t) in estimated.chunks(classes.max(1)).zip(truth.chunks(classes.max(1))) {
        let count = |of: fn(bool, bool) -> bool| e.iter().zip(t).filter(|(e, t)| of(**e, **t)).count() as u64;
        let (correct, missed, false_alarms) = (count(|e, t| e && t), count(|e, t| !e && t), count(|e, t| e && !t));
        counts += EventCounts {
            reference: correct + missed,
            estimated: correct + false_alarms,
            correct,
            substituted: missed.min(false_alarms),
            deleted: missed.saturating_sub(false_alarms),
            inserted: false_alarms.saturating_sub(missed),
        };
    }
    counts
}

/// Compares events: one is correct if a true one of its class begins within 0.2 s of it and ends within 0.2 s, or half
/// the true one's length. Each matches at most one other; as many as possible match. Only `reference`, `estimated` and
/// `correct` are counted.
pub fn by_events(estimated: &[Event], truth: &[Event]) -> EventCounts {
    let fits = |t: &Event, e: &Event| {
        let offset = COLLAR.max(LENGTH_FRACTION * (t.end - t.start));
        t.class == e.class && (t.start - e.start).abs() <= COLLAR && (t.end - e.end).abs() <= offset
    };
    let candidates: Vec<Vec<usize>> =
        truth.iter().map(|t| (0..estimated.len()).filter(|&e| fits(t, &estimated[e])).collect()).collect();
    let mut matched = vec![None; estimated.len()];
    let mut correct = 0;
    for t in 0..truth.len() {
        correct += u64::from(augment(t, &candidates, &mut matched, &mut vec![false; estimated.len()]));
    }
    EventCounts { reference: truth.len() as u64, estimated: estimated.len() as u64, correct, ..EventCounts::default() }
}

/// Finds a partner for true event `t`, moving others to other partners of theirs where that makes room.
fn augment(t: usize, candidates: &[Vec<usize>], matched: &mut [Option<usize>], tried: &mut [bool]) -> bool {
    for &e in &candidates[t] {
        if !std::mem::replace(&mut tried[e], true)
            && matched[e].is_none_or(|other| augment(other, candidates, matched, tried))
        {
            matched[e] = Some(t);
            return true;
        }
    }
    false
}
