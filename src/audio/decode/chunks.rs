//! Files made of chunks: WAV, RF64, BW64, Wave64, AIFF, AIFF-C, AU and uncompressed CAF. Sizes in headers are not trusted:
//! they are wrong if a program wrote to a pipe, crashed, or exceeded four gigabytes.

use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::audio::{Channels, sample::SampleFormat};
use symphonia::core::codecs::audio::well_known::*;
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters};

use super::source::Source;
use super::stream::{Demux, End, Event, Notes, Span, Stream, Trim};

/// Reads the sample format from a header.
type ReadCoding = fn(&[u8], &[u8]) -> Result<Coding, String>;

/// Most chunks read before the audio data.
const MAX_CHUNKS: usize = 10_000;
/// Bytes searched for a displaced chunk of audio data.
const SEARCHED: usize = 1 << 20;
/// 32-bit sizes from here on stand for an unknown size.
const UNKNOWN: u64 = 0x7f00_0000;
/// Most bytes of a format chunk.
const DESCRIPTION: u64 = 1 << 10;

/// The audio data of such a file.
pub(super) struct Sound {
    pub coding: Coding,
    /// Bytes of the file.
    pub start: u64,
    pub end: u64,
    /// Frames by the header, if they do not follow from the bytes.
    pub frames: Option<u64>,
}

pub(super) enum Coding {
    Blocks(Box<Coded>),
    /// A stream of MPEG audio.
    Mpeg,
}

