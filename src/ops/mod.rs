//! One entry per op. To add an op: its file, its `.wgsl` and one line in [`OPS`].

pub mod activation;
pub mod adagrad;
pub mod adam;
pub mod add;
mod affine;
pub mod append_one_hot;
mod arena;
pub mod attention_pool;
pub mod batch_norm;
pub mod block_pool;
pub mod clip_dropout;
pub mod concat;
pub mod contrastive;
pub mod conv2d;
pub mod conv_max;
pub mod corrupt;
pub mod cosine_loss;
pub mod cqt;
pub mod cross_entropy;
pub mod depthwise_conv2d;
pub mod draw_location;
pub mod filters;
pub mod gather;
pub mod glimpse;
pub mod group_norm;
pub mod halve;
pub mod instance_labels;
pub mod join_columns;
pub mod last_instance;
pub mod linear;
pub mod masked_bce;
pub mod max_pool2d;
mod mean_of_rows;
pub mod mean_pool;
pub mod mel;
pub mod mixup;
pub mod overlap_add;
pub mod recurrent;
pub mod recurrent_cell;
pub mod reinforce;
pub mod relative_attention;
mod relu_gradient;
pub mod reward;
pub mod sample;
pub mod sgd;
pub mod softmax;
pub mod spec_augment;
pub mod squared_error;
pub mod standardise;
pub mod standardise_columns;
pub mod stft;
pub mod tally;
pub mod track;
mod variants;

use crate::core::error::{Error, Result};

pub use crate::check::Entry;
pub(crate) use crate::check::joined;

/// The ops to work on: all, or the one of that name.
///
/// # Errors
/// `Usage` for an unknown name, with the known ones.
pub fn select(op: Option<&str>) -> Result<Vec<&'static Entry>> {
    let ops: Vec<&Entry> = OPS.iter().filter(|entry| op.is_none_or(|op| op == entry.name)).collect();
    match (ops.is_empty(), op) {
        (true, Some(op)) => {
            let names: Vec<&str> = OPS.iter().map(|entry| entry.name).collect();
            Err(Error::Usage(format!("unknown op {op} (known ops: {})", names.join(", "))))
        }
        _ => Ok(ops),
    }
}

/// Every op of wmic.
#[rustfmt::skip]
pub const OPS: &[Entry] = &[
    sample::OP,
    gather::OP,
    instance_labels::OP,
    mixup::OP,
    concat::OP,
    spec_augment::OP,
    standardise_columns::OP,
    linear::OP,
    conv2d::OP,
    depthwise_conv2d::OP,
    conv_max::OP,
    max_pool2d::OP,
    overlap_add::OP,
    batch_norm::OP,
    group_norm::OP,
    activation::OP,
    add::OP,
    append_one_hot::OP,
    join_columns::OP,
    clip_dropout::OP,
    recurrent::OP,
    recurrent_cell::OP,
    last_instance::OP,
    mean_pool::OP,
    block_pool::OP,
    attention_pool::OP,
    relative_attention::OP,
    glimpse::OP,
    draw_location::OP,
    corrupt::OP,
    reward::OP,
    reinforce::OP,
    masked_bce::OP,
    softmax::OP,
    cross_entropy::OP,
    squared_error::OP,
    cosine_loss::OP,
    contrastive::OP,
    adam::OP,
    adagrad::OP,
    sgd::OP,
    track::OP,
    tally::OP,
    stft::OP,
    mel::OP,
    halve::OP,
    cqt::OP,
    standardise::OP,
];
