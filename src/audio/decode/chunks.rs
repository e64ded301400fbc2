//! Files made of chunks: WAV, RF64, BW64, Wave64, AIFF, AIFF-C, AU and CAF. Sizes in headers are not trusted:
//! they are wrong if a program wrote to a pipe, crashed, or exceeded four gigabytes.

use std::io;

use symphonia::core::codecs::audio::well_known::*;

use super::caf::caf;
use super::coding::{Coding, Description, aiff, be32, pcm, wave};
use super::source::{Source, cannot};
use super::stream::Notes;
use super::window::Window;

type ReadCoding = fn(&Description) -> Result<Coding, String>;

/// Most chunks read before the audio data.
const MAX_CHUNKS: usize = 10_000;
/// Bytes searched for a displaced chunk of audio data.
const SEARCHED: usize = 1 << 20;
/// 32-bit sizes from here on stand for an unknown size.
const UNKNOWN: u64 = 0x7f00_0000;
/// Most bytes of a format chunk, of a codec's configuration, and of a table of packets.
const DESCRIPTION: u64 = 1 << 10;
const MAX_COOKIE: u64 = 1 << 16;
const MAX_TABLE: u64 = 1 << 26;

/// The audio data of such a file.
pub(super) struct Sound {
    pub coding: Coding,
    /// Bytes of the file.
    pub start: u64,
    pub end: u64,
    /// Frames by the header, if they do not follow from the bytes.
    pub frames: Option<u64>,
}

/// Chunk layout of a family of formats.
struct Layout {
    first: u64,
    big_endian: bool,
    /// Bytes of an identifier and of a size.
    id: usize,
    size: usize,
    /// Whether the size includes the chunk's header.
    whole: bool,
    /// Alignment of chunks.
    align: u64,
    /// Identifiers of the chunks with the format and with the audio data.
    about: &'static [u8],
    sound: &'static [u8],
}

const RIFF: Layout =
    Layout { first: 12, big_endian: false, id: 4, size: 4, whole: false, align: 2, about: b"fmt ", sound: b"data" };
const AIFF: Layout = Layout { big_endian: true, about: b"COMM", sound: b"SSND", ..RIFF };
const WAVE64: Layout = Layout { first: 40, id: 16, size: 8, whole: true, align: 8, ..RIFF };
const CAF: Layout = Layout { first: 8, size: 8, align: 1, big_endian: true, about: b"desc", ..RIFF };

/// Finds the audio data, or the reason why it cannot be decoded; `None` for other formats.
pub(super) fn find(source: &mut Source, notes: &mut Notes) -> io::Result<Option<Result<Sound, String>>> {
    let start = source.peek(0, 64)?;
    let word = |from: usize, to| start.get(from..to);
    let (layout, coding): (_, ReadCoding) = match (word(0, 4), word(8, 12)) {
        (Some(b"RIFF" | b"RF64" | b"BW64"), Some(b"WAVE" | b"RMP3")) => (RIFF, wave),
        (Some(b"FORM"), Some(b"AIFF" | b"AIFC")) => (AIFF, aiff),
        (Some(b"riff"), _) if word(24, 28) == Some(b"wave") => (WAVE64, wave),
        (Some(b"caff"), _) => (CAF, caf),
        (Some(b".snd"), _) => return Ok(Some(au(source, &start, notes))),
        _ => return Ok(None),
    };
    let mut found = walk(source, &layout, notes)?;
    let Some((place, promised)) = found.sound else { return Ok(Some(Err("contains no audio".into()))) };
    let description = &mut found.description;
    if description.about.is_empty() {
        return Ok(Some(Err("has no description of its audio format".into())));
    }
    // Packets of different sizes need their table, which follows the audio data in many files.
    if layout.about == CAF.about && description.table.is_empty() && description.about.get(16..20) == Some(&[0; 4]) {
        let at = Window::new(source.again()).find(&[b"pakt"], place)?;
        if let Some((_, size, body)) = at.map_or(Ok(None), |at| head(source, &layout, at))? {
            description.table = source.peek(body, size.min(MAX_TABLE) as usize)?;
        }
    }
    description.head = start;
    let coding = match coding(description) {
        Err(reason) => return Ok(Some(Err(reason))),
        Ok(coding) => coding,
    };
    // AIFF has an offset and a block size before the samples, CAF a count of edits.
    let start = match layout.about {
        b"COMM" => {
            let offset = source.peek(place, 4)?.try_into().map_or(0, u32::from_be_bytes);
            place.saturating_add(8).saturating_add(if u64::from(offset) < source.len() { offset.into() } else { 0 })
        }
        b"desc" => place + 4,
        _ => place,
    };
    let end = extent(source, &layout, place, promised, notes)?;
    Ok(Some(Ok(Sound { coding, start: start.min(end), end, frames: found.frames })))
}

