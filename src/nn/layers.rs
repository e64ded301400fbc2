//! Layers: an op with its parameters and their initialisation.

use crate::core::error::Result;
use crate::core::shape::Shape;
use crate::graph::{Graph, Init, Spec, Tensor};
use crate::ops::activation::{Activation, Dropout};
use crate::ops::batch_norm::{self, BatchNorm, Norm};
use crate::ops::clip_dropout::clip_dropout_factors;
use crate::ops::conv2d;
use crate::ops::group_norm::{self, GroupNorm};
use crate::ops::join_columns::join_columns;
use crate::ops::linear::{self, Linear};
use crate::ops::recurrent::{self, Direction, Sequence};
use crate::ops::recurrent_cell::{Cell, State, recurrent_cell};
use crate::ops::relative_attention::{RelativeAttention, relative_attention};

/// Weight initialisation of a linear layer; biases are zero unless noted.
#[derive(Clone, Copy, Debug)]
pub enum WeightInit {
    /// Uniform within +-sqrt(6 / fan_in) (He et al. 2015).
    HeUniform,
    /// Normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010).
    XavierNormal,
    /// Uniform with the same variance: within +-sqrt(6 / (fan_in + fan_out)).
    XavierUniform,
    /// Uniform within +-1/sqrt(fan_in), biases as well: the default of PyTorch's Linear.
    Torch,
    /// Normal with variance 2 / fan_in (He et al. 2015).
    HeNormal,
    /// Normal with this deviation, biases as well: Keras' "random normal" with 0.05.
    Normal { std: f64 },
}

impl WeightInit {
    /// Initial weights from `fan_in` to `fan_out` units, and biases.
    pub(super) fn first(self, fan_in: usize, fan_out: usize) -> [Init; 2] {
        let zero = Init::Constant(0.0);
        match self {
            WeightInit::HeUniform => [Init::Uniform { bound: (6.0 / fan_in as f64).sqrt() }, zero],
            WeightInit::XavierNormal => [Init::Normal { std: (2.0 / (fan_in + fan_out) as f64).sqrt() }, zero],
            WeightInit::XavierUniform => [Init::Uniform { bound: (6.0 / (fan_in + fan_out) as f64).sqrt() }, zero],
            WeightInit::Torch => [Init::Uniform { bound: 1.0 / (fan_in as f64).sqrt() }; 2],
            WeightInit::HeNormal => [Init::Normal { std: (2.0 / fan_in as f64).sqrt() }, zero],
            WeightInit::Normal { std } => [Init::Normal { std }; 2],
        }
    }
}

/// A linear layer from the innermost axis of `x` to `width`.
pub fn linear(g: &mut Graph, name: &str, x: Tensor, width: usize, init: WeightInit, bias: bool) -> Result<Tensor> {
    let (w, b) = linear_parameters(g, name, x, width, init, bias);
    linear::linear(g, x, w, b)
}

/// Two linear layers with bias on the same `x`, side by side: (..., 2 `width`).
pub fn linear_pair(g: &mut Graph, names: [&str; 2], x: Tensor, width: usize, init: WeightInit) -> Result<Tensor> {
    let [(w, b), (w_next, b_next)] = names.map(|name| linear_parameters(g, name, x, width, init, true));
    let biases: Vec<Tensor> = b.into_iter().chain(b_next).collect();
    linear::linear_layers(g, x, &[w, w_next], &biases)
}

/// A linear layer with bias and ReLU.
pub fn linear_relu(g: &mut Graph, name: &str, x: Tensor, width: usize, init: WeightInit) -> Result<Tensor> {
    let (w, b) = linear_parameters(g, name, x, width, init, true);
    linear::linear_with(g, x, w, b, Linear::RELU)
}

/// A linear layer with bias and sigmoid.
pub fn linear_sigmoid(g: &mut Graph, name: &str, x: Tensor, width: usize, init: WeightInit) -> Result<Tensor> {
    let (w, b) = linear_parameters(g, name, x, width, init, true);
    linear::linear_with(g, x, w, b, Linear { activation: Activation::Sigmoid, ..Linear::PLAIN })
}

/// A linear layer with bias, leaky ReLU of `negative_slope` and dropout.
pub fn linear_dropout(
    g: &mut Graph,
    name: &str,
    x: Tensor,
    width: usize,
    init: WeightInit,
    negative_slope: f64,
    dropout: Dropout,
) -> Result<Tensor> {
    let (w, b) = linear_parameters(g, name, x, width, init, true);
    linear::linear_dropout(g, x, w, b, negative_slope, dropout)
}

