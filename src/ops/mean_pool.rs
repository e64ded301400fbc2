//! Mean over the valid instances of each clip, of a tensor or of the sum of two (a skip connection).
//!
//! x (B, T, F), lengths (B) u32: instances `t < lengths[b]` are valid; y (B, F), 0 for a clip without instances.
//! The gradient of padding is 0. Of x + skip the gradient is that of x; skip is data and has none.

use super::{Entry, variants};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::onnx::operators::{Operators, Value};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const SHADER: Shader = shader!("mean_pool.wgsl");
/// By whether there is a skip connection, and whether rows are multiples of 4.
static SHADERS: [[Shader; 2]; 2] =
    [[SHADER, SHADER.with(&["VEC4"])], [SHADER.with(&["SKIP"]), SHADER.with(&["SKIP", "VEC4"])]];

params! {
    struct Params { b: u32, t: u32, f: u32, lengths_stride: u32, slice: u32, accumulate: u32 }
}

/// Instances that a backward invocation works on.
const SLICE: usize = 8;
/// More instances than this are summed in slices.
const MANY: usize = 1 << 14;
const MANY_SLICE: usize = 1 << 10;

/// Inputs: x, lengths and, optionally, skip.
#[derive(Clone, Copy, Debug)]
pub struct MeanPool;

/// Adds the mean over valid instances. `x` (B, T, F), `lengths` u32 (B).
pub fn mean_pool(g: &mut Graph, x: Tensor, lengths: Tensor) -> Result<Tensor> {
    Ok(g.push(MeanPool, &[x, lengths])?[0])
}

/// As [`mean_pool`], of x + `skip`, of the same shape and without a gradient.
pub fn mean_pool_with_skip(g: &mut Graph, x: Tensor, skip: Tensor, lengths: Tensor) -> Result<Tensor> {
    Ok(g.push(MeanPool, &[x, lengths, skip])?[0])
}

/// The kernel variant for F and its vector width.
fn kernels(io: &Io) -> (&'static Shader, usize) {
    let [scalar, vec4] = &SHADERS[io.inputs() - 2];
    variants::by_row(io.x(0).shape.last(), scalar, vec4)
}

fn params(io: &Io) -> Params {
    let dims = io.x(0).shape.dims();
    let (_, width) = kernels(io);
    Params {
        b: dims[0] as u32,
        t: dims[1] as u32,
        f: (dims[2] / width) as u32,
        lengths_stride: io.x(1).stride as u32,
        slice: SLICE as u32,
        accumulate: 0,
    }
}

