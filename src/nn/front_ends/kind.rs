//! The kinds of features that models take, a row of [`ROWS`] each: audio format, windows, instances, computation and
//! file name.

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::log_mel::{self, BANDS, PATCH_FRAMES, VGGISH, log_mel, log_mel_patches};
use super::network::Network;
use super::spectrum::{self, CQT, STFT, Scale};
use super::vggish::{self, EMBEDDING, MAP, Weights, Width};
use super::{musicnn, yamnet};
use crate::audio::{AudioFormat, Level};
use crate::core::error::Result;
use crate::graph::{Graph, Tensor};
use crate::ops::stft::stft;

/// A kind of features. In files and options it has the name of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureKind {
    /// VGGish's embedding: 128 values, as in OpenMIC-2018.
    Vggish,
    /// VGGish's last feature maps, (6, 4, C).
    Maps,
    /// A log-mel patch, (96, 64).
    LogMel,
    /// Log-mel spectrogram, frames of 10 ms, (64).
    Spectrogram,
    /// STFT of one-second notes, hop 512 at 44.1 kHz, (1025).
    Stft,
    /// Constant-Q transform of one-second notes, hop 512 at 44.1 kHz, (252).
    Cqt,
    /// musicnn's features, maximum and mean over half a second: 1 506 values.
    Musicnn,
    /// YAMNet's embedding: 1 024 values.
    Yamnet,
}

/// Options of the computation of features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// VGGish's width.
    pub width: Width,
    /// Of spectra of notes.
    pub scale: Scale,
    /// Whether VGGish ends with a ReLU.
    pub last_relu: bool,
    pub spectrogram: SpectrogramFrames,
}

/// Which frames of the spectrogram are returned beside features that are made of its patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpectrogramFrames {
    None,
    /// Those of complete patches, which are there in any case.
    Patches,
    All,
}

/// Features of B clips in a graph.
pub struct Output {
    /// B T instances, with the batch in front.
    pub features: Tensor,
    /// (B, frames, bands): the kind's [`Spectrogram`] before any logarithm; of kinds on patches as
    /// [`Options::spectrogram`] says.
    pub spectrogram: Option<Tensor>,
}

/// The spectrogram of a clip, for display.
pub struct Spectrogram {
    /// Display name.
    pub name: &'static str,
    /// Values of a frame.
    pub bands: usize,
    /// Seconds from one frame to the next.
    pub hop: f64,
    /// Frames of a clip of so many samples.
    pub frames: fn(usize) -> usize,
    /// Centre frequency of each band, Hz, ascending.
    pub band_hz: fn() -> Vec<f64>,
    /// For magnitudes or powers, whose logarithm is displayed: offset before the logarithm.
    pub offset: Option<f32>,
}

