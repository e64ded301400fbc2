//! Core Audio Format: its codecs.

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::*;

use super::clip::check_channels;
use super::coding::{Coding, Description, be32, ima4, int, pcm};
use super::opus;
use super::packets::Packets;
use super::source::cannot;

/// `desc`, with the other chunks where it is compressed.
pub(super) fn caf(description: &Description) -> Result<Coding, String> {
    let about = &description.about[..];
    let sr = f64::from_be_bytes(int(about, 0)?);
    let sr = if (0.0..=f64::from(u32::MAX)).contains(&sr) { sr.round() as u32 } else { 0 };
    let (kind, flags): ([u8; 4], u32) = (int(about, 8)?, be32(about, 12)?);
    let (packet, channels) = (u64::from(be32(about, 16)?), u64::from(be32(about, 24)?));
    check_channels(channels as usize)?;
    let per_packet = u64::from(be32(about, 20)?);
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
        (b"ima4", ..) => return ima4(sr, channels),
        (b".mp1" | b".mp2" | b".mp3", ..) => return Ok(Coding::Mpeg),
        _ => {
            let params = packed(kind, sr, channels, &description.cookie)?;
            return Packets::new(params, packet, per_packet, description.table.clone())
                .map(|packets| Coding::Packets(Box::new(packets)));
        }
    };
    pcm(codec, sr, channels, packet / channels)
}

/// A codec whose packets are of different sizes.
fn packed(kind: [u8; 4], sr: u32, channels: u64, cookie: &[u8]) -> Result<AudioCodecParameters, String> {
    let (codec, extra) = match &kind {
        b"aac " => (CODEC_ID_AAC, aac_config(cookie).ok_or("contains AAC without its configuration")?),
        // Old files have it wrapped in atoms.
        b"alac" if cookie.get(4..8) == Some(b"frma") => (CODEC_ID_ALAC, cookie.get(24..).unwrap_or(&[])),
        b"alac" => (CODEC_ID_ALAC, cookie),
        b"flac" => {
            // The stream's description, without what precedes it in some files.
            let at = cookie.windows(4).position(|part| part == [0, 0, 0, 34]).map_or(0, |at| at + 4);
            (CODEC_ID_FLAC, cookie.get(at..).unwrap_or(&[]))
        }
        b"opus" => (CODEC_ID_OPUS, cookie),
        b"aach" | b"aacp" => return Err(cannot("HE-AAC in CAF")),
        kind => return Err(cannot(&format!("{} in CAF", kind.escape_ascii()))),
    };
    let mut params = AudioCodecParameters::new();
    params.for_codec(codec).with_sample_rate(sr).with_channels(Channels::Discrete(channels as u16));
    params.with_extra_data(match codec {
        CODEC_ID_OPUS if !extra.starts_with(b"OpusHead") => opus::header(channels)?.into(),
        _ => extra.into(),
    });
    Ok(params)
}

/// AAC's configuration, within nested descriptors.
fn aac_config(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (&tag, mut rest) = bytes.split_first()?;
        let mut size = 0;
        loop {
            let (&byte, after) = rest.split_first()?;
            (size, rest) = (size << 7 | usize::from(byte & 0x7f), after);
            if byte & 0x80 == 0 {
                break;
            }
            if size > bytes.len() {
                return None;
            }
        }
        // What precedes the next descriptor in these.
        bytes = match tag {
            3 => rest.get(3..)?,
            4 => rest.get(13..)?,
            5 => return rest.get(..size),
            _ => rest.get(size..)?,
        };
    }
}
