//! 2 x 2 max pooling with stride 2, of images with channels last, ReLU fused.
//!
//! x (B, H, W, C), y (B, H', W', C). H' and W' are H / 2 and W / 2, rounded down as PyTorch's default (a last odd row
//! or column is ignored; H and W are at least 2) or up as its `ceil_mode` (the last windows are smaller). ReLU of the
//! result is that of x, at a quarter of the work. The gradient goes to the first largest element of a window, row by
//! row, as in PyTorch; which one that is, is saved, so that x need not be kept.

use super::{Entry, variants};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::onnx::operators::{Attribute, Operators, Value};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("max_pool2d.wgsl");
static SHADERS: [Shader; 3] =
    [SHADER, SHADER.with(&["VEC4"]), SHADER.with(&["VEC4", "TEXELS"]).with_textures(&["x", "grad_y"])];

params! {
    struct Params {
        outputs: u32, height: u32, width: u32, c: u32, out_height: u32, out_width: u32, relu: u32, accumulate: u32,
    }
}

/// Rounding of H / 2 and W / 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    Down,
    Up,
}

impl Rounding {
    fn half(self, size: usize) -> usize {
        match self {
            Rounding::Down => size / 2,
            Rounding::Up => size.div_ceil(2),
        }
    }
}

/// Input: x.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxPool2d {
    pub rounding: Rounding,
    /// y = max(0, pooled x).
    pub relu: bool,
}

/// Adds the pooling of `x` (B, H, W, C); gives (B, H', W', C).
pub fn max_pool2d(g: &mut Graph, x: Tensor, rounding: Rounding, relu: bool) -> Result<Tensor> {
    Ok(g.push(MaxPool2d { rounding, relu }, &[x])?[0])
}

fn params(io: &Io, relu: bool) -> Params {
    let (x, y) = (io.x(0).shape.dims(), io.y(0).shape.dims());
    let value = variants::row_width(x[3]);
    Params {
        outputs: (io.replicas * io.y(0).shape.len() / value) as u32,
        height: x[1] as u32,
        width: x[2] as u32,
        c: (x[3] / value) as u32,
        out_height: y[1] as u32,
        out_width: y[2] as u32,
        relu: relu.into(),
        accumulate: 0,
    }
}

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        if let [b, h, w, c] = *x[0].shape.dims() {
            let y = Spec::f32([b, self.rounding.half(h), self.rounding.half(w), c]);
            if !y.shape.is_empty() {
                let largest = Spec::u32([y.shape.len() / variants::row_width(c)]);
                return Ok(Outputs { y: vec![y], saved: vec![largest], ..Default::default() });
            }
        }
        let wanted = match self.rounding {
            Rounding::Down => "x (B, H, W, C), H and W at least 2",
            Rounding::Up => "x (B, H, W, C)",
        };
        Err(Error::shape(self.name(), wanted, x[0].shape.to_string()))
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let p = params(io, self.relu);
        let (shader, _) = variants::by_row_texels(r.target, io.x(0).shape.last(), &SHADERS);
        let bindings = [("x", io.x(0).view), ("y", io.y(0).view), ("largest", io.saved(0).view)];
        r.dispatch(shader, "max_pool2d_forward", &bindings, p, Grid::items(p.outputs as usize, 64, 1).no_loops());
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (Some(dy), Some(dx)) = (io.dy(0), io.dx(0)) else { return Ok(()) };
        let p = Params { accumulate: dx.accumulate.into(), ..params(io, self.relu) };
        let (shader, _) = variants::by_row_texels(r.target, io.x(0).shape.last(), &SHADERS);
        let bindings = [("saved_largest", io.saved(0).view), ("grad_y", dy), ("grad_x", dx.view)];
        r.dispatch(
            shader,
            "max_pool2d_backward_input",
            &bindings,
            p,
            Grid::items(p.outputs as usize, 64, 1).no_loops(),
        );
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let &[b, height, width, c] = x[0].dims() else { unreachable!("inferred before") };
        let (out_height, out_width) = (self.rounding.half(height), self.rounding.half(width));
        let mut y = Array::zeros([b, out_height, out_width, c]);
        for i in 0..b * out_height * out_width {
            let (row, w) = (i / out_width, i % out_width * 2);
            let (image, h) = (row / out_height, row % out_height * 2);
            for channel in 0..c {
                let mut largest = if self.relu { 0.0 } else { f64::NEG_INFINITY };
                for h in h..(h + 2).min(height) {
                    for w in w..(w + 2).min(width) {
                        largest = largest.max(x[0].row((image * height + h) * width + w)[channel]);
                    }
                }
                y.row_mut(i)[channel] = largest;
            }
        }
        vec![y]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let input = to.of(&x[0]);
        let input = to.transpose(&input, &[0, 3, 1, 2]);
        let rounds_up = Attribute::Int((self.rounding == Rounding::Up).into());
        let two = || Attribute::Ints(&[2, 2]);
        let attributes = [("kernel_shape", two()), ("strides", two()), ("ceil_mode", rounds_up)];
        let mut y = to.apply("MaxPool", &[&input], &attributes);
        if self.relu {
            y = to.apply("Relu", &[&y], &[]);
        }
        Ok(vec![to.transpose(&y, &[0, 2, 3, 1])])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let len = x[0].shape.len() as f64;
        Cost { flops: len, bytes: 4.0 * 1.25 * len }
    }
}

fn case(name: &str, x: [usize; 4], rounding: Rounding) -> Case {
    case_with(name, x, rounding, false)
}

/// Values that differ by at least 2 / n between any two elements, and by far more between neighbours; 1 / n from 0.
fn case_with(name: &str, x: [usize; 4], rounding: Rounding, relu: bool) -> Case {
    let n: usize = x.iter().product();
    let step = (n * 618 / 1000 + 1..).find(|s| gcd(*s, n) == 1).expect("a multiple of n, plus 1, is one");
    let values = (0..n).map(|i| ((i * step % n) as f64 + 0.5) * 2.0 / n as f64 - 1.0).collect();
    Case::new(name, MaxPool2d { rounding, relu }, vec![Input::gradient(x).filled(Fill::Given(values))])
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn cases() -> Vec<Case> {
    use Rounding::{Down, Up};
    vec![
        case("one", [1, 1, 1, 1], Up),
        case("one window", [1, 2, 2, 1], Down),
        case("even", [2, 4, 6, 3], Down),
        case("odd, down", [2, 5, 7, 2], Down),
        case("odd, down, vec4", [2, 5, 3, 4], Down),
        case("odd, up", [2, 5, 7, 2], Up),
        case("odd, up, vec4", [2, 3, 5, 4], Up),
        case("one row", [3, 1, 9, 5], Up),
        case("one column", [3, 8, 1, 4], Up),
        case("three columns, two rows", [2, 2, 3, 7], Down),
        case_with("ReLU", [2, 5, 7, 3], Down, true),
        case_with("ReLU, vec4", [3, 5, 4, 8], Up, true),
        case("first, width 1", [4, 96, 64, 64], Down).bench(),
        case("third, width 1/4", [4, 24, 16, 64], Down).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "max_pool2d",
    about: "2 x 2 max pooling, ReLU fused",
    shaders: &[&SHADERS[0], &SHADERS[1], &SHADERS[2]],
    cases,
};
