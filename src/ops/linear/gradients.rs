//! The gradients of a layer.

use super::kernels::{ADD_TO_B, ADD_TO_W, ADD_TO_X, BIASES, Curve, Dims, Linear, Params, shader, tiles};
use crate::gpu::{Grid, Recorder, SliceSum, View};
use crate::graph::{Bound, Io, Sink, slice_sums};
use crate::ops::activation::{Activation, activation_gradient};
use crate::ops::relu_gradient::relu_gradient;
use crate::ops::variants::Product;

/// Records those of x and the parameters.
pub(super) fn record(op: &Linear, io: &Io, r: &mut Recorder) {
    let d = Dims::of(io, op);
    let dy = io.dy(0).expect("backward runs only with a gradient");
    let variant = d.input_variant(r);
    let without_tiles = |variant| matches!(variant, Product::Subgroup8 { .. });
    let prepared = without_tiles(variant) || io.dx(1).is_some() && without_tiles(d.weight_variant(r).0);
    // Kernels of tiles look at y themselves.
    let g = match (op.curve(), prepared) {
        (Some(curve), true) => {
            let (g, len) = (io.scratch(2).view, io.replicas * d.rows() * d.n);
            let views = [io.y(0).view, dy, g];
            match curve {
                Curve::Relu(relu) => relu_gradient(r, relu, views, len),
                Curve::Sigmoid => activation_gradient(r, Activation::Sigmoid, views, len),
            }
            Gradient { dy: g, after: None }
        }
        (curve, _) => Gradient { dy, after: curve.map(|curve| (curve, io.y(0).view)) },
    };
    let mut input = io.dx(0).map(|dx| Input { w: io.x(1), dx });
    if let Some(Input { w, dx }) = input.take_if(|input| !d.in_one_dispatch(r, input.dx, io.dx(1))) {
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
                ..d.params().with(g.curve())
            };
            let launch = tiles([[1, d.m, d.k, part.len()]], io.replicas * d.segments, variant);
            r.dispatch(shader(variant), "linear_backward_input", &g.with(variant, views), p, launch);
        }
        if joins {
            let sum = dx.sum_of_slices(r.op, io.replicas, 1, into, d.rows() * d.k);
            slice_sums::record(r, vec![sum]);
        }
    }
    let partial = [io.scratch(0).view, io.scratch(1).view];
    gradients(r, &d, io.replicas, (g, io.x(0).view), input, [io.dx(1), io.dx(2)], partial);
}

/// The gradient of a layer's output: `dy`, or that before the curve whose output `y` is.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Gradient {
    pub dy: View,
    pub after: Option<(Curve, View)>,
}

impl Gradient {
    fn curve(&self) -> Option<Curve> {
        self.after.map(|(curve, _)| curve)
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
        let (variant, slices) = d.weight_variant(r);
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
                ..d.params().with(g.curve())
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
                    slice_sums::record_waiting(r);
                }
            }
        }
    }
    if let Some(db) = db {
        let vec4 = d.n.is_multiple_of(4);
        let n = d.n / if vec4 { 4 } else { 1 };
        let p = Params { m: d.rows() as u32, n: n as u32, slices: d.slices() as u32, ..d.params().with(g.curve()) };
        let launch = Grid::items(n, 64, replicas * d.slices()).iterations(d.rows().div_ceil(d.slices()));
        let bindings = [("grad_y", g.dy), ("saved_y", g.saved_y()), ("grad_w", partial_bias)];
        r.dispatch(&BIASES[usize::from(vec4)], "linear_backward_bias", &bindings, p, launch);
        r.slice_sums.push(db.sum_of_slices(r.op, replicas, d.slices(), partial_bias, d.n));
    }
}
