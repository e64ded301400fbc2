//! Packets to samples: symphonia's codecs, and Opus.

use symphonia::core::codecs::audio::well_known::*;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::Packet;
use symphonia::core::units::Duration;

use super::opus::Opus;
use super::source::cannot;

/// The warning of [`is_he_aac`].
pub(super) const HE_AAC: &str =
    "is HE-AAC, decoded without its spectral band replication: the upper half of its band is missing";
/// Highest usual rate, in Hz, of the core of HE-AAC: the whole has twice as much.
const HE_AAC_CORE: u32 = 24_000;

pub(super) enum Codec {
    Known(Box<dyn AudioDecoder>),
    Opus(Box<Opus>),
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

    /// Writes the samples of a packet, channels interleaved, to `out`; returns their rate and number of channels.
    /// Nothing is trimmed, except Vorbis's first packet, which has no samples.
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

/// Whether AAC's configuration signals spectral band replication, which is not decoded.
pub(super) fn is_he_aac(params: &AudioCodecParameters) -> bool {
    let config = params.extra_data.as_deref().filter(|_| params.codec == CODEC_ID_AAC).unwrap_or(&[]);
    let kind = config.first().map_or(0, |a| a >> 3);
    // Signalled at the start, or after the part that older decoders read.
    let behind = config.windows(3).skip(2).any(|w| w[0] == 0x56 && w[1] == 0xe5 && w[2] & 0x80 != 0);
    kind == 5 || kind == 29 || kind == 2 && behind
}

/// The warning of AAC of this rate in ADTS, which does not signal spectral band replication; `None` where it is
/// unlikely.
pub(super) fn may_be_he_aac(rate: u32) -> Option<String> {
    (rate <= HE_AAC_CORE).then(|| {
        format!(
            "is AAC of {rate} Hz in ADTS and may be HE-AAC, which ADTS does not tell: then its upper half band is \
             missing"
        )
    })
}
