//! What demuxers hand over: streams, their packets, and what is odd about them.

use std::io;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::packet::Packet;

use super::Condition;

/// Lines that are told about one file, at most.
const MAX_LINES: usize = 8;

/// What comes next in a file.
pub(super) enum Event {
    /// A stream begins: the first one, or another one joined to it.
    Stream(Box<Stream>),
    Packet(Packet),
    End(End),
}

/// How a file ends.
pub(super) enum End {
    /// As it should.
    Whole,
    /// Before it should.
    BreaksOff,
    /// Nothing can be read from here on.
    Damaged(String),
}

/// Reads packets out of a container.
pub(super) trait Demux: Send {
    /// # Errors
    /// Of reading; what is wrong with the file is its [`End`], or among `notes`.
    fn next(&mut self, notes: &mut Notes) -> io::Result<Event>;
}

/// One encoded stream.
pub(super) struct Stream {
    pub params: AudioCodecParameters,
    pub trim: Trim,
    /// Frames that the header promises, without delay and padding, and how far it may be off.
    pub promise: Option<(u64, u64)>,
    /// The durations of packets are counted in frames.
    pub timed: bool,
    /// Where the times of packets tell that some are missing.
    pub clock: Option<Clock>,
}

/// Tells from the times of packets whether some are missing between them.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// Seconds of a tick.
    tick: f64,
    /// Ticks are samples; else they are too coarse to tell more than a long silence.
    exact: bool,
    /// When the next packet should come, in seconds.
    due: Option<f64>,
}

impl Clock {
    pub fn new(tick: f64, exact: bool) -> Clock {
        Clock { tick, exact, due: None }
    }

    /// Seconds that are missing before a packet at `time` that lasts for `length`, both in ticks.
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

/// A stretch of time, in frames or in parts of a second.
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

/// What encoders add before and behind the sound, and is to be taken off.
#[derive(Clone, Debug)]
pub(super) struct Trim {
    pub delay: Span,
    /// What is left after the delay is cut to this.
    pub keep: Option<Span>,
    pub padding: Span,
}

impl Trim {
    pub const NONE: Trim = Trim { delay: Span::Frames(0), keep: None, padding: Span::Frames(0) };
}

/// Takes off what a [`Trim`] says, block by block.
#[derive(Default)]
pub(super) struct Trimmer {
    delay: u64,
    keep: u64,
    padding: usize,
    /// The latest samples, which are padding if no more come.
    held: Vec<f32>,
    /// Samples that were let through.
    pub passed: u64,
}

impl Trimmer {
    /// Longer padding is not believed: it would have to be held in memory.
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

    /// The end of the stream. Where frames are missing before the `promise`d end, what was held is sound.
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

/// Gathers what is missing or odd about a file.
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

    /// Something in the middle is lost.
    pub fn lost(&mut self, line: impl Into<String>) {
        self.0.damaged = true;
        self.odd(line);
    }

    pub fn condition(&self) -> &Condition {
        &self.0
    }
}
