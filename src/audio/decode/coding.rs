//! Codecs and sample formats in the headers of WAV and AIFF.

use symphonia::core::audio::{Channels, sample::SampleFormat};
use symphonia::core::codecs::audio::well_known::*;
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters};

use super::blocks::Coded;
use super::clip::check_channels;
use super::packets::Packets;
use super::source::cannot;

/// What the chunks of a file say of its audio.
#[derive(Default)]
pub(super) struct Description {
    /// The beginning of the file, and the format chunk.
    pub head: Vec<u8>,
    pub about: Vec<u8>,
    /// CAF's configuration of the codec, and its table of packets.
    pub cookie: Vec<u8>,
    pub table: Vec<u8>,
}

/// How audio data is encoded.
pub(super) enum Coding {
    Blocks(Box<Coded>),
    /// Packets of different sizes.
    Packets(Box<Packets>),
    /// A stream of MPEG audio.
    Mpeg,
}

pub(super) fn int<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    let part = bytes.get(at..at + N).and_then(|part| part.try_into().ok());
    part.ok_or_else(|| "has a truncated description of its audio format".into())
}

fn le16(bytes: &[u8], at: usize) -> Result<u64, String> {
    Ok(u16::from_le_bytes(int(bytes, at)?).into())
}

fn le32(bytes: &[u8], at: usize) -> Result<u32, String> {
    Ok(u32::from_le_bytes(int(bytes, at)?))
}

pub(super) fn be32(bytes: &[u8], at: usize) -> Result<u32, String> {
    Ok(u32::from_be_bytes(int(bytes, at)?))
}

/// `fmt ` of WAV and related formats.
pub(super) fn wave(description: &Description) -> Result<Coding, String> {
    let about = &description.about[..];
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
            return Err(cannot(&format!("{name} (format {tag:#x})")));
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

/// Apple's ADPCM, in blocks of 64 samples.
pub(super) fn ima4(sr: u32, channels: u64) -> Result<Coding, String> {
    if !(1..=2).contains(&channels) {
        return Err(format!("has ADPCM with {channels} channels, which is not supported"));
    }
    let mut params = params(CODEC_ID_ADPCM_IMA_QT, sr, channels);
    params.with_max_frames_per_packet(64).with_frames_per_block(64);
    Ok(Coding::Blocks(Box::new(Coded { params, bytes: 34 * channels, frames: 64 })))
}

pub(super) fn pcm(codec: AudioCodecId, sr: u32, channels: u64, bytes: u64) -> Result<Coding, String> {
    check_channels(channels as usize)?;
    Ok(Coding::Blocks(Box::new(Coded { params: params(codec, sr, channels), bytes: bytes * channels, frames: 1 })))
}

pub(super) fn params(codec: AudioCodecId, sr: u32, channels: u64) -> AudioCodecParameters {
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
pub(super) fn aiff(description: &Description) -> Result<Coding, String> {
    let (head, about) = (&description.head[..], &description.about[..]);
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
        (b"ima4", _) => return ima4(sr, channels),
        (b"NONE" | b"twos" | b"sowt", _) => return Err(format!("has samples of {bits} bits, which are not supported")),
        (kind, _) => return Err(cannot(&format!("{} in AIFF-C", kind.escape_ascii()))),
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