/// NAME.weight (`width`, F) and NAME.bias (`width`) of a layer on `x` (..., F).
fn linear_parameters(
    g: &mut Graph,
    name: &str,
    x: Tensor,
    width: usize,
    init: WeightInit,
    bias: bool,
) -> (Tensor, Option<Tensor>) {
    let fan_in = g.shape(x).last();
    let [init, first_bias] = init.first(fan_in, width);
    let w = g.param(&format!("{name}.weight"), [width, fan_in], init);
    (w, bias.then(|| g.param(&format!("{name}.bias"), [width], first_bias)))
}

/// A convolution of `x` (B, H, W, C) by `size` x `size`: (B, H, W, `filters`).
pub fn conv2d(
    g: &mut Graph,
    name: &str,
    x: Tensor,
    filters: usize,
    size: usize,
    init: WeightInit,
    bias: bool,
) -> Result<Tensor> {
    let channels = g.shape(x).last();
    let area = size * size;
    let [init, first_bias] = init.first(area * channels, area * filters);
    let w = g.param(&format!("{name}.weight"), [filters, channels, size, size], init);
    let b = bias.then(|| g.param(&format!("{name}.bias"), [filters], first_bias));
    conv2d::conv2d(g, x, w, b, conv2d::Conv2d::default())
}

/// Shape of an attention-augmented convolution (Bello, Zoph, Vaswani, Shlens, Le: "Attention augmented convolutional
/// networks", 2019, section 3.2).
#[derive(Clone, Copy, Debug)]
pub struct AugmentedConv2d {
    pub filters: usize,
    /// Attention filters among them: dv and dk over all heads, a multiple of `heads`. 0: a plain convolution; all: no
    /// convolution.
    pub attention: usize,
    pub heads: usize,
    /// Of the convolution's kernel; odd.
    pub size: usize,
}

impl AugmentedConv2d {
    /// Adds it. `x` (B, H, W, C) -> (B, H, W, `filters`), the convolution's filters first. Parameters: NAME.conv;
    /// NAME.qkv, a linear layer at each position; NAME.rel_h (2 H - 1, dk / N) and NAME.rel_w (2 W - 1, dk / N);
    /// NAME.out, another linear layer.
    pub fn push(&self, g: &mut Graph, name: &str, x: Tensor, init: WeightInit) -> Result<Tensor> {
        let AugmentedConv2d { filters, attention: depth, heads, size } = *self;
        let mut branches = vec![];
        if depth < filters {
            branches.push(conv2d(g, &format!("{name}.conv"), x, filters - depth, size, init, true)?);
        }
        if depth > 0 {
            let [_, height, width, _] = *g.shape(x).dims() else { unreachable!("conv2d takes four axes") };
            let each = depth / heads;
            let qkv = linear(g, &format!("{name}.qkv"), x, 3 * depth, init, true)?;
            let std = (each as f64).powf(-0.5);
            let mut table = |axis: &str, size: usize| {
                g.param(&format!("{name}.rel_{axis}"), [2 * size - 1, each], Init::Normal { std })
            };
            let (rel_h, rel_w) = (table("h", height), table("w", width));
            let config = RelativeAttention { heads, key_depth: depth, value_depth: depth };
            let attended = relative_attention(g, qkv, rel_h, rel_w, config)?;
            branches.push(linear(g, &format!("{name}.out"), attended, depth, init, true)?);
        }
        match branches[..] {
            [only] => Ok(only),
            _ => join_columns(g, &branches),
        }
    }
}

/// A linear layer whose parameters are used several times. Initialised as in PyTorch, uniform within +-1 /
/// sqrt(fan_in).
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
        linear::linear_with(g, x, self.w, Some(self.b), Linear::RELU)
    }
}

/// A recurrent cell whose parameters are used in every step, named and initialised as in PyTorch: uniform within +-1 /
/// sqrt(H).
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

/// Batch norm of `x` (B, T, F) or maps (B, T, S, F) over all axes but the innermost, valid instances only.
/// `relu_dropout`: followed by ReLU and dropout of that probability.
pub fn batch_norm(
    g: &mut Graph,
    name: &str,
    x: Tensor,
    lengths: Tensor,
    clock: Tensor,
    stream: u32,
    relu_dropout: Option<f64>,
) -> Result<Tensor> {
    batch_norm_with(g, name, x, lengths, clock, stream, BatchNorm { relu_dropout, ..TORCH })
}

/// As [`batch_norm()`], and `skip`, of the shape of `x`, is added to the result.
pub fn batch_norm_skip(
    g: &mut Graph,
    name: &str,
    [x, skip]: [Tensor; 2],
    lengths: Tensor,
    clock: Tensor,
    stream: u32,
    relu_dropout: Option<f64>,
) -> Result<Tensor> {
    let norm = Norm { skip: Some(skip), ..affine_norm(g, name, x) };
    batch_norm::batch_norm(g, x, lengths, &norm, clock, stream, BatchNorm { relu_dropout, ..TORCH })
}

