//! ATT: attention over the instances of a bag (Gururani, Sharma, Lerch: "An attention mechanism for musical instrument
//! recognition", ISMIR 2019, Eqs. 1-3).
//!
//! An embedding of three linear layers with batch norm, ReLU and dropout, and a skip connection from the input; then for each class
//! an attention weight and a score per instance, pooled to one probability per clip.

use super::{Inputs, Model, Prediction, Settings};
use crate::error::Result;
use crate::graph::Graph;
use crate::nn::layers::{WeightInit, batch_norm, linear};
use crate::ops::{add::add, attention_pool::attention_pool};

pub const MODEL: Model = Model {
    name: "att",
    about: "attention over the 10 instances of a clip (ISMIR 2019)",
    lr: 5e-4,
    epochs: 250,
    dropout: 0.6,
    fixed_instances: false,
    build,
};

fn build(g: &mut Graph, inputs: Inputs, settings: Settings) -> Result<Prediction> {
    let Inputs { x, lengths, clock } = inputs;
    let width = g.shape(x).last();
    let mut h = batch_norm(g, "bn_in", x, lengths, clock, 0, None)?;
    for i in 0..3 {
        h = linear(g, &format!("fc.{i}"), h, width, WeightInit::HeUniform, false)?;
        h = batch_norm(g, &format!("bn.{i}"), h, lengths, clock, 1 + i, Some(settings.dropout))?;
    }
    h = add(g, h, x)?;
    let att = linear(g, "att", h, settings.classes, WeightInit::HeUniform, true)?;
    let cla = linear(g, "cla", h, settings.classes, WeightInit::HeUniform, true)?;
    let (probabilities, weights) = attention_pool(g, att, cla, lengths)?;
    Ok(Prediction { probabilities, attention: Some(weights) })
}
