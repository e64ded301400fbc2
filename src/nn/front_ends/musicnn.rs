//! musicnn, a network that was trained to tag music (Pons and Serra: "musicnn: pre-trained convolutional neural
//! networks for music audio tagging", 2019; the package's MTT_musicnn, of MagnaTagATune).
//!
//! Sound at 16 kHz with an RMS of 0.08 -> log-mel spectrogram, 96 bands every 16 ms -> filters of timbre (7 frames, 38
//! or 67 bands) and of rhythm (32 to 128 frames of a band), the maximum over the bands of each -> three convolutions
//! over time with residuals: 753 features of a frame. Its weights are part of wmic and frozen.

use std::collections::HashMap;
use std::f64::consts::LN_10;
use std::sync::LazyLock;

use crate::core::error::Result;
use crate::core::shape::Shape;
use crate::core::tensors::{bundled, halves};
use crate::graph::{Graph, Spec, Tensor};
use crate::ops::activation::{Activation, activation};
use crate::ops::add::add;
use crate::ops::block_pool::{BlockPool, block_pool};
use crate::ops::conv_max::{Filters, conv_max};
use crate::ops::filters::mel::{MelBank, MelConfig};
use crate::ops::join_columns::join_columns;
use crate::ops::linear::{Linear, linear, linear_with};
use crate::ops::mel::{Mel, Patches, Scale, mel};
use crate::ops::stft::{Framing, Hann, Spectrum, Stft, stft};

/// Sample rate, Hz.
pub const SR: u32 = 16_000;
/// RMS level of the sound, of full scale.
pub const LEVEL: f32 = 0.08;
/// Mel bands.
pub const BANDS: usize = 96;
/// Features of a frame.
pub const FEATURES: usize = 753;
/// Values of a block: maximum and mean of each feature.
pub const EMBEDDING: usize = 2 * FEATURES;
/// Half a second: 31.25 frames.
pub const BLOCK: BlockPool = BlockPool { frames: 125, per: 4 };
/// Frames of a window of 3 s, by which the network was trained to tag.
pub const WINDOW: usize = 187;
/// The power to which the logarithm is linear.
pub(crate) const OFFSET: f32 = 1e-4;

pub const STFT: Stft = Stft {
    n_fft: 512,
    hop_length: 256,
    win_length: 512,
    window: Hann::Periodic,
    framing: Framing::CentredReflect,
    spectrum: Spectrum::Power,
};

/// Names of the tags, in the order of their probabilities.
#[rustfmt::skip]
pub const TAGS: [&str; 50] = [
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
    "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals",
    "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo", "man",
    "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello",
    "no voice", "weird", "country", "metal", "female voice", "choral",
];

/// Made by `scripts/convert-musicnn`.
static WEIGHTS: LazyLock<HashMap<String, (Spec, Vec<f32>)>> = LazyLock::new(|| {
    let tensors = bundled(include_bytes!("../../../assets/musicnn/musicnn.safetensors"));
    tensors.iter().map(|(name, view)| (name.to_owned(), (Spec::f32(Shape::new(view.shape())), halves(&view)))).collect()
});

fn mel_config() -> MelConfig {
    MelConfig { n_mels: BANDS, ..MelConfig::slaney(SR, STFT.n_fft) }
}

/// Frames of a clip of so many samples, 0 if it is too short for one.
pub fn frames_of(samples: usize) -> usize {
    STFT.frames(samples).unwrap_or(0)
}

/// Centre frequency of each band, Hz.
pub fn band_hz() -> Vec<f64> {
    mel_config().band_hz()
}

/// Adds the mel spectrogram, powers, and the network's input, log10(10 000 power + 1) through its first batch norm.
/// `samples` (B, S) -> twice (B, [`frames_of`] S, 96).
///
/// # Errors
/// `Shape` for clips without a frame.
pub fn spectrograms(g: &mut Graph, samples: Tensor) -> Result<[Tensor; 2]> {
    let power = stft(g, samples, STFT)?;
    Ok([scaled(g, power, Scale::Linear, None)?, scaled(g, power, input_scale(), None)?])
}

