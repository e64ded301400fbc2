//! A model's inputs, standardised by column and clipped; in training with normal noise and dropout.
//!
//! x (..., F), mean and deviation (F): y = clip((x - mean) / deviation, -limit, limit), of the shape of x. In training
//! y = factor (that + sigma n), n ~ N(0, 1), factor 0 with probability p and 1 / (1 - p) otherwise. clock u32 (4) =
//! (seed low, seed high, step, done): draws are a function of (seed, step, element). No gradient passes: this is data.

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::{PHILOX_ROUNDS, dropout_factor, dropout_threshold, normal_pair, philox};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::onnx::operators::{Operators, Value};
use crate::graph::{Cost, Graph, Io, Mode, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("standardise_columns.wgsl").with(&["VEC4"]);

params! {
    struct Params {
        rows: u32, f: u32, chunks: u32, limit: f32, sigma: f32, threshold: u32, scale: f32, stream: u32,
        x_stride: u32, mean_stride: u32, deviation_stride: u32, clock_stride: u32,
    }
}

/// Domain separation of the noise, as in the shader.
const NOISE: u32 = 0x501E;
/// Of dropout, which layers number from 0.
const STREAM: u32 = 1000;
/// Rows of an invocation, as in the shader.
const ROWS: usize = 16;
/// Standardised values are clipped to plus and minus this.
const LIMIT: f64 = 6.0;

/// How a model's inputs are prepared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    /// Whether they are standardised with the mean and the deviation of the training clips, and clipped to +-6.
    pub standardise: bool,
    /// Probability that an input is 0 in training, in [0, 1).
    pub dropout: f64,
    /// Standard deviation of noise that is added in training.
    pub noise: f64,
}

impl Preparation {
    pub const OFF: Preparation = Preparation { standardise: false, dropout: 0.0, noise: 0.0 };
}

/// Inputs: x, mean, deviation, clock.
#[derive(Clone, Copy, Debug)]
struct StandardiseColumns {
    limit: f64,
    sigma: f64,
    /// Of dropout.
    p: f64,
}

/// Names of the statistics of standardised inputs, (F) each.
pub const MEAN: &str = "inputs.mean";
pub const DEVIATION: &str = "inputs.deviation";

/// Adds the inputs `x` (B, T, F), prepared; in a graph for evaluation without noise and dropout. Standardised ones have
/// the statistics [`MEAN`] and [`DEVIATION`]; the latter is 0 until they are known. `clock` u32 (4).
///
/// # Errors
/// `Usage` for a probability out of range.
pub fn prepare(g: &mut Graph, x: Tensor, clock: Tensor, how: Preparation) -> Result<Tensor> {
    let Preparation { standardise, dropout, noise } = how;
    if !(0.0..1.0).contains(&dropout) {
        return Err(Error::Usage(format!("dropout must be at least 0 and below 1, got {dropout}")));
    }
    let trains = g.mode() == Mode::Train;
    let f = g.shape(x).last();
    let [mean, deviation] = match standardise {
        true => [g.statistic(MEAN, [f], 0.0), g.statistic(DEVIATION, [f], 0.0)],
        false if !trains || how == Preparation::OFF => return Ok(x),
        false => [0.0f32, 1.0].map(|v| g.constant(Spec::f32([f]), vec![v.to_bits(); f])),
    };
    let (sigma, p) = if trains { (noise, dropout) } else { (0.0, 0.0) };
    let op = StandardiseColumns { limit: if standardise { LIMIT } else { f32::MAX.into() }, sigma, p };
    Ok(g.push(op, &[x, mean, deviation, clock])?[0])
}