impl Op for MeanPool {
    fn name(&self) -> &'static str {
        "mean_pool"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        match *x[0].shape.dims() {
            [b, t, f]
                if !x[0].shape.is_empty() && x[1] == Spec::u32([b]) && x.get(2).is_none_or(|skip| *skip == x[0]) =>
            {
                // Unused buffers take no memory.
                let partial = Spec::f32([b, t.div_ceil(MANY_SLICE), f]);
                Ok(Outputs { y: vec![Spec::f32([b, f])], scratch: vec![partial], ..Default::default() })
            }
            _ => {
                let got: Vec<String> = x.iter().map(|x| x.shape.to_string()).collect();
                Err(Error::shape(self.name(), "x (B, T, F), u32 lengths (B), skip as x", got.join(", ")))
            }
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let p = params(io);
        let (shader, _) = kernels(io);
        let (x, lengths, y, partial) = (io.x(0).view, io.x(1).view, io.y(0).view, io.scratch(0).view);
        let means = Grid::items((p.b * p.f) as usize, 64, io.replicas);
        let mut inputs = vec![("x", x), ("lengths", lengths)];
        inputs.extend((io.inputs() == 3).then(|| ("skip", io.x(2).view)));
        if p.t as usize <= MANY {
            let bindings = [&inputs[..], &[("y", y)]].concat();
            r.dispatch(shader, "mean_pool_forward", &bindings, p, means.iterations(p.t as usize));
            return Ok(());
        }
        let p = Params { slice: MANY_SLICE as u32, ..p };
        let slices = p.t.div_ceil(p.slice);
        let bindings = [&inputs[..], &[("partial", partial)]].concat();
        let launch = Grid::items((p.b * slices * p.f) as usize, 64, io.replicas).iterations(MANY_SLICE);
        r.dispatch(shader, "mean_pool_forward_slices", &bindings, p, launch);
        let bindings = [("lengths", lengths), ("partial", partial), ("y", y)];
        r.dispatch(shader, "mean_pool_forward_join", &bindings, p, means.iterations(slices as usize));
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        if io.dx(2).is_some() {
            return Err(Error::NoGradient { op: "mean_pool with a skip connection that is trained" });
        }
        let (Some(dy), Some(dx)) = (io.dy(0), io.dx(0)) else { return Ok(()) };
        let p = Params { accumulate: dx.accumulate.into(), ..params(io) };
        let [[scalar, vec4], _] = &SHADERS;
        let (shader, _) = variants::by_row(io.x(0).shape.last(), scalar, vec4);
        let grid = Grid::items((p.b * p.t.div_ceil(p.slice) * p.f) as usize, 64, io.replicas).iterations(SLICE);
        let bindings = [("lengths", io.x(1).view), ("grad_y", dy), ("grad_x", dx.view)];
        r.dispatch(shader, "mean_pool_backward_input", &bindings, p, grid);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (b, t, f) = (x[0].dims()[0], x[0].dims()[1], x[0].dims()[2]);
        let mut y = Array::zeros([b, f]);
        for clip in 0..b {
            let n = x[1][clip] as usize;
            for c in 0..f {
                let skip = |row: usize| x.get(2).map_or(0.0, |skip| skip.row(row)[c]);
                let sum: f64 = (clip * t..clip * t + n).map(|row| x[0].row(row)[c] + skip(row)).sum();
                y.row_mut(clip)[c] = sum / n.max(1) as f64;
            }
        }
        vec![y]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let steps = x[0].dims()[1];
        let (mut input, mask, lengths) = (to.of(&x[0]), to.mask(&x[1], steps), to.lengths(&x[1], steps));
        if let Some(skip) = x.get(2) {
            let skip = to.of(skip);
            input = to.apply("Add", &[&input, &skip], &[]);
        }
        let valid = to.apply("Mul", &[&input, &mask], &[]);
        let sum = to.sum(&valid, &[1], false);
        let (one, column) = (to.scalar(1.0), to.unsqueeze(&lengths, &[1]));
        let n = to.apply("Max", &[&column, &one], &[]);
        Ok(vec![to.apply("Div", &[&sum, &n], &[])])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let len = x[0].shape.len() as f64;
        Cost { flops: len, bytes: 4.0 * len }
    }
}

fn case(name: &str, x: [usize; 3], lengths: &[u32]) -> Case {
    let lengths = Fill::Given(lengths.iter().map(|&n| n.into()).collect());
    Case::new(name, MeanPool, vec![Input::gradient(x), Input::u32([x[0]], lengths)])
}

fn with_skip(mut case: Case) -> Case {
    case.inputs.push(Input::data(case.inputs[0].spec.shape.dims()));
    case
}

fn cases() -> Vec<Case> {
    let mixed: Vec<u32> = (0..13).collect();
    vec![
        case("one", [1, 1, 1], &[1]),
        case("no instance", [1, 3, 2], &[0]),
        case("padding", [4, 5, 7], &[5, 0, 3, 1]),
        case("padding, vec4", [4, 5, 8], &[5, 0, 3, 1]),
        case("several slices", [13, 17, 11], &mixed),
        case("several slices, vec4", [13, 17, 20], &mixed),
        case("many instances", [2, 100_000, 3], &[100_000, 20_000]),
        case("many instances, vec4", [1, 100_000, 4], &[99_999]),
        with_skip(case("skip connection", [4, 5, 7], &[5, 0, 3, 1])),
        with_skip(case("skip connection, vec4", [4, 5, 8], &[5, 0, 3, 1])),
        with_skip(case("skip connection, many instances", [1, 20_000, 3], &[19_999])),
        with_skip(case("skip connection, many instances, vec4", [1, 20_000, 4], &[19_999])),
        with_skip(case("fc-t", [128, 10, 128], &[10; 128])).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "mean_pool",
    about: "mean over valid instances, with a skip connection",
    shaders: &[&SHADERS[0][0], &SHADERS[0][1], &SHADERS[1][0], &SHADERS[1][1]],
    cases,
};
