//! Layers: an op with its parameters and their first values.

use crate::error::Result;
use crate::graph::{Graph, Init, Tensor};
use crate::ops::activation::Dropout;
use crate::ops::batch_norm::{self, BatchNorm, Norm};
use crate::ops::clip_dropout::clip_dropout_factors;
use crate::ops::linear;
use crate::ops::recurrent::{self, Direction, Sequence};
use crate::ops::recurrent_cell::{Cell, State, recurrent_cell};
use crate::shape::Shape;

/// How a linear layer's weights start; biases start at zero unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub enum WeightInit {
    /// Uniform within +-sqrt(6 / fan_in) (He et al. 2015).
    HeUniform,
    /// Normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010).
    XavierNormal,
    /// Uniform within +-1/sqrt(fan_in), biases as well: what PyTorch's Linear does by itself.
    Torch,
}

/// A linear layer from the innermost axis of `x` to `width`.
pub fn linear(g: &mut Graph, name: &str, x: Tensor, width: usize, init: WeightInit, bias: bool) -> Result<Tensor> {
    let fan_in = g.shape(x).last();
    let zero = Init::Constant(0.0);
    let (init, first_bias) = match init {
        WeightInit::HeUniform => (Init::Uniform { bound: (6.0 / fan_in as f64).sqrt() }, zero),
        WeightInit::XavierNormal => (Init::Normal { std: (2.0 / (fan_in + width) as f64).sqrt() }, zero),
        WeightInit::Torch => [Init::Uniform { bound: 1.0 / (fan_in as f64).sqrt() }; 2].into(),
    };
    let w = g.param(&format!("{name}.weight"), [width, fan_in], init);
    let b = bias.then(|| g.param(&format!("{name}.bias"), [width], first_bias));
    linear::linear(g, x, w, b)
}

/// A linear layer whose parameters are used several times. They start as in PyTorch, uniform within +-1 / sqrt(fan_in).
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    w: Tensor,
    b: Tensor,
}

impl Dense {
    /// Declares NAME.weight (`width`, `inputs`) and NAME.bias.
    pub fn new(g: &mut Graph, name: &str, inputs: usize, width: usize) -> Dense {
        let init = Init::Uniform { bound: (inputs as f64).powf(-0.5) };
        let w = g.param(&format!("{name}.weight"), [width, inputs], init);
        let b = g.param(&format!("{name}.bias"), [width], init);
        Dense { w, b }
    }

    /// Adds y = x w^T + b.
    pub fn apply(&self, g: &mut Graph, x: Tensor) -> Result<Tensor> {
        linear::linear(g, x, self.w, Some(self.b))
    }

    /// Adds y = max(0, x w^T + b).
    pub fn apply_relu(&self, g: &mut Graph, x: Tensor) -> Result<Tensor> {
        linear::linear_with(g, x, self.w, Some(self.b), linear::Linear { relu: true, ..Default::default() })
    }
}

/// A recurrent cell whose parameters are used in every step, named and started as PyTorch's: uniform within +-1 / sqrt(H).
#[derive(Clone, Copy, Debug)]
pub struct Core {
    cell: Cell,
    ih: Dense,
    hh: Dense,
}

impl Core {
    /// Declares NAME.weight_ih (G H, `inputs`), NAME.weight_hh (G H, H), NAME.bias_ih and NAME.bias_hh (G H).
    pub fn new(g: &mut Graph, name: &str, cell: Cell, inputs: usize, hidden: usize) -> Core {
        let (rows, init) = (cell.gates() * hidden, Init::Uniform { bound: (hidden as f64).powf(-0.5) });
        let mut weight = |kind: &str, width: usize| g.param(&format!("{name}.weight_{kind}"), [rows, width], init);
        let [ih, hh] = [weight("ih", inputs), weight("hh", hidden)];
        let mut bias = |kind: &str| g.param(&format!("{name}.bias_{kind}"), [rows], init);
        let (ih, hh) = (Dense { w: ih, b: bias("ih") }, Dense { w: hh, b: bias("hh") });
        Core { cell, ih, hh }
    }

    /// Adds a step. `x` (B, `inputs`), `state` (B, H).
    pub fn step(&self, g: &mut Graph, x: Tensor, state: State) -> Result<State> {
        let (input, hidden) = (self.ih.apply(g, x)?, self.hh.apply(g, state.h)?);
        recurrent_cell(g, self.cell, input, hidden, state)
    }
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

/// A recurrent layer's shape, and PyTorch's names of its parameters.
#[derive(Clone, Copy, Debug)]
pub struct Recurrent<'a> {
    /// Of the PyTorch module: parameters are `name.weight_ih_l0` and so on.
    pub name: &'a str,
    pub layer: usize,
    pub cell: Cell,
    /// H, per direction.
    pub hidden: usize,
}

impl Recurrent<'_> {
    /// The gates' shares of `x` (B, T, F) and the parameters of a direction. First values as PyTorch's: uniform within +-1/sqrt(H).
    pub fn direction(&self, g: &mut Graph, x: Tensor, reverse: bool) -> Result<Direction> {
        let init = Init::Uniform { bound: 1.0 / (self.hidden as f64).sqrt() };
        let gates = self.cell.gates() * self.hidden;
        let width = g.shape(x).last();
        let mut param = |part: &str, shape: &[usize]| {
            let suffix = if reverse { "_reverse" } else { "" };
            g.param(&format!("{}.{part}_l{}{suffix}", self.name, self.layer), Shape::new(shape), init)
        };
        let w = param("weight_ih", &[gates, width]);
        let weight = param("weight_hh", &[gates, self.hidden]);
        let b = param("bias_ih", &[gates]);
        let bias = param("bias_hh", &[gates]);
        Ok(Direction { input: linear::linear(g, x, w, Some(b))?, weight, bias })
    }

    /// The layer in both directions on `x` (B, T, F): (B, T, 2 H). `recurrent_dropout`: of the state within the layer, one draw per
    /// clip and unit.
    pub fn both_ways(
        &self,
        g: &mut Graph,
        x: Tensor,
        lengths: Tensor,
        recurrent_dropout: Option<Dropout>,
    ) -> Result<Sequence> {
        let directions = [self.direction(g, x, false)?, self.direction(g, x, true)?];
        let batch = g.shape(x).dims()[0];
        let mask = match recurrent_dropout {
            Some(dropout) => clip_dropout_factors(g, [batch, 2 * self.hidden], dropout)?,
            None => None,
        };
        recurrent::recurrent(g, self.cell, &directions, lengths, mask, None)
    }
}
