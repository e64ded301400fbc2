//! Opus, which symphonia demuxes but does not decode.

use opus_decoder::OpusDecoder;
use symphonia::core::codecs::audio::AudioCodecParameters;

use super::clip::{MAX_CHANNELS, check_channels};
use super::source::cannot;

/// The rate of Opus, whatever was encoded.
pub(super) const SR: u32 = 48_000;
/// Frames of the longest packet, 120 ms.
const MAX_FRAMES: usize = 5760;

/// An Opus decoder, created from the header in the container (RFC 7845, section 5.1). Surround audio has several
/// streams of one or two channels in a packet.
pub(super) struct Opus {
    streams: Vec<(OpusDecoder, usize)>,
    /// For each channel the stream and its channel; `None` is silent.
    channels: Vec<Option<(usize, usize)>>,
    gain: f32,
    /// Samples of each stream.
    decoded: Vec<Vec<f32>>,
}

/// Pre-skip in an Opus header: frames at 48 kHz.
pub(super) fn delay(head: &[u8]) -> u64 {
    head.get(10..12).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]).into())
}

/// The header of one stream of one or two channels, where a container has none.
pub(super) fn header(channels: u64) -> Result<Vec<u8>, String> {
    let channels = u8::try_from(channels).ok().filter(|channels| (1..=2).contains(channels));
    let channels = channels.ok_or_else(|| cannot("Opus of several streams without their description"))?;
    // Version, channels, no delay, rate, no gain, mapping family 0.
    Ok([b"OpusHead\x01", &[channels][..], &[0; 2], &SR.to_le_bytes(), &[0; 3]].concat())
}

impl Opus {
    pub fn new(params: &AudioCodecParameters) -> Result<Opus, String> {
        let head = params.extra_data.as_deref().filter(|head| head.starts_with(b"OpusHead") && head.len() >= 19);
        let head = head.ok_or("contains Opus without its header")?;
        let count = usize::from(head[9]);
        check_channels(count)?;
        let (streams, coupled, mapping) = match (head[18], head.get(19..21), head.get(21..21 + count)) {
            (0, ..) if count <= 2 => (1, count - 1, (0..count as u8).collect()),
            (1 | 2 | 255, Some(&[streams, coupled]), Some(mapping)) => {
                (streams.into(), coupled.into(), mapping.to_vec())
            }
            (family, ..) => return Err(cannot(&format!("Opus of {count} channels in mapping family {family}"))),
        };
        let place = |channel: u8| match usize::from(channel) {
            255 => Some(None),
            c if c < 2 * coupled => Some(Some((c / 2, c % 2))),
            c if c - coupled < streams => Some(Some((c - coupled, 0))),
            _ => None,
        };
        let channels = mapping.into_iter().map(place).collect::<Option<Vec<_>>>();
        let channels = channels.filter(|_| coupled <= streams && streams <= MAX_CHANNELS && streams > 0);
        let channels = channels.ok_or("contains Opus with channels that do not match its streams")?;
        let decoder = |stream| {
            let width = if stream < coupled { 2 } else { 1 };
            OpusDecoder::new(SR, width).map(|decoder| (decoder, width))
        };
        let decoders = (0..streams).map(decoder).collect::<Result<_, _>>();
        let gain = f32::from(i16::from_le_bytes([head[16], head[17]]));
        Ok(Opus {
            streams: decoders.map_err(|fault| format!("contains Opus that cannot be decoded ({fault})"))?,
            channels,
            gain: 10f32.powf(gain / (20.0 * 256.0)),
            decoded: vec![vec![]; streams],
        })
    }

    /// As [`super::codec::Codec::decode`].
    pub fn decode(&mut self, mut packet: &[u8], out: &mut Vec<f32>) -> Result<(u32, usize), String> {
        out.clear();
        let last = self.streams.len() - 1;
        let mut frames = MAX_FRAMES;
        for (i, ((decoder, width), samples)) in self.streams.iter_mut().zip(&mut self.decoded).enumerate() {
            let (part, rest) =
                if i == last { (packet.to_vec(), &packet[..0]) } else { undelimited(packet).ok_or("truncated")? };
            if part.is_empty() {
                return Err("empty packet".into());
            }
            samples.resize(MAX_FRAMES * *width, 0.0);
            frames = frames.min(decoder.decode_float(&part, samples, false).map_err(|fault| fault.to_string())?);
            packet = rest;
        }
        for frame in 0..frames {
            out.extend(self.channels.iter().map(|place| match *place {
                Some((stream, channel)) => self.decoded[stream][frame * self.streams[stream].1 + channel] * self.gain,
                None => 0.0,
            }));
        }
        Ok((SR, self.channels.len()))
    }
}

/// The first of several packets in one, in its standard framing, and the rest: such packets also contain the length of
/// their last frame (RFC 6716, appendix B).
fn undelimited(packet: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut at = 1;
    // Lengths take one or two bytes.
    let length = |at: &mut usize| {
        let first = usize::from(*packet.get(*at)?);
        *at += 1;
        if first < 252 {
            return Some(first);
        }
        *at += 1;
        Some(first + 4 * usize::from(*packet.get(*at - 1)?))
    };
    let mut padding = 0;
    let code = packet.first()? & 3;
    let (head, bytes) = match code {
        0 | 1 => (1, length(&mut at)? * usize::from(code + 1)),
        2 => {
            let first = length(&mut at)?;
            (at, first + length(&mut at)?)
        }
        _ => {
            let about = *packet.get(1)?;
            at = 2;
            let mut padded = about & 0x40 != 0;
            while padded {
                let more = usize::from(*packet.get(at)?);
                at += 1;
                padded = more == 255;
                padding += if padded { 254 } else { more };
            }
            let count = usize::from(about & 0x3f);
            let mut sum = 0;
            if about & 0x80 != 0 {
                for _ in 1..count {
                    sum += length(&mut at)?;
                }
            }
            let head = at;
            let last = length(&mut at)?;
            (head, if about & 0x80 != 0 { sum + last } else { last * count })
        }
    };
    let end = at + bytes + padding;
    let part = [packet.get(..head)?, packet.get(at..end)?].concat();
    Some((part, &packet[end..]))
}
