//! Batch norm over the valid instances of a batch, optionally followed by ReLU and dropout in the same kernel.
//!
//! y = gamma (x - mean) / sqrt(var + eps) + beta per column (Ioffe and Szegedy: "Batch normalization", ICML 2015).
//! x (B, T, F) or (B, F), lengths (B) u32: instances `t < lengths[b]` are valid, the rest is padding, where y and dx
//! are 0. With x (B, T, S, F) each instance has S rows: of the maps of a convolution, its pixels. gamma, beta, running
//! mean and running variance (F); y as x.
//!
//! In training, mean and var (biased) are those of the valid instances, and the running statistics follow by
//! running = (1 - momentum) running + momentum new, with the unbiased variance (of one instance: 0; of none: no
//! change). For evaluation the running statistics are used, dropout is off, and there is no gradient.

mod cases;
mod layer;

use super::Entry;
use layer::SHADERS;

pub use layer::{BatchNorm, Eval, Norm, Train, batch_norm};

pub(crate) const OP: Entry = Entry {
    name: "batch_norm",
    about: "batch norm of valid instances, ReLU and dropout",
    shaders: &[&SHADERS[0][0], &SHADERS[0][1], &SHADERS[1][0], &SHADERS[1][1], &SHADERS[2][0], &SHADERS[2][1]],
    cases: cases::cases,
};
