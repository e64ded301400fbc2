//! ATT: attention over the instances of a bag (Gururani, Sharma, Lerch: "An attention mechanism for musical instrument
//! recognition", ISMIR 2019, Eqs. 1-3).
//!
//! An embedding of three linear layers with batch norm, ReLU and dropout, and a skip connection from the input; then
//! for each class an attention weight and a score per instance, pooled to one probability per clip.
//!
//! On musicnn's and YAMNet's features, which are wider than the embedding and of many scales, inputs are standardised
//! by default, with noise and dropout; then the layers have biases, and there is neither batch norm nor a skip
//! connection before and around them.

use crate::core::error::Result;
use crate::graph::{Graph, Mode, Tensor};
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::front_ends::vggish::EMBEDDING;
use crate::nn::layers::{WeightInit, batch_norm, batch_norm_skip, linear, linear_pair};
use crate::nn::model::{Inputs, Model, ModelConfig, Optimiser, PositionScores, Prediction, Protocol, Schedule};
use crate::ops::activation::{Activation, activation};
use crate::ops::attention_pool::{Pooling, attention_pool};
use crate::ops::join_columns::split_columns;
use crate::ops::standardise_columns::Preparation;

pub const MODEL: Model = Model {
    name: "att",
    about: "attention over the 10 instances of a clip (ISMIR 2019)",
    protocol: Protocol {
        epochs: 250,
        dropout: 0.6,
        on: &[(FeatureKind::Musicnn, WIDE), (FeatureKind::Yamnet, WIDE)],
        ..Protocol::EMBEDDINGS
    },
    fixed_instances: false,
    positions: [1, 1],
    has_attention: true,
    single_label: false,
    inputs: &[FeatureKind::Vggish, FeatureKind::Musicnn, FeatureKind::Yamnet],
    patches: &[],
    build: Some(|g, inputs, config| {
        let h = match config.inputs.standardise {
            true => inputs.x,
            false => batch_norm(g, "bn_in", inputs.x, inputs.lengths, inputs.clock, 0, None)?,
        };
        let h = embedding(g, h, inputs.x, inputs, config)?;
        attention(g, h, inputs, config)
    }),
};

/// wmic's own: for 0.5 s of sound an input has ten times as many values as for VGGish's embedding.
const WIDE: Protocol = Protocol {
    optimiser: Optimiser::Adamw,
    lr: 2e-3,
    schedule: Schedule::OneCycle,
    weight_decay: 0.01,
    epochs: 20,
    dropout: 0.3,
    batch: 64,
    inputs: Some(Preparation { standardise: true, dropout: 0.2, noise: 0.1 }),
    ..Protocol::EMBEDDINGS
};

/// Widest embedding of the model: VGGish's. Wider instances are reduced to it by the first layer.
const WIDTH: usize = EMBEDDING;

/// Three layers over each instance of `h` (B, T, F), and `skip` of the same shape added, if that is that of the result,
/// (B, T, F) with F at most 128.
pub(super) fn embedding(
    g: &mut Graph,
    mut h: Tensor,
    skip: Tensor,
    inputs: Inputs,
    config: ModelConfig,
) -> Result<Tensor> {
    let width = g.shape(h).last().min(WIDTH);
    for i in 0..3 {
        h = linear(g, &format!("fc.{i}"), h, width, WeightInit::HeUniform, config.inputs.standardise)?;
        let (name, Inputs { lengths, clock, .. }, dropout) = (format!("bn.{i}"), inputs, Some(config.dropout));
        h = match i == 2 && g.shape(h) == g.shape(skip) {
            true => batch_norm_skip(g, &name, [h, skip], lengths, clock, 1 + i, dropout)?,
            false => batch_norm(g, &name, h, lengths, clock, 1 + i, dropout)?,
        };
    }
    Ok(h)
}

/// The classifier on embedded instances `h` (B, T, F).
pub(super) fn attention(g: &mut Graph, h: Tensor, inputs: Inputs, config: ModelConfig) -> Result<Prediction> {
    let logits = linear_pair(g, ["att", "cla"], h, config.classes, WeightInit::HeUniform)?;
    let (probabilities, weights) = attention_pool(g, logits, inputs.lengths, config.pooling)?;
    // Not needed in training.
    let position_scores = match g.mode() {
        Mode::Train => None,
        Mode::Eval => {
            let both = activation(g, logits, Activation::Sigmoid)?;
            let [attention, scores] = split_columns(g, both)?;
            let attention = if config.pooling == Pooling::Softmax { weights } else { attention };
            Some(PositionScores { scores, attention })
        }
    };
    let instance_probabilities = inputs.instances.map(|lengths| instances(g, logits, lengths, config)).transpose()?;
    Ok(Prediction {
        attention: Some(weights),
        position_scores,
        instance_probabilities,
        ..Prediction::new(probabilities)
    })
}

/// The probabilities (B T, K) of each instance: its positions are pooled as those of a clip are. `lengths`, u32 (B T):
/// valid positions.
fn instances(g: &mut Graph, logits: Tensor, lengths: Tensor, config: ModelConfig) -> Result<Tensor> {
    let rows = g.shape(lengths).len();
    let each = [rows, g.shape(logits).rows() / rows, g.shape(logits).last()];
    let logits = g.reshape(logits, each);
    Ok(attention_pool(g, logits, lengths, config.pooling)?.0)
}
