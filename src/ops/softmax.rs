//! Softmax over the innermost axis: y_k = exp(x_k - max x) / sum_j exp(x_j - max x).
//!
//! x (..., K), y of the same shape. dx_k = y_k (dy_k - sum_j y_j dy_j). A row with a NaN or +inf is NaN throughout;
//! -inf beside finite values is 0.

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Launch, Recorder, Shader, params, shader};
use crate::graph::onnx::operators::{Attribute, Operators, Value};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("softmax.wgsl");

params! {
    struct Params { rows: u32, k: u32, accumulate: u32 }
}

#[derive(Clone, Copy, Debug)]
pub struct Softmax;

/// Adds the softmax of `x` (..., K) over its innermost axis.
///
/// # Errors
/// `Shape` for a tensor without axes or without elements.
pub fn softmax(g: &mut Graph, x: Tensor) -> Result<Tensor> {
    Ok(g.push(Softmax, &[x])?[0])
}

fn params(io: &Io) -> (Params, Launch) {
    let shape = &io.x(0).shape;
    let rows = shape.rows() * io.replicas;
    let p = Params { rows: rows as u32, k: shape.last() as u32, accumulate: 0 };
    // Three loops over an invocation's values, and two sums over the invocations.
    (p, Grid::folded(rows, 1).iterations(3 * shape.last().div_ceil(64) + 12))
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let shape = &x[0].shape;
        if shape.rank() == 0 || shape.is_empty() || x[0] != Spec::f32(shape.clone()) {
            return Err(Error::shape("softmax", "x (..., K)", shape.to_string()));
        }
        Ok(Outputs::one(x[0].clone()))
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (p, grid) = params(io);
        r.dispatch(&SHADER, "softmax_forward", &[("x", io.x(0).view), ("y", io.y(0).view)], p, grid);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (Some(dy), Some(dx)) = (io.dy(0), io.dx(0)) else { return Ok(()) };
        let (p, grid) = params(io);
        let p = Params { accumulate: dx.accumulate.into(), ..p };
        let bindings = [("saved_y", io.y(0).view), ("grad_y", dy), ("grad_x", dx.view)];
        r.dispatch(&SHADER, "softmax_backward_input", &bindings, p, grid);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let mut y = x[0].clone();
        for i in 0..y.shape().rows() {
            let row = y.row_mut(i);
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|v| (v - top).exp()).sum();
            row.iter_mut().for_each(|v| *v = (*v - top).exp() / sum);
        }
        vec![y]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let x = to.of(&x[0]);
        Ok(vec![to.apply("Softmax", &[&x], &[("axis", Attribute::Int(-1))])])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 5.0 * n, bytes: 8.0 * n }
    }
}

/// Values from -`bound` to `bound`.
fn case(name: &str, shape: &[usize], bound: f64) -> Case {
    Case::new(name, Softmax, vec![Input::gradient(shape).filled(Fill::Uniform(-bound, bound))])
}

fn cases() -> Vec<Case> {
    vec![
        case("one", &[1], 2.0),
        case("one class", &[3, 1], 2.0),
        case("ragged", &[2, 3, 7], 2.0),
        case("one value per invocation", &[5, 64], 3.0),
        case("more classes than invocations", &[3, 131], 3.0),
        // Their exponentials overflow.
        case("large values", &[6, 9], 400.0),
        case("more rows than a grid is wide", &[65_537, 2], 2.0),
        case("real", &[128, 19], 3.0).bench(),
        case("real, long rows", &[256, 1430], 3.0).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "softmax", about: "softmax of the innermost axis", shaders: &[&SHADER], cases };
