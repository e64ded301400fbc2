//! The gradients of a layer.

use std::ops::Range;

use super::kernels::{
    ADD_TO_B, ADD_TO_W, ADD_TO_X, BIASES, Curve, Dims, Linear, Params, constants, shader, span, tiles,
};
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, SliceSum, View};
use crate::graph::{Io, Sink, slice_sums};
use crate::ops::activation::{Activation, activation_gradient};
use crate::ops::arena::ALIGN;
use crate::ops::relu_gradient::relu_gradient;
use crate::ops::variants::Product;

/// Records those of x and the parameters.
pub(super) fn record(op: &Linear, io: &Io, r: &mut Recorder) -> Result<()> {
    let d = Dims::of(io, op);
    let dy = io.dy(0).expect("backward runs only with a gradient");
    let dw = Gradients::of(io, op.weights())?;
    let db = Gradients::of(io, op.biases())?;
    let variant = d.input_variant(r);
    let without_tiles = |variant| matches!(variant, Product::Subgroup8 { .. });
    let prepared = without_tiles(variant) || dw.is_some() && without_tiles(d.weight_variant(r).0);
    // Kernels of tiles look at y themselves.
    let g = match (op.curve(), prepared) {
        (Some(curve), true) => {
            let (g, len) = (io.scratch(2).view, io.replicas * d.rows() * d.layers.columns);
            let views = [io.y(0).view, dy, g];
            match curve {
                Curve::Relu(relu) => relu_gradient(r, relu, views, len),
                Curve::Sigmoid => activation_gradient(r, Activation::Sigmoid, views, len),
            }
            Gradient { dy: g, after: None }
        }
        (curve, _) => Gradient { dy, after: curve.map(|curve| (curve, io.y(0).view)) },
    };
    let w = span(op.weights().map(|i| io.x(i).view))?;
    let mut input = io.dx(0).map(|dx| Input { w, w_stride: io.x(1).stride, dx });
    let sink = dw.as_ref().map(|dw| dw.first);
    if let Some(Input { w_stride, dx, .. }) = input.take_if(|input| !d.in_one_dispatch(r, input.dx, sink)) {
        // A sum over the outputs and the layers. Kernels without tiles take one layer at a time, the last first.
        let at_once = if without_tiles(variant) { 1 } else { d.layers.count };
        let first = (0..d.layers.count).step_by(at_once).rev();
        let terms: Vec<_> = first.flat_map(|layer| d.terms().map(move |part| (layer, part))).collect();
        // If the sum of several dispatches is added to an earlier contribution, it is complete before.
        let joins = dx.accumulate && terms.len() > 1;
        let into = if joins { io.scratch(3).view } else { dx.view };
        for (i, (layer, part)) in terms.iter().enumerate() {
            let (w, w_layer) = span((*layer..layer + at_once).map(|layer| io.x(1 + layer).view))?;
            let views = [("w", d.part_of(w, part)), ("grad_x", into)];
            let p = Params {
                n: part.len() as u32,
                first: (layer * d.layers.y + part.start) as u32,
                layers: at_once as u32,
                w_layer: w_layer as u32,
                w_stride: w_stride as u32,
                accumulate: if i > 0 || dx.accumulate && !joins { ADD_TO_X } else { 0 },
                ..d.params().with(g.curve())
            };
            let launch = tiles([[1, d.m, d.k, at_once * part.len()]], io.replicas * d.segments, variant);
            r.dispatch_with(
                shader(variant),
                "linear_backward_input",
                &constants(variant, &p),
                &g.with(variant, views),
                p,
                launch,
            );
        }
        if joins {
            let sum = dx.sum_of_slices(r.op, io.replicas, 1, into, d.rows() * d.k);
            slice_sums::record(r, vec![sum]);
        }
    }
    let partial = [io.scratch(0).view, io.scratch(1).view];
    gradients(r, &d, io.replicas, (g, io.x(0).view), input, [dw, db], partial);
    Ok(())
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

/// The gradients of the weights of all layers, or of their biases: the first, whose places the others follow.
pub(in crate::ops) struct Gradients<'a> {
    pub first: &'a Sink,
    /// Of all, and the elements from one to the next.
    range: View,
    apart: usize,
}

impl<'a> Gradients<'a> {
    /// Those of the inputs `which`; `None` if none of them is needed.
    ///
    /// # Errors
    /// `Usage` for a gradient that only some of the layers need.
    pub fn of(io: &'a Io, which: Range<usize>) -> Result<Option<Gradients<'a>>> {
        let sinks: Vec<&Sink> = which.clone().filter_map(|i| io.dx(i)).collect();
        let Some(first) = sinks.first() else { return Ok(None) };
        if sinks.len() < which.len() || sinks.iter().any(|sink| sink.accumulate != first.accumulate) {
            return Err(Error::Usage("layers side by side are trained together, or not at all".into()));
        }
        let (range, apart) = span(sinks.iter().map(|sink| sink.view))?;
        Ok(Some(Gradients { first, range, apart }))
    }

    fn sink(&self, layer: usize) -> Sink {
        let view = self.first.view;
        Sink { view: View { offset: view.offset + layer * self.apart, ..view }, ..self.first.clone() }
    }
}

/// The gradient of x, for a dispatch that computes it beside that of w.
struct Input<'a> {
    /// Of all layers, and the elements from one to the next.
    w: (View, usize),
    w_stride: usize,
    dx: &'a Sink,
}