/// PCM or ADPCM: bytes and frames of a block.
pub(super) struct Coded {
    params: AudioCodecParameters,
    bytes: u64,
    frames: u64,
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
    let head = source.peek(0, 64)?;
    let (layout, kind): (_, ReadCoding) = match (head.get(..4), head.get(8..12)) {
        (Some(b"RIFF" | b"RF64" | b"BW64"), Some(b"WAVE" | b"RMP3")) => (RIFF, wave),
        (Some(b"FORM"), Some(b"AIFF" | b"AIFC")) => (AIFF, aiff),
        (Some(b"riff"), _) if head.get(24..28) == Some(b"wave") => (WAVE64, wave),
        (Some(b"caff"), _) => (CAF, caf),
        (Some(b".snd"), _) => return Ok(Some(au(source, &head, notes))),
        _ => return Ok(None),
    };
    let found = walk(source, &layout, notes)?;
    let Some((place, promised)) = found.sound else { return Ok(Some(Err("contains no audio".into()))) };
    let Some(about) = found.about else { return Ok(Some(Err("has no description of its audio format".into()))) };
    let coding = match kind(&about, &head) {
        // The demuxer for compressed formats handles more than this one.
        Err(_) if layout.about == CAF.about => return Ok(None),
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
    about: Option<Vec<u8>>,
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
        } else if id == layout.about && found.about.is_none() {
            found.about = Some(source.peek(body, size.min(DESCRIPTION) as usize)?);
        } else if id == b"ds64" {
            long = source.peek(body + 8, 8)?.try_into().ok().map(u64::from_le_bytes);
        } else if id == b"fact" {
            found.frames = source.peek(body, 4)?.try_into().ok().map(|b| u64::from(u32::from_le_bytes(b)));
        }
        if found.sound.is_some() && found.about.is_some() {
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
                notes.odd(format!(
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

fn int<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    let part = bytes.get(at..at + N).and_then(|part| part.try_into().ok());
    part.ok_or_else(|| "has a truncated description of its audio format".into())
}

fn le16(bytes: &[u8], at: usize) -> Result<u64, String> {
    Ok(u16::from_le_bytes(int(bytes, at)?).into())
}

fn le32(bytes: &[u8], at: usize) -> Result<u32, String> {
    Ok(u32::from_le_bytes(int(bytes, at)?))
}

fn be32(bytes: &[u8], at: usize) -> Result<u32, String> {
    Ok(u32::from_be_bytes(int(bytes, at)?))
}

/// `fmt ` of WAV and related formats.
fn wave(about: &[u8], _: &[u8]) -> Result<Coding, String> {
    let (channels, sr, block, bits) = (le16(about, 2)?, le32(about, 4)?, le16(about, 12)?, le16(about, 14)?);
    let tag = match le16(about, 0)? {
        // The extensible format has the tag within a longer identifier.
        0xfffe if about.len() >= 26 => le16(about, 24)?,
        tag => tag,
    };
    // For unusual numbers of bits, the block size gives the bytes per sample.
    let bytes = if channels > 0 && block % channels == 0 { block / channels } else { bits.div_ceil(8) };
    let bytes = if bytes == 0 { bits.div_ceil(8) } else { bytes };
    let codec = match (tag, bytes) {
        (1, 1) => CODEC_ID_PCM_U8,
        (1, 2) => CODEC_ID_PCM_S16LE,
        (1, 3) => CODEC_ID_PCM_S24LE,
        (1, 4) => CODEC_ID_PCM_S32LE,
        (3, 4) => CODEC_ID_PCM_F32LE,
        (3, 8) => CODEC_ID_PCM_F64LE,
        (6, 1) => CODEC_ID_PCM_ALAW,
        (7, 1) => CODEC_ID_PCM_MULAW,
        (2, _) => return adpcm(CODEC_ID_ADPCM_MS, sr, channels, block, 7, 2),
        (0x11, _) => return adpcm(CODEC_ID_ADPCM_IMA_WAV, sr, channels, block, 4, 1),
        (0x50 | 0x55, _) => return Ok(Coding::Mpeg),
        (1 | 3 | 6 | 7, _) => return Err(format!("has samples of {bits} bits, which are not supported")),
        (tag, _) => {
            let name = match tag {
                0x31 => "GSM 6.10",
                0x45 | 0x64 => "G.726",
                0x65 => "G.722",
                0xff | 0x1600 | 0x706d => "AAC",
                0x160..=0x163 => "Windows Media Audio",
                0x674f..=0x6771 => "Ogg Vorbis",
                0x1610 => "HE-AAC",
                0x2000 => "AC-3",
                0x2001 => "DTS",
                _ => "an unknown codec",
            };
            return Err(super::source::cannot(&format!("{name} (format {tag:#x})")));
        }
    };
    pcm(codec, sr, channels, bytes)
}

/// Frames of ADPCM blocks: per channel a header of `head` bytes with `first` samples, then two samples per byte.
fn adpcm(codec: AudioCodecId, sr: u32, channels: u64, block: u64, head: u64, first: u64) -> Result<Coding, String> {
    if !(1..=2).contains(&channels) || block <= head * channels {
        return Err(format!("has ADPCM blocks of {block} bytes with {channels} channels, which is impossible"));
    }
    let frames = (block - head * channels) * 2 / channels + first;
    let mut params = params(codec, sr, channels);
    params.with_max_frames_per_packet(frames).with_frames_per_block(frames);
    Ok(Coding::Blocks(Box::new(Coded { params, bytes: block, frames })))
}

fn pcm(codec: AudioCodecId, sr: u32, channels: u64, bytes: u64) -> Result<Coding, String> {
    super::check_channels(channels as usize)?;
    Ok(Coding::Blocks(Box::new(Coded { params: params(codec, sr, channels), bytes: bytes * channels, frames: 1 })))
}

fn params(codec: AudioCodecId, sr: u32, channels: u64) -> AudioCodecParameters {
    let mut params = AudioCodecParameters::new();
    params.for_codec(codec).with_sample_rate(sr).with_channels(Channels::Discrete(channels.min(65_535) as u16));
    let format = match codec {
        CODEC_ID_PCM_F32LE | CODEC_ID_PCM_F32BE => Some((SampleFormat::F32, 32)),
        CODEC_ID_PCM_F64LE | CODEC_ID_PCM_F64BE => Some((SampleFormat::F64, 64)),
        CODEC_ID_PCM_ALAW | CODEC_ID_PCM_MULAW => Some((SampleFormat::S16, 16)),
        CODEC_ID_PCM_U8 => Some((SampleFormat::U8, 8)),
        CODEC_ID_PCM_S8 => Some((SampleFormat::S8, 8)),
        CODEC_ID_PCM_S16LE | CODEC_ID_PCM_S16BE => Some((SampleFormat::S16, 16)),
        CODEC_ID_PCM_S24LE | CODEC_ID_PCM_S24BE => Some((SampleFormat::S24, 24)),
        CODEC_ID_PCM_S32LE | CODEC_ID_PCM_S32BE => Some((SampleFormat::S32, 32)),
        _ => None,
    };
    if let Some((format, bits)) = format {
        params.with_sample_format(format).with_bits_per_sample(bits).with_bits_per_coded_sample(bits);
    }
    params
}

/// `COMM` of AIFF and AIFF-C.
fn aiff(about: &[u8], head: &[u8]) -> Result<Coding, String> {
    let channels = u64::from(u16::from_be_bytes(int(about, 0)?));
    let bits = u64::from(u16::from_be_bytes(int(about, 6)?));
    let sr = extended(int(about, 8)?);
    let kind: [u8; 4] = if head.get(8..12) == Some(b"AIFC") { int(about, 18)? } else { *b"NONE" };
    let bytes = bits.div_ceil(8);
    let (codec, bytes) = match (&kind, bytes) {
        (b"NONE" | b"twos", 1) => (CODEC_ID_PCM_S8, 1),
        (b"NONE" | b"twos", 2) => (CODEC_ID_PCM_S16BE, 2),
        (b"NONE", 3) | (b"in24", _) => (CODEC_ID_PCM_S24BE, 3),
        (b"NONE", 4) | (b"in32", _) => (CODEC_ID_PCM_S32BE, 4),
        (b"raw ", _) => (CODEC_ID_PCM_U8, 1),
        (b"sowt", 1) => (CODEC_ID_PCM_S8, 1),
        (b"sowt", 2) => (CODEC_ID_PCM_S16LE, 2),
        (b"sowt", 3) => (CODEC_ID_PCM_S24LE, 3),
        (b"sowt", 4) => (CODEC_ID_PCM_S32LE, 4),
        (b"fl32" | b"FL32", _) => (CODEC_ID_PCM_F32BE, 4),
        (b"fl64" | b"FL64", _) => (CODEC_ID_PCM_F64BE, 8),
        (b"alaw" | b"ALAW", _) => (CODEC_ID_PCM_ALAW, 1),
        (b"ulaw" | b"ULAW", _) => (CODEC_ID_PCM_MULAW, 1),
        (b"ima4", _) if (1..=2).contains(&channels) => {
            let mut params = params(CODEC_ID_ADPCM_IMA_QT, sr, channels);
            params.with_max_frames_per_packet(64).with_frames_per_block(64);
            return Ok(Coding::Blocks(Box::new(Coded { params, bytes: 34 * channels, frames: 64 })));
        }
        (b"NONE" | b"twos" | b"sowt", _) => return Err(format!("has samples of {bits} bits, which are not supported")),
        (kind, _) => return Err(super::source::cannot(&format!("{} in AIFF-C", kind.escape_ascii()))),
    };
    pcm(codec, sr, channels, bytes)
}

/// An 80-bit float as a sample rate; 0 if it is not valid.
fn extended(bytes: [u8; 10]) -> u32 {
    let [e0, e1, mantissa @ ..] = bytes;
    let exponent = i32::from(u16::from_be_bytes([e0 & 0x7f, e1])) - 16_383 - 63;
    let value = u64::from_be_bytes(mantissa) as f64 * f64::from(exponent).exp2();
    if e0 & 0x80 == 0 && value < f64::from(u32::MAX) { value.round() as u32 } else { 0 }
}

/// `desc` of CAF, if it is not compressed.
fn caf(about: &[u8], _: &[u8]) -> Result<Coding, String> {
    let sr = f64::from_be_bytes(int(about, 0)?);
    let sr = if (0.0..=f64::from(u32::MAX)).contains(&sr) { sr.round() as u32 } else { 0 };
    let (kind, flags): ([u8; 4], u32) = (int(about, 8)?, be32(about, 12)?);
    let (packet, channels) = (u64::from(be32(about, 16)?), u64::from(be32(about, 24)?));
    super::check_channels(channels as usize)?;
    let (float, little) = (flags & 1 == 1, flags & 2 == 2);
    let codec = match (&kind, float, little, packet / channels) {
        (b"lpcm", false, _, 1) => CODEC_ID_PCM_S8,
        (b"lpcm", false, true, 2) => CODEC_ID_PCM_S16LE,
        (b"lpcm", false, true, 3) => CODEC_ID_PCM_S24LE,
        (b"lpcm", false, true, 4) => CODEC_ID_PCM_S32LE,
        (b"lpcm", true, true, 4) => CODEC_ID_PCM_F32LE,
        (b"lpcm", true, true, 8) => CODEC_ID_PCM_F64LE,
        (b"lpcm", false, false, 2) => CODEC_ID_PCM_S16BE,
        (b"lpcm", false, false, 3) => CODEC_ID_PCM_S24BE,
        (b"lpcm", false, false, 4) => CODEC_ID_PCM_S32BE,
        (b"lpcm", true, false, 4) => CODEC_ID_PCM_F32BE,
        (b"lpcm", true, false, 8) => CODEC_ID_PCM_F64BE,
        (b"alaw", ..) => CODEC_ID_PCM_ALAW,
        (b"ulaw", ..) => CODEC_ID_PCM_MULAW,
        _ => return Err("is compressed".into()),
    };
    pcm(codec, sr, channels, packet / channels)
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
        other => return Err(super::source::cannot(&format!("AU encoding {other}"))),
    };
    let (coding, len) = (pcm(codec, sr, channels, bytes)?, source.len());
    let end = start.saturating_add(size);
    if size >= UNKNOWN && end > len {
        notes.odd("its header has no length; all of it was decoded");
    } else if end > len {
        notes.odd(format!("is truncated: {} bytes of the length in its header are missing", end - len));
    } else if end < len {
        notes.odd("is longer than its header says; all of it was decoded");
    }
    Ok(Sound { coding, start: start.min(len), end: len, frames: None })
}

/// The blocks of a file, some thousand frames at a time.
pub(super) struct Blocks {
    source: Source,
    at: u64,
    end: u64,
    /// Bytes and frames of a block.
    bytes: u64,
    frames: u64,
    stream: Option<Box<Stream>>,
}

impl Blocks {
    /// Approximate frames of a packet.
    const PACKET: u64 = 1152;

    pub fn new(
        source: Source,
        coded: Coded,
        (start, end): (u64, u64),
        total: Option<u64>,
        notes: &mut Notes,
    ) -> Blocks {
        let Coded { mut params, bytes, frames } = coded;
        let (left_over, blocks) = ((end - start) % bytes, (end - start) / bytes);
        if left_over > 0 && blocks > 0 && frames == 1 && end == source.len() {
            notes.odd("ends within a sample");
        }
        params.max_frames_per_packet = Some(frames.max(Self::PACKET / frames * frames));
        // The last ADPCM block is padded.
        let keep = total.filter(|&total| frames > 1 && total <= blocks * frames && blocks * frames - total < frames);
        let trim = Trim { keep: keep.map(Span::Frames), ..Trim::NONE };
        let stream = Some(Box::new(Stream { params, trim, promise: None, timed: true, clock: None }));
        Blocks { source, at: start, end, bytes, frames, stream }
    }
}

impl Demux for Blocks {
    fn next(&mut self, _: &mut Notes) -> io::Result<Event> {
        if let Some(stream) = self.stream.take() {
            return Ok(Event::Stream(stream));
        }
        let blocks = ((self.end - self.at) / self.bytes).min((Self::PACKET / self.frames).max(1));
        if blocks == 0 {
            return Ok(Event::End(End::Whole));
        }
        let mut data = vec![0; (blocks * self.bytes) as usize];
        self.source.seek(SeekFrom::Start(self.at))?;
        self.source.read_exact(&mut data)?;
        self.at += blocks * self.bytes;
        Ok(Event::Packet(super::packet(data, blocks * self.frames)))
    }
}
