//! Objectives of pre-training VGGish (Taenzer, Mimilakis, Abesser: "Deep learning-based music instrument recognition:
//! Exploring learned feature representations", CMMR 2021): VGGish on log-mel patches, and a head with a loss on its
//! embedding. The head is dropped afterwards.

use crate::core::error::{Error, Result};
use crate::graph::{Graph, Init, Spec, Tensor};
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES};
use crate::nn::front_ends::vggish::{self, Weights};
use crate::nn::layers::{WeightInit, batch_norm, linear, linear_sigmoid};
use crate::nn::model::{Build, Inputs, Labels, Model, ModelConfig, Prediction, Protocol};
use crate::ops::activation::{Activation, Dropout, activation, dropout_activation};
use crate::ops::add::add;
use crate::ops::contrastive::contrastive;
use crate::ops::corrupt::{Noise, corrupt};
use crate::ops::cosine_loss::{cosine_loss, cosine_margin_loss};
use crate::ops::linear as product;
use crate::ops::overlap_add::overlap_add;
use crate::ops::squared_error::{SquaredError, squared_error};

/// Name under which word vectors are bound, (D, K), of norm 1.
pub const WORDS: &str = "words";
/// Of cosines of pairs that should differ.
pub(crate) const MARGIN: f64 = 0.5;
const INIT: WeightInit = WeightInit::XavierUniform;

pub const TEXTUAL: &str = "textual";
pub(crate) const DENOISE_ADD: &str = "denoise-add";
pub(crate) const DENOISE_MUL: &str = "denoise-mul";
pub(crate) const ALIGN: &str = "align";
pub(crate) const TAGS: &str = "tags";

/// Every objective, as a model of log-mel patches.
pub const OBJECTIVES: &[Model] = &[
    objective(TEXTUAL, "predict the word vector of a sound's qualities", textual),
    objective(DENOISE_ADD, "restore a log-mel patch to which noise was added", |g, inputs, config| {
        denoise(g, inputs, config, Noise::Normal { std: 0.1 })
    }),
    objective(DENOISE_MUL, "restore a log-mel patch of which half was masked", |g, inputs, config| {
        denoise(g, inputs, config, Noise::Mask { p: 0.5 })
    }),
    objective(ALIGN, "contrast sounds and their tags (COALA)", align),
    objective(TAGS, "predict a sound's tags", tags),
];

/// How every objective is trained.
pub const PROTOCOL: Protocol = Protocol {
    lr: 1e-4,
    weight_decay: 0.0,
    epochs: 50,
    dropout: 0.0,
    batch: 64,
    patience: Some(5),
    val_fraction: 0.1,
    ..Protocol::COMMON
};

const fn objective(name: &'static str, about: &'static str, build: Build) -> Model {
    Model {
        name,
        about,
        protocol: PROTOCOL,
        fixed_instances: true,
        positions: [1, 1],
        has_attention: false,
        single_label: false,
        inputs: &[FeatureKind::LogMel],
        patches: &[],
        build: Some(build),
    }
}

/// The log-mel patches (B, 96, 64).
fn patches(g: &mut Graph, inputs: Inputs) -> Tensor {
    let batch = g.shape(inputs.x).dims()[0];
    g.reshape(inputs.x, [batch, PATCH_FRAMES, BANDS])
}

/// VGGish's embedding (B, 128).
fn embedding(g: &mut Graph, patches: Tensor, config: ModelConfig) -> Result<Tensor> {
    let maps = vggish::convolutions(g, patches, config.width, Weights::Trained(INIT))?;
    vggish::embeddings(g, maps, config.width, Weights::Trained(INIT), config.head.last_relu)
}

fn labels(inputs: Inputs) -> Result<Labels> {
    inputs.labels.ok_or_else(|| Error::Usage("an objective of pre-training is not for prediction".into()))
}

/// Of an embedding `z`, and what the head makes of it.
fn with_loss(z: Tensor, own_loss: (Tensor, Tensor), made: &[Tensor]) -> Prediction {
    Prediction { own_loss: Some(own_loss), learned: [&[z][..], made].concat(), ..Prediction::new(z) }
}

fn tags(g: &mut Graph, inputs: Inputs, config: ModelConfig) -> Result<Prediction> {
    let patches = patches(g, inputs);
    let z = embedding(g, patches, config)?;
    let probabilities = linear_sigmoid(g, "head.out", z, config.classes, INIT)?;
    Ok(Prediction { learned: vec![z], ..Prediction::new(probabilities) })
}

