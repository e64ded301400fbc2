//! The op and its kernels.

use std::ops::Range;

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::{PHILOX_ROUNDS, dropout_factor, dropout_threshold};
use crate::core::shape::Shape;
use crate::gpu::{Grid, Launch, MAX_ITERATIONS, Recorder, Shader, SliceSum, Target, View, params, shader};
use crate::graph::{Bound, Cost, Graph, Io, Mode, Op, Outputs, Sink, Spec, Tensor, slice_sums};
use crate::ops::activation::Dropout;
use crate::ops::arena::{ALIGN, PART};
use crate::ops::relu_gradient::{Relu, relu_gradient};
use crate::ops::variants;
use crate::ops::variants::{Product, Tile, Tiles};

pub(in crate::ops) static TILES: Tiles = variants::tiles(shader!("linear.wgsl", "shared/linear.wgsl"));
/// By whether lengths are multiples of 4.
const BIAS: Shader = shader!("linear_bias.wgsl", "shared/linear.wgsl");
pub(in crate::ops) static BIASES: [Shader; 2] = [BIAS, BIAS.with(&["VEC4"])];
/// For rows that are no multiples of 4, and for those that are.
const RAGGED: Shader = shader!("software8/linear.wgsl", "shared/linear.wgsl", "software8/product.wgsl")
    .with_textures(&["x", "w", "grad_y"]);
pub(in crate::ops) static SUBGROUP8: [Shader; 2] = [RAGGED, RAGGED.with(&["VEC4"])];

params! {
    struct Params {
        m: u32, n: u32, k: u32, first: u32, columns: u32, segments: u32,
        w_stride: u32, grad_stride: u32, b_stride: u32,
        has_bias: u32, relu: u32, slope: f32, threshold: u32, scale: f32, stream: u32,
        accumulate: u32, slices: u32, w_at: u32, b_at: u32, k_from: u32, k_to: u32,
    }
}

/// Bits of `accumulate`.
const ADD_TO_W: u32 = 1;
const ADD_TO_B: u32 = 2;
const ADD_TO_X: u32 = 4;

/// Rows and columns of the results that a subgroup of 8 computes (see the shaders).
const TILE8: usize = 32;
/// Most results of an invocation.
const MAX_RESULTS: usize = 128;
/// The tile kernel sums dw over M in slices of about this many rows, so that large GPUs are fully used, but no more
/// than give about so many workgroups.
const SLICE: usize = 128;
const MAX_SLICES: usize = 16;
const GROUPS: usize = 512;
/// Most terms of a sum in one dispatch: an invocation loops over all of them (see `MAX_ITERATIONS`).
const MAX_TERMS: usize = 1 << 14;

/// Inputs: x, w and, optionally, b; with dropout the clock.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// S: the rows of x, (..., S, K), use in turn the S segments of w (N, S K).
    pub segments: usize,
    /// Followed by ReLU, leaky with a slope for negative values above 0 (and below 1).
    pub negative_slope: Option<f64>,
    /// Then by dropout of this probability, in the random stream of that number.
    pub dropout: Option<(f64, u32)>,
    /// Most weights bound at once; more are bound in parts.
    pub part: usize,
}

impl Linear {
    pub const PLAIN: Linear = Linear { segments: 1, negative_slope: None, dropout: None, part: PART };
    /// Followed by ReLU.
    pub const RELU: Linear = Linear { negative_slope: Some(0.0), ..Linear::PLAIN };

    fn has_bias(&self, inputs: usize) -> bool {
        inputs - usize::from(self.dropout.is_some()) == 3
    }

    fn relu(&self) -> Option<Relu> {
        let (threshold, scale) = dropout_threshold(self.dropout.map_or(0.0, |(p, _)| p));
        self.negative_slope.map(|slope| Relu { slope: slope as f32, threshold, scale })
    }
}

/// Adds y = x w^T (+ b). `w` (N, K), `b` (N).
pub fn linear(g: &mut Graph, x: Tensor, w: Tensor, b: Option<Tensor>) -> Result<Tensor> {
    linear_with(g, x, w, b, Linear::PLAIN)
}

