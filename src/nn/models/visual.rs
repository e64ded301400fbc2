//! Visual attention: attention over time and frequency of VGGish's last feature maps (Watcharasupat, Gururani, Lerch:
//! "Visual attention for musical instrument recognition", 2020, section III.A).
//!
//! Each of the 6 x 4 positions of a patch's maps passes through its own segment of VGGish's first dense layer and ReLU,
//! a trained linear layer to 128 values, and the embedding of ATT. `att-tf` attends to all positions of a clip;
//! `att-tf-id` also gives the classifier the frequency band; `att-t` sums the bands of a time step before the ReLU;
//! `fc-tf` replaces the attention by one linear layer over all positions.

use crate::core::error::Result;
use crate::graph::{Graph, Tensor};
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES};
use crate::nn::front_ends::vggish::{self, EMBEDDING, MAP, TrainFrontEnd, Weights};
use crate::nn::layers::{WeightInit, batch_norm, linear, linear_sigmoid};
use crate::nn::model::{Inputs, Model, ModelConfig, Prediction, Protocol, Select};
use crate::nn::models::att::{attention, embedding};
use crate::ops::append_one_hot::append_one_hot;
use crate::ops::masked_bce::LossMean;

#[derive(Clone, Copy, PartialEq)]
enum Variant {
    TimeFrequency,
    /// With a one-hot frequency band appended to the embedding.
    Identified,
    Time,
    FullyConnected,
}

const PROTOCOL: Protocol = Protocol {
    epochs: 250,
    dropout: 0.6,
    batch: 32,
    select: Select::ValF1,
    patience: Some(10),
    loss_mean: LossMean::Clip,
    ..Protocol::COMMON
};

pub(crate) const ATT_TF: Model = Model {
    name: "att-tf",
    about: "attention over time and frequency of VGGish's maps (visual attention, 2020)",
    protocol: PROTOCOL,
    fixed_instances: false,
    positions: MAP,
    has_attention: true,
    single_label: false,
    inputs: &[FeatureKind::Maps, FeatureKind::LogMel],
    patches: &[],
    build: Some(|g, inputs, config| build(g, inputs, config, Variant::TimeFrequency)),
};

pub(crate) const ATT_TF_ID: Model = Model {
    name: "att-tf-id",
    about: "att-tf with one-hot frequency bands",
    build: Some(|g, inputs, config| build(g, inputs, config, Variant::Identified)),
    ..ATT_TF
};

pub(crate) const ATT_T: Model = Model {
    name: "att-t",
    about: "att-tf with attention over time only",
    positions: [MAP[0], 1],
    build: Some(|g, inputs, config| build(g, inputs, config, Variant::Time)),
    ..ATT_TF
};

pub(crate) const FC_TF: Model = Model {
    name: "fc-tf",
    about: "att-tf with a fully connected layer in place of attention",
    fixed_instances: true,
    has_attention: false,
    build: Some(|g, inputs, config| build(g, inputs, config, Variant::FullyConnected)),
    ..ATT_TF
};

fn build(g: &mut Graph, inputs: Inputs, config: ModelConfig, variant: Variant) -> Result<Prediction> {
    let (batch, patches) = (g.shape(inputs.x).dims()[0], g.shape(inputs.x).dims()[1]);
    let maps = maps(g, inputs.x, config)?;
    let dense =
        if config.train_front_end == TrainFrontEnd::None { Weights::Frozen } else { Weights::Trained(vggish::INIT) };
    let h = vggish::segmented_dense(g, maps, config.width, dense, variant != Variant::Time)?;
    let [_, _, bands, width] = *g.shape(h).dims() else { unreachable!("maps have four axes") };
    let positions = patches * MAP[0] * bands;
    let h = g.reshape(h, [batch, positions, width]);
    let h = linear(g, "proj", h, EMBEDDING, WeightInit::HeUniform, false)?;
    // Unlike ATT's input, these values have no fixed scale: the skip connection takes them normalised.
    let h = batch_norm(g, "bn_in", h, inputs.lengths, inputs.clock, 0, None)?;
    let h = embedding(g, h, h, inputs, config)?;
    match variant {
        Variant::TimeFrequency | Variant::Time => attention(g, h, inputs, config),
        Variant::Identified => {
            let h = append_one_hot(g, h, bands)?;
            attention(g, h, inputs, config)
        }
        Variant::FullyConnected => {
            let h = g.reshape(h, [batch, positions * EMBEDDING]);
            Ok(Prediction::new(linear_sigmoid(g, "out", h, config.classes, WeightInit::HeUniform)?))
        }
    }
}

/// Maps (B T, 6, 4, C): the input itself, or computed from log-mel patches if the convolutions are trained as well.
fn maps(g: &mut Graph, x: Tensor, config: ModelConfig) -> Result<Tensor> {
    let m = g.shape(x).rows();
    match config.train_front_end {
        TrainFrontEnd::All => {
            let patches = g.reshape(x, [m, PATCH_FRAMES, BANDS]);
            vggish::convolutions(g, patches, config.width, Weights::Trained(vggish::INIT))
        }
        _ => Ok(g.reshape(x, [m, MAP[0], MAP[1], config.width.map_channels()])),
    }
}
