//! The kernels, their parameters and the sizes that they work on.

use std::ops::{Range, RangeInclusive};

use crate::core::error::{Error, Result};
use crate::core::random::dropout_threshold;
use crate::core::shape::Shape;
use crate::gpu::{Grid, Launch, MAX_ITERATIONS, Precision, Problem, Recorder, Shader, View, params, shader};
use crate::graph::{Io, Sink, Spec};
use crate::ops::activation::Activation;
use crate::ops::arena::{ALIGN, PART};
use crate::ops::relu_gradient::Relu;
use crate::ops::variants;
use crate::ops::variants::{Product, Tile, Tiles};

pub(in crate::ops) static TILES: Tiles = variants::tiles(shader!("linear.wgsl", "shared/linear.wgsl"));
/// By whether lengths are multiples of 4.
const BIAS: Shader = shader!("linear_bias.wgsl", "shared/linear.wgsl");
pub(in crate::ops) static BIASES: [Shader; 2] = [BIAS, BIAS.with(&["VEC4"])];
/// For rows that are no multiples of 4, and for those that are.
const RAGGED: Shader =
    shader!("software8/linear.wgsl", "shared/linear.wgsl", "software8/product.wgsl", "shared/stored.wgsl")
        .with_textures(&["x", "w", "grad_y"]);
pub(in crate::ops) static SUBGROUP8: [Shader; 2] = [RAGGED, RAGGED.with(&["VEC4", "WIDE"])];

params! {
    pub(super) struct Params {
        m: u32, n: u32, k: u32, first: u32, columns: u32, segments: u32,
        layers: u32, x_layer: u32, y_layer: u32, w_layer: u32, grad_layer: u32, b_layer: u32,
        w_stride: u32, grad_stride: u32, b_stride: u32,
        has_bias: u32, curve: u32, slope: f32, threshold: u32, scale: f32, stream: u32,
        accumulate: u32, slices: u32, w_at: u32, b_at: u32, k_from: u32, k_to: u32,
    }
}

/// Bits of `accumulate`.
pub(super) const ADD_TO_W: u32 = 1;
pub(super) const ADD_TO_B: u32 = 2;
pub(super) const ADD_TO_X: u32 = 4;

/// Rows and columns of the results that a subgroup of 8 computes (see the shaders).
const TILE8: usize = 32;
/// Most results of an invocation.
pub(super) const MAX_RESULTS: usize = 128;
/// The tile kernel sums dw over M in slices of about this many rows, so that large GPUs are fully used, but no more
/// than give about so many workgroups.
const SLICE: usize = 128;
const MAX_SLICES: usize = 16;
const GROUPS: usize = 512;
/// Most terms of a sum in one dispatch: an invocation loops over all of them (see `MAX_ITERATIONS`).
pub(super) const MAX_TERMS: usize = 1 << 14;

/// Inputs: x, w of each layer and, optionally, b of each; with dropout the clock.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// L: layers of one size on the same x, side by side in y (..., L N); not in segments. Their weights are parameters
    /// of one model, equally far apart.
    pub layers: usize,
    /// S: the rows of x, (..., S, K), use in turn the S segments of w (N, S K).
    pub segments: usize,
    /// Followed by it; not by tanh.
    pub activation: Activation,
    /// Then, after ReLU, by dropout of this probability, in the random stream of that number.
    pub dropout: Option<(f64, u32)>,
    /// Most weights bound at once; more are bound in parts.
    pub part: usize,
}

impl Linear {
    pub const PLAIN: Linear =
        Linear { layers: 1, segments: 1, activation: Activation::Identity, dropout: None, part: PART };
    pub const RELU: Linear = Linear { activation: Activation::Relu, ..Linear::PLAIN };

    pub(super) fn has_bias(&self, inputs: usize) -> bool {
        inputs - usize::from(self.dropout.is_some()) == 1 + 2 * self.layers
    }

    /// Indices of the weights among the inputs.
    pub(super) fn weights(&self) -> Range<usize> {
        1..1 + self.layers
    }

    /// And of the biases.
    pub(super) fn biases(&self) -> Range<usize> {
        1 + self.layers..1 + 2 * self.layers
    }

    pub(super) fn curve(&self) -> Option<Curve> {
        let (threshold, scale) = dropout_threshold(self.dropout.map_or(0.0, |(p, _)| p));
        let relu = |slope| Curve::Relu(Relu { slope, threshold, scale });
        match self.activation {
            Activation::Identity => None,
            Activation::Relu => Some(relu(0.0)),
            Activation::LeakyRelu { slope } => Some(relu(slope as f32)),
            Activation::Sigmoid => Some(Curve::Sigmoid),
            Activation::Tanh => unreachable!("infer rejects it"),
        }
    }
}

/// What the kernels compute after the product.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) enum Curve {
    /// And dropout.
    Relu(Relu),
    Sigmoid,
}

