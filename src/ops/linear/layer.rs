//! The op, and its forward pass.

use std::ops::Range;

use super::gradients;
use super::kernels::{Curve, Dims, Linear, MAX_RESULTS, MAX_TERMS, Params, constants, shader, span, tiles};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::{PHILOX_ROUNDS, dropout_factor};
use crate::gpu::Recorder;
use crate::graph::onnx::operators::{Operators, Value};
use crate::graph::{Cost, Graph, Io, Mode, Op, Outputs, Spec, Tensor};
use crate::ops::activation::{Activation, Dropout, activate_in_place};
use crate::ops::variants::Product;

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
    let config = Linear { activation: Activation::LeakyRelu { slope: negative_slope }, ..Linear::PLAIN };
    if g.mode() == Mode::Eval || dropout.p == 0.0 {
        return linear_with(g, x, w, b, config);
    }
    let config = Linear { dropout: Some((dropout.p, dropout.stream)), ..config };
    let inputs: Vec<Tensor> = [x, w].into_iter().chain(b).chain([dropout.clock]).collect();
    Ok(g.push(config, &inputs)?[0])
}

/// Adds layers of one size side by side: y (..., L N). `w` (N, K) and `b` (N) of each, declared layer by layer.
pub fn linear_layers(g: &mut Graph, x: Tensor, w: &[Tensor], b: &[Tensor]) -> Result<Tensor> {
    let config = Linear { layers: w.len(), ..Linear::PLAIN };
    Ok(g.push(config, &[&[x], w, b].concat())?[0])
}

