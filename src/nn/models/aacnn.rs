//! AACNN: a convolutional network on the spectrum of one second of a note, with attention-augmented last blocks (Wise,
//! Maida, Kumar: "Attention augmented CNNs for musical instrument identification", 2021, section III).
//!
//! Five blocks of two 5 x 5 convolutions, each with batch norm and ReLU, and a 2 x 2 max-pool (sizes round up); five
//! dense layers with ReLU; softmax over the classes. In blocks 4 and 5 a fraction of the filters is 2D relative
//! self-attention with 8 heads. Batch norm constants and initialisation are those of Keras, which the paper used.

use crate::core::error::Result;
use crate::graph::{Graph, Tensor};
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::front_ends::spectrum;
use crate::nn::layers::{AugmentedConv2d, WeightInit, batch_norm_with, linear, linear_relu};
use crate::nn::model::{
    AacnnConfig, Initialisation, Inputs, Model, ModelConfig, Optimiser, Prediction, Protocol, Select,
};
use crate::ops::batch_norm::BatchNorm;
use crate::ops::masked_bce::Loss;
use crate::ops::max_pool2d::{Rounding, max_pool2d};
use crate::ops::softmax::softmax;

const FILTERS: [usize; 5] = [32, 64, 128, 256, 512];
/// The first augmented block.
const AUGMENTED: usize = 3;
const HEADS: usize = 8;
const SIZE: usize = 5;
const DENSE: [usize; 5] = [1024, 512, 256, 128, 64];
const NORM: BatchNorm = BatchNorm { eps: 1e-3, momentum: 0.01, relu_dropout: Some(0.0) };

pub const MODEL: Model = Model {
    name: "aacnn",
    about: "attention-augmented convolutions on one-second spectra, single-label (AACNN, 2021)",
    protocol: Protocol {
        lr: 1e-3,
        weight_decay: 0.0,
        optimiser: Optimiser::Adagrad,
        epochs: 400,
        dropout: 0.0,
        batch: 16,
        select: Select::ValLoss,
        patience: Some(30),
        val_fraction: 0.1,
        loss: Loss::CrossEntropy,
        ..Protocol::COMMON
    },
    fixed_instances: true,
    // Every bin of every frame is a position of the first maps; later maps have fewer. Clips are never partly valid.
    positions: [1, spectrum::STFT.n_fft / 2 + 1],
    has_attention: false,
    single_label: true,
    inputs: &[FeatureKind::Stft, FeatureKind::Cqt],
    patches: &[],
    build: Some(build),
};

fn build(g: &mut Graph, inputs: Inputs, config: ModelConfig) -> Result<Prediction> {
    let AacnnConfig { attention, width, init } = config.aacnn;
    let init = match init {
        Initialisation::Normal => WeightInit::Normal { std: 0.05 },
        Initialisation::He => WeightInit::HeNormal,
    };
    let [batch, frames, bins] = *g.shape(inputs.x).dims() else { unreachable!("gather gives (B, T, F)") };
    let mut x = g.reshape(inputs.x, [batch, frames, bins, 1]);
    for (block, filters) in FILTERS.into_iter().enumerate() {
        let filters = width.of(filters);
        let attention = if block >= AUGMENTED { filters * attention as usize / 100 } else { 0 };
        let conv = AugmentedConv2d { filters, attention, heads: HEADS, size: SIZE };
        for layer in 0..2 {
            let name = format!("block.{block}.{layer}");
            x = conv.push(g, &name, x, init)?;
            x = normed(g, &format!("{name}.bn"), x, inputs.lengths, inputs.clock)?;
        }
        x = max_pool2d(g, x, Rounding::Up, false)?;
    }
    let len = g.shape(x).len() / batch;
    let mut h = g.reshape(x, [batch, len]);
    for (i, units) in DENSE.into_iter().enumerate() {
        h = linear_relu(g, &format!("dense.{i}"), h, units, init)?;
    }
    let logits = linear(g, "out", h, config.classes, init, true)?;
    Ok(Prediction { logits: Some(logits), ..Prediction::new(softmax(g, logits)?) })
}

/// Batch norm with Keras' constants over all positions of `x` (B, H, W, C), and ReLU. `lengths` u32 (B): 0 for padding,
/// else at least H W.
pub fn normed(g: &mut Graph, name: &str, x: Tensor, lengths: Tensor, clock: Tensor) -> Result<Tensor> {
    let shape = g.shape(x).clone();
    let (batch, channels) = (shape.dims()[0], shape.last());
    let positions = g.reshape(x, [batch, shape.rows() / batch, channels]);
    let y = batch_norm_with(g, name, positions, lengths, clock, 0, NORM)?;
    Ok(g.reshape(y, shape))
}
