//! The result for a recording in a sentence.

use crate::core::numbers::clock;
use crate::core::text::{capitalised, in_words};
use crate::predict::recognition::{Instrument, Recognition};

/// Maximum number of segments of an instrument that are listed.
const LISTED: usize = 3;
/// Fraction of the recording from which on a segment covers it.
const WHOLE: f64 = 0.95;

impl Recognition {
    /// Which instruments play when, the most probable first: "Guitar 0:40-1:20; flute 0:10-0:35, 1:02-1:30". "No instrument" if
    /// none is present.
    pub fn summary(&self) -> String {
        let present = self.present_first().into_iter().filter(|i| i.present);
        let each: Vec<String> = present.map(|i| format!("{} {}", in_words(&i.name), self.times(i))).collect();
        if each.is_empty() { "No instrument".into() } else { capitalised(&each.join("; ")) }
    }

    /// When an instrument plays: "0:40-1:20, 2:05-2:10 and 4 more", "throughout"; "1.2-3.0 s" in a recording below a minute;
    /// empty if it does not.
    pub fn times(&self, instrument: &Instrument) -> String {
        let segments = &instrument.segments;
        if segments.iter().any(|s| s.end - s.start >= WHOLE * self.duration) {
            return "throughout".into();
        }
        let unit = if self.duration < 60.0 { " s" } else { "" };
        let at = |t| clock(t, self.duration, 0.1).trim_end_matches(" s").to_owned();
        let range = |(start, end): (String, String)| if start == end { start } else { format!("{start}-{end}") };
        let listed: Vec<String> = segments.iter().take(LISTED).map(|s| range((at(s.start), at(s.end)))).collect();
        let more = match segments.len().saturating_sub(LISTED) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        if listed.is_empty() { String::new() } else { format!("{}{unit}{more}", listed.join(", ")) }
    }
}