pub(in crate::ops) struct Dims {
    /// Rows of a segment.
    pub m: usize,
    /// Outputs of a layer.
    pub n: usize,
    pub k: usize,
    pub segments: usize,
    pub layers: Layers,
    /// Most weights bound at once.
    pub part: usize,
    /// Whether operands can be in half precision.
    pub halves: bool,
}

/// Layers of one size.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Layers {
    pub count: usize,
    /// Elements from x of one to that of the next; 0 for the same x.
    pub x: usize,
    /// From y of one to that of the next.
    pub y: usize,
    /// Elements of a row of y, or of those of all layers side by side.
    pub columns: usize,
}

impl Dims {
    pub(super) fn new(x: &Shape, w: &Shape, op: &Linear) -> Dims {
        let Linear { layers, segments, part, .. } = *op;
        let n = w.rows();
        let layers = Layers { count: layers, x: 0, y: n, columns: layers * n };
        Dims { m: x.rows() / segments, n, k: x.last(), segments, layers, part, halves: true }
    }

    pub(super) fn of(io: &Io, op: &Linear) -> Dims {
        Dims::new(&io.x(0).shape, &io.x(1).shape, op)
    }

    /// Of x and y.
    pub(super) fn rows(&self) -> usize {
        self.m * self.segments
    }

    /// Of an output.
    pub(super) fn weights(&self) -> usize {
        self.segments * self.k
    }

    /// At most what a binding can hold for the least number of outputs.
    pub(super) fn slices(&self) -> usize {
        let most = (self.part / (ALIGN * (self.weights() + 1))).max(1);
        let tiles = self.n.div_ceil(32) * self.k.div_ceil(32) * self.segments * self.layers.count;
        let useful = MAX_SLICES.min(GROUPS.div_ceil(tiles)).max(self.m.div_ceil(MAX_TERMS));
        self.m.div_ceil(SLICE).min(useful).min(most)
    }

    /// The outputs in parts whose weights, in so many slices, an adapter can bind.
    pub(super) fn parts(&self, slices: usize) -> impl Iterator<Item = Range<usize>> {
        let copy = self.weights() + usize::from(slices > 1);
        self.ranges((self.part / (slices * self.layers.count * copy) / ALIGN * ALIGN).max(ALIGN))
    }

    /// The same, of as many as a dispatch sums at most: the gradient of x is a sum over the outputs.
    pub(super) fn terms(&self) -> impl Iterator<Item = Range<usize>> {
        let most = self.part / (self.layers.count * self.weights()) / ALIGN * ALIGN;
        self.ranges(most.clamp(ALIGN, MAX_TERMS / self.layers.count))
    }

    fn ranges(&self, most: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let n = self.n;
        (0..n).step_by(most).map(move |first| first..n.min(first + most))
    }

    /// Weights, or their gradients, of these outputs. Shared ones, and those of a single replica, are
    /// contiguous; others are strided.
    pub(super) fn part_of(&self, w: View, part: &Range<usize>) -> View {
        View {
            offset: w.offset + part.start * self.weights(),
            len: w.len - (self.n - part.len()) * self.weights(),
            ..w
        }
    }

    /// Of the forward kernel, for `n` outputs.
    pub(super) fn forward_variant(&self, r: &mut Recorder, n: usize) -> Product {
        self.variant(r, "linear_forward", [self.m, n, self.k], self.layers.count, 1..=1).0
    }

    /// Of the kernel of the gradient of x.
    pub(super) fn input_variant(&self, r: &mut Recorder) -> Product {
        self.variant(r, "linear_backward_input", [self.m, self.k, self.layers.count * self.n], 1, 1..=1).0
    }

    /// Of the kernel of the gradient of w, and the slices of its sums.
    pub(super) fn weight_variant(&self, r: &mut Recorder) -> (Product, usize) {
        let most = self.slices();
        // Fewer slices could be in parts of which there is no room for all.
        let least = if self.parts(most).nth(1).is_some() { most } else { self.m.div_ceil(MAX_TERMS).min(most) };
        match self.variant(r, "linear_backward_weight", [self.n, self.k, self.m], self.layers.count, least..=most) {
            // Its sums over M are not sliced.
            (Product::Subgroup8 { aligned }, _) if self.m.div_ceil(4) > MAX_ITERATIONS => {
                (Product::Tile(Tile { side: 32, vec4: aligned, precision: Precision::F32, matrix: None }), most)
            }
            chosen => chosen,
        }
    }

    /// For a product of (rows, columns, terms) of so many layers.
    fn variant(
        &self,
        r: &mut Recorder,
        kernel: &'static str,
        [rows, columns, terms]: [usize; 3],
        layers: usize,
        slices: RangeInclusive<usize>,
    ) -> (Product, usize) {
        let precision = if self.halves { r.target.precision } else { Precision::F32 };
        let problem = Problem { kernel, result: [rows, columns], terms, copies: self.segments * layers, precision };
        variants::product(r, problem, [self.n, self.k], slices)
    }

