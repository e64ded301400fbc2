//! A convolutional tagger of wmic's own: convolutions over the log-mel spectrogram of a whole clip, then the attention
//! of ATT over blocks of 0.48 s.
//!
//! Batch norm per mel band, without scale and shift; 3 x 3 convolutions without bias, each with batch norm and ReLU:
//! 16, pool 2; 32, pool 2; 64, 64, pool 2; 128, 128, pool 2; 128 (time x bands: 96 x 64 to 6 x 4 of a patch of 0.96 s).
//! Of the four bands left, maximum and mean: 256 values every 160 ms; their mean over three of these steps; a linear
//! layer to 128 values, ReLU and dropout; attention.
//!
//! The patches of a clip are contiguous, so they are one map, and a convolution sees over their borders. Batch norm
//! leaves zeros in padding, as the convolution puts around a map, and borders of instances are borders of pooling
//! windows: what a clip is padded with, and how far, changes nothing.

use crate::core::error::Result;
use crate::graph::{Graph, Spec, Tensor};
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES};
use crate::nn::layers::{WeightInit, batch_norm, conv2d, input_norm, linear_relu};
use crate::nn::model::{Inputs, Model, ModelConfig, Optimiser, Prediction, Protocol, Schedule};
use crate::nn::models::att::attention;
use crate::ops::activation::{Activation, Dropout, dropout_activation};
use crate::ops::join_columns::join_columns;
use crate::ops::max_pool2d::{Rounding, max_pool2d};
use crate::ops::mean_pool::mean_pool;
use crate::ops::spec_augment::SpecAugment;

/// Filters of the convolutions; all blocks but the last end with a pool.
const BLOCKS: [&[usize]; 5] = [&[16], &[32], &[64, 64], &[128, 128], &[128]];
/// Blocks of 0.48 s in a patch, the positions of attention.
const POSITIONS: usize = 2;
/// Time steps and bands that the convolutions leave of a block.
const STEPS: usize = PATCH_FRAMES / 16 / POSITIONS;
const BANDS_LEFT: usize = BANDS / 16;
/// Values of an embedded block.
const EMBEDDING: usize = 128;

pub const MODEL: Model = Model {
    name: "cnn-att",
    about: "convolutions over a clip's log-mel spectrogram, then attention (wmic's own)",
    protocol: Protocol {
        optimiser: Optimiser::Adamw,
        lr: 3e-3,
        schedule: Schedule::OneCycle,
        weight_decay: 0.01,
        epochs: 12,
        dropout: 0.3,
        batch: 32,
        spec_augment: Some(SpecAugment { freq_mask: 8, time_mask: 40, level_shift: 0.5 }),
        ..Protocol::COMMON
    },
    fixed_instances: false,
    positions: [POSITIONS, 1],
    has_attention: true,
    single_label: false,
    inputs: &[FeatureKind::LogMel],
    patches: &[],
    build: Some(build),
};

fn build(g: &mut Graph, inputs: Inputs, config: ModelConfig) -> Result<Prediction> {
    let [batch, patches] = [0, 1].map(|axis| g.shape(inputs.x).dims()[axis]);
    let blocks = patches * POSITIONS;
    let Inputs { lengths, clock, .. } = inputs;
    let frames = g.reshape(inputs.x, [batch, blocks, PATCH_FRAMES / POSITIONS, BANDS]);
    let frames = input_norm(g, "bn_in", frames, lengths, clock)?;
    let mut x = g.reshape(frames, [batch, patches * PATCH_FRAMES, BANDS, 1]);
    let mut layer = 0;
    for (i, block) in BLOCKS.into_iter().enumerate() {
        if i > 0 {
            x = max_pool2d(g, x, Rounding::Down, false)?;
        }
        for &filters in block {
            x = conv2d(g, &format!("conv.{layer}"), x, filters, 3, WeightInit::HeNormal, false)?;
            let shape = g.shape(x).clone();
            let maps = g.reshape(x, [batch, blocks, shape.rows() / (batch * blocks), filters]);
            let maps = batch_norm(g, &format!("bn.{layer}"), maps, lengths, clock, 0, Some(0.0))?;
            x = g.reshape(maps, shape);
            layer += 1;
        }
    }
    let h = pooled(g, x, batch * blocks)?;
    let h = g.reshape(h, [batch, blocks, g.shape(h).last()]);
    let h = linear_relu(g, "fc", h, EMBEDDING, WeightInit::HeUniform)?;
    let h = dropout_activation(g, h, Activation::Identity, Dropout { p: config.dropout, clock, stream: 0 })?;
    attention(g, h, inputs, config)
}

/// Maximum and mean over the bands of maps `x` (B, H, 4, C), averaged over the time steps of each of `blocks` blocks:
/// (`blocks`, 2 C).
fn pooled(g: &mut Graph, x: Tensor, blocks: usize) -> Result<Tensor> {
    let channels = g.shape(x).last();
    let mean = |g: &mut Graph, x: Tensor, rows: usize| {
        let x = g.reshape(x, [blocks, rows, channels]);
        let all = g.constant(Spec::u32([blocks]), vec![rows as u32; blocks]);
        mean_pool(g, x, all)
    };
    // The four bands of a step are adjacent: to the pool they are two rows of two.
    let steps = g.reshape(x, [blocks * STEPS, 2, BANDS_LEFT / 2, channels]);
    let largest = max_pool2d(g, steps, Rounding::Down, false)?;
    let largest = mean(g, largest, STEPS)?;
    let average = mean(g, x, STEPS * BANDS_LEFT)?;
    join_columns(g, &[largest, average])
}