impl Op for StandardiseColumns {
    fn name(&self) -> &'static str {
        "standardise_columns"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let column = Spec::f32([x[0].shape.last()]);
        match !x[0].shape.is_empty() && x[1] == column && x[2] == column && x[3] == Spec::u32([4]) {
            true => Ok(Outputs { detached: true, ..Outputs::one(x[0].clone()) }),
            false => {
                let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
                let expected = "x (..., F), mean (F), deviation (F), clock u32 (4)";
                Err(Error::shape(self.name(), expected, got.join(", ")))
            }
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let x = &io.x(0);
        let (rows, f) = (x.shape.rows(), x.shape.last());
        let chunks = f.div_ceil(4);
        let (threshold, scale) = dropout_threshold(self.p);
        let p = Params {
            rows: rows as u32,
            f: f as u32,
            chunks: chunks as u32,
            limit: self.limit as f32,
            sigma: self.sigma as f32,
            threshold,
            scale,
            stream: STREAM,
            x_stride: x.stride as u32,
            mean_stride: io.x(1).stride as u32,
            deviation_stride: io.x(2).stride as u32,
            clock_stride: io.x(3).stride as u32 / 4,
        };
        let bindings = [
            ("x", x.view),
            ("mean", io.x(1).view),
            ("deviation", io.x(2).view),
            ("clock", io.x(3).view),
            ("y", io.y(0).view),
        ];
        // Of a row: the draws, and the series of two logarithms.
        let rounds = ROWS * (5 + 2 * PHILOX_ROUNDS + 2 * 8);
        let launch = Grid::items(rows.div_ceil(ROWS) * chunks, 64, io.replicas).iterations(rounds);
        r.dispatch(&SHADER, "standardise_columns_forward", &bindings, p, launch);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let f = x[0].shape().last();
        let clock = [0, 1, 2, 3].map(|i| x[3][i] as u32);
        let value = |i: usize| {
            let (row, c) = (i / f, i % f);
            let v = ((x[0][i] - x[1][c]) / x[2][c]).clamp(-self.limit, self.limit);
            let element = row * f.div_ceil(4) + c / 4;
            let words = philox([element as u32, STREAM, clock[2], NOISE], [clock[0], clock[1]]);
            let noise = normal_pair([words[c % 4 / 2 * 2], words[c % 4 / 2 * 2 + 1]])[c % 2];
            let factor = if self.p > 0.0 { dropout_factor(4 * element + c % 4, STREAM, clock, self.p) } else { 1.0 };
            factor * (v + self.sigma * noise)
        };
        vec![Array::from_fn(x[0].shape().clone(), value)]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let (input, mean, deviation) = (to.of(&x[0]), to.of(&x[1]), to.of(&x[2]));
        let centred = to.apply("Sub", &[&input, &mean], &[]);
        let scaled = to.apply("Div", &[&centred, &deviation], &[]);
        let [low, high] = [-self.limit, self.limit].map(|limit| to.scalar(limit as f32));
        Ok(vec![to.apply("Clip", &[&scaled, &low, &high], &[])])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 4.0 * n, bytes: 8.0 * n }
    }
}

fn cases() -> Vec<Case> {
    let op = |limit, sigma, p| StandardiseColumns { limit, sigma, p };
    let case = |name: &str, x: &[usize], op| {
        let f = *x.last().expect("x has axes");
        let deviation = Input::statistic([f]).filled(Fill::Uniform(0.5, 2.0));
        let inputs = vec![Input::data(x), Input::statistic([f]), deviation, Input::u32([4], Fill::Below(u32::MAX))];
        Case::new(name, op, inputs)
    };
    vec![
        case("one", &[1, 1], op(6.0, 0.0, 0.0)),
        case("clipped", &[7, 5], op(0.5, 0.0, 0.0)),
        case("noise", &[17, 2, 6], op(6.0, 0.5, 0.0)),
        case("dropout", &[33, 7], op(6.0, 0.0, 0.2)),
        case("all, past one workgroup", &[35, 131], op(1.0, 0.1, 0.2)),
        case("musicnn's blocks", &[64, 20, 1506], op(6.0, 0.1, 0.2)).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "standardise_columns",
    about: "inputs standardised by column, with noise and dropout (augmentation)",
    shaders: &[&SHADER],
    cases,
};
