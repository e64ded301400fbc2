//! Headers of self-contained frames: MPEG audio, layers 1 to 3, and AAC in ADTS.

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3};

/// Bytes of a header: at most, and of MPEG audio.
pub(super) const HEADER: usize = 7;
pub(super) const SHORTEST: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// Layer, and whether it has half the samples in a frame (MPEG-2 and 2.5).
    Mpeg { layer: u8, low: bool },
    /// Its configuration, as in MP4.
    Adts([u8; 2]),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    pub kind: Kind,
    pub sr: u32,
    pub channels: u16,
    /// Bytes of the frame, of these before the packet for the decoder, and of the checksum.
    pub bytes: usize,
    pub before: usize,
    pub check: usize,
    /// Samples of each channel.
    pub frames: u64,
}

impl Header {
    /// A header at the beginning of `bytes`.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let mut head = [0; HEADER];
        let len = bytes.len().min(HEADER);
        head[..len].copy_from_slice(&bytes[..len]);
        if len < SHORTEST || head[0] != 0xff || head[1] & 0xe0 != 0xe0 {
            return None;
        }
        // The bits of the layer are 0 in ADTS.
        match head[1] & 6 {
            0 if len < HEADER => None,
            0 => adts(head),
            _ => mpeg(head),
        }
    }

    /// Whether both can be frames of one stream.
    pub fn continues(&self, other: &Header) -> bool {
        (self.kind, self.sr, self.channels) == (other.kind, other.sr, other.channels)
    }

    pub fn params(&self) -> AudioCodecParameters {
        let codec = match self.kind {
            Kind::Mpeg { layer, .. } => [CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3][usize::from(layer) - 1],
            Kind::Adts(_) => CODEC_ID_AAC,
        };
        let mut params = AudioCodecParameters::new();
        params.for_codec(codec).with_sample_rate(self.sr).with_channels(Channels::Discrete(self.channels));
        if let Kind::Adts(config) = self.kind {
            params.with_extra_data(config.into());
        }
        params
    }
}

fn mpeg([_, b, c, d, ..]: [u8; HEADER]) -> Option<Header> {
    let (version, layer) = (b >> 3 & 3, 4 - (b >> 1 & 3));
    let (rate, speed) = (c >> 4, c >> 2 & 3);
    if version == 1 || rate == 0 || rate == 15 || speed == 3 || d & 3 == 2 {
        return None;
    }
    let low = version != 3;
    let sr = [44_100, 48_000, 32_000][usize::from(speed)] >> [2, 0, 1, 0][usize::from(version)];
    #[rustfmt::skip]
    const KBPS: [[u16; 14]; 5] = [
        [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
        [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
        [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
        [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    ];
    let row = match (low, layer) {
        (false, layer) => usize::from(layer) - 1,
        (true, 1) => 3,
        (true, _) => 4,
    };
    let bps = usize::from(KBPS[row][usize::from(rate) - 1]) * 1000;
    let padding = usize::from(c >> 1 & 1);
    let frames: u64 = match layer {
        1 => 384,
        3 if low => 576,
        _ => 1152,
    };
    let bytes = match layer {
        1 => (12 * bps / sr as usize + padding) * 4,
        _ => frames as usize / 8 * bps / sr as usize + padding,
    };
    let (channels, check) = (if d >> 6 == 3 { 1 } else { 2 }, if b & 1 == 0 { 2 } else { 0 });
    Some(Header { kind: Kind::Mpeg { layer, low }, sr, channels, bytes, before: 0, check, frames })
}

fn adts([_, b, c, d, e, f, g]: [u8; HEADER]) -> Option<Header> {
    const RATES: [u32; 13] =
        [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
    if b & 0xf0 != 0xf0 {
        return None;
    }
    let (object, speed, channels) = ((c >> 6) + 1, c >> 2 & 15, (c & 1) << 2 | d >> 6);
    let sr = *RATES.get(usize::from(speed))?;
    let bytes = usize::from(d & 3) << 11 | usize::from(e) << 3 | usize::from(f) >> 5;
    let (before, blocks) = (if b & 1 == 0 { 9 } else { 7 }, u64::from(g & 3) + 1);
    let config = [object << 3 | speed >> 1, speed << 7 | channels << 3];
    // Channels that are described elsewhere are two in nearly all files.
    let channels = [2, 1, 2, 3, 4, 5, 6, 8][usize::from(channels)];
    let kind = Kind::Adts(config);
    (bytes > before).then_some(Header { kind, sr, channels, bytes, before, check: 0, frames: 1024 * blocks })
}
