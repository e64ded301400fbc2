//! Cosine embedding loss, as PyTorch's `CosineEmbeddingLoss`: pairs that should be alike, or pairs that should differ.
//!
//! x, t (B, D), lengths u32 (B); a row of length 0 is padding and ignored. cos = x t / (|x| |t|), with 1e-12 added to
//! squared norms. A pair's loss is 1 - cos, or max(0, cos - margin) if it should differ; then `own` (B, D) are the
//! rows' own targets, and a pair whose t equals its own is left out. Outputs: loss (1), the mean over the pairs, 0
//! where there is none, and its parts (2): sum and number of pairs. Slope of cos by x: (t / |t| - cos x / |x|) / |x|.

use super::mean_of_rows::{self, mean_of_rows};
use super::variants::{self, Lanes, lane_rounds};
use super::{Entry, joined};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, Target, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const SHADER: Shader = shader!("cosine_loss.wgsl");
static SAME: Lanes = [SHADER, SHADER.with(&["SUBGROUPS"])];
static DIFFER: Lanes = [SHADER.with(&["DIFFER"]), SHADER.with(&["DIFFER", "SUBGROUPS"])];

params! {
    struct Params { batch: u32, width: u32, differ: u32, margin: f32, accumulate: u32 }
}

const LANES: usize = 64;
const EPS: f64 = 1e-12;

/// Inputs: x, t, lengths and, for pairs that should differ, own.
#[derive(Clone, Copy, Debug)]
pub struct CosineLoss {
    /// Pairs should differ: cosines up to this are no loss.
    pub margin: Option<f64>,
}

/// Adds the loss (1) and its parts (2) of `x` (B, D) and `t` (B, D), which should be alike, for `lengths` u32 (B). Only
/// `x` gets a gradient, and only from the loss.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn cosine_loss(g: &mut Graph, x: Tensor, t: Tensor, lengths: Tensor) -> Result<(Tensor, Tensor)> {
    let y = g.push(CosineLoss { margin: None }, &[x, t, lengths])?;
    Ok((y[0], y[1]))
}

/// As [`cosine_loss`], for pairs that should differ by `margin`; those with t = `own` (B, D) are left out.
pub fn cosine_margin_loss(
    g: &mut Graph,
    x: Tensor,
    t: Tensor,
    lengths: Tensor,
    own: Tensor,
    margin: f64,
) -> Result<(Tensor, Tensor)> {
    let y = g.push(CosineLoss { margin: Some(margin) }, &[x, t, lengths, own])?;
    Ok((y[0], y[1]))
}

impl CosineLoss {
    fn shader(&self, target: Target) -> &'static Shader {
        variants::lanes(target, if self.margin.is_some() { &DIFFER } else { &SAME })
    }

    fn params(&self, io: &Io) -> Params {
        let shape = &io.x(0).shape;
        Params {
            batch: shape.rows() as u32,
            width: shape.last() as u32,
            differ: self.margin.is_some().into(),
            margin: self.margin.unwrap_or_default() as f32,
            accumulate: 0,
        }
    }
}

