//! ATT with group norm, on raw embeddings or on log-mel frames (Taenzer, Mimilakis, Abesser: "Deep learning-based music instrument
//! recognition: Exploring learned feature representations", CMMR 2021).
//!
//! Three 1x1 convolutions over each instance with ReLU, one group norm over the clip, and a skip connection from the input; then
//! the attention of ATT. Instances of another width than 128 are first projected to 128 by a 1x1 convolution without bias.
//! The paper does not say where ReLUs are, nor the number of groups: ReLU after each convolution, and 32.

use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::front_ends::vggish::EMBEDDING;
use crate::nn::layers::{WeightInit, batch_norm, group_norm, linear, linear_relu};
use crate::nn::model::{Model, Norm, Protocol, Select};
use crate::nn::models::att::attention;
use crate::ops::add::add;

pub const MODEL: Model = Model {
    name: "att-gn",
    about: "attention with group norm, for learned representations (CMMR 2021)",
    protocol: Protocol {
        epochs: 350,
        dropout: 0.0,
        select: Select::ValF1,
        norm: Some(Norm::Group),
        ..Protocol::COMMON
    },
    fixed_instances: false,
    positions: 1,
    has_attention: true,
    single_label: false,
    inputs: &[FeatureKind::Vggish],
    patches: &[],
    build: Some(|g, inputs, config| {
        let skip = match g.shape(inputs.x).last() {
            EMBEDDING => inputs.x,
            _ => linear(g, "embed", inputs.x, EMBEDDING, WeightInit::HeUniform, false)?,
        };
        let mut h = skip;
        for i in 0..3 {
            h = linear_relu(g, &format!("conv.{i}"), h, EMBEDDING, WeightInit::HeUniform)?;
        }
        h = match config.norm {
            Norm::Group => group_norm(g, "norm", h, inputs.lengths)?,
            Norm::Batch => batch_norm(g, "norm", h, inputs.lengths, inputs.clock, 0, None)?,
        };
        h = add(g, h, skip)?;
        attention(g, h, inputs, config)
    }),
};
