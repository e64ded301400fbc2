//! The output of demuxers: streams, packets and warnings.

use std::io;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::clip::Condition;

/// Most warnings per file.
const MAX_LINES: usize = 8;

/// Next event in a file.
pub(super) enum Event {
    /// Start of a stream: the first one, or a further one.
    Stream(Box<Stream>),
    Packet(Packet),
    /// Something before the next packet could not be read.
    Damage(String),
    End(End),
}

impl Event {
    /// A packet of a demuxer of this crate.
    pub fn packet(data: Vec<u8>, frames: u64) -> Event {
        Event::Packet(Packet::new(0, Timestamp::ZERO, Duration::new(frames), data))
    }
}

/// End of a file.
pub(super) enum End {
    /// Regular.
    Whole,
    /// Truncated.
    BreaksOff,
    /// Nothing further can be read.
    Damaged(String),
}

/// Reads packets out of a container.
pub(super) trait Demux: Send {
    /// # Errors
    /// Of reading; errors of the file are in its [`End`], or in `notes`.
    fn next(&mut self, notes: &mut Notes) -> io::Result<Event>;
}

/// One encoded stream.
pub(super) struct Stream {
    pub params: AudioCodecParameters,
    pub trim: Trim,
    /// Frames by the header, without delay and padding, and its tolerance.
    pub promise: Option<(u64, u64)>,
    /// Whether the durations of packets are in frames.
    pub timed: bool,
    /// Detection of missing packets, if the container has times.
    pub clock: Option<Clock>,
}

/// Detects missing packets from the times of packets.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// Seconds of a tick.
    tick: f64,
    /// Ticks are samples; else they are too coarse for all but long gaps.
    exact: bool,
    /// Expected time of the next packet, in seconds.
    due: Option<f64>,
    /// Of the latest packet.
    latest: Option<f64>,
    /// Packets may be missing since an earlier time.
    damaged: bool,
}

impl Clock {
    pub fn new(tick: f64, exact: bool) -> Clock {
        Clock { tick, exact, due: None, latest: None, damaged: false }
    }

    /// Seconds missing before a packet at `time` of duration `length`, both in ticks. `damaged`: something before it
    /// could not be read, so that short gaps are real too.
    pub fn missing(&mut self, time: i64, length: f64, damaged: bool) -> f64 {
        let time = time as f64 * self.tick;
        self.damaged |= damaged;
        // Packets of one block have its time.
        let laced = !self.exact && self.latest == Some(time);
        let late = self.due.filter(|_| !laced).map_or(0.0, |due| time - due);
        let least = match (self.exact, self.damaged) {
            (true, _) => 0.001,
            (false, true) => 0.006,
            (false, false) => 0.5,
        };
        let missing = if late > least { late } else { 0.0 };
        let begin = self.due.filter(|_| !self.exact && missing == 0.0).unwrap_or(time);
        self.due = Some(begin + length * self.tick);
        self.damaged &= laced;
        self.latest = Some(time);
        missing
    }

    pub fn ticks(&self, frames: usize, sr: u32) -> f64 {
        frames as f64 / f64::from(sr) / self.tick
    }
}

/// A duration, in frames or in parts of a second.
#[derive(Clone, Copy, Debug)]
pub(super) enum Span {
    Frames(u64),
    Ticks { count: u64, per_second: u64 },
}

impl Span {
    pub fn frames(self, sr: u32) -> u64 {
        match self {
            Span::Frames(count) => count,
            Span::Ticks { count, per_second } => {
                let per_second = u128::from(per_second.max(1));
                ((u128::from(count) * u128::from(sr) + per_second / 2) / per_second) as u64
            }
        }
    }
}

/// What of a stream is audio, without the delay and padding of its encoder.
#[derive(Clone, Debug, Default)]
pub(super) struct Trim {
    /// Parts to keep, in ascending order: start, and length unless to the end. None: everything.
    pub parts: Vec<(Span, Option<Span>)>,
    /// To be removed at the end.
    pub padding: Option<Span>,
}

impl Trim {
    /// Everything after a delay.
    pub fn delay(delay: Span) -> Trim {
        Trim { parts: vec![(delay, None)], padding: None }
    }
}

/// Applies a [`Trim`], block by block.
#[derive(Default)]
pub(super) struct Trimmer {
    /// First frames and ends.
    parts: Vec<(u64, u64)>,
    padding: usize,
    /// The latest samples, which are padding at the end of the stream.
    held: Vec<f32>,
    /// Position in the stream.
    at: u64,
    /// Samples passed on.
    pub passed: u64,
}

impl Trimmer {
    /// Longest padding, since it is buffered.
    const MAX_PADDING: u64 = 1 << 20;

    pub fn new(trim: &Trim, sr: u32) -> Trimmer {
        let padding = trim.padding.map_or(0, |padding| padding.frames(sr));
        let padding = if padding > Self::MAX_PADDING { 0 } else { padding as usize };
        let part = |(from, len): &(Span, Option<Span>)| {
            let from = from.frames(sr);
            (from, len.map_or(u64::MAX, |len| from.saturating_add(len.frames(sr))))
        };
        let mut parts: Vec<_> = trim.parts.iter().map(part).collect();
        if parts.is_empty() {
            parts.push((0, u64::MAX));
        }
        Trimmer { parts, padding, ..Trimmer::default() }
    }

