//! Decodes audio files to mono samples, block by block.
//!
//! Damaged files are decoded as far as possible, with a warning line for everything missing or unusual.
//! Only a file without any decodable sample is an error.
//!
//! WAV, RF64, BW64, Wave64, AIFF, AU and CAF with PCM or ADPCM; MPEG audio of all layers, also in WAV; FLAC; Ogg with
//! Vorbis, Opus or FLAC; AAC, ALAC and Opus in MP4 and QuickTime; Matroska and WebM; ADTS.

mod blocks;
mod caf;
mod chunks;
mod codec;
mod coding;
mod container;
mod decoder;
mod flac;
mod frames;
mod gapless;
mod header;
mod matroska;
mod mix;
mod mp4;
mod mpeg;
mod opus;
mod packets;
mod source;
mod stream;
mod window;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::{Deserialize, Serialize};
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use crate::core::error::{Error, Result};
use blocks::Blocks;
use chunks::Sound;
use coding::Coding;
use container::Container;
use frames::Frames;
use source::Source;
use stream::{Demux, Notes};

pub use decoder::Decoder;
pub(super) use source::STDIN;

/// Valid sample rates (Hz); others are rejected.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;
/// Most channels; a damaged header with more would exhaust the memory.
const MAX_CHANNELS: usize = 64;

/// A decoded recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Sample rate, Hz.
    pub sr: u32,
    /// Mono, nominally in [-1, 1] (lossy and float files may go beyond), always finite.
    pub samples: Vec<f32>,
}

impl Clip {
    /// Seconds.
    pub fn duration(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sr)
    }

    /// Scales the samples to a largest magnitude of 1. Silence is unchanged. Returns what it was before, 1 for silence.
    pub fn normalise_peak(&mut self) -> f32 {
        let peak = self.samples.iter().fold(0.0f32, |peak, v| peak.max(v.abs()));
        if peak == 0.0 {
            return 1.0;
        }
        // Not by the reciprocal, which overflows for subnormal peaks.
        self.samples.iter_mut().for_each(|v| *v /= peak);
        peak
    }
}

/// Whether a file is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Warnings, a line each, without the file's name.
    pub warnings: Vec<String>,
    /// Something in its middle could not be decoded.
    pub damaged: bool,
}

impl Condition {
    /// No warnings.
    pub fn is_whole(&self) -> bool {
        self.warnings.is_empty()
    }
}

/// Opens an audio file; `-` is standard input. The format is detected from the contents; the extension only gives the
/// first guess.
///
/// # Errors
/// `Io` if it cannot be read; `Data` if it is empty, not an audio file of a known format, contains no audio or none that
/// can be decoded, or has an impossible sample rate or number of channels.
pub fn open(path: impl AsRef<Path>) -> Result<Decoder> {
    let path = path.as_ref();
    let source = Source::open(path)?;
    let mut notes = Notes::default();
    let demux = guarded(path, || demux(source, path, &mut notes))?;
    Decoder::begin(path, demux, notes)
}

/// Decodes a whole file of at most `limit` seconds.
///
/// # Errors
/// As [`open`] and [`Decoder::next_block`]; `Data` if the file is longer.
pub fn decode(path: impl AsRef<Path>, limit: f64) -> Result<Clip> {
    let path = path.as_ref();
    let mut decoder = open(path)?;
    let sr = decoder.sr();
    let most = limit * f64::from(sr);
    let mut samples = vec![];
    while let Some(block) = decoder.next_block()? {
        if (samples.len() + block.len()) as f64 > most {
            return Err(Error::data(path, format!("is longer than the {limit} s allowed")));
        }
        samples.extend_from_slice(block);
    }
    Ok(Clip { sr, samples })
}

/// Malformed files can make decoders panic. The decoder is dropped afterwards, so that no
/// inconsistent state is used again.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Error::data(path, "is damaged (its decoder gave up)")))
}

fn demux(mut source: Source, path: &Path, notes: &mut Notes) -> Result<Box<dyn Demux>> {
    let io = |e| Error::io(path)(e);
    let fail = |reason: String| Error::data(path, reason);
    if let Some(sound) = chunks::find(&mut source, notes).map_err(io)? {
        let Sound { coding, start, end, frames } = sound.map_err(fail)?;
        return match coding {
            Coding::Blocks(coded) => Ok(Box::new(Blocks::new(source, *coded, (start, end), frames, notes))),
            Coding::Packets(packets) => Ok(Box::new(packets.of(source, (start, end)))),
            Coding::Mpeg => {
                let mpeg = Frames::find(source, start, end).map_err(io)?;
                Ok(Box::new(mpeg.ok_or_else(|| fail("contains no frame of MPEG audio".into()))?))
            }
        };
    }
    let known = has_magic(&mut source).map_err(io)?;
    if !known {
        let len = source.len();
        if let Some(frames) = Frames::find(source.again(), 0, len).map_err(io)? {
            return Ok(Box::new(frames));
        }
    }
    let container = Container::open(source, path, known, notes).map_err(io)?.map_err(fail)?;
    Ok(Box::new(container))
}

/// Whether a file begins like one of the containers, which must not be searched for frames of MPEG audio.
fn has_magic(source: &mut Source) -> io::Result<bool> {
    let head = source.peek(0, 12)?;
    let at = |place: usize, magic: &[u8]| head.get(place..).is_some_and(|rest| rest.starts_with(magic));
    let front: [&[u8]; 3] = [b"fLaC", b"OggS", b"\x1a\x45\xdf\xa3"];
    let boxes: [&[u8]; 5] = [b"ftyp", b"moov", b"mdat", b"wide", b"free"];
    Ok(front.iter().any(|magic| at(0, magic)) || boxes.iter().any(|magic| at(4, magic)))
}

/// A packet of a demuxer of this crate.
fn packet(data: Vec<u8>, frames: u64) -> Packet {
    Packet::new(0, Timestamp::ZERO, Duration::new(frames), data)
}

pub(super) fn check_rate(path: &Path, sr: u32) -> Result<()> {
    if RATES.contains(&sr) {
        return Ok(());
    }
    let (low, high) = (RATES.start(), RATES.end());
    Err(Error::data(path, format!("has a sample rate of {sr} Hz, which is outside {low} to {high}")))
}

fn check_channels(channels: usize) -> std::result::Result<(), String> {
    match channels {
        1..=MAX_CHANNELS => Ok(()),
        n => Err(format!("has {n} channels, which is outside 1 to {MAX_CHANNELS}")),
    }
}