/// As [`linear`], with ReLU of slope `negative_slope` for negative values, and in training dropout.
///
/// # Errors
/// `Usage` for a dropout probability out of range.
pub fn linear_dropout(
    g: &mut Graph,
    x: Tensor,
    w: Tensor,
    b: Option<Tensor>,
    negative_slope: f64,
    dropout: Dropout,
) -> Result<Tensor> {
    dropout.check()?;
    let config = Linear { negative_slope: Some(negative_slope), ..Linear::PLAIN };
    if g.mode() == Mode::Eval || dropout.p == 0.0 {
        return linear_with(g, x, w, b, config);
    }
    let config = Linear { dropout: Some((dropout.p, dropout.stream)), ..config };
    let inputs: Vec<Tensor> = [x, w].into_iter().chain(b).chain([dropout.clock]).collect();
    Ok(g.push(config, &inputs)?[0])
}

/// As [`linear`], in segments or with ReLU.
pub fn linear_with(g: &mut Graph, x: Tensor, w: Tensor, b: Option<Tensor>, config: Linear) -> Result<Tensor> {
    let inputs: Vec<Tensor> = [x, w].into_iter().chain(b).collect();
    Ok(g.push(config, &inputs)?[0])
}

pub(in crate::ops) struct Dims {
    /// Rows of a segment.
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub segments: usize,
    /// Most weights bound at once.
    pub part: usize,
}

impl Dims {
    fn new(x: &Shape, w: &Shape, op: &Linear) -> Dims {
        let Linear { segments, part, .. } = *op;
        Dims { m: x.rows() / segments, n: w.rows(), k: x.last(), segments, part }
    }

    fn of(io: &Io, op: &Linear) -> Dims {
        Dims::new(&io.x(0).shape, &io.x(1).shape, op)
    }

    /// Of x and y.
    fn rows(&self) -> usize {
        self.m * self.segments
    }

    /// Of an output.
    fn weights(&self) -> usize {
        self.segments * self.k
    }

    /// At most what a binding can hold for the least number of outputs.
    fn slices(&self) -> usize {
        let most = (self.part / (ALIGN * (self.weights() + 1))).max(1);
        let tiles = self.n.div_ceil(32) * self.k.div_ceil(32) * self.segments;
        let useful = MAX_SLICES.min(GROUPS.div_ceil(tiles)).max(self.m.div_ceil(MAX_TERMS));
        self.m.div_ceil(SLICE).min(useful).min(most)
    }

    /// The outputs in parts, `copies` of whose weights an adapter can bind.
    fn parts(&self, copies: usize) -> impl Iterator<Item = Range<usize>> {
        self.ranges((self.part / (copies * (self.weights() + usize::from(copies > 1))) / ALIGN * ALIGN).max(ALIGN))
    }

    /// The same, of as many as a dispatch sums at most: the gradient of x is a sum over the outputs.
    fn terms(&self) -> impl Iterator<Item = Range<usize>> {
        self.ranges((self.part / self.weights() / ALIGN * ALIGN).clamp(ALIGN, MAX_TERMS))
    }

    fn ranges(&self, most: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let n = self.n;
        (0..n).step_by(most).map(move |first| first..n.min(first + most))
    }

    /// Weights, or their gradients, of these outputs. Shared ones, and those of a single replica, are
    /// contiguous; others are strided.
    fn part_of(&self, w: View, part: &Range<usize>) -> View {
        View {
            offset: w.offset + part.start * self.weights(),
            len: w.len - (self.n - part.len()) * self.weights(),
            ..w
        }
    }

    /// Of the kernel of the gradient of x.
    fn input_variant(&self, target: Target) -> Product {
        variants::product(target, [self.n, self.k], [self.m, self.k], self.segments)
    }

    /// Of the kernel of the gradient of w.
    fn weight_variant(&self, target: Target) -> Product {
        match variants::product(target, [self.n, self.k], [self.n, self.k], self.segments * self.slices()) {
            // Its sums over M are not sliced.
            Product::Subgroup8 { aligned } if self.m.div_ceil(4) > MAX_ITERATIONS => {
                Product::Tile(Tile { side: 32, vec4: aligned })
            }
            variant => variant,
        }
    }

    /// Whether one dispatch computes the gradients of x and of w, if that is wanted.
    fn in_one_dispatch(&self, target: Target, dw: Option<&Sink>) -> bool {
        let variant = self.weight_variant(target);
        dw.is_some()
            && matches!(variant, Product::Tile(_))
            && variant == self.input_variant(target)
            && self.terms().nth(1).is_none()
            && self.parts(self.slices()).nth(1).is_none()
    }

    /// Working memory of [`parameter_gradients`].
    pub fn gradient_scratch(&self) -> [Spec; 2] {
        let slices = self.slices();
        let weights = match slices {
            1 => 1,
            _ => slices * self.parts(slices).next().map_or(0, |part| part.len()) * (self.weights() + 1),
        };
        [Spec::f32([weights]), Spec::f32([slices, self.n])]
    }