impl Op for CosineLoss {
    fn name(&self) -> &'static str {
        "cosine_loss"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let shape = &x[0].shape;
        let same = x[..2].iter().chain(x.get(3)).all(|s| *s == Spec::f32(shape.clone()));
        if shape.rank() != 2 || shape.is_empty() || !same || x[2] != Spec::u32([shape.rows()]) {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = "x (B, D), t and own as x, lengths u32 (B)";
            return Err(Error::shape("cosine_loss", expected, got.join(", ")));
        }
        Ok(Outputs {
            y: vec![Spec::f32([1]), Spec::f32([2])],
            saved: vec![Spec::f32([shape.rows(), 4])],
            scratch: vec![Spec::f32([shape.rows(), 2])],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (p, rows) = (self.params(io), io.scratch(0).view);
        let mut bindings = vec![
            ("x", io.x(0).view),
            ("targets", io.x(1).view),
            ("lengths", io.x(2).view),
            ("rows", rows),
            ("saved", io.saved(0).view),
        ];
        if self.margin.is_some() {
            bindings.push(("own", io.x(3).view));
        }
        let rounds = (p.width as usize).div_ceil(LANES) + 2 * lane_rounds(LANES);
        let launch = Grid::folded(p.batch as usize, io.replicas).iterations(rounds);
        r.dispatch(self.shader(r.target), "cosine_loss_forward_rows", &bindings, p, launch);
        mean_of_rows(r, rows, io.y(0).view, io.y(1).view, p.batch as usize, io.replicas);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let dx = match io.dx(0) {
            Some(dx) if (1..io.inputs()).all(|i| io.dx(i).is_none()) => dx,
            _ => return Err(Error::NoGradient { op: "cosine_loss" }),
        };
        let dy = io.dy(0).ok_or(Error::NoGradient { op: "cosine_loss" })?;
        let bindings = [
            ("x", io.x(0).view),
            ("targets", io.x(1).view),
            ("saved", io.saved(0).view),
            ("parts", io.y(1).view),
            ("grad_y", dy),
            ("grad_x", dx.view),
        ];
        let p = Params { accumulate: dx.accumulate.into(), ..self.params(io) };
        let launch = Grid::items(io.x(0).shape.len(), LANES, io.replicas).no_loops();
        r.dispatch(self.shader(r.target), "cosine_loss_backward_input", &bindings, p, launch);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut parts = [0.0, 0.0];
        for b in (0..x[0].shape().rows()).filter(|&b| x[2][b] > 0.0) {
            let (v, t) = (x[0].row(b), x[1].row(b));
            let cos = dot(v, t) / ((dot(v, v) + EPS) * (dot(t, t) + EPS)).sqrt();
            let loss = match self.margin {
                Some(_) if x[3].row(b) == t => continue,
                Some(margin) => (cos - margin).max(0.0),
                None => 1.0 - cos,
            };
            parts = [parts[0] + loss, parts[1] + 1.0];
        }
        vec![Array::new([1], vec![parts[0] / parts[1].max(1.0)]), Array::new([2], parts.to_vec())]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 6.0 * n, bytes: 8.0 * n }
    }
}

/// With a margin, every third pair's target is its own.
fn case(name: &str, shape: [usize; 2], margin: Option<f64>, lengths: Fill) -> Case {
    let value = |i: usize| (i * 37 % 101) as f64 / 50.0 - 0.9;
    let values = |own: bool| {
        let row = |i: usize| if own && !(i / shape[1]).is_multiple_of(3) { value(i + 1) } else { value(i) };
        Input::data(shape).filled(Fill::Given((0..shape[0] * shape[1]).map(row).collect()))
    };
    let mut inputs = vec![Input::gradient(shape), values(false), Input::u32([shape[0]], lengths)];
    inputs.extend(margin.map(|_| values(true)));
    Case::new(name, CosineLoss { margin }, inputs).seeded(&[0])
}

fn cases() -> Vec<Case> {
    let whole = || Fill::Given(vec![1.0; 600]);
    vec![
        case("one", [1, 3], None, whole()),
        case("padding", [7, 5], None, Fill::Below(2)),
        case("padding only", [5, 4], None, Fill::Below(1)),
        case("more pairs and columns than invocations", [67, 131], None, Fill::Below(3)),
        // Cosines are on both sides of the margin.
        case("differ", [37, 5], Some(0.1), Fill::Below(3)),
        case("differ, all cosines above the margin", [9, 70], Some(-1.5), whole()),
        case("differ, its own only", [1, 4], Some(-1.5), whole()),
        case("words", [64, 300], None, whole()).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "cosine_loss",
    about: "cosine embedding loss of pairs",
    shaders: &joined::<6>(&[&SAME, &DIFFER, &mean_of_rows::SHADERS]),
    cases,
};
