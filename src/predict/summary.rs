//! The result for a recording in a sentence.

use crate::core::numbers::{clock, duration};
use crate::core::text::{capitalised, in_words};
use crate::predict::recognition::{Instrument, Recognition};

/// Instruments of a sentence with their times; of the others it has the names.
const TIMED: usize = 4;
/// Maximum number of segments of an instrument that are listed.
const LISTED: usize = 3;
/// Fraction of the recording below which a pause is not worth mentioning.
const PAUSE: f64 = 0.02;
/// Fraction of the recording from which on a segment covers it.
const WHOLE: f64 = 0.95;

impl Recognition {
    /// Which instruments play when, the most probable first: "Guitar 0:40-1:20; flute 0:10-0:35, 1:02-1:30; also bass
    /// and drums". "No instrument" if none is present.
    pub fn summary(&self) -> String {
        let present: Vec<&Instrument> = self.present_first().into_iter().filter(|i| i.present).collect();
        let (timed, others) = present.split_at(present.len().min(TIMED));
        let mut parts: Vec<String> = timed.iter().map(|i| format!("{} {}", in_words(&i.name), self.times(i))).collect();
        let names: Vec<String> = others.iter().map(|i| in_words(&i.name)).collect();
        match names.split_last() {
            None => {}
            Some((last, [])) => parts.push(format!("also {last}")),
            Some((last, before)) => parts.push(format!("also {} and {last}", before.join(", "))),
        }
        if parts.is_empty() { "No instrument".into() } else { capitalised(&parts.join("; ")) }
    }

    /// When an instrument plays, without short pauses: "0:40-1:20, 2:05-2:10", "throughout"; of many segments "on and
    /// off 0:02:00-0:58:10, 12 min 30 s in all"; "1.2-3.0 s" in a recording below a minute; empty if it does not.
    pub fn times(&self, instrument: &Instrument) -> String {
        let mut spans: Vec<(f64, f64)> = vec![];
        for s in &instrument.segments {
            match spans.last_mut() {
                Some((_, end)) if s.start - *end < PAUSE * self.duration => *end = s.end,
                _ => spans.push((s.start, s.end)),
            }
        }
        let at = |t| clock(t, self.duration, 0.1).trim_end_matches(" s").to_owned();
        let range = |start: f64, end: f64| match (at(start), at(end)) {
            (start, end) if start == end => start,
            (start, end) => format!("{start}-{end}"),
        };
        let unit = if self.duration < 60.0 { " s" } else { "" };
        match spans[..] {
            [] => String::new(),
            _ if spans.iter().any(|(start, end)| end - start >= WHOLE * self.duration) => "throughout".into(),
            [(start, _), .., (_, end)] if spans.len() > LISTED => {
                let in_all: f64 = instrument.segments.iter().map(|s| s.end - s.start).sum();
                format!("on and off {}{unit}, {} in all", range(start, end), duration(in_all))
            }
            _ => {
                let listed: Vec<String> = spans.iter().map(|&(start, end)| range(start, end)).collect();
                format!("{}{unit}", listed.join(", "))
            }
        }
    }
}