    fn params(&self) -> Params {
        Params {
            m: self.m as u32,
            n: self.n as u32,
            k: self.k as u32,
            first: 0,
            columns: self.n as u32,
            segments: self.segments as u32,
            w_stride: 0,
            grad_stride: 0,
            b_stride: 0,
            has_bias: 0,
            relu: 0,
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
    fn with(self, relu: Option<Relu>) -> Params {
        let Relu { slope, threshold, scale } = relu.unwrap_or(Relu::PLAIN);
        Params { relu: relu.is_some().into(), slope, threshold, scale, ..self }
    }
}

fn shader(variant: Product) -> &'static Shader {
    match variant {
        Product::Tile(tile) => tile.shader(&TILES),
        Product::Subgroup8 { aligned } => &SUBGROUP8[usize::from(aligned)],
    }
}

/// A workgroup per tile of each copy of (rows, cols) results with sums of `depth` terms.
fn tiles<const N: usize>(results: [[usize; 4]; N], z: usize, variant: Product) -> Launch {
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

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let (input, w) = (&x[0].shape, &x[1].shape);
        let fits = w.rank() == 2
            && input.rank() >= 1
            && self.segments >= 1
            && input.last() * self.segments == w.last()
            && input.rows().is_multiple_of(self.segments);
        let bias_fits = !self.has_bias(x.len()) || x[2].shape.dims() == [w.rows()];
        let clock_fits = self.dropout.is_none() || x.last() == Some(&Spec::u32([4]));
        if !fits || !bias_fits || !clock_fits {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = match self.segments {
                1 => "x (..., K), w (N, K), b (N), u32 clock (4)".to_owned(),
                s => format!("x (..., K) in groups of {s} rows, w (N, {s} K), b (N)"),
            };
            return Err(Error::shape("linear", expected, got.join(", ")));
        }
        let dims = Dims::new(input, w, self);
        let [partial, partial_bias] = dims.gradient_scratch();
        let g = Spec::f32([if self.negative_slope.is_some() { dims.rows() * dims.n } else { 1 }]);
        let dx = Spec::f32([if dims.terms().nth(1).is_some() { input.len() } else { 1 }]);
        Ok(Outputs {
            y: vec![Spec::f32(input.with_last(w.rows()))],
            scratch: vec![partial, partial_bias, g, dx],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = Dims::of(io, self);
        let w = io.x(1).view;
        let bias = self.has_bias(io.inputs()).then(|| io.x(2));
        for part in d.parts(1) {
            let (first, n) = (part.start, part.len());
            let variant = variants::product(r.target, [d.n, d.k], [d.m, n], d.segments);
            let w = d.part_of(w, &part);
            let b = bias.map_or(w, |bias| bias.view);
            // Without dropout any buffer that is only read is bound as the clock.
            let clock = if self.dropout.is_some() { io.x(io.inputs() - 1).view } else { w };
            let bindings = [("x", io.x(0).view), ("w", w), ("b", b), ("y", io.y(0).view), ("clock", clock)];
            for from in (0..d.k).step_by(MAX_TERMS) {
                let to = d.k.min(from + MAX_TERMS);
                let is_last = to == d.k;
                let p = Params {
                    n: n as u32,
                    first: first as u32,
                    w_stride: io.x(1).stride as u32,
                    b_stride: bias.map_or(0, |bias| bias.stride) as u32,
                    has_bias: (bias.is_some() && is_last).into(),
                    stream: self.dropout.map_or(0, |(_, stream)| stream),
                    accumulate: (from > 0).into(),
                    k_from: from as u32,
                    k_to: to as u32,
                    ..d.params().with(self.relu().filter(|_| is_last))
                };
                let draws = if self.dropout.is_some() { MAX_RESULTS * PHILOX_ROUNDS } else { 0 };
                let launch = tiles([[1, d.m, n, to - from]], io.replicas * d.segments, variant).and(draws);
                r.dispatch(shader(variant), "linear_forward", &bindings, p, launch);
            }
        }
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = Dims::of(io, self);
        let dy = io.dy(0).expect("backward runs only with a gradient");
        let variant = d.input_variant(r.target);
        // Kernels of tiles look at y themselves.
        let g = match (self.relu(), variant) {
            (Some(relu), Product::Subgroup8 { .. }) => {
                let g = io.scratch(2).view;
                relu_gradient(r, relu, [io.y(0).view, dy, g], io.replicas * d.rows() * d.n);
                Gradient { dy: g, after: None }
            }
            (relu, _) => Gradient { dy, after: relu.map(|relu| (relu, io.y(0).view)) },
        };
        let mut input = io.dx(0).map(|dx| Input { w: io.x(1), dx });
        if let Some(Input { w, dx }) = input.take_if(|_| !d.in_one_dispatch(r.target, io.dx(1))) {
            // A sum over the outputs, to which every part adds. If it is added to an earlier contribution, it is
            // complete before.
            let joins = dx.accumulate && d.terms().nth(1).is_some();
            let into = if joins { io.scratch(3).view } else { dx.view };
            for part in d.terms() {
                let views = [("w", d.part_of(w.view, &part)), ("grad_x", into)];
                let p = Params {
                    n: part.len() as u32,
                    first: part.start as u32,
                    w_stride: w.stride as u32,
                    accumulate: if part.start > 0 || dx.accumulate && !joins { ADD_TO_X } else { 0 },
                    ..d.params().with(g.relu())
                };
                let launch = tiles([[1, d.m, d.k, part.len()]], io.replicas * d.segments, variant);
                r.dispatch(shader(variant), "linear_backward_input", &g.with(variant, views), p, launch);
            }
            if joins {
                let sum = SliceSum {
                    op: r.op,
                    replicas: io.replicas,
                    slices: 1,
                    slices_view: into,
                    lens: [d.rows() * d.k, 0],
                    into: dx.view,
                    at: [0, 0],
                    stride: dx.stride,
                    accumulate: [true, false],
                };
                slice_sums::record(r, vec![sum]);
            }
        }
        let partial = [io.scratch(0).view, io.scratch(1).view];
        gradients(r, &d, io.replicas, (g, io.x(0).view), input, [io.dx(1), io.dx(2)], partial);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (input, w) = (&x[0], &x[1]);
        let mut y = Array::zeros(input.shape().with_last(w.shape().rows()));
        for m in 0..input.shape().rows() {
            for n in 0..w.shape().rows() {
                let first = m % self.segments * input.shape().last();
                let dot: f64 = input.row(m).iter().zip(&w.row(n)[first..]).map(|(a, b)| a * b).sum();
                let v = dot + if self.has_bias(x.len()) { x[2][n] } else { 0.0 };
                let v = self.negative_slope.map_or(v, |slope| v.max(slope * v));
                y.row_mut(m)[n] = v * self.dropout.map_or(1.0, |(p, stream)| {
                    let clock = &x[x.len() - 1];
                    dropout_factor(m * w.shape().rows() + n, stream, [0, 1, 2, 3].map(|i| clock[i] as u32), p)
                });
            }
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let (m, n, k) = (x[0].shape.rows() as f64, x[1].shape.rows() as f64, x[0].shape.last() as f64);
        Cost { flops: 2.0 * m * n * k, bytes: 4.0 * (m * k + n * x[1].shape.last() as f64 + m * n) }
    }
}

/// The gradient of a layer's output: `dy`, or that before the ReLU whose output `y` is.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Gradient {
    pub dy: View,
    pub after: Option<(Relu, View)>,
}

impl Gradient {
    fn relu(&self) -> Option<Relu> {
        self.after.map(|(relu, _)| relu)
    }

    fn saved_y(&self) -> View {
        self.after.map_or(self.dy, |(_, y)| y)
    }

    /// The bindings of a kernel that reads it.
    fn with<const N: usize>(self, variant: Product, others: [(&'static str, View); N]) -> Vec<(&'static str, View)> {
        let saved = ("saved_y", self.saved_y());
        let saved = matches!(variant, Product::Tile(_)).then_some(saved);
        [("grad_y", self.dy)].into_iter().chain(saved).chain(others).collect()
    }
}

/// The gradient of x, for a dispatch that computes it beside that of w.
struct Input<'a> {
    w: &'a Bound,
    dx: &'a Sink,
}

/// Records dw = g^T x and db, the sum of g over its rows, of `g` (R, M, S, N) and `x` (R, M, S, K).
/// `partial`: [`Dims::gradient_scratch`].
pub(in crate::ops) fn parameter_gradients(
    r: &mut Recorder,
    d: &Dims,
    replicas: usize,
    gx: (Gradient, View),
    parameters: [Option<&Sink>; 2],
    partial: [View; 2],
) {
    gradients(r, d, replicas, gx, None, parameters, partial);
}

/// As [`parameter_gradients`], with that of x if it is in the same dispatch.
fn gradients(
    r: &mut Recorder,
    d: &Dims,
    replicas: usize,
    (g, x): (Gradient, View),
    input: Option<Input>,
    [dw, mut db]: [Option<&Sink>; 2],
    [partial, partial_bias]: [View; 2],
) {
    if let Some(dw) = dw {
        let variant = d.weight_variant(r.target);
        let slices = if matches!(variant, Product::Tile(_)) { d.slices() } else { 1 };
        // Each segment has only a part of the rows. Weight and bias are in one arena, and bound as the range that
        // covers both; if that exceeds a binding, the bias is summed on its own.
        let fits = |all: &View| d.segments == 1 && all.len - (replicas - 1) * dw.stride <= d.part;
        let all = db.and_then(|db| dw.view.cover(db.view)).filter(fits);
        let fused = all.and_then(|all| Some((all, db.take()?)));
        for part in d.parts(slices) {
            let (weights, n) = (part.len() * d.weights(), part.len());
            // Both gradients where they belong, once from the first and once as the sum of the slices.
            let mut p = Params {
                n: n as u32,
                first: part.start as u32,
                slices: slices as u32,
                accumulate: if dw.accumulate { ADD_TO_W } else { 0 },
                grad_stride: dw.stride as u32,
                ..d.params().with(g.relu())
            };
            let mut into = d.part_of(dw.view, &part);
            if let Some((all, db)) = &fused {
                p.has_bias = 1;
                p.b_stride = db.stride as u32;
                p.accumulate |= if db.accumulate { ADD_TO_B } else { 0 };
                p.w_at = (dw.view.offset - all.offset + part.start * d.weights()) as u32;
                p.b_at = (db.view.offset - all.offset + part.start) as u32;
                into = *all;
            }
            let biases = if fused.is_some() { n } else { 0 };
            let (to, sums) = match slices {
                1 => (into, p),
                _ => {
                    let (stride, b_at) = ((weights + biases) as u32, weights as u32);
                    (partial, Params { accumulate: 0, grad_stride: stride, b_stride: stride, w_at: 0, b_at, ..p })
                }
            };
            let bindings = g.with(variant, [("x", x), ("grad_w", to)]);
            let (of_w, z) = ([slices, n, d.k, d.m.div_ceil(slices)], replicas * d.segments);
            match &input {
                Some(Input { w, dx }) => {
                    let add_to_x = if dx.accumulate { ADD_TO_X } else { 0 };
                    let both = Params { w_stride: w.stride as u32, accumulate: sums.accumulate | add_to_x, ..sums };
                    let bindings = [bindings, vec![("w", w.view), ("grad_x", dx.view)]].concat();
                    let launch = tiles([of_w, [1, d.m, d.k, n]], z, variant);
                    r.dispatch(shader(variant), "linear_backward", &bindings, both, launch);
                }
                None => {
                    let launch = tiles([of_w], z, variant);
                    r.dispatch(shader(variant), "linear_backward_weight", &bindings, sums, launch);
                }
            }
            if slices > 1 {
                let sum = SliceSum {
                    op: r.op,
                    replicas,
                    slices,
                    slices_view: partial,
                    lens: [weights, biases],
                    into,
                    at: [p.w_at as usize, p.b_at as usize],
                    stride: dw.stride,
                    accumulate: [dw.accumulate, p.accumulate & ADD_TO_B != 0],
                };
                r.slice_sums.push(sum);
                if part.end < d.n {
                    // The next part needs the memory of the slices.
                    let waiting = std::mem::take(&mut r.slice_sums);
                    slice_sums::record(r, waiting);
                }
            }
        }
    }
    if let Some(db) = db {
        let vec4 = d.n.is_multiple_of(4);
        let n = d.n / if vec4 { 4 } else { 1 };
        let p = Params { m: d.rows() as u32, n: n as u32, slices: d.slices() as u32, ..d.params().with(g.relu()) };
        let launch = Grid::items(n, 64, replicas * d.slices()).iterations(d.rows().div_ceil(d.slices()));
        let bindings = [("grad_y", g.dy), ("saved_y", g.saved_y()), ("grad_w", partial_bias)];
        r.dispatch(&BIASES[usize::from(vec4)], "linear_backward_bias", &bindings, p, launch);
        r.slice_sums.push(SliceSum {
            op: r.op,
            replicas,
            slices: d.slices(),
            slices_view: partial_bias,
            lens: [d.n, 0],
            into: db.view,
            at: [0, 0],
            stride: db.stride,
            accumulate: [db.accumulate, false],
        });
    }
}
