//! Packets to samples: symphonia's codecs, and Opus.

use opus_decoder::{OpusDecoder, OpusMultistreamDecoder};
use symphonia::core::codecs::audio::well_known::*;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::Packet;
use symphonia::core::units::Duration;

/// The rate of Opus, whatever was encoded.
const OPUS_SR: u32 = 48_000;
/// Frames of the longest packet of Opus, 120 ms.
const OPUS_FRAMES: usize = 5760;

pub(super) enum Codec {
    Known(Box<dyn AudioDecoder>),
    Opus(Box<Opus>),
}

/// The reason for a codec that is not among ours.
pub(super) fn cannot(what: &str) -> String {
    format!("holds {what}, which cannot be decoded here; convert it: ffmpeg -i FILE OUT.wav")
}

impl Codec {
    pub fn new(params: &AudioCodecParameters) -> Result<Codec, String> {
        if params.codec == CODEC_ID_OPUS {
            return Opus::new(params).map(|opus| Codec::Opus(Box::new(opus)));
        }
        let options = AudioDecoderOptions::default();
        let codec = symphonia::default::get_codecs().make_audio_decoder(params, &options);
        codec.map(Codec::Known).map_err(|fault| match fault {
            symphonia::core::errors::Error::DecodeError(_) => format!("cannot be decoded ({fault})"),
            _ => cannot(&name(params)),
        })
    }

    /// Puts the samples of a packet, channels interleaved, into `out`; returns their rate and number of channels. What is to be
    /// trimmed is still there, but for Vorbis's first packet, which has no samples of its own.
    pub fn decode(&mut self, mut packet: Packet, out: &mut Vec<f32>) -> Result<(u32, usize), String> {
        packet.dur = packet.block_dur();
        (packet.trim_start, packet.trim_end) = (Duration::ZERO, Duration::ZERO);
        match self {
            Codec::Opus(opus) => opus.decode(&packet.data, out),
            Codec::Known(codec) => {
                let buffer = codec.decode(&packet).map_err(|fault| fault.to_string())?;
                buffer.copy_to_vec_interleaved(out);
                Ok((buffer.spec().rate(), buffer.num_planes()))
            }
        }
    }
}

fn name(params: &AudioCodecParameters) -> String {
    match params.codec {
        CODEC_ID_AC3 => "AC-3",
        CODEC_ID_EAC3 => "E-AC-3",
        CODEC_ID_AC4 => "AC-4",
        CODEC_ID_DCA => "DTS",
        CODEC_ID_TRUEHD => "TrueHD",
        CODEC_ID_WMA => "Windows Media Audio",
        CODEC_ID_SPEEX => "Speex",
        CODEC_ID_MUSEPACK => "Musepack",
        CODEC_ID_WAVPACK => "WavPack",
        CODEC_ID_TTA => "TTA",
        CODEC_ID_MONKEYS_AUDIO => "Monkey's Audio",
        CODEC_ID_AAC => "an AAC profile other than LC",
        codec => return format!("an unknown codec ({codec})"),
    }
    .into()
}

/// Opus after its head, which containers keep beside the packets (RFC 7845, section 5.1).
pub(super) struct Opus {
    decoder: Streams,
    channels: usize,
    gain: f32,
    samples: Vec<f32>,
}

enum Streams {
    One(OpusDecoder),
    Several(OpusMultistreamDecoder),
}

/// Frames at 48 kHz that an Opus head says are before the sound.
pub(super) fn opus_delay(head: &[u8]) -> u64 {
    head.get(10..12).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]).into())
}

impl Opus {
    fn new(params: &AudioCodecParameters) -> Result<Opus, String> {
        let head = params.extra_data.as_deref().filter(|head| head.starts_with(b"OpusHead") && head.len() >= 19);
        let head = head.ok_or("holds Opus without its head")?;
        let channels = usize::from(head[9]);
        super::check_channels(channels)?;
        let gain = f32::from(i16::from_le_bytes([head[16], head[17]]));
        let decoder = match (head[18], head.get(19..21), head.get(21..21 + channels)) {
            (0, ..) if channels <= 2 => OpusDecoder::new(OPUS_SR, channels).map(Streams::One),
            (1 | 2 | 255, Some(&[streams, coupled]), Some(mapping)) => {
                let (streams, coupled) = (streams.into(), coupled.into());
                OpusMultistreamDecoder::new(OPUS_SR, channels, streams, coupled, mapping).map(Streams::Several)
            }
            (family, ..) => return Err(cannot(&format!("Opus of {channels} channels in mapping family {family}"))),
        };
        let decoder = decoder.map_err(|fault| format!("holds Opus that is damaged ({fault})"))?;
        Ok(Opus { decoder, channels, gain: 10f32.powf(gain / (20.0 * 256.0)), samples: vec![] })
    }

    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Result<(u32, usize), String> {
        out.clear();
        if packet.is_empty() {
            return Err("empty packet".into());
        }
        self.samples.resize(OPUS_FRAMES * self.channels, 0.0);
        let frames = match &mut self.decoder {
            Streams::One(decoder) => decoder.decode_float(packet, &mut self.samples, false),
            Streams::Several(decoder) => decoder.decode_float(packet, &mut self.samples, false),
        };
        let frames = frames.map_err(|fault| fault.to_string())?.min(OPUS_FRAMES);
        out.extend(self.samples[..frames * self.channels].iter().map(|v| v * self.gain));
        Ok((OPUS_SR, self.channels))
    }
}