/// Group norm of each clip's valid instances and 32 groups of columns, as is usual (Wu and He 2018).
pub fn group_norm(g: &mut Graph, name: &str, x: Tensor, lengths: Tensor) -> Result<Tensor> {
    let width = g.shape(x).last();
    let gamma = g.param(&format!("{name}.weight"), [width], Init::Constant(1.0));
    let beta = g.param(&format!("{name}.bias"), [width], Init::Constant(0.0));
    group_norm::group_norm(g, x, lengths, gamma, beta, GroupNorm { groups: 32, eps: 1e-5 })
}

/// As [`batch_norm()`], with explicit eps and momentum.
pub fn batch_norm_with(
    g: &mut Graph,
    name: &str,
    x: Tensor,
    lengths: Tensor,
    clock: Tensor,
    stream: u32,
    config: BatchNorm,
) -> Result<Tensor> {
    let norm = affine_norm(g, name, x);
    batch_norm::batch_norm(g, x, lengths, &norm, clock, stream, config)
}

/// The parameters NAME.weight and NAME.bias of a batch norm of `x`, and its statistics.
fn affine_norm(g: &mut Graph, name: &str, x: Tensor) -> Norm {
    let width = g.shape(x).last();
    let gamma = g.param(&format!("{name}.weight"), [width], Init::Constant(1.0));
    let beta = g.param(&format!("{name}.bias"), [width], Init::Constant(0.0));
    norm(g, name, gamma, beta)
}

/// As [`batch_norm()`] of a model's input, without scale and shift: with nothing in it to train, the layer after it
/// need not compute the gradient of its input.
pub fn input_norm(g: &mut Graph, name: &str, x: Tensor, lengths: Tensor, clock: Tensor) -> Result<Tensor> {
    let width = g.shape(x).last();
    let [gamma, beta] = [1.0f32, 0.0].map(|v| g.constant(Spec::f32([width]), vec![v.to_bits(); width]));
    let norm = norm(g, name, gamma, beta);
    batch_norm::batch_norm(g, x, lengths, &norm, clock, 0, TORCH)
}

/// PyTorch's.
const TORCH: BatchNorm = BatchNorm { eps: 1e-5, momentum: 0.1, relu_dropout: None };

/// The running statistics NAME.running_mean and NAME.running_var beside `gamma` and `beta` (F).
fn norm(g: &mut Graph, name: &str, gamma: Tensor, beta: Tensor) -> Norm {
    let width = g.shape(gamma).last();
    let running_mean = g.statistic(&format!("{name}.running_mean"), [width], 0.0);
    let running_var = g.statistic(&format!("{name}.running_var"), [width], 1.0);
    Norm { gamma, beta, running_mean, running_var, skip: None }
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
    /// The contribution of `x` (B, T, F) to the gates of some directions, forward or `reverse`, and their parameters.
    /// Initialised as in PyTorch: uniform within +-1/sqrt(H).
    pub fn directions(&self, g: &mut Graph, x: Tensor, reverse: &[bool]) -> Result<(Tensor, Vec<Direction>)> {
        let init = Init::Uniform { bound: 1.0 / (self.hidden as f64).sqrt() };
        let gates = self.cell.gates() * self.hidden;
        let width = g.shape(x).last();
        let (mut w, mut b, mut directions) = (vec![], vec![], vec![]);
        for reverse in reverse {
            let mut param = |part: &str, shape: &[usize]| {
                let suffix = if *reverse { "_reverse" } else { "" };
                g.param(&format!("{}.{part}_l{}{suffix}", self.name, self.layer), Shape::new(shape), init)
            };
            w.push(param("weight_ih", &[gates, width]));
            let weight = param("weight_hh", &[gates, self.hidden]);
            b.push(param("bias_ih", &[gates]));
            directions.push(Direction { weight, bias: param("bias_hh", &[gates]) });
        }
        Ok((linear::linear_layers(g, x, &w, &b)?, directions))
    }

    /// The layer in both directions on `x` (B, T, F): (B, T, 2 H). `recurrent_dropout`: of the state within the layer,
    /// one mask per clip.
    pub fn both_ways(
        &self,
        g: &mut Graph,
        x: Tensor,
        lengths: Tensor,
        recurrent_dropout: Option<Dropout>,
    ) -> Result<Sequence> {
        let (input, directions) = self.directions(g, x, &[false, true])?;
        let batch = g.shape(x).dims()[0];
        let mask = match recurrent_dropout {
            Some(dropout) => clip_dropout_factors(g, [batch, 2 * self.hidden], dropout)?,
            None => None,
        };
        recurrent::recurrent(g, self.cell, input, &directions, lengths, mask, None)
    }
}
