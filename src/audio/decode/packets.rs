//! Packets of different sizes, by a table.

use std::io;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;

use super::codec::{HE_AAC, is_he_aac};
use super::opus;
use super::source::Source;
use super::stream::{Demux, End, Event, Notes, Span, Stream, Trim};

/// Most bytes of a packet.
const MAX_PACKET: u64 = 1 << 24;
/// Tolerance in frames.
const SLACK: u64 = 4096;

/// The packets of a compressed file.
pub(super) struct Packets {
    /// Bytes and frames of each, 0 if in the table.
    bytes: u64,
    frames: u64,
    table: Vec<u8>,
    /// Position in the table.
    place: usize,
    /// Packets left.
    count: u64,
    at: u64,
    end: u64,
    source: Option<Source>,
    he_aac: bool,
    stream: Option<Box<Stream>>,
}

impl Packets {
    /// `bytes` and `frames` of each packet, 0 if they are in the `table`: CAF's, with its header.
    ///
    /// # Errors
    /// If the table is needed and missing.
    pub fn new(params: AudioCodecParameters, bytes: u64, frames: u64, table: Vec<u8>) -> Result<Packets, String> {
        if table.is_empty() && bytes == 0 {
            return Err("is truncated: the table of its packets is missing".into());
        }
        let number = |at: usize, count: usize| {
            table.get(at..at + count).map(|bytes| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        };
        let (count, valid) = (number(0, 8).unwrap_or(u64::MAX), number(8, 8).unwrap_or(0));
        let (delay, padding) = (number(16, 4).unwrap_or(0), number(20, 4).unwrap_or(0));
        let opus = params.codec == CODEC_ID_OPUS;
        let head = params.extra_data.as_deref().filter(|_| opus && delay == 0).unwrap_or(&[]);
        let delay = delay.max(opus::delay(head));
        // What the table says of the length is not always right.
        let valid = (1..i64::MAX as u64).contains(&valid).then_some(valid);
        let trim = Trim { padding: Some(Span::Frames(padding)), ..Trim::delay(Span::Frames(delay)) };
        let timed = frames > 0 && (!opus || params.sample_rate == Some(opus::SR));
        let he_aac = is_he_aac(&params);
        let promise = valid.filter(|_| timed).map(|valid| (valid, SLACK));
        let stream = Some(Box::new(Stream { params, trim, promise, timed, clock: None }));
        Ok(Packets { bytes, frames, table, place: 24, count, at: 0, end: 0, source: None, he_aac, stream })
    }

    /// The packets between two bytes of a file.
    pub fn of(mut self, source: Source, (start, end): (u64, u64)) -> Packets {
        (self.source, self.at, self.end) = (Some(source), start, end);
        self
    }

    /// The next number of the table.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for _ in 0..9 {
            let byte = *self.table.get(self.place)?;
            self.place += 1;
            value = value << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

impl Demux for Packets {
    fn next(&mut self, notes: &mut Notes) -> io::Result<Event> {
        if let Some(stream) = self.stream.take() {
            if self.he_aac {
                notes.odd(HE_AAC);
            }
            return Ok(Event::Stream(stream));
        }
        let bytes = if self.bytes > 0 { Some(self.bytes) } else { self.number() };
        let frames = if self.frames > 0 { Some(self.frames) } else { self.number() };
        let (Some(bytes), Some(frames)) = (bytes, frames.filter(|_| self.count > 0)) else {
            return Ok(Event::End(End::Whole));
        };
        self.count -= 1;
        let data = match &mut self.source {
            Some(source) if bytes <= (self.end - self.at).min(MAX_PACKET) => source.peek(self.at, bytes as usize)?,
            _ => return Ok(Event::End(if self.at < self.end { End::BreaksOff } else { End::Whole })),
        };
        self.at += bytes;
        Ok(Event::packet(data, frames))
    }
}
