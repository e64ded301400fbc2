//! The output of demuxers: streams, packets and warnings.

use std::io;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::packet::Packet;

use super::Condition;

/// Most warnings per file.
const MAX_LINES: usize = 8;

/// Next event in a file.
pub(super) enum Event {
    /// Start of a stream: the first one, or a further one.
    Stream(Box<Stream>),
    Packet(Packet),
    End(End),
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
}

impl Clock {
    pub fn new(tick: f64, exact: bool) -> Clock {
        Clock { tick, exact, due: None }
    }

    /// Seconds missing before a packet at `time` of duration `length`, both in ticks.
    pub fn missing(&mut self, time: i64, length: f64) -> f64 {
        let time = time as f64 * self.tick;
        let late = self.due.map_or(0.0, |due| time - due);
        let missing = if late > if self.exact { 0.001 } else { 0.5 } { late } else { 0.0 };
        let begin = self.due.filter(|_| !self.exact && missing == 0.0).unwrap_or(time);
        self.due = Some(begin + length * self.tick);
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

/// Encoder delay and padding, to be removed.
#[derive(Clone, Debug)]
pub(super) struct Trim {
    pub delay: Span,
    /// Length after the delay.
    pub keep: Option<Span>,
    pub padding: Span,
}

impl Trim {
    pub const NONE: Trim = Trim { delay: Span::Frames(0), keep: None, padding: Span::Frames(0) };
}

/// Applies a [`Trim`], block by block.
#[derive(Default)]
pub(super) struct Trimmer {
    delay: u64,
    keep: u64,
    padding: usize,
    /// The latest samples, which are padding at the end of the stream.
    held: Vec<f32>,
    /// Samples passed on.
    pub passed: u64,
}

impl Trimmer {
    /// Longest padding, since it is buffered.
    const MAX_PADDING: u64 = 1 << 20;

    pub fn new(trim: &Trim, sr: u32) -> Trimmer {
        let padding = trim.padding.frames(sr);
        let padding = if padding > Self::MAX_PADDING { 0 } else { padding as usize };
        let keep = trim.keep.map_or(u64::MAX, |keep| keep.frames(sr));
        Trimmer { delay: trim.delay.frames(sr), keep, padding, held: vec![], passed: 0 }
    }

    pub fn apply(&mut self, block: &mut Vec<f32>) {
        let early = self.delay.min(block.len() as u64);
        self.delay -= early;
        block.drain(..early as usize);
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
        block.truncate(usize::try_from(self.keep).unwrap_or(usize::MAX));
        self.keep -= block.len() as u64;
        self.passed += block.len() as u64;
    }
}

/// Collects the warnings of a file.
#[derive(Debug, Default)]
pub(super) struct Notes(Condition);

impl Notes {
    pub fn odd(&mut self, line: impl Into<String>) {
        let line = line.into();
        let lines = &mut self.0.warnings;
        if lines.len() < MAX_LINES && !lines.contains(&line) {
            lines.push(line);
        }
    }

    /// A part in the middle is missing.
    pub fn lost(&mut self, line: impl Into<String>) {
        self.0.damaged = true;
        self.odd(line);
    }

    pub fn condition(&self) -> &Condition {
        &self.0
    }
}