/// As [`linear`], in segments or with an activation.
pub fn linear_with(g: &mut Graph, x: Tensor, w: Tensor, b: Option<Tensor>, config: Linear) -> Result<Tensor> {
    let inputs: Vec<Tensor> = [x, w].into_iter().chain(b).collect();
    Ok(g.push(config, &inputs)?[0])
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let (input, w) = (&x[0].shape, &x[1].shape);
        let parameters = x.len() - 1 - usize::from(self.dropout.is_some());
        let alike = |which: Range<usize>| x.len() >= which.end && which.skip(1).all(|i| x[i] == x[i - 1]);
        let fits = w.rank() == 2
            && input.rank() >= 1
            && self.segments >= 1
            && self.layers >= 1
            && (self.layers == 1 || self.segments == 1)
            && (parameters == self.layers || parameters == 2 * self.layers)
            && alike(self.weights())
            && self.activation != Activation::Tanh
            && input.last() * self.segments == w.last()
            && input.rows().is_multiple_of(self.segments);
        let biases = self.biases();
        let bias_fits = !self.has_bias(x.len()) || x[biases.start].shape.dims() == [w.rows()] && alike(biases.clone());
        let clock_fits = self.dropout.is_none() || x.last() == Some(&Spec::u32([4]));
        if !fits || !bias_fits || !clock_fits {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = match (self.segments, self.layers) {
                (1, 1) => "x (..., K), w (N, K), b (N), u32 clock (4), no tanh".to_owned(),
                (1, layers) => format!("x (..., K), {layers} times w (N, K), {layers} times b (N), u32 clock (4)"),
                (s, _) => format!("one layer, x (..., K) in groups of {s} rows, w (N, {s} K), b (N)"),
            };
            return Err(Error::shape("linear", expected, got.join(", ")));
        }
        let dims = Dims::new(input, w, self);
        let [partial, partial_bias] = dims.gradient_scratch();
        let g = Spec::f32([if self.curve().is_some() { dims.rows() * dims.layers.columns } else { 1 }]);
        let dx = Spec::f32([if self.layers > 1 || dims.terms().nth(1).is_some() { input.len() } else { 1 }]);
        Ok(Outputs {
            y: vec![Spec::f32(input.with_last(dims.layers.columns))],
            scratch: vec![partial, partial_bias, g, dx],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = Dims::of(io, self);
        let (w, w_layer) = span(self.weights().map(|i| io.x(i).view))?;
        let has_bias = self.has_bias(io.inputs());
        let bias = has_bias.then(|| span(self.biases().map(|i| io.x(i).view))).transpose()?;
        let clock = self.dropout.map(|_| io.x(io.inputs() - 1).view);
        let variants: Vec<Product> = d.parts(1).map(|part| d.forward_variant(r, part.len())).collect();
        let all_tiled = variants.iter().all(|variant| matches!(variant, Product::Tile(_)));
        let curve = self.curve().filter(|curve| all_tiled || matches!(curve, Curve::Relu(_)));
        for (part, variant) in d.parts(1).zip(variants) {
            let (first, n) = (part.start, part.len());
            let w = d.part_of(w, &part);
            let (b, b_layer) = bias.unwrap_or((w, 0));
            let mut bindings = vec![("x", io.x(0).view), ("w", w), ("b", b), ("y", io.y(0).view)];
            // Without dropout any buffer that is only read is bound as the clock.
            bindings.extend(matches!(variant, Product::Tile(_)).then_some(("clock", clock.unwrap_or(w))));
            for from in (0..d.k).step_by(MAX_TERMS) {
                let to = d.k.min(from + MAX_TERMS);
                let is_last = to == d.k;
                let p = Params {
                    n: n as u32,
                    first: first as u32,
                    w_layer: w_layer as u32,
                    b_layer: b_layer as u32,
                    w_stride: io.x(1).stride as u32,
                    b_stride: if has_bias { io.x(self.biases().start).stride as u32 } else { 0 },
                    has_bias: (has_bias && is_last).into(),
                    stream: self.dropout.map_or(0, |(_, stream)| stream),
                    accumulate: (from > 0).into(),
                    k_from: from as u32,
                    k_to: to as u32,
                    ..d.params().with(curve.filter(|_| is_last))
                };
                let drops = all_tiled && clock.is_some() && is_last;
                let mut constants = constants(variant, &p);
                constants.extend(drops.then_some(("DROPS", 1.0)));
                let draws = if drops { MAX_RESULTS * PHILOX_ROUNDS } else { 0 };
                let launch = tiles([[self.layers, d.m, n, to - from]], io.replicas * d.segments, variant).and(draws);
                r.dispatch_with(shader(variant), "linear_forward", &constants, &bindings, p, launch);
            }
        }
        // What the other kernel of the product does not do.
        let rest = match self.activation {
            Activation::Sigmoid => Some(Activation::Sigmoid),
            _ => self.dropout.map(|_| Activation::Identity),
        };
        if let Some(rest) = rest.filter(|_| !all_tiled) {
            activate_in_place(r, rest, self.dropout, clock.unwrap_or(w), io.y(0), io.replicas);
        }
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        gradients::record(self, io, r)
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (input, width) = (&x[0], x[1].shape().rows());
        let columns = self.layers * width;
        let mut y = Array::zeros(input.shape().with_last(columns));
        for m in 0..input.shape().rows() {
            for column in 0..columns {
                let (layer, n) = (column / width, column % width);
                let first = m % self.segments * input.shape().last();
                let dot: f64 = input.row(m).iter().zip(&x[1 + layer].row(n)[first..]).map(|(a, b)| a * b).sum();
                let v = dot + if self.has_bias(x.len()) { x[self.biases().start + layer][n] } else { 0.0 };
                let v = match self.activation {
                    Activation::Relu => v.max(0.0),
                    Activation::LeakyRelu { slope } => v.max(0.0) + slope * v.min(0.0),
                    Activation::Sigmoid => 1.0 / (1.0 + (-v).exp()),
                    Activation::Identity | Activation::Tanh => v,
                };
                y.row_mut(m)[column] = v * self.dropout.map_or(1.0, |(p, stream)| {
                    let clock = &x[x.len() - 1];
                    dropout_factor(m * columns + column, stream, [0, 1, 2, 3].map(|i| clock[i] as u32), p)
                });
            }
        }
        vec![y]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        if self.segments > 1 || self.dropout.is_some() {
            return Err(Error::NoOnnx { op: "linear in segments or with dropout" });
        }
        // Those of all layers, one after the other.
        let of_layers = |which: Range<usize>| -> Result<Vec<f32>> {
            Ok(x[which].iter().map(|x| Ok(x.known()?.data())).collect::<Result<Vec<_>>>()?.concat())
        };
        let (w, k) = (of_layers(self.weights())?, x[1].dims()[1]);
        let columns = w.len() / k;
        let transposed: Vec<f32> = (0..w.len()).map(|i| w[i % columns * k + i / columns]).collect();
        let (input, w) = (to.of(&x[0]), to.floats(&[k, columns], &transposed));
        let mut y = to.apply("MatMul", &[&input, &w], &[]);
        if self.has_bias(x.len()) {
            let b = to.floats(&[columns], &of_layers(self.biases())?);
            y = to.apply("Add", &[&y, &b], &[]);
        }
        if self.activation != Activation::Identity {
            y = self.activation.onnx(&y, to);
        }
        Ok(vec![y])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let (m, k) = (x[0].shape.rows() as f64, x[0].shape.last() as f64);
        let n = (self.layers * x[1].shape.rows()) as f64;
        Cost { flops: 2.0 * m * n * k, bytes: 4.0 * (m * k + n * x[1].shape.last() as f64 + m * n) }
    }
}
