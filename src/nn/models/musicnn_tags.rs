//! Attention over the tags of musicnn: what a network knows that was trained on a hundred times as much music, in the
//! terms of other classes (wmic's own).
//!
//! The log-odds of the 50 tags in each block of half a second, batch norm, and a linear attention classifier.

use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::front_ends::musicnn;
use crate::nn::layers::batch_norm;
use crate::nn::model::{Model, Optimiser, Protocol, Schedule};
use crate::nn::models::att::attention;

pub const MODEL: Model = Model {
    name: "musicnn-tags",
    about: "attention over musicnn's 50 tags (wmic's own)",
    protocol: Protocol {
        optimiser: Optimiser::Adamw,
        lr: 1e-2,
        schedule: Schedule::OneCycle,
        weight_decay: 0.01,
        epochs: 20,
        batch: 64,
        ..Protocol::COMMON
    },
    fixed_instances: false,
    positions: [1, 1],
    has_attention: true,
    single_label: false,
    inputs: &[FeatureKind::Musicnn],
    patches: &[],
    build: Some(|g, inputs, config| {
        let tags = musicnn::tag_logits(g, inputs.x)?;
        let h = batch_norm(g, "bn_in", tags, inputs.lengths, inputs.clock, 0, None)?;
        attention(g, h, inputs, config)
    }),
};
