//! Batch norm over the valid instances of a batch, optionally followed by ReLU and dropout in the same kernel, and in
//! training by the sum with another tensor, of any rows: a skip connection.
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
mod eval;
mod layer;

use super::add::{self, add};
use super::{Entry, joined};
use crate::core::error::{Error, Result};
use crate::graph::{Graph, Mode, Tensor};
use layer::{ALONE, LANES};

pub use eval::Eval;
pub use layer::{BatchNorm, Norm, Train};

/// Adds batch norm. `x` (B, T, F), (B, T, S, F) or (B, F), `lengths` u32 (B), `clock` u32 (4): seed low, seed high,
/// step, done. The clock is not used in a graph for evaluation.
///
/// # Errors
/// `Shape` for tensors that do not fit together, `Usage` for a dropout probability outside [0, 1).
pub fn batch_norm(
    g: &mut Graph,
    x: Tensor,
    lengths: Tensor,
    norm: &Norm,
    clock: Tensor,
    stream: u32,
    config: BatchNorm,
) -> Result<Tensor> {
    if let Some(p) = config.relu_dropout.filter(|p| !(0.0..1.0).contains(p)) {
        return Err(Error::Usage(format!("dropout must be at least 0 and below 1, got {p}")));
    }
    let inputs = [x, lengths, norm.gamma, norm.beta, norm.running_mean, norm.running_var, clock];
    match (g.mode(), norm.skip) {
        (Mode::Train, skip) => {
            let inputs: Vec<Tensor> = inputs.into_iter().chain(skip).collect();
            Ok(g.push(Train { config, stream }, &inputs)?[0])
        }
        (Mode::Eval, skip) => {
            let y = g.push(Eval { config }, &inputs[..6])?[0];
            skip.map_or(Ok(y), |skip| add(g, y, skip))
        }
    }
}

pub(crate) const OP: Entry = Entry {
    name: "batch_norm",
    about: "batch norm of valid instances, ReLU, dropout and a skip connection",
    shaders: &joined::<24>(&[
        &LANES[0][0][0],
        &LANES[0][0][1],
        &LANES[0][1][0],
        &LANES[0][1][1],
        &LANES[1][0][0],
        &LANES[1][0][1],
        &LANES[1][1][0],
        &LANES[1][1][1],
        &ALONE[0],
        &ALONE[1],
        &add::SHADERS,
    ]),
    cases: cases::cases,
};