/// The bands of a spectrogram.
fn scaled(g: &mut Graph, power: Tensor, scale: Scale, patches: Option<Patches>) -> Result<Tensor> {
    mel(g, power, &MelBank::new(&mel_config())?, Mel { scale, patches })
}

/// Of the network's input.
fn input_scale() -> Scale {
    let [gain, shift] = ["input.scale", "input.shift"].map(|name| f64::from(WEIGHTS[name].1[0]));
    // log10(10 000 v + 1) = (ln(v + 1e-4) - ln(1e-4)) / ln(10)
    let level = gain * f64::from(OFFSET).log10();
    Scale::Log { offset: OFFSET, factor: (gain / LN_10) as f32, shift: (shift - level) as f32 }
}

/// Adds the features of each frame. `input` (B, T, 96), see [`spectrograms`] -> (B, T, 753).
///
/// # Errors
/// `Shape` for another number of bands.
pub fn frames(g: &mut Graph, input: Tensor) -> Result<Tensor> {
    let mut front = vec![];
    for name in ["timbral38", "timbral67", "temporal128", "temporal64", "temporal32"] {
        front.push(layer(g, name, input)?);
    }
    let front = join_columns(g, &front)?;
    let mid1 = layer(g, "mid1", front)?;
    let mid2 = layer(g, "mid2", mid1)?;
    let mid2 = add(g, mid2, mid1)?;
    let mid3 = layer(g, "mid3", mid2)?;
    let mid3 = add(g, mid3, mid2)?;
    join_columns(g, &[front, mid1, mid2, mid3])
}

/// Adds the probabilities of the tags of each of the first `windows` windows. `samples` (1, S), of at least
/// [`WINDOW`] hops for each -> (windows, 50).
///
/// # Errors
/// `Shape` for fewer samples.
pub fn tags_of_windows(g: &mut Graph, samples: Tensor, windows: usize) -> Result<Tensor> {
    let power = stft(g, samples, STFT)?;
    let patches = Patches { count: windows, frames: WINDOW, hop: WINDOW };
    let input = scaled(g, power, input_scale(), Some(patches))?;
    let input = g.reshape(input, [windows, WINDOW, BANDS]);
    let features = frames(g, input)?;
    let pooled = block_pool(g, features, BlockPool { frames: WINDOW, per: 1 })?;
    let probabilities = tags(g, pooled)?;
    Ok(g.reshape(probabilities, [windows, TAGS.len()]))
}

/// Adds maximum and mean of the features over blocks of half a second. `frames` (B, T, 753) -> (B, blocks, 1506).
///
/// # Errors
/// `Shape` for fewer frames than a block has.
pub fn blocks(g: &mut Graph, frames: Tensor) -> Result<Tensor> {
    block_pool(g, frames, BLOCK)
}

/// Adds the probabilities of the tags. `pooled`: maximum and mean of the features, (..., 1506) -> (..., 50).
///
/// # Errors
/// `Shape` for other features.
pub fn tags(g: &mut Graph, pooled: Tensor) -> Result<Tensor> {
    let logits = tag_logits(g, pooled)?;
    activation(g, logits, Activation::Sigmoid)
}

/// As [`tags`], the log-odds.
///
/// # Errors
/// As [`tags`].
pub fn tag_logits(g: &mut Graph, pooled: Tensor) -> Result<Tensor> {
    let [[w1, b1], [w2, b2]] =
        ["dense", "tags"].map(|name| ["weight", "bias"].map(|part| constant(g, &format!("{name}.{part}"))));
    let hidden = linear_with(g, pooled, w1, Some(b1), Linear::RELU)?;
    linear(g, hidden, w2, Some(b2))
}

fn layer(g: &mut Graph, name: &str, x: Tensor) -> Result<Tensor> {
    let [weight, bias, scale, shift] =
        ["weight", "bias", "scale", "shift"].map(|part| constant(g, &format!("{name}.{part}")));
    conv_max(g, x, Filters { weight, bias, scale, shift })
}

fn constant(g: &mut Graph, name: &str) -> Tensor {
    let (spec, values) = &WEIGHTS[name];
    g.constant(spec.clone(), values.iter().map(|v| v.to_bits()).collect())
}