fn textual(g: &mut Graph, inputs: Inputs, config: ModelConfig) -> Result<Prediction> {
    let (patches, width, lengths) = (patches(g, inputs), config.head.vector, inputs.lengths);
    let z = embedding(g, patches, config)?;
    let h = batch_norm(g, "head.bn", z, lengths, inputs.clock, 0, None)?;
    let h = linear(g, "head.0", h, width, INIT, true)?;
    let h = activation(g, h, Activation::Tanh)?;
    let o = linear(g, "head.1", h, width, INIT, true)?;
    let words = g.shared_input(WORDS, Spec::f32([width, config.classes]));
    // The sum of the vectors; only its direction counts.
    let own = product::linear(g, labels(inputs)?.target, words, None)?;
    let alike = cosine_loss(g, o, own, lengths)?;
    let Some(partners) = inputs.partners else { return Ok(with_loss(z, alike, &[o])) };
    let other = product::linear(g, partners, words, None)?;
    let (differ, _) = cosine_margin_loss(g, o, other, lengths, own, MARGIN)?;
    let both = add(g, alike.0, differ)?;
    let parts = with_more(g, alike.1, differ)?;
    Ok(with_loss(z, (both, parts), &[o]))
}

/// The `parts` (2) of a loss, to which another `loss` (1) of the same rows was added: its value times their number.
fn with_more(g: &mut Graph, parts: Tensor, loss: Tensor) -> Result<Tensor> {
    // Parts are not of the loss.
    let [parts, loss] = [parts, loss].map(|x| g.detach(x));
    // [sum, n] becomes [n, 0].
    let number = g.constant(Spec::f32([2, 2]), [0.0f32, 1.0, 0.0, 0.0].map(f32::to_bits).to_vec());
    let row = g.reshape(parts, [1, 2]);
    let number = product::linear(g, row, number, None)?;
    let (number, loss) = (g.reshape(number, [2, 1]), g.reshape(loss, [1, 1]));
    let more = product::linear(g, loss, number, None)?;
    let more = g.reshape(more, [2]);
    add(g, parts, more)
}

/// Channels, steps of the kernel, and slope of the leaky ReLU of the decoder's transposed convolutions: 96 frames of 64
/// bands.
const DECODER: [(usize, usize, f64); 4] = [(128, 10, 0.1), (64, 21, 0.25), (64, 31, 0.5), (BANDS, 37, 1.0)];

/// The decoder of an embedding (B, 128): (B, 96, 64).
fn decode(g: &mut Graph, z: Tensor) -> Result<Tensor> {
    let [batch, width] = *g.shape(z).dims() else { unreachable!("an embedding has two axes") };
    let mut h = g.reshape(z, [batch, 1, width]);
    for (i, (channels, size, slope)) in DECODER.into_iter().enumerate() {
        let inputs = g.shape(h).last();
        let [init, _] = INIT.first(size * inputs, size * channels);
        let w = g.param(&format!("decoder.{i}.weight"), [size * channels, inputs], init);
        let b = g.param(&format!("decoder.{i}.bias"), [channels], Init::Constant(0.0));
        let frames = product::linear(g, h, w, None)?;
        h = overlap_add(g, frames, b, size)?;
        if slope < 1.0 {
            h = activation(g, h, Activation::LeakyRelu { slope })?;
        }
    }
    Ok(h)
}

fn denoise(g: &mut Graph, inputs: Inputs, config: ModelConfig, noise: Noise) -> Result<Prediction> {
    let clean = patches(g, inputs);
    let corrupted = corrupt(g, clean, inputs.clock, noise, 0)?;
    let z = embedding(g, corrupted, config)?;
    let restored = decode(g, z)?;
    let error = SquaredError { absolute: config.head.absolute };
    let loss = squared_error(g, restored, clean, inputs.lengths, error)?;
    Ok(with_loss(z, loss, &[corrupted, restored]))
}

/// Units of the tag encoder's layers (Favory, Drossos, Virtanen, Serra: "COALA", 2020).
const TAG_ENCODER: [usize; 3] = [512, 512, ENCODING];
const ENCODING: usize = 1152;
const TAG_DROPOUT: f64 = 0.25;
const TAU: f64 = 0.1;

fn align(g: &mut Graph, inputs: Inputs, config: ModelConfig) -> Result<Prediction> {
    let (patches, Inputs { lengths, clock, .. }) = (patches(g, inputs), inputs);
    let z = embedding(g, patches, config)?;
    let sound = linear(g, "sound.out", z, ENCODING, INIT, true)?;
    let mut h = labels(inputs)?.target;
    for (i, width) in TAG_ENCODER.into_iter().enumerate() {
        h = linear(g, &format!("tags.{i}"), h, width, INIT, true)?;
        h = batch_norm(g, &format!("tags.bn.{i}"), h, lengths, clock, i as u32, Some(TAG_DROPOUT))?;
    }
    h = linear(g, "tags.out", h, ENCODING, INIT, false)?;
    let tags = dropout_activation(g, h, Activation::Identity, Dropout { p: TAG_DROPOUT, clock, stream: 3 })?;
    Ok(with_loss(z, contrastive(g, sound, tags, lengths, TAU)?, &[sound, tags]))
}