    pub fn apply(&mut self, block: &mut Vec<f32>) {
        if self.padding > 0 {
            self.held.append(block);
            let sure = self.held.len().saturating_sub(self.padding);
            block.extend(self.held.drain(..sure));
        }
        self.pass(block);
    }

    /// The end of the stream. If frames are missing before the `promise`d end, the buffered samples are audio.
    pub fn finish(&mut self, promise: Option<u64>) -> Vec<f32> {
        let mut rest = std::mem::take(&mut self.held);
        if promise.is_none_or(|frames| self.passed + rest.len() as u64 > frames) {
            rest.clear();
        }
        self.pass(&mut rest);
        rest
    }

    fn pass(&mut self, block: &mut Vec<f32>) {
        let (begin, end) = (self.at, self.at + block.len() as u64);
        let mut kept = 0;
        for (from, until) in &self.parts {
            let (from, until) = ((*from).clamp(begin, end), (*until).clamp(begin, end));
            if from < until {
                block.copy_within((from - begin) as usize..(until - begin) as usize, kept);
                kept += (until - from) as usize;
            }
        }
        block.truncate(kept);
        self.at = end;
        self.passed += kept as u64;
    }
}

/// Collects the warnings of a file.
#[derive(Debug, Default)]
pub(super) struct Notes {
    condition: Condition,
    gaps: Option<Gaps>,
    not_finite: Option<NotFinite>,
    /// The file was found to end early.
    is_cut: bool,
}

/// Places in which something is missing.
#[derive(Debug)]
struct Gaps {
    /// Their line in the warnings, if there is one.
    line: Option<usize>,
    count: u64,
    /// Position of the first, and length of all, in seconds.
    first: f64,
    missing: f64,
}

/// Samples that are not numbers.
#[derive(Debug)]
struct NotFinite {
    line: Option<usize>,
    count: u64,
    /// Value and position.
    first: String,
}

impl Notes {
    pub fn odd(&mut self, line: impl Into<String>) {
        let line = line.into();
        let lines = &mut self.condition.warnings;
        if lines.len() < MAX_LINES && !lines.contains(&line) {
            lines.push(line);
        }
    }

    /// The file ends early; only the first reason is a warning.
    pub fn cut(&mut self, line: impl Into<String>) {
        if !std::mem::replace(&mut self.is_cut, true) {
            self.odd(line);
        }
    }

    pub fn truncated(&mut self, bytes: u64) {
        self.cut(format!("is truncated: {bytes} bytes of the length in its header are missing"));
    }

    /// A part in the middle is missing.
    pub fn lost(&mut self, line: impl Into<String>) {
        self.condition.damaged = true;
        self.odd(line);
    }

    /// `missing` seconds (0 if unknown) could not be read at `at` seconds. All of them share a line.
    pub fn gap(&mut self, at: f64, missing: f64, what: Option<String>) {
        let Condition { warnings, damaged } = &mut self.condition;
        *damaged = true;
        let gaps =
            self.gaps.get_or_insert_with(|| Gaps { line: reserve_line(warnings), count: 0, first: at, missing: 0.0 });
        gaps.count += 1;
        gaps.missing += missing;
        let place = match gaps.count {
            1 => format!("at {:.2} s", gaps.first),
            n => format!("in {n} places from {:.2} s on", gaps.first),
        };
        let lost = match (gaps.count, what) {
            _ if gaps.missing > 0.0 => format!(": {:.2} s are missing", gaps.missing),
            (1, Some(what)) => format!(": {what}"),
            _ => String::new(),
        };
        if let Some(line) = gaps.line {
            warnings[line] = format!("is damaged {place}{lost}");
        }
    }

    /// `count` samples were NaN or infinite, the first as it says. All of them share a line.
    pub fn not_finite(&mut self, count: u64, first: impl FnOnce() -> String) {
        let Condition { warnings, damaged } = &mut self.condition;
        *damaged = true;
        let all =
            self.not_finite.get_or_insert_with(|| NotFinite { line: reserve_line(warnings), count: 0, first: first() });
        all.count += count;
        if let Some(line) = all.line {
            let others =
                if all.count == 1 { String::new() } else { format!(", the first of {} such samples", all.count) };
            warnings[line] = format!("{}{others}; replaced by 0", all.first);
        }
    }

    /// Number of gaps so far.
    pub fn gaps(&self) -> u64 {
        self.gaps.as_ref().map_or(0, |gaps| gaps.count)
    }

    pub fn condition(&self) -> &Condition {
        &self.condition
    }
}

/// The place of a line that changes later; `None` if there are enough.
fn reserve_line(warnings: &mut Vec<String>) -> Option<usize> {
    let line = (warnings.len() < MAX_LINES).then_some(warnings.len());
    warnings.extend(line.map(|_| String::new()));
    line
}
