//! Contrastive loss of two encodings of the same clips, NT-Xent (Chen, Kornblith, Norouzi, Hinton: "A simple framework
//! for contrastive learning of visual representations", ICML 2020).
//!
//! a, g (B, D), lengths u32 (B); a clip of length 0 is padding and ignored. The rows of a and g, scaled to norm 1, are
//! stacked to 2 B rows u; s = u u^T / tau without its diagonal. A row's loss is -log softmax(s) at its partner, the
//! other encoding of its clip, as log sum exp(s - max s) - (s_partner - max s). Outputs: loss (1), the mean over the
//! valid rows, 0 where there is none, and its parts (2): sum and number of rows.

use super::mean_of_rows::{self, mean_of_rows};
use super::variants::{self, Lanes, lane_rounds};
use super::{Entry, joined};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const SHADER: Shader = shader!("contrastive.wgsl");
static SHADERS: Lanes = [SHADER, SHADER.with(&["SUBGROUPS"])];

params! {
    struct Params { batch: u32, width: u32, inverse_tau: f32, side: u32, accumulate: u32 }
}

const LANES: usize = 64;
/// Norms below are taken for it, so that a row of zeros has no direction.
const LEAST_NORM: f64 = 1e-8;

/// Inputs: a, g, lengths.
#[derive(Clone, Copy, Debug)]
pub struct Contrastive {
    /// Temperature.
    pub tau: f64,
}

/// Adds the loss (1) and its parts (2) of the encodings `a` and `g` (B, D), for `lengths` u32 (B). Both get a gradient,
/// only from the loss.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn contrastive(g: &mut Graph, a: Tensor, b: Tensor, lengths: Tensor, tau: f64) -> Result<(Tensor, Tensor)> {
    let y = g.push(Contrastive { tau }, &[a, b, lengths])?;
    Ok((y[0], y[1]))
}

impl Contrastive {
    fn params(&self, io: &Io, side: usize) -> Params {
        let shape = &io.x(0).shape;
        Params {
            batch: shape.rows() as u32,
            width: shape.last() as u32,
            inverse_tau: (1.0 / self.tau) as f32,
            side: side as u32,
            accumulate: 0,
        }
    }
}

impl Op for Contrastive {
    fn name(&self) -> &'static str {
        "contrastive"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let shape = &x[0].shape;
        let same = x[..2].iter().all(|s| *s == Spec::f32(shape.clone()));
        if shape.rank() != 2 || shape.is_empty() || !same || x[2] != Spec::u32([shape.rows()]) {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            return Err(Error::shape("contrastive", "a and g (B, D), lengths u32 (B)", got.join(", ")));
        }
        let (rows, width) = (2 * shape.rows(), shape.last());
        Ok(Outputs {
            y: vec![Spec::f32([1]), Spec::f32([2])],
            saved: vec![Spec::f32([rows, width]), Spec::f32([rows]), Spec::f32([rows, rows])],
            scratch: vec![Spec::f32([rows, 2]), Spec::f32(shape.clone())],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let [units, norms, softmax] = [0, 1, 2].map(|i| io.saved(i).view);
        let (p, lengths, rows) = (self.params(io, 0), io.x(2).view, io.scratch(0).view);
        let (batch, width) = (p.batch as usize, p.width as usize);
        for side in [0, 1] {
            let bindings = [("x", io.x(side).view), ("unit_rows", units), ("inverse_norms", norms)];
            let launch = Grid::folded(batch, io.replicas).iterations(2 * width.div_ceil(LANES) + lane_rounds(LANES));
            r.dispatch(
                variants::lanes(r.target, &SHADERS),
                "contrastive_forward_units",
                &bindings,
                self.params(io, side),
                launch,
            );
        }
        let bindings = [("lengths", lengths), ("unit_rows", units), ("softmax", softmax), ("rows", rows)];
        let columns = (2 * batch).div_ceil(LANES);
        let launch =
            Grid::folded(2 * batch, io.replicas).iterations(columns * (width + 3) + LANES + lane_rounds(LANES));
        r.dispatch(variants::lanes(r.target, &SHADERS), "contrastive_forward_rows", &bindings, p, launch);
        mean_of_rows(r, rows, io.y(0).view, io.y(1).view, 2 * batch, io.replicas);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let dy = io.dy(0).ok_or(Error::NoGradient { op: "contrastive" })?;
        for side in [0, 1] {
            let Some(dx) = io.dx(side) else { continue };
            let p = Params { accumulate: dx.accumulate.into(), ..self.params(io, side) };
            let bindings = [
                ("lengths", io.x(2).view),
                ("unit_rows", io.saved(0).view),
                ("inverse_norms", io.saved(1).view),
                ("softmax", io.saved(2).view),
                ("parts", io.y(1).view),
                ("grad_y", dy),
                ("grad_unit", io.scratch(1).view),
                ("grad_x", dx.view),
            ];
            let (batch, columns) = (p.batch as usize, (p.width as usize).div_ceil(LANES));
            let launch = Grid::folded(batch, io.replicas).iterations(columns * (2 * batch + 2) + lane_rounds(LANES));
            r.dispatch(variants::lanes(r.target, &SHADERS), "contrastive_backward_input", &bindings, p, launch);
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let batch = x[0].shape().rows();
        let unit = |i: usize| -> Vec<f64> {
            let row = x[i / batch].row(i % batch);
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(LEAST_NORM);
            row.iter().map(|v| v / norm).collect()
        };
        let units: Vec<Vec<f64>> = (0..2 * batch).map(unit).collect();
        let score = |i: usize, j: usize| units[i].iter().zip(&units[j]).map(|(a, b)| a * b).sum::<f64>() / self.tau;
        let valid: Vec<usize> = (0..2 * batch).filter(|i| x[2][i % batch] > 0.0).collect();
        let loss = |&i: &usize| {
            let others: Vec<f64> = valid.iter().filter(|&&j| j != i).map(|&j| score(i, j)).collect();
            let top = others.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = others.iter().map(|s| (s - top).exp()).sum();
            sum.ln() - (score(i, (i + batch) % (2 * batch)) - top)
        };
        let (sum, n) = (valid.iter().map(loss).sum::<f64>(), valid.len() as f64);
        vec![Array::new([1], vec![sum / n.max(1.0)]), Array::new([2], vec![sum, n])]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let (batch, n) = (x[0].shape.rows() as f64, x[0].shape.len() as f64);
        Cost { flops: 8.0 * batch * n, bytes: 8.0 * n }
    }
}

fn cases() -> Vec<Case> {
    let case = |name: &str, shape: [usize; 2], tau, lengths| {
        let inputs = vec![Input::gradient(shape), Input::gradient(shape), Input::u32([shape[0]], lengths)];
        Case::new(name, Contrastive { tau }, inputs).seeded(&[0])
    };
    let whole = || Fill::Given(vec![1.0; 600]);
    vec![
        case("one clip", [1, 3], 0.1, whole()),
        case("padding", [7, 5], 0.5, Fill::Below(2)),
        case("padding only", [5, 4], 0.5, Fill::Below(1)),
        case("more rows and columns than invocations", [37, 67], 0.1, Fill::Below(3)),
        // Exponentials of the scores overflow.
        case("low temperature", [5, 6], 0.005, whole()),
        case("coala", [64, 1152], 0.1, whole()).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "contrastive",
    about: "contrastive loss of two encodings",
    shaders: &joined::<4>(&[&SHADERS, &mean_of_rows::SHADERS]),
    cases,
};
