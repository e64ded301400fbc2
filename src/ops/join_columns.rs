//! Concatenation along the innermost axis: y (..., F1 + F2 + ...) from (..., F1), (..., F2) and so on. A dispatch
//! copies two tensors. And the inverse for two of one size, without a gradient.

use std::ops::Range;

use super::Entry;
use crate::check::{Case, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Launch, Recorder, Shader, params, shader};
use crate::graph::onnx::operators::{Attribute, Operators, Value};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Sink, Spec, Tensor};

static SHADER: Shader = shader!("join_columns.wgsl");

params! {
    struct Params { rows: u32, columns: u32, first: u32, width: u32, next: u32, accumulate: u32 }
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

#[derive(Clone, Copy, Debug)]
struct SplitColumns;

/// Adds the halves (..., F) of `x` (..., 2 F). No gradient passes.
///
/// # Errors
/// `Shape` for an odd number of columns.
pub fn split_columns(g: &mut Graph, x: Tensor) -> Result<[Tensor; 2]> {
    let y = g.push(SplitColumns, &[x])?;
    Ok([y[0], y[1]])
}

/// Of the inputs `which`, one or two that are neighbours.
fn params(io: &Io, which: Range<usize>) -> Params {
    let width = |i: usize| io.x(i).shape.last();
    Params {
        rows: (io.replicas * io.x(0).shape.rows()) as u32,
        columns: (0..io.inputs()).map(width).sum::<usize>() as u32,
        first: (0..which.start).map(width).sum::<usize>() as u32,
        width: width(which.start) as u32,
        next: if which.len() == 2 { width(which.start + 1) as u32 } else { 0 },
        accumulate: 0,
    }
}

fn grid(p: &Params) -> Launch {
    Grid::items(p.rows as usize * (p.width + p.next) as usize, 64, 1).no_loops()
}

/// The inputs two by two.
fn pairs(io: &Io) -> impl Iterator<Item = Range<usize>> + use<> {
    let n = io.inputs();
    (0..n).step_by(2).map(move |i| i..n.min(i + 2))
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
        Ok(Outputs {
            y: vec![Spec::f32(x[0].shape.with_last(columns))],
            scratch: vec![Spec::f32([4])],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        for pair in pairs(io) {
            let (x, next) = (io.x(pair.start).view, io.x(pair.end - 1).view);
            let p = params(io, pair);
            let bindings = [("x", x), ("x_next", next), ("y", io.y(0).view)];
            r.dispatch(&SHADER, "join_columns_forward", &bindings, p, grid(&p));
        }
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let dy = io.dy(0).expect("backward runs only with a gradient");
        let mut record = |which: Range<usize>, dx: &Sink, next: Option<&Sink>| {
            let bits = [dx.accumulate, next.is_some_and(|next| next.accumulate)];
            let p = Params { accumulate: u32::from(bits[0]) | u32::from(bits[1]) << 1, ..params(io, which) };
            // Where there is no other one, anything that may be written.
            let next = next.map_or(io.scratch(0).view, |next| next.view);
            let bindings = [("grad_y", dy), ("grad_x", dx.view), ("grad_x_next", next)];
            r.dispatch(&SHADER, "join_columns_backward_input", &bindings, p, grid(&p));
        };
        for pair in pairs(io) {
            match (io.dx(pair.start), io.dx(pair.end - 1)) {
                (Some(dx), Some(next)) if dx.view.slot != next.view.slot => record(pair, dx, Some(next)),
                _ => pair.filter_map(|i| Some((i, io.dx(i)?))).for_each(|(i, dx)| record(i..i + 1, dx, None)),
            }
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

/// Its kernel is the gradient of a concatenation.
impl Op for SplitColumns {
    fn name(&self) -> &'static str {
        "join_columns"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let shape = &x[0].shape;
        if shape.is_empty() || shape.last() % 2 == 1 {
            return Err(Error::shape("join_columns", "(..., 2 F)", shape.to_string()));
        }
        Ok(Outputs { y: vec![Spec::f32(shape.with_last(shape.last() / 2)); 2], ..Default::default() })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let [first, second] = [0, 1].map(|i| io.y(i));
        let width = first.shape.last() as u32;
        let rows = (io.replicas * first.shape.rows()) as u32;
        let p = Params { rows, columns: 2 * width, first: 0, width, next: width, accumulate: 0 };
        let bindings = [("grad_y", io.x(0).view), ("grad_x", first.view), ("grad_x_next", second.view)];
        r.dispatch(&SHADER, "join_columns_backward_input", &bindings, p, grid(&p));
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (shape, width) = (x[0].shape(), x[0].shape().last() / 2);
        let half = |i: usize| Array::from_fn(shape.with_last(width), |at| x[0].row(at / width)[i * width + at % width]);
        vec![half(0), half(1)]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let x = to.of(&x[0]);
        Ok(to.halves(&x).into())
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        Cost { flops: 0.0, bytes: 8.0 * x[0].shape.len() as f64 }
    }
}

fn cases() -> Vec<Case> {
    let case =
        |name: &str, x: &[&[usize]]| Case::new(name, JoinColumns, x.iter().map(|x| Input::gradient(*x)).collect());
    vec![
        case("one", &[&[1, 1]]),
        case("two", &[&[3, 2], &[3, 5]]),
        case("three, ragged", &[&[2, 3, 7], &[2, 3, 1], &[2, 3, 67]]),
        Case::new("one gradient", JoinColumns, vec![Input::data([5, 3]), Input::gradient([5, 4])]),
        Case::new("halves", SplitColumns, vec![Input::data([3, 5, 14])]),
        case("both directions of rnn", &[&[128, 64], &[128, 64]]).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "join_columns",
    about: "concatenation along the innermost axis, halves of it",
    shaders: &[&SHADER],
    cases,
};