    /// Whether one dispatch computes the gradients of x and of w, if that is wanted: it gains little for a large
    /// product.
    pub(super) fn in_one_dispatch(&self, r: &mut Recorder, dx: &Sink, dw: Option<&Sink>) -> bool {
        let (variant, slices) = self.weight_variant(r);
        // Both are written: parameters' gradients of several replicas are interleaved.
        dw.is_some_and(|dw| dw.view.slot != dx.view.slot)
            && matches!(variant, Product::Tile(Tile { side: ..128, .. }))
            && variant == self.input_variant(r)
            && self.terms().nth(1).is_none()
            && self.parts(slices).nth(1).is_none()
    }

    /// Working memory of [`parameter_gradients`]: slices of the gradients of weights and biases, and of those of biases
    /// on their own, the layers one after the other.
    pub fn gradient_scratch(&self) -> [Spec; 2] {
        let slices = self.slices();
        let weights = match slices {
            1 => 1,
            _ => slices * self.parts(slices).next().map_or(0, |part| part.len()) * (self.weights() + 1),
        };
        [weights, slices * self.n].map(|len| Spec::f32([self.layers.count * len.next_multiple_of(ALIGN)]))
    }

    pub(super) fn params(&self) -> Params {
        Params {
            m: self.m as u32,
            n: self.n as u32,
            k: self.k as u32,
            first: 0,
            columns: self.layers.columns as u32,
            segments: self.segments as u32,
            layers: self.layers.count as u32,
            x_layer: self.layers.x as u32,
            y_layer: self.layers.y as u32,
            w_layer: 0,
            grad_layer: 0,
            b_layer: 0,
            w_stride: 0,
            grad_stride: 0,
            b_stride: 0,
            has_bias: 0,
            curve: 0,
            slope: 0.0,
            threshold: 0,
            scale: 1.0,
            stream: 0,
            accumulate: 0,
            slices: 1,
            w_at: 0,
            b_at: 0,
            k_from: 0,
            k_to: self.k as u32,
        }
    }
}

impl Params {
    pub(super) fn with(self, curve: Option<Curve>) -> Params {
        let (curve, Relu { slope, threshold, scale }) = match curve {
            None => (0, Relu::PLAIN),
            Some(Curve::Relu(relu)) => (1, relu),
            Some(Curve::Sigmoid) => (2, Relu::PLAIN),
        };
        Params { curve, slope, threshold, scale, ..self }
    }
}

/// The range of the weights, biases or gradients of all layers, and the elements from one to the next.
///
/// # Errors
/// `Usage` for those of other tensors than parameters, declared layer by layer.
pub(in crate::ops) fn span(of_layers: impl Iterator<Item = View>) -> Result<(View, usize)> {
    View::span(&of_layers.collect::<Vec<_>>())
        .ok_or_else(|| Error::Usage("layers side by side must be parameters that are declared layer by layer".into()))
}

pub(super) fn shader(variant: Product) -> &'static Shader {
    match variant {
        Product::Tile(tile) => tile.shader(&TILES),
        Product::Subgroup8 { aligned } => &SUBGROUP8[usize::from(aligned)],
    }
}

/// The shader's constants.
pub(super) fn constants(variant: Product, p: &Params) -> Vec<(&'static str, f64)> {
    match variant {
        Product::Tile(tile) => tile.constants().into_iter().collect(),
        Product::Subgroup8 { .. } => vec![("ACCUMULATE", p.accumulate.into()), ("CURVE", p.curve.into())],
    }
}

/// A workgroup per tile of each copy of (rows, cols) results with sums of `depth` terms.
pub(super) fn tiles<const N: usize>(results: [[usize; 4]; N], z: usize, variant: Product) -> Launch {
    let side = match variant {
        Product::Tile(Tile { side, .. }) => side,
        Product::Subgroup8 { .. } => TILE8,
    };
    let rounds = |[.., depth]: [usize; 4]| match variant {
        Product::Tile(_) => tile_product_rounds(depth),
        Product::Subgroup8 { .. } => depth.div_ceil(4),
    };
    let groups = results.iter().map(|[copies, rows, cols, _]| copies * rows.div_ceil(side) * cols.div_ceil(side)).sum();
    Grid::folded(groups, z).iterations(results.map(rounds).into_iter().max().unwrap_or(0))
}

/// Rounds of a kernel of `shared/tile_product.wgsl`, of the smallest slices: for 8 terms one to fetch them, 8 to
/// multiply, and 8 to sum a bias.
pub(in crate::ops) fn tile_product_rounds(depth: usize) -> usize {
    17 * (depth.div_ceil(8) + 1)
}
