//! ATT with group norm, on raw embeddings or on log-mel frames (Taenzer, Mimilakis, Abesser: "Deep learning-based music
//! instrument recognition: Exploring learned feature representations", CMMR 2021).
//!
//! Three 1x1 convolutions over each instance with ReLU, one group norm over the clip, and a skip connection from the
//! input; then the attention of ATT. Log-mel frames are first projected to 128 values by a 1x1 convolution without
//! bias. The paper does not say where ReLUs are, nor the number of groups: ReLU after each convolution, and 32.

use crate::core::error::Result;
use crate::graph::{Graph, Spec, Tensor};
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::front_ends::log_mel::{BANDS, OFFSET, PATCH_FRAMES};
use crate::nn::front_ends::vggish::EMBEDDING;
use crate::nn::layers::{WeightInit, batch_norm, group_norm, linear, linear_relu};
use crate::nn::model::{Inputs, Model, ModelConfig, Norm, Prediction, Protocol, Select};
use crate::nn::models::att::attention;
use crate::ops::add::add;
use crate::ops::linear as product;
use crate::ops::spec_augment::SpecAugment;

pub const MODEL: Model = Model {
    name: "att-gn",
    about: "attention with group norm, for learned representations (CMMR 2021)",
    protocol: Protocol {
        epochs: 350,
        dropout: 0.0,
        select: Select::ValF1,
        norm: Some(Norm::Group),
        ..Protocol::EMBEDDINGS
    },
    fixed_instances: false,
    positions: [1, 1],
    has_attention: true,
    single_label: false,
    inputs: &[FeatureKind::Vggish],
    patches: &[],
    build: Some(|g, inputs, config| build(g, inputs.x, inputs, config)),
};

pub(crate) const ON_FRAMES: Model = Model {
    name: "att-gn-logmel",
    about: "att-gn on the log-mel frames of a clip",
    protocol: Protocol { spec_augment: Some(SpecAugment::OFF), inputs: None, ..MODEL.protocol },
    positions: [PATCH_FRAMES, 1],
    inputs: &[FeatureKind::LogMel],
    build: Some(|g, inputs, config| {
        let frames = scaled_frames(g, inputs.x)?;
        let x = linear(g, "embed", frames, EMBEDDING, WeightInit::HeUniform, false)?;
        build(g, x, inputs, config)
    }),
    ..MODEL
};

/// The classifier on instances `x` (B, T, 128).
fn build(g: &mut Graph, x: Tensor, inputs: Inputs, config: ModelConfig) -> Result<Prediction> {
    let mut h = x;
    for i in 0..3 {
        h = linear_relu(g, &format!("conv.{i}"), h, EMBEDDING, WeightInit::HeUniform)?;
    }
    h = match config.norm {
        Norm::Group => group_norm(g, "norm", h, inputs.lengths)?,
        Norm::Batch => batch_norm(g, "norm", h, inputs.lengths, inputs.clock, 0, None)?,
    };
    h = add(g, h, x)?;
    attention(g, h, inputs, config)
}

/// Mel magnitude that no sound reaches: of samples within -1 and 1 the widest band has at most 490, by the
/// Cauchy-Schwarz inequality.
const LOUDEST: f32 = 512.0;

/// Log-mel patches `x` (B, T, 96 * 64) as frames (B, 96 T, 64) from 0, silence, to 1, [`LOUDEST`].
fn scaled_frames(g: &mut Graph, x: Tensor) -> Result<Tensor> {
    let (batch, values) = (g.shape(x).dims()[0], g.shape(x).len());
    let x = g.reshape(x, [batch, values / (batch * BANDS), BANDS]);
    let (low, high) = (OFFSET.ln(), (LOUDEST + OFFSET).ln());
    let scale = |i: usize| if i / BANDS == i % BANDS { 1.0 / (high - low) } else { 0.0 };
    let scale = (0..BANDS * BANDS).map(|i| scale(i).to_bits()).collect();
    let scale = g.constant(Spec::f32([BANDS, BANDS]), scale);
    let shift = g.constant(Spec::f32([BANDS]), vec![(-low / (high - low)).to_bits(); BANDS]);
    product::linear(g, x, scale, Some(shift))
}
