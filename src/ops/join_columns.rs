//! Concatenation along the innermost axis: y (..., F1 + F2 + ...) from (..., F1), (..., F2) and so on.

use super::Entry;
use crate::check::{Case, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Launch, Recorder, Shader, params, shader};
use crate::graph::onnx::operators::{Attribute, Operators, Value};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("join_columns.wgsl");

params! {
    struct Params { rows: u32, width: u32, columns: u32, first: u32, accumulate: u32 }
}

#[derive(Clone, Copy, Debug)]
struct JoinColumns;

/// Adds it. `x`: f32 tensors whose outer axes agree.
///
/// # Errors
/// `Shape` for outer axes that differ.
pub fn join_columns(g: &mut Graph, x: &[Tensor]) -> Result<Tensor> {
    Ok(g.push(JoinColumns, x)?[0])
}

/// Width of input `i`, and its first column in the result.
fn place(io: &Io, i: usize) -> Params {
    let width = |i: usize| io.x(i).shape.last();
    Params {
        rows: (io.replicas * io.x(0).shape.rows()) as u32,
        width: width(i) as u32,
        columns: (0..io.inputs()).map(width).sum::<usize>() as u32,
        first: (0..i).map(width).sum::<usize>() as u32,
        accumulate: 0,
    }
}

fn grid(p: &Params) -> Launch {
    Grid::items(p.rows as usize * p.width as usize, 64, 1).no_loops()
}

impl Op for JoinColumns {
    fn name(&self) -> &'static str {
        "join_columns"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let outer = |s: &Spec| s.shape.with_last(1);
        if x.iter().any(|s| s.shape.is_empty() || outer(s) != outer(&x[0])) {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            return Err(Error::shape("join_columns", "(..., F1), (..., F2) and so on", got.join(", ")));
        }
        let columns = x.iter().map(|s| s.shape.last()).sum();
        Ok(Outputs::one(Spec::f32(x[0].shape.with_last(columns))))
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        for i in 0..io.inputs() {
            let p = place(io, i);
            r.dispatch(&SHADER, "join_columns_forward", &[("x", io.x(i).view), ("y", io.y(0).view)], p, grid(&p));
        }
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let dy = io.dy(0).expect("backward runs only with a gradient");
        for (i, dx) in (0..io.inputs()).filter_map(|i| Some((i, io.dx(i)?))) {
            let p = Params { accumulate: dx.accumulate.into(), ..place(io, i) };
            r.dispatch(&SHADER, "join_columns_backward_input", &[("grad_y", dy), ("grad_x", dx.view)], p, grid(&p));
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let rows = x[0].shape().rows();
        let data: Vec<f64> = (0..rows).flat_map(|row| x.iter().flat_map(move |x| x.row(row).to_vec())).collect();
        vec![Array::new(x[0].shape().with_last(data.len() / rows), data)]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let parts: Vec<String> = x.iter().map(|x| to.of(x)).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(vec![to.apply("Concat", &parts, &[("axis", Attribute::Int(-1))])])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        Cost { flops: 0.0, bytes: 8.0 * x.iter().map(|s| s.shape.len() as f64).sum::<f64>() }
    }
}

fn cases() -> Vec<Case> {
    let case =
        |name: &str, x: &[&[usize]]| Case::new(name, JoinColumns, x.iter().map(|x| Input::gradient(*x)).collect());
    vec![
        case("one", &[&[1, 1]]),
        case("two", &[&[3, 2], &[3, 5]]),
        case("three, ragged", &[&[2, 3, 7], &[2, 3, 1], &[2, 3, 67]]),
        case("both directions of rnn", &[&[128, 64], &[128, 64]]).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "join_columns", about: "concatenation along the innermost axis", shaders: &[&SHADER], cases };
