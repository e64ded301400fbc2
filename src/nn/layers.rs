//! Layers: an op with its parameters and their first values.

use crate::error::Result;
use crate::graph::{Graph, Init, Tensor};
use crate::ops::batch_norm::{self, BatchNorm, Norm};
use crate::ops::linear;

/// How a linear layer's weights start; biases start at zero.
#[derive(Clone, Copy, Debug)]
pub enum WeightInit {
    /// Uniform within +-sqrt(6 / fan_in) (He et al. 2015).
    HeUniform,
    /// Normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010).
    XavierNormal,
}

/// A linear layer from the innermost axis of `x` to `width`.
pub fn linear(g: &mut Graph, name: &str, x: Tensor, width: usize, init: WeightInit, bias: bool) -> Result<Tensor> {
    let fan_in = g.shape(x).last();
    let init = match init {
        WeightInit::HeUniform => Init::Uniform { bound: (6.0 / fan_in as f64).sqrt() },
        WeightInit::XavierNormal => Init::Normal { std: (2.0 / (fan_in + width) as f64).sqrt() },
    };
    let w = g.param(&format!("{name}.weight"), [width, fan_in], init);
    let b = bias.then(|| g.param(&format!("{name}.bias"), [width], Init::Constant(0.0)));
    linear::linear(g, x, w, b)
}

/// Batch norm over all axes but the innermost, valid instances only. `relu_dropout`: followed by ReLU and dropout of that chance.
pub fn batch_norm(
    g: &mut Graph,
    name: &str,
    x: Tensor,
    lengths: Tensor,
    clock: Tensor,
    stream: u32,
    relu_dropout: Option<f64>,
) -> Result<Tensor> {
    let width = g.shape(x).last();
    let norm = Norm {
        gamma: g.param(&format!("{name}.weight"), [width], Init::Constant(1.0)),
        beta: g.param(&format!("{name}.bias"), [width], Init::Constant(0.0)),
        running_mean: g.statistic(&format!("{name}.running_mean"), [width], 0.0),
        running_var: g.statistic(&format!("{name}.running_var"), [width], 1.0),
    };
    let config = BatchNorm { eps: 1e-5, momentum: 0.1, relu_dropout };
    batch_norm::batch_norm(g, x, lengths, &norm, clock, stream, config)
}
