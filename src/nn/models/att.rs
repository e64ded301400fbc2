//! ATT: attention over the instances of a bag (Gururani, Sharma, Lerch: "An attention mechanism for musical instrument
//! recognition", ISMIR 2019, Eqs. 1-3).
//!
//! An embedding of three linear layers with batch norm, ReLU and dropout, and a skip connection from the input; then for each class
//! an attention weight and a score per instance, pooled to one probability per clip.

use super::{Inputs, Model, Places, Prediction, Protocol, Settings};
use crate::core::error::Result;
use crate::graph::{Graph, Mode, Tensor};
use crate::nn::front_ends::kind::Kind;
use crate::nn::layers::{WeightInit, batch_norm, linear};
use crate::ops::activation::{Activation, activation};
use crate::ops::add::add;
use crate::ops::attention_pool::{Pooling, attention_pool};

pub const MODEL: Model = Model {
    name: "att",
    about: "attention over the 10 instances of a clip (ISMIR 2019)",
    protocol: Protocol { epochs: 250, dropout: 0.6, ..Protocol::COMMON },
    fixed_instances: false,
    positions: 1,
    attends: true,
    exclusive: false,
    inputs: &[Kind::Vggish],
    patches: &[],
    build: Some(|g, inputs, settings| {
        let h = batch_norm(g, "bn_in", inputs.x, inputs.lengths, inputs.clock, 0, None)?;
        let h = embedding(g, h, inputs.x, inputs, settings)?;
        attention(g, h, inputs, settings)
    }),
};

/// Three layers over each instance of `h` (B, T, F), and `skip` of the same shape added; gives (B, T, F).
pub(super) fn embedding(
    g: &mut Graph,
    mut h: Tensor,
    skip: Tensor,
    inputs: Inputs,
    settings: Settings,
) -> Result<Tensor> {
    let width = g.shape(h).last();
    for i in 0..3 {
        h = linear(g, &format!("fc.{i}"), h, width, WeightInit::HeUniform, false)?;
        h = batch_norm(g, &format!("bn.{i}"), h, inputs.lengths, inputs.clock, 1 + i, Some(settings.dropout))?;
    }
    add(g, h, skip)
}

/// The classifier on embedded instances `h` (B, T, F).
pub(super) fn attention(g: &mut Graph, h: Tensor, inputs: Inputs, settings: Settings) -> Result<Prediction> {
    let att = linear(g, "att", h, settings.classes, WeightInit::HeUniform, true)?;
    let cla = linear(g, "cla", h, settings.classes, WeightInit::HeUniform, true)?;
    let (probabilities, weights) = attention_pool(g, att, cla, inputs.lengths, settings.pooling)?;
    // Of no use in training.
    let places = match g.mode() {
        Mode::Train => None,
        Mode::Eval => Some(Places {
            scores: activation(g, cla, Activation::Sigmoid)?,
            gates: match settings.pooling {
                Pooling::Sigmoid => activation(g, att, Activation::Sigmoid)?,
                Pooling::Softmax => weights,
            },
        }),
    };
    Ok(Prediction { attention: Some(weights), places, ..Prediction::new(probabilities) })
}
