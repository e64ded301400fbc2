//! The last valid instance of each clip.
//!
//! x (B, T, F), lengths (B) u32, those above T count as T; y (B, F) = `x[b, lengths[b] - 1]`, 0 for a clip without
//! instances. The gradient of all other instances is 0.

use super::{Entry, variants};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::onnx::operators::{Onto, Operators, Value};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("last_instance.wgsl");
static VEC4: Shader = SHADER.with(&["VEC4"]);

params! {
    struct Params { batch: u32, instances: u32, width: u32, lengths_stride: u32, accumulate: u32 }
}

/// Inputs: x, lengths.
#[derive(Clone, Copy, Debug)]
struct LastInstance;

/// Adds it. `x` (B, T, F), `lengths` u32 (B); gives (B, F).
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn last_instance(g: &mut Graph, x: Tensor, lengths: Tensor) -> Result<Tensor> {
    Ok(g.push(LastInstance, &[x, lengths])?[0])
}

fn params(io: &Io) -> (&'static Shader, Params) {
    let dims = io.x(0).shape.dims();
    let (shader, value) = variants::by_row(dims[2], &SHADER, &VEC4);
    let lengths_stride = io.x(1).stride as u32;
    let (batch, instances, width) = (dims[0] as u32, dims[1] as u32, (dims[2] / value) as u32);
    (shader, Params { batch, instances, width, lengths_stride, accumulate: 0 })
}

impl Op for LastInstance {
    fn name(&self) -> &'static str {
        "last_instance"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        match *x[0].shape.dims() {
            [b, _, f] if !x[0].shape.is_empty() && x[1] == Spec::u32([b]) => Ok(Outputs::one(Spec::f32([b, f]))),
            _ => {
                let got = format!("{}, {}", x[0].shape, x[1].shape);
                Err(Error::shape(self.name(), "x (B, T, F), u32 lengths (B)", got))
            }
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (shader, p) = params(io);
        let bindings = [("x", io.x(0).view), ("lengths", io.x(1).view), ("y", io.y(0).view)];
        let grid = Grid::items((p.batch * p.width) as usize, 64, io.replicas).no_loops();
        r.dispatch(shader, "last_instance_forward", &bindings, p, grid);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (Some(dy), Some(dx)) = (io.dy(0), io.dx(0)) else { return Ok(()) };
        let (shader, p) = params(io);
        let p = Params { accumulate: dx.accumulate.into(), ..p };
        let bindings = [("lengths", io.x(1).view), ("grad_y", dy), ("grad_x", dx.view)];
        let grid = Grid::items((p.batch * p.instances * p.width) as usize, 64, io.replicas).no_loops();
        r.dispatch(shader, "last_instance_backward_input", &bindings, p, grid);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (b, t, f) = (x[0].dims()[0], x[0].dims()[1], x[0].dims()[2]);
        let mut y = Array::zeros([b, f]);
        for clip in (0..b).filter(|&clip| x[1][clip] > 0.0) {
            y.row_mut(clip).copy_from_slice(x[0].row(clip * t + (x[1][clip] as usize).min(t) - 1));
        }
        vec![y]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let steps = x[0].dims()[1];
        let (input, mask, lengths) = (to.of(&x[0]), to.mask(&x[1], steps), to.lengths(&x[1], steps));
        let positions: Vec<f32> = (1..=steps).map(|i| i as f32).collect();
        let (positions, column) = (to.floats(&[1, steps], &positions), to.unsqueeze(&lengths, &[1]));
        let is_last = to.apply("Equal", &[&positions, &column], &[]);
        let is_last = to.cast(&is_last, Onto::Floats);
        let is_last = to.unsqueeze(&is_last, &[2]);
        let valid = to.apply("Mul", &[&mask, &is_last], &[]);
        let last = to.apply("Mul", &[&input, &valid], &[]);
        Ok(vec![to.sum(&last, &[1], false)])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        Cost { flops: 0.0, bytes: 8.0 * (x[0].shape.len() / x[0].shape.dims()[1]) as f64 }
    }
}

fn cases() -> Vec<Case> {
    let case = |name: &str, x: [usize; 3], lengths: &[u32]| {
        let lengths = Fill::Given(lengths.iter().map(|&n| n.into()).collect());
        Case::new(name, LastInstance, vec![Input::gradient(x), Input::u32([x[0]], lengths)])
    };
    vec![
        case("one", [1, 1, 1], &[1]),
        case("no instance", [1, 3, 2], &[0]),
        case("padding", [4, 5, 7], &[5, 0, 3, 1]),
        case("longer than the clip", [3, 4, 5], &[9, 5, 2]),
        case("padding, vec4", [4, 5, 8], &[5, 0, 3, 1]),
        case("rnn", [128, 10, 128], &[10; 128]).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "last_instance", about: "the last valid instance of a clip", shaders: &[&SHADER, &VEC4], cases };