/// Chunks found in a file: position and declared size of the audio data, and the format chunk.
#[derive(Default)]
struct Found {
    sound: Option<(u64, u64)>,
    description: Description,
    frames: Option<u64>,
}

fn walk(source: &mut Source, layout: &Layout, notes: &mut Notes) -> io::Result<Found> {
    let mut found = Found::default();
    let mut long = None;
    let mut at = layout.first;
    for _ in 0..MAX_CHUNKS {
        let Some((id, size, body)) = head(source, layout, at)? else { break };
        if id == layout.sound && found.sound.is_none() {
            // RF64 has the size elsewhere, as it does not fit here.
            let promised = if size >= 0xffff_ffff { long.unwrap_or(size) } else { size };
            found.sound = Some((body, promised));
        } else if id == layout.about && found.description.about.is_empty() {
            found.description.about = source.peek(body, size.min(DESCRIPTION) as usize)?;
        } else if id == b"ds64" {
            long = source.peek(body + 8, 8)?.try_into().ok().map(u64::from_le_bytes);
        } else if id == b"fact" {
            found.frames = source.peek(body, 4)?.try_into().ok().map(|b| u64::from(u32::from_le_bytes(b)));
        }
        if layout.about == CAF.about && id == b"kuki" {
            found.description.cookie = source.peek(body, size.min(MAX_COOKIE) as usize)?;
        } else if layout.about == CAF.about && id == b"pakt" {
            found.description.table = source.peek(body, size.min(MAX_TABLE) as usize)?;
        } else if found.sound.is_some() && !found.description.about.is_empty() && layout.about != CAF.about {
            break;
        }
        match next(source, layout, &id, size, body)? {
            Some(next) => at = next,
            // In AIFF the format may follow the audio data, but not if that has no end.
            None if found.sound.is_some() => break,
            None => match search(source, layout.sound, at + 1)? {
                Some(place) => {
                    notes.odd(format!("its {} chunk has a wrong size", String::from_utf8_lossy(&id).trim()));
                    at = place;
                }
                None => break,
            },
        }
    }
    Ok(found)
}

/// Identifier, size and position of the body of the chunk at `at`.
fn head(source: &mut Source, layout: &Layout, at: u64) -> io::Result<Option<(Vec<u8>, u64, u64)>> {
    let len = layout.id + layout.size;
    let bytes = source.peek(at, len)?;
    if bytes.len() < len {
        return Ok(None);
    }
    let mut size = [0; 8];
    let given = &bytes[layout.id..];
    let size = if layout.big_endian {
        size[8 - given.len()..].copy_from_slice(given);
        u64::from_be_bytes(size)
    } else {
        size[..given.len()].copy_from_slice(given);
        u64::from_le_bytes(size)
    };
    let head = if layout.whole { len as u64 } else { 0 };
    // The first four bytes of long identifiers are sufficient.
    Ok(Some((bytes[..4].to_vec(), size.saturating_sub(head), at + len as u64)))
}

