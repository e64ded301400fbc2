//! Sum of two tensors of one shape: y = a + b, for residual connections. The gradients of a and of b are dy.

use super::{Entry, variants};
use crate::check::{Case, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, View, params, shader};
use crate::graph::onnx::operators::{Operators, Value};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Sink, Spec, Tensor};

const SHADER: Shader = shader!("add.wgsl");
pub(super) static SHADERS: [Shader; 2] = [SHADER, SHADER.with(&["VEC4"])];

params! {
    struct Params { len: u32, accumulate: u32 }
}

#[derive(Debug)]
struct Add;

/// Adds y = a + b; both have the same shape.
pub fn add(g: &mut Graph, a: Tensor, b: Tensor) -> Result<Tensor> {
    Ok(g.push(Add, &[a, b])?[0])
}

/// Records the contribution of a sum's gradient to that of a term.
pub(super) fn add_gradient(r: &mut Recorder, dy: View, dx: &Sink) {
    let (shader, width) = variants::by_row(dy.len, &SHADERS[0], &SHADERS[1]);
    let p = Params { len: (dy.len / width) as u32, accumulate: dx.accumulate.into() };
    let bindings = [("grad_y", dy), ("grad_x", dx.view)];
    r.dispatch(shader, "add_backward", &bindings, p, Grid::items(dy.len / width, 64, 1).no_loops());
}

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        if x[0] != x[1] {
            return Err(Error::shape("add", x[0].shape.to_string(), x[1].shape.to_string()));
        }
        Ok(Outputs::one(x[0].clone()))
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (a, b, y) = (io.x(0).view, io.x(1).view, io.y(0).view);
        let (shader, width) = variants::by_row(y.len, &SHADERS[0], &SHADERS[1]);
        let p = Params { len: (y.len / width) as u32, accumulate: 0 };
        let grid = Grid::items(y.len / width, 64, 1).no_loops();
        r.dispatch(shader, "add_forward", &[("a", a), ("b", b), ("y", y)], p, grid);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let dy = io.dy(0).expect("backward runs only with a gradient");
        (0..2).filter_map(|i| io.dx(i)).for_each(|dx| add_gradient(r, dy, dx));
        Ok(())
    }

    fn passes_gradient(&self) -> bool {
        true
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        vec![Array::from_fn(x[0].shape().clone(), |i| x[0][i] + x[1][i])]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let [a, b] = [&x[0], &x[1]].map(|x| to.of(x));
        Ok(vec![to.apply("Add", &[&a, &b], &[])])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: n, bytes: 12.0 * n }
    }
}

fn cases() -> Vec<Case> {
    let case = |name: &str, shape: &[usize]| Case::new(name, Add, vec![Input::gradient(shape), Input::gradient(shape)]);
    vec![
        case("one element", &[1]),
        case("ragged", &[3, 5]),
        case("multiple of 4", &[4, 16]),
        case("past one workgroup", &[257]),
        case("att residual", &[128, 10, 128]).bench(),
    ]
}

pub(crate) const OP: Entry = Entry { name: "add", about: "residual sum", shaders: &[&SHADERS[0], &SHADERS[1]], cases };
