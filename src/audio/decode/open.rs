//! Opens files: finds out what they are, and makes their demuxer.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::blocks::Blocks;
use super::chunks::{self, Sound};
use super::clip::Clip;
use super::coding::Coding;
use super::container::Container;
use super::decoder::Decoder;
use super::frames::Frames;
use super::source::Source;
use super::stream::{Demux, Notes};
use crate::core::error::{Error, Result};

/// Opens an audio file; `-` is standard input. The format is detected from the contents; the extension only gives the
/// first guess.
///
/// # Errors
/// `Io` if it cannot be read; `Data` if it is empty, not an audio file of a known format, contains no audio or none
/// that can be decoded, or has an impossible sample rate or number of channels.
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
pub(in crate::audio) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
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