/// Properties of a kind.
pub struct Row {
    pub kind: FeatureKind,
    pub name: &'static str,
    /// One line for help texts.
    pub about: &'static str,
    /// File name of `wmic features` in a dataset.
    pub file: &'static str,
    /// Seconds of a clip.
    pub window: f64,
    /// Audio format of its input.
    pub format: AudioFormat,
    /// Whether clips are all the seconds of single notes; else excerpts of recordings.
    pub note: bool,
    /// Seconds from one excerpt of a recording to the next, by default.
    pub hop: f64,
    /// Whether published datasets have features of this kind, whose front end they do not record: OpenMIC-2018's
    /// embeddings.
    pub published: bool,
    /// Shape of an instance.
    pub instance: fn(Width) -> Vec<usize>,
    /// Complete instances of a clip of so many samples.
    pub instances: fn(usize) -> usize,
    /// Seconds from one instance to the next.
    pub seconds: f64,
    /// Instances of a part of a clip that is silent or not, and has an activity, as a whole: a patch, or the frames of
    /// one. `None`: the clip itself.
    pub part: Option<usize>,
    /// The network whose weights it needs, and the prefix of their names; `None` if it needs none.
    pub weights: Option<(Network, &'static str)>,
    /// Whether it is computed by a network, so that the spectrum of the sound is not in it.
    pub network: bool,
    /// Whether it is an embedding of VGGish, which has a scaling (PCA and 8 bits, or minimum and maximum).
    pub embedding: bool,
    /// Channels of the widest layer, per value of the spectrogram.
    pub channels: fn(Width) -> usize,
    pub spectrogram: &'static Spectrogram,
    /// Adds its computation from samples (B, S) in the row's format.
    pub graph: fn(&mut Graph, Tensor, Options) -> Result<Output>,
}

/// Seconds of a clip of OpenMIC-2018.
const EXCERPT: f64 = 10.0;
/// Five patches, so that each is analysed twice, in different contexts: embeddings of single patches.
const HOP: f64 = 4.8;
/// The patches of a clip, so that each is analysed once: half of the work, and `cnn-att`, which sees a clip as a whole,
/// is as good with it.
const WHOLE: f64 = 9.6;
const LOG_MEL_FORMAT: AudioFormat = AudioFormat { sr: log_mel::SR, level: Level::Peak, whole: false };
/// Seconds from one frame of a log-mel spectrogram to the next.
const LOG_MEL_HOP: f64 = 0.01;
const YAMNET_HOP: f64 = yamnet::LOG_MEL.hop as f64 * LOG_MEL_HOP;
/// Not normalised (Wise, Maida, Kumar 2021, section IV.A).
const NOTE_FORMAT: AudioFormat = AudioFormat { sr: spectrum::SR, level: Level::Original, whole: true };

static LOG_MEL: Spectrogram = Spectrogram {
    name: "mel spectrogram",
    bands: BANDS,
    hop: LOG_MEL_HOP,
    frames: log_mel::frames,
    band_hz: log_mel::band_hz,
    offset: None,
};
static STFT_SHOWN: Spectrogram = Spectrogram {
    name: "STFT",
    bands: STFT.n_fft / 2 + 1,
    hop: STFT.hop_length as f64 / spectrum::SR as f64,
    frames: |samples| STFT.frames(samples).unwrap_or(0),
    band_hz: || (0..STFT.bins()).map(|bin| bin as f64 * f64::from(spectrum::SR) / STFT.n_fft as f64).collect(),
    offset: Some(spectrum::OFFSET),
};
static CQT_SHOWN: Spectrogram = Spectrogram {
    name: "constant-Q transform",
    bands: CQT.n_bins,
    hop: CQT.hop_length as f64 / spectrum::SR as f64,
    frames: |samples| CQT.frames(samples),
    band_hz: || CQT.bin_hz(),
    offset: Some(spectrum::OFFSET),
};

static MUSICNN_SHOWN: Spectrogram = Spectrogram {
    name: "mel spectrogram",
    bands: musicnn::BANDS,
    hop: musicnn::STFT.hop_length as f64 / musicnn::SR as f64,
    frames: musicnn::frames_of,
    band_hz: musicnn::band_hz,
    offset: Some(musicnn::OFFSET),
};

/// A kind with one instance per log-mel patch.
const PATCHES: Row = Row {
    kind: FeatureKind::LogMel,
    name: "logmel",
    about: "log-mel patches of 0.96 s, (96, 64)",
    file: "logmel.npz",
    window: EXCERPT,
    format: LOG_MEL_FORMAT,
    note: false,
    hop: WHOLE,
    published: false,
    instance: |_| vec![PATCH_FRAMES, BANDS],
    instances: |samples| VGGISH.patches(samples),
    seconds: PATCH_FRAMES as f64 * LOG_MEL_HOP,
    part: Some(1),
    weights: None,
    network: false,
    embedding: false,
    channels: |_| 1,
    spectrogram: &LOG_MEL,
    graph: |g, samples, options| {
        let (features, spectrogram) = patches(g, samples, options)?;
        Ok(Output { features, spectrogram })
    },
};

/// Every kind, in the order of [`FeatureKind`].
pub static ROWS: [Row; 8] = [
    Row {
        kind: FeatureKind::Vggish,
        name: "vggish",
        about: "VGGish's embedding: 128 values, as in OpenMIC-2018",
        file: "openmic-2018.npz",
        hop: HOP,
        published: true,
        instance: |_| vec![EMBEDDING],
        weights: Some((Network::Vggish, "")),
        network: true,
        embedding: true,
        channels: vggish_channels,
        graph: |g, samples, options| {
            let Output { features: maps, spectrogram } = maps(g, samples, options)?;
            let features = vggish::embeddings(g, maps, options.width, Weights::Frozen, options.last_relu)?;
            Ok(Output { features, spectrogram })
        },
        ..PATCHES
    },
    Row {
        kind: FeatureKind::Maps,
        name: "maps",
        about: "VGGish's last feature maps, (6, 4, C)",
        file: "maps.npz",
        hop: HOP,
        instance: |width| vec![MAP[0], MAP[1], width.map_channels()],
        weights: Some((Network::Vggish, "features.")),
        network: true,
        channels: vggish_channels,
        graph: maps,
        ..PATCHES
    },
    PATCHES,
    Row {
        kind: FeatureKind::Spectrogram,
        name: "spectrogram",
        about: "log-mel spectrogram, frames of 10 ms, (64)",
        file: "spectrogram.npz",
        hop: HOP,
        instance: |_| vec![BANDS],
        instances: log_mel::frames,
        seconds: LOG_MEL_HOP,
        part: Some(PATCH_FRAMES),
        graph: |g, samples, _| {
            let features = log_mel(g, samples)?;
            Ok(Output { features, spectrogram: Some(features) })
        },
        ..PATCHES
    },
    Row {
        kind: FeatureKind::Stft,
        name: "stft",
        about: "STFT of one-second notes, hop 512 at 44.1 kHz, (1025)",
        file: "stft.npz",
        instance: |_| vec![STFT_SHOWN.bands],
        instances: |samples| STFT.frames(samples).unwrap_or(0),
        seconds: STFT_SHOWN.hop,
        spectrogram: &STFT_SHOWN,
        graph: |g, samples, options| {
            let magnitudes = stft(g, samples, STFT)?;
            Ok(Output { features: options.scale.apply(g, magnitudes)?, spectrogram: Some(magnitudes) })
        },
        ..NOTE
    },
    Row {
        kind: FeatureKind::Cqt,
        name: "cqt",
        about: "constant-Q transform of one-second notes, hop 512 at 44.1 kHz, (252)",
        file: "cqt.npz",
        instance: |_| vec![CQT_SHOWN.bands],
        instances: |samples| CQT.frames(samples),
        seconds: CQT_SHOWN.hop,
        spectrogram: &CQT_SHOWN,
        graph: |g, samples, options| {
            let magnitudes = super::cqt::cqt(g, samples, &CQT)?;
            Ok(Output { features: options.scale.apply(g, magnitudes)?, spectrogram: Some(magnitudes) })
        },
        ..NOTE
    },
    Row {
        kind: FeatureKind::Musicnn,
        name: "musicnn",
        about: "musicnn's features, maximum and mean over 0.5 s: 1506 values",
        file: "musicnn.npz",
        format: AudioFormat { sr: musicnn::SR, level: Level::Rms(musicnn::LEVEL), whole: false },
        // Half of the work, as each instance is analysed once.
        hop: EXCERPT,
        instance: |_| vec![musicnn::EMBEDDING],
        instances: |samples| musicnn::BLOCK.blocks(musicnn::frames_of(samples)),
        seconds: 0.5,
        network: true,
        channels: |_| musicnn::FEATURES / musicnn::BANDS,
        spectrogram: &MUSICNN_SHOWN,
        graph: |g, samples, options| {
            let [power, input] = musicnn::spectrograms(g, samples)?;
            let frames = musicnn::frames(g, input)?;
            let spectrogram = (options.spectrogram != SpectrogramFrames::None).then_some(power);
            Ok(Output { features: musicnn::blocks(g, frames)?, spectrogram })
        },
        ..PATCHES
    },
    Row {
        kind: FeatureKind::Yamnet,
        name: "yamnet",
        about: "YAMNet's embedding: 1024 values every 0.48 s",
        file: "yamnet.npz",
        format: AudioFormat { level: Level::Original, ..LOG_MEL_FORMAT },
        // The instances of a clip, so that each is analysed once.
        hop: 19.0 * YAMNET_HOP,
        instance: |_| vec![yamnet::EMBEDDING],
        instances: |samples| yamnet::LOG_MEL.patches(samples),
        seconds: YAMNET_HOP,
        weights: Some((Network::Yamnet, yamnet::CONVOLUTIONS)),
        network: true,
        channels: |_| yamnet::CHANNELS,
        graph: |g, samples, options| {
            let whole = options.spectrogram != SpectrogramFrames::None;
            let (patches, spectrogram) = log_mel_patches(g, samples, yamnet::LOG_MEL, whole)?;
            Ok(Output { features: yamnet::embeddings(g, patches)?, spectrogram })
        },
        ..PATCHES
    },
];

/// Common to kinds of single notes.
const NOTE: Row = Row { window: 1.0, format: NOTE_FORMAT, note: true, hop: 1.0, part: None, ..PATCHES };

fn vggish_channels(width: Width) -> usize {
    width.map_channels() / 8
}

/// Log-mel patches (B T, 96, 64), and the spectrogram.
fn patches(g: &mut Graph, samples: Tensor, options: Options) -> Result<(Tensor, Option<Tensor>)> {
    let (patches, all) = log_mel_patches(g, samples, VGGISH, options.spectrogram == SpectrogramFrames::All)?;
    let [b, t, ..] = *g.shape(patches).dims() else { unreachable!("patches have four dimensions") };
    let spectrogram = match options.spectrogram {
        SpectrogramFrames::Patches => Some(g.reshape(patches, [b, t * PATCH_FRAMES, BANDS])),
        SpectrogramFrames::None | SpectrogramFrames::All => all,
    };
    Ok((g.reshape(patches, [b * t, PATCH_FRAMES, BANDS]), spectrogram))
}

fn maps(g: &mut Graph, samples: Tensor, options: Options) -> Result<Output> {
    let (patches, spectrogram) = patches(g, samples, options)?;
    Ok(Output { features: vggish::convolutions(g, patches, options.width, Weights::Frozen)?, spectrogram })
}

impl FeatureKind {
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// A spectrum of single notes: every whole second of a file is a clip.
    pub fn is_single_note(self) -> bool {
        self.row().note
    }

