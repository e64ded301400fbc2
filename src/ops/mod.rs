//! L3: one room per op. Adding an op is its file, its `.wgsl` and one line in [`ROOMS`].

pub mod activation;
pub mod adagrad;
pub mod adam;
pub mod add;
pub mod append_one_hot;
mod arena;
pub mod attention_pool;
pub mod batch_norm;
pub mod clip_dropout;
pub mod concat;
pub mod conv2d;
pub mod cqt;
pub mod cross_entropy;
pub mod draw_location;
pub mod gather;
pub mod glimpse;
pub mod halve;
pub mod join_columns;
pub mod last_instance;
pub mod linear;
pub mod masked_bce;
pub mod max_pool2d;
pub mod mean_pool;
pub mod mel;
pub mod mixup;
pub mod recurrent;
pub mod recurrent_cell;
pub mod reinforce;
pub mod relative_attention;
mod relu_gradient;
pub mod reward;
pub mod sample;
pub mod softmax;
pub mod standardise;
pub mod stft;
pub mod tally;
pub mod track;
mod variants;

use crate::check::Case;
use crate::error::{Error, Result};
use crate::gpu::Shader;

/// What the tests, `wmic check`, `wmic bench` and the README's kernel table need to know of an op.
pub struct Room {
    pub name: &'static str,
    /// One line for tables.
    pub about: &'static str,
    pub shaders: &'static [&'static Shader],
    pub cases: fn() -> Vec<Case>,
}

/// The rooms to work on: all, or the one of that name.
///
/// # Errors
/// `Usage` for an unknown name, with the known ones.
pub fn select(op: Option<&str>) -> Result<Vec<&'static Room>> {
    let rooms: Vec<&Room> = ROOMS.iter().filter(|room| op.is_none_or(|op| op == room.name)).collect();
    match (rooms.is_empty(), op) {
        (true, Some(op)) => {
            let names: Vec<&str> = ROOMS.iter().map(|room| room.name).collect();
            Err(Error::Usage(format!("unknown op {op} (known are: {})", names.join(", "))))
        }
        _ => Ok(rooms),
    }
}

/// Every op of wmic.
#[rustfmt::skip]
pub const ROOMS: &[Room] = &[
    sample::ROOM,
    gather::ROOM,
    mixup::ROOM,
    concat::ROOM,
    linear::ROOM,
    conv2d::ROOM,
    max_pool2d::ROOM,
    batch_norm::ROOM,
    activation::ROOM,
    add::ROOM,
    append_one_hot::ROOM,
    join_columns::ROOM,
    clip_dropout::ROOM,
    recurrent::ROOM,
    recurrent_cell::ROOM,
    last_instance::ROOM,
    mean_pool::ROOM,
    attention_pool::ROOM,
    relative_attention::ROOM,
    glimpse::ROOM,
    draw_location::ROOM,
    reward::ROOM,
    reinforce::ROOM,
    masked_bce::ROOM,
    softmax::ROOM,
    cross_entropy::ROOM,
    adam::ROOM,
    adagrad::ROOM,
    track::ROOM,
    tally::ROOM,
    stft::ROOM,
    mel::ROOM,
    halve::ROOM,
    cqt::ROOM,
    standardise::ROOM,
];
