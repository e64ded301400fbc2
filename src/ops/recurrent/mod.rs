//! A recurrent layer fused over time: plain, GRU or LSTM, unidirectional or bidirectional, with one pass over time
//! forward and one back.
//!
//! The input's contribution to the gates is a matrix product over all steps, computed before: inputs (B, T, G H) = W_ih
//! x + b_ih per direction. The time loop adds W_hh h + b_hh and steps the cell ([`Cell`], PyTorch's gate orders). The
//! reverse direction starts at the last step. A step beyond a clip's length keeps the state and outputs 0, as PyTorch's
//! packed sequences do. Outputs: y (B, T, D H), both directions concatenated; the final state, h (B, D H) and for LSTM
//! c (B, D H).
//!
//! With a mask (B, D H) of factors h is multiplied by the mask before the product, the same in all steps (Gal and
//! Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016; Keras'
//! `recurrent_dropout`). It gets no gradient.

mod cases;
mod kernels;
mod layer;

use super::{Entry, linear};
use crate::graph::slice_sums;
use kernels::{SHADER, STATES, SUBGROUP8};

pub use super::recurrent_cell::Cell;
pub use layer::{Direction, Sequence, recurrent};

pub(crate) const OP: Entry = Entry {
    name: "recurrent",
    about: "plain, GRU and LSTM layers, fused over time",
    shaders: &[
        &SHADER,
        &SUBGROUP8,
        &STATES,
        &linear::TILES.plain[0][0][0],
        &linear::TILES.plain[0][0][1],
        &linear::TILES.plain[0][1][0],
        &linear::TILES.plain[0][1][1],
        &linear::TILES.plain[0][2][0],
        &linear::TILES.plain[0][2][1],
        &slice_sums::SHADERS[0],
        &slice_sums::SHADERS[1],
        &linear::SUBGROUP8[0],
        &linear::SUBGROUP8[1],
    ],
    cases: cases::cases,
};