    /// Whether an instance is a part of its own, a log-mel patch or what a network makes of one; else it is a frame.
    pub fn has_patches(self) -> bool {
        self.row().part == Some(1)
    }

    /// Seconds of a [part](Row::part).
    pub fn part_seconds(self) -> f64 {
        self.row().part.map_or(self.window(), |instances| instances as f64 * self.row().seconds)
    }

    /// Parts of a clip of so many instances.
    pub fn parts(self, instances: usize) -> usize {
        self.row().part.map_or(1, |part| (instances / part).max(1))
    }

    /// Seconds of a clip: OpenMIC-2018's 10, or one of a note.
    pub fn window(self) -> f64 {
        self.row().window
    }

    /// Audio format of its input.
    pub fn format(self) -> AudioFormat {
        self.row().format
    }

    /// Samples of a clip.
    pub fn samples(self) -> usize {
        (self.window() * f64::from(self.format().sr)) as usize
    }

    /// Shape of an instance.
    pub fn instance(self, width: Width) -> Vec<usize> {
        (self.row().instance)(width)
    }

    /// Values of an instance.
    pub fn instance_len(self, width: Width) -> usize {
        self.instance(width).iter().product()
    }

    /// Complete instances of a clip of so many samples.
    pub fn instances(self, samples: usize) -> usize {
        (self.row().instances)(samples)
    }

    /// The network whose weights it needs, if those are not a part of wmic.
    pub fn network(self) -> Option<Network> {
        self.row().weights.map(|(network, _)| network)
    }

    /// The spectrogram of a clip, for display.
    pub fn spectrogram(self) -> &'static Spectrogram {
        self.row().spectrogram
    }
}

impl fmt::Display for FeatureKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The names of the embeddings of networks.
pub fn of_embeddings() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| {
        let is_vector = |row: &&Row| row.network && (row.instance)(Width::Full).len() == 1;
        ROWS.iter().filter(is_vector).map(|row| row.name).collect()
    });
    &NAMES
}

/// The names of the spectra of single notes.
pub fn of_notes() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&str>> =
        LazyLock::new(|| ROWS.iter().filter(|row| row.note).map(|row| row.name).collect());
    &NAMES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::names::{named, names};

    #[test]
    fn rows_are_in_order_and_names_lead_back() {
        for row in &ROWS {
            assert_eq!(row.kind.row().name, row.name);
            assert_eq!(named(row.name), Some(row.kind));
        }
        assert_eq!(ROWS.len(), names::<FeatureKind>().len());
    }
}
