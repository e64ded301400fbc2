//! Mean squared or absolute error, over all elements of the valid rows of a batch.
//!
//! x, t (B, ...), lengths u32 (B); a row of length 0 is padding and ignored. Outputs: loss (1) = sum of e(x - t) /
//! elements, with e(d) = d^2 or |d|, 0 where no row is valid; and its parts (2): sum and number of elements. The sums
//! of both over the batches of an epoch give the loss of the epoch. Slope: 2 d / elements, or sign(d) / elements.

use super::mean_of_rows::{self, mean_of_rows};
use super::variants::{self, Lanes, lane_rounds};
use super::{Entry, joined};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const SHADER: Shader = shader!("squared_error.wgsl");
static SHADERS: Lanes = [SHADER, SHADER.with(&["SUBGROUPS"])];

params! {
    struct Params { batch: u32, width: u32, absolute: u32, accumulate: u32 }
}

const LANES: usize = 64;

/// Inputs: x, t, lengths.
#[derive(Clone, Copy, Debug, Default)]
pub struct SquaredError {
    /// |x - t| instead of the square.
    pub absolute: bool,
}

/// Adds the loss (1) and its parts (2) of `x` (B, ...) against `t` of the same shape, for `lengths` u32 (B); see the
/// module. Only `x` gets a gradient, and only from the loss.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn squared_error(
    g: &mut Graph,
    x: Tensor,
    t: Tensor,
    lengths: Tensor,
    config: SquaredError,
) -> Result<(Tensor, Tensor)> {
    let y = g.push(config, &[x, t, lengths])?;
    Ok((y[0], y[1]))
}

impl SquaredError {
    fn params(&self, io: &Io) -> Params {
        let shape = &io.x(0).shape;
        let batch = shape.dims()[0];
        let width = shape.len() / batch;
        Params { batch: batch as u32, width: width as u32, absolute: self.absolute.into(), accumulate: 0 }
    }
}

impl Op for SquaredError {
    fn name(&self) -> &'static str {
        "squared_error"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let shape = &x[0].shape;
        let same = x[..2].iter().all(|s| *s == Spec::f32(shape.clone()));
        if shape.rank() < 2 || shape.is_empty() || !same || x[2] != Spec::u32([shape.dims()[0]]) {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            return Err(Error::shape("squared_error", "x (B, ...), t as x, lengths u32 (B)", got.join(", ")));
        }
        Ok(Outputs {
            y: vec![Spec::f32([1]), Spec::f32([2])],
            scratch: vec![Spec::f32([shape.dims()[0], 2])],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (p, rows) = (self.params(io), io.scratch(0).view);
        let (batch, width) = (p.batch as usize, p.width as usize);
        let bindings = [("x", io.x(0).view), ("targets", io.x(1).view), ("lengths", io.x(2).view), ("rows", rows)];
        let launch = Grid::folded(batch, io.replicas).iterations(width.div_ceil(LANES) + lane_rounds(LANES));
        r.dispatch(variants::lanes(r.target, &SHADERS), "squared_error_forward_rows", &bindings, p, launch);
        mean_of_rows(r, rows, io.y(0).view, io.y(1).view, batch, io.replicas);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let dx = match io.dx(0) {
            Some(dx) if (1..io.inputs()).all(|i| io.dx(i).is_none()) => dx,
            _ => return Err(Error::NoGradient { op: "squared_error" }),
        };
        let dy = io.dy(0).ok_or(Error::NoGradient { op: "squared_error" })?;
        let bindings = [
            ("x", io.x(0).view),
            ("targets", io.x(1).view),
            ("lengths", io.x(2).view),
            ("parts", io.y(1).view),
            ("grad_y", dy),
            ("grad_x", dx.view),
        ];
        let p = Params { accumulate: dx.accumulate.into(), ..self.params(io) };
        let launch = Grid::items(io.x(0).shape.len(), LANES, io.replicas).no_loops();
        r.dispatch(variants::lanes(r.target, &SHADERS), "squared_error_backward_input", &bindings, p, launch);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [x, t, lengths] = x else { unreachable!("squared_error takes three tensors") };
        let width = x.shape().len() / lengths.shape().len();
        let valid: Vec<usize> = (0..x.shape().len()).filter(|i| lengths[i / width] > 0.0).collect();
        let error = |i: &usize| if self.absolute { (x[*i] - t[*i]).abs() } else { (x[*i] - t[*i]).powi(2) };
        let (sum, n) = (valid.iter().map(error).sum::<f64>(), valid.len() as f64);
        vec![Array::new([1], vec![sum / n.max(1.0)]), Array::new([2], vec![sum, n])]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 3.0 * n, bytes: 8.0 * n }
    }
}

/// Targets are beyond the range of x, away from the kink of the absolute error.
fn case(name: &str, shape: &[usize], absolute: bool, lengths: Fill) -> Case {
    let target = Input::data(shape).filled(Fill::AwayFromZero(0.9));
    let inputs = vec![Input::gradient(shape).filled(Fill::Uniform(-0.8, 0.8)), target, Input::u32([shape[0]], lengths)];
    Case::new(name, SquaredError { absolute }, inputs).seeded(&[0])
}

fn cases() -> Vec<Case> {
    let whole = || Fill::Given(vec![1.0; 600]);
    vec![
        case("one", &[1, 1], false, whole()),
        case("padding", &[7, 5], false, Fill::Below(2)),
        case("padding, absolute", &[7, 3, 5], true, Fill::Below(2)),
        case("padding only", &[5, 4], false, Fill::Below(1)),
        case("more rows and elements than invocations", &[67, 131], false, Fill::Below(3)),
        case("log-mel patches", &[64, 96, 64], false, whole()).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "squared_error",
    about: "mean squared or absolute error",
    shaders: &joined::<4>(&[&SHADERS, &mean_of_rows::SHADERS]),
    cases,
};