/// Records dw = g^T x and db, the sum of g over its rows, of `g` (R, M, S, N) and `x` (R, M, S, K) of each layer.
/// `partial`: [`Dims::gradient_scratch`].
pub(in crate::ops) fn parameter_gradients(
    r: &mut Recorder,
    d: &Dims,
    replicas: usize,
    gx: (Gradient, View),
    parameters: [Option<Gradients>; 2],
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
    [dw, mut db]: [Option<Gradients>; 2],
    [partial, partial_bias]: [View; 2],
) {
    let layers = d.layers.count;
    // The slices of a layer, of so many elements for each replica.
    let of_layer = |partial: View, layer: usize, len: usize| {
        let len = replicas * len;
        View { offset: partial.offset + layer * len.next_multiple_of(ALIGN), len, ..partial }
    };
    if let Some(dw) = dw {
        let (variant, slices) = d.weight_variant(r);
        // Each segment has only a part of the rows. Weight and bias are in one arena, and bound as the range that
        // covers both; if that exceeds a binding, the bias is summed on its own.
        let fits = |all: &View| d.segments == 1 && all.len - (replicas - 1) * dw.first.stride <= d.part;
        let all = db.as_ref().and_then(|db| dw.range.cover(db.range)).filter(fits);
        let fused = all.and_then(|all| Some((all, db.take()?)));
        for part in d.parts(slices) {
            let (weights, n) = (part.len() * d.weights(), part.len());
            // Both gradients where they belong, once from the first and once as the sum of the slices.
            let mut p = Params {
                n: n as u32,
                first: part.start as u32,
                slices: slices as u32,
                accumulate: if dw.first.accumulate { ADD_TO_W } else { 0 },
                grad_layer: dw.apart as u32,
                grad_stride: dw.first.stride as u32,
                ..d.params().with(g.curve())
            };
            let mut into = d.part_of(dw.range, &part);
            if let Some((all, db)) = &fused {
                p.has_bias = 1;
                p.b_layer = db.apart as u32;
                p.b_stride = db.first.stride as u32;
                p.accumulate |= if db.first.accumulate { ADD_TO_B } else { 0 };
                p.w_at = (dw.range.offset - all.offset + part.start * d.weights()) as u32;
                p.b_at = (db.range.offset - all.offset + part.start) as u32;
                into = *all;
            }
            let biases = if fused.is_some() { n } else { 0 };
            let own = slices * (weights + biases);
            let (to, sums) = match slices {
                1 => (into, p),
                _ => {
                    let stride = (weights + biases) as u32;
                    let apart = (of_layer(partial, 1, own).offset - partial.offset) as u32;
                    let p = Params { grad_layer: apart, b_layer: apart, grad_stride: stride, b_stride: stride, ..p };
                    (partial, Params { accumulate: 0, w_at: 0, b_at: weights as u32, ..p })
                }
            };
            let bindings = g.with(variant, [("x", x), ("grad_w", to)]);
            let (of_w, z) = ([layers * slices, n, d.k, d.m.div_ceil(slices)], replicas * d.segments);
            match &input {
                Some(Input { w: (w, w_layer), w_stride, dx }) => {
                    let add_to_x = if dx.accumulate { ADD_TO_X } else { 0 };
                    let (w_layer, w_stride) = (*w_layer as u32, *w_stride as u32);
                    let both = Params { w_layer, w_stride, accumulate: sums.accumulate | add_to_x, ..sums };
                    let bindings = [bindings, vec![("w", *w), ("grad_x", dx.view)]].concat();
                    let launch = tiles([of_w, [1, d.m, d.k, layers * n]], z, variant);
                    r.dispatch_with(
                        shader(variant),
                        "linear_backward",
                        &constants(variant, &both),
                        &bindings,
                        both,
                        launch,
                    );
                }
                None => {
                    let launch = tiles([of_w], z, variant);
                    r.dispatch_with(
                        shader(variant),
                        "linear_backward_weight",
                        &constants(variant, &sums),
                        &bindings,
                        sums,
                        launch,
                    );
                }
            }
            if slices > 1 {
                r.slice_sums.extend((0..layers).map(|layer| SliceSum {
                    op: r.op,
                    replicas,
                    slices,
                    slices_view: of_layer(partial, layer, own),
                    lens: [weights, biases],
                    into,
                    at: [p.w_at + layer as u32 * p.grad_layer, p.b_at + layer as u32 * p.b_layer].map(|at| at as usize),
                    stride: dw.first.stride,
                    accumulate: [dw.first.accumulate, p.accumulate & ADD_TO_B != 0],
                }));
                if part.end < d.n {
                    // The next part needs the memory of the slices.
                    slice_sums::record_waiting(r);
                }
            }
        }
    }
    if let Some(db) = db {
        let vec4 = d.n.is_multiple_of(4);
        let width = if vec4 { 4 } else { 1 };
        let slices = d.slices();
        for layer in 0..layers {
            let partial = of_layer(partial_bias, layer, slices * d.n);
            let p = Params {
                m: d.rows() as u32,
                n: (d.n / width) as u32,
                first: (layer * d.layers.y / width) as u32,
                columns: (d.layers.columns / width) as u32,
                slices: slices as u32,
                ..d.params().with(g.curve())
            };
            let launch = Grid::items(d.n / width, 64, replicas * slices).iterations(d.rows().div_ceil(slices));
            let bindings = [("grad_y", g.dy), ("saved_y", g.saved_y()), ("grad_w", partial)];
            r.dispatch(&BIASES[usize::from(vec4)], "linear_backward_bias", &bindings, p, launch);
            r.slice_sums.push(db.sink(layer).sum_of_slices(r.op, replicas, slices, partial, d.n));
        }
    }
}
