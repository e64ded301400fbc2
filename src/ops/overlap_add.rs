//! Sums shifted frames and adds a bias. After a linear layer to k N columns it is a transposed convolution along time,
//! stride 1, without padding, as PyTorch's `ConvTranspose1d`.
//!
//! x (B, T, k N), columns (j, n) of a frame its contribution to channel n j steps later; b (N); y (B, T + k - 1, N):
//! `y[s, n] = b[n] + sum of x[t, (s - t, n)]` over the frames t with 0 <= s - t < k.
//! Gradients: `dx[t, (j, n)] = dy[t + j, n]`; db = sum of dy over clips and time.

use super::Entry;
use crate::check::{Case, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("overlap_add.wgsl");

params! {
    struct Params { batch: u32, t: u32, size: u32, width: u32, b_stride: u32, accumulate: u32 }
}

/// Inputs: x, b. Output: y.
#[derive(Clone, Copy, Debug)]
pub struct OverlapAdd {
    /// k: steps of a frame.
    pub size: usize,
}

/// Adds the sum of the frames `x` (B, T, k N) of `size` k, and `b` (N): (B, T + k - 1, N).
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn overlap_add(g: &mut Graph, x: Tensor, b: Tensor, size: usize) -> Result<Tensor> {
    Ok(g.push(OverlapAdd { size }, &[x, b])?[0])
}

impl OverlapAdd {
    fn params(&self, io: &Io) -> Params {
        let [batch, t, _] = *io.x(0).shape.dims() else { unreachable!("infer lets only three axes pass") };
        Params {
            batch: batch as u32,
            t: t as u32,
            size: self.size as u32,
            width: io.x(1).shape.len() as u32,
            b_stride: io.x(1).stride as u32,
            accumulate: 0,
        }
    }
}

impl Op for OverlapAdd {
    fn name(&self) -> &'static str {
        "overlap_add"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let (frames, width) = (&x[0].shape, x[1].shape.len());
        let fits = frames.rank() == 3
            && !frames.is_empty()
            && x[1] == Spec::f32([width])
            && x[0] == Spec::f32(frames.clone())
            && self.size > 0
            && frames.last() == self.size * width;
        if !fits {
            let got = format!("{frames}, {}", x[1].shape);
            return Err(Error::shape("overlap_add", format!("x (B, T, {} N), b (N)", self.size), got));
        }
        let [batch, t, _] = *frames.dims() else { unreachable!("three axes") };
        Ok(Outputs {
            scratch: vec![Spec::f32([batch, width])],
            ..Outputs::one(Spec::f32([batch, t + self.size - 1, width]))
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let p = self.params(io);
        let bindings = [("x", io.x(0).view), ("bias", io.x(1).view), ("y", io.y(0).view)];
        let rounds = self.size.min(p.t as usize);
        let launch = Grid::items(io.y(0).shape.len(), 64, io.replicas).iterations(rounds);
        r.dispatch(&SHADER, "overlap_add_forward", &bindings, p, launch);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let dy = io.dy(0).ok_or(Error::NoGradient { op: "overlap_add" })?;
        let p = self.params(io);
        if let Some(dx) = io.dx(0) {
            let p = Params { accumulate: dx.accumulate.into(), ..p };
            let launch = Grid::items(io.x(0).shape.len(), 64, io.replicas).no_loops();
            let bindings = [("grad_y", dy), ("grad_x", dx.view)];
            r.dispatch(&SHADER, "overlap_add_backward_input", &bindings, p, launch);
        }
        if let Some(db) = io.dx(1) {
            let (partial, steps) = (io.scratch(0).view, p.t as usize + self.size - 1);
            let launch = Grid::items((p.batch * p.width) as usize, 64, io.replicas).iterations(steps);
            let bindings = [("grad_y", dy), ("partial", partial)];
            r.dispatch(&SHADER, "overlap_add_backward_sums", &bindings, p, launch);
            let p = Params { b_stride: db.stride as u32, accumulate: db.accumulate.into(), ..p };
            let launch = Grid::items(p.width as usize, 64, io.replicas).iterations(p.batch as usize);
            let bindings = [("partial", partial), ("grad_b", db.view)];
            r.dispatch(&SHADER, "overlap_add_backward_bias", &bindings, p, launch);
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (size, width) = (self.size, x[1].shape().len());
        let [batch, t, columns] = *x[0].shape().dims() else { unreachable!("x has three axes") };
        let steps = t + size - 1;
        let mut y = Array::from_fn([batch, steps, width], |i| x[1][i % width]);
        for frame in 0..batch * t {
            for column in 0..columns {
                let row = frame / t * steps + frame % t + column / width;
                y[row * width + column % width] += x[0][frame * columns + column];
            }
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: n, bytes: 8.0 * n }
    }
}

fn cases() -> Vec<Case> {
    let case = |name: &str, [batch, t, size, width]: [usize; 4]| {
        let inputs = vec![Input::gradient([batch, t, size * width]), Input::param([width])];
        Case::new(name, OverlapAdd { size }, inputs)
    };
    vec![
        case("one frame", [3, 1, 5, 4]),
        case("frames of one step", [2, 6, 1, 3]),
        case("frames longer than the clip", [3, 4, 7, 5]),
        case("clip longer than the frames", [2, 13, 3, 7]),
        case("more columns than invocations", [5, 3, 4, 67]),
        case("decoder", [64, 60, 37, 64]).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "overlap_add",
    about: "sum of shifted frames, as of a transposed convolution",
    shaders: &[&SHADER],
    cases,
};
