//! L3: one room per op. Adding an op is its file, its `.wgsl` and one line in [`ROOMS`].

pub mod activation;
pub mod adam;
pub mod add;
pub mod gather;
pub mod linear;
pub mod masked_bce;
pub mod sample;
pub mod tally;
pub mod track;
mod variants;

use crate::check::Case;
use crate::gpu::Shader;

/// What the tests, `wmic check`, `wmic bench` and the README's kernel table need to know of an op.
pub struct Room {
    pub name: &'static str,
    /// One line for tables.
    pub about: &'static str,
    pub shaders: &'static [&'static Shader],
    pub cases: fn() -> Vec<Case>,
}

/// Every op of wmic.
pub const ROOMS: &[Room] = &[
    linear::ROOM,
    activation::ROOM,
    add::ROOM,
    sample::ROOM,
    gather::ROOM,
    masked_bce::ROOM,
    adam::ROOM,
    track::ROOM,
    tally::ROOM,
];