/// Start of the next chunk; `None` if it contradicts the size.
fn next(source: &mut Source, layout: &Layout, id: &[u8], size: u64, body: u64) -> io::Result<Option<u64>> {
    let end = body.saturating_add(size);
    if !id.iter().all(|c| (0x20..0x7f).contains(c)) || end > source.len() {
        return Ok(None);
    }
    let padded = end.next_multiple_of(layout.align);
    if padded >= source.len() {
        return Ok(Some(padded));
    }
    // Some programs omit the padding.
    if source.peek(end, 4)? == layout.sound {
        return Ok(Some(end));
    }
    for place in [padded, end] {
        let id = source.peek(place, 4)?;
        if id.iter().all(|c| (0x20..0x7f).contains(c)) {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn search(source: &mut Source, id: &[u8], from: u64) -> io::Result<Option<u64>> {
    let bytes = source.peek(from, SEARCHED)?;
    Ok(bytes.windows(id.len()).position(|window| window == id).map(|at| from + at as u64))
}

/// End of the audio data: by its size, if that is plausible; else the end of the file.
fn extent(source: &mut Source, layout: &Layout, place: u64, promised: u64, notes: &mut Notes) -> io::Result<u64> {
    let (len, end) = (source.len(), place.saturating_add(promised));
    let unknown = promised >= if layout.size == 4 { UNKNOWN } else { 1 << 62 };
    if end > len {
        match unknown {
            true => notes.odd("its header has no length; all of it was decoded"),
            false => {
                let (missing, percent) = (end - len, (end - len) as f64 / promised as f64 * 100.0);
                notes.cut(format!(
                    "is truncated: {missing} bytes ({percent:.0} %) of the length in its header are missing"
                ));
            }
        }
        return Ok(len);
    }
    // Only chunks may follow up to the end of the file; otherwise it is more audio.
    let mut at = end;
    if end.next_multiple_of(layout.align) >= len {
        return Ok(end);
    }
    for _ in 0..MAX_CHUNKS {
        at = at.next_multiple_of(layout.align);
        // A few bytes at the end of the file are neither a chunk nor audio.
        if at + (layout.id + layout.size) as u64 > len {
            return Ok(end);
        }
        let Some((id, size, body)) = head(source, layout, at)? else { return Ok(end) };
        if !id.iter().all(|c| (0x20..0x7f).contains(c)) || body.saturating_add(size) > len.saturating_add(1) {
            break;
        }
        at = body + size;
    }
    notes.odd(match promised {
        0 => "its header has no length; all of it was decoded".into(),
        _ => format!("its header has {promised} bytes of audio, the file {}; all of it was decoded", len - place),
    });
    Ok(len)
}

/// AU: a header and the audio data.
fn au(source: &mut Source, head: &[u8], notes: &mut Notes) -> Result<Sound, String> {
    let (start, size, coding) = (u64::from(be32(head, 4)?), u64::from(be32(head, 8)?), be32(head, 12)?);
    let (sr, channels) = (be32(head, 16)?, u64::from(be32(head, 20)?));
    let (codec, bytes) = match coding {
        1 => (CODEC_ID_PCM_MULAW, 1),
        2 => (CODEC_ID_PCM_S8, 1),
        3 => (CODEC_ID_PCM_S16BE, 2),
        4 => (CODEC_ID_PCM_S24BE, 3),
        5 => (CODEC_ID_PCM_S32BE, 4),
        6 => (CODEC_ID_PCM_F32BE, 4),
        7 => (CODEC_ID_PCM_F64BE, 8),
        27 => (CODEC_ID_PCM_ALAW, 1),
        other => return Err(cannot(&format!("AU encoding {other}"))),
    };
    let (coding, len) = (pcm(codec, sr, channels, bytes)?, source.len());
    let end = start.saturating_add(size);
    if size >= UNKNOWN && end > len {
        notes.odd("its header has no length; all of it was decoded");
    } else if end > len {
        notes.truncated(end - len);
    } else if end < len {
        notes.odd("is longer than its header says; all of it was decoded");
    }
    Ok(Sound { coding, start: start.min(len), end: len, frames: None })
}
