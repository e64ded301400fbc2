//! Attention over the instances of a clip: each class has its own weights (Gururani, Sharma, Lerch: "An attention
//! mechanism for musical instrument recognition", ISMIR 2019).
//!
//! From logits (B, T, 2 K), att and then cla of each instance, and lengths (B) u32 (instances `t < lengths[b]` are
//! valid): a = clamp(sigmoid(att), 1e-7, 1 - 1e-7), w = a / sum_t a, y (B, K) = clamp(sum_t w sigmoid(cla), 0, 1).
//! Or by softmax: a = exp(att), without clamps. Padding has the weight 0 and the gradient 0; a clip without instances
//! gives 0. Where a clamp acts the gradient is 0, as in PyTorch. The weights (B, T, K) are for inspection: no gradient
//! passes through them.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::masked_bce::{self, MaskedBce, Mean, Normalisation};
use super::variants::{self, Lanes, lane_rounds};
use super::{Entry, joined};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::Stream;
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::onnx::operators::{Attribute, Operators, Value};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const SHADER: Shader = shader!("attention_pool.wgsl", "shared/masked_bce.wgsl");
/// By whether K is a multiple of 4.
static SHADERS: [Shader; 2] = [SHADER, SHADER.with(&["VEC4"])];
/// The same, with the gradient of the loss.
static WITH_LOSS: [Lanes; 2] = [
    [SHADER.with(&["BCE"]), SHADER.with(&["BCE", "SUBGROUPS"])],
    [SHADER.with(&["BCE", "VEC4"]), SHADER.with(&["BCE", "VEC4", "SUBGROUPS"])],
];

params! {
    struct Params {
        mean: Mean, b: u32, t: u32, k: u32, classes: u32, lengths_stride: u32, slice: u32,
        accumulate: u32, softmax: u32,
    }
}

/// Instances that a backward invocation works on.
const SLICE: usize = 16;
/// Most instances with which one dispatch does both passes.
const FEW: usize = 2 * SLICE;
/// More instances than this are summed in slices.
const MANY: usize = 1 << 14;
const MANY_SLICE: usize = 1 << 10;
/// Most labels that an invocation counts for the gradient of a loss: beyond, a dispatch for the loss is faster.
const MOST_LABELS: usize = 256;
/// Invocations of a workgroup.
const WORKGROUP: usize = 64;

/// How attention logits become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Sigmoid of each instance, normalised to sum 1.
    #[default]
    Sigmoid,
    /// Softmax over the instances.
    Softmax,
}

/// Inputs: logits, lengths. Outputs: probabilities, weights.
#[derive(Clone, Copy, Debug)]
pub struct AttentionPool {
    pub pooling: Pooling,
}

/// Adds attention pooling of `logits` (B, T, 2 K), `lengths` u32 (B).
/// Returns the probabilities (B, K) and the weights (B, T, K).
pub fn attention_pool(g: &mut Graph, logits: Tensor, lengths: Tensor, pooling: Pooling) -> Result<(Tensor, Tensor)> {
    let outputs = g.push(AttentionPool { pooling }, &[logits, lengths])?;
    Ok((outputs[0], outputs[1]))
}

/// The kernel variant for K.
fn shader(k: usize) -> &'static Shader {
    variants::by_row(k, &SHADERS[0], &SHADERS[1]).0
}

/// B, T and K.
fn dims(io: &Io) -> [usize; 3] {
    let [b, t, k] = *io.y(1).shape.dims() else { unreachable!("inferred before") };
    [b, t, k]
}

fn params(io: &Io, pooling: Pooling) -> Params {
    let [b, t, k] = dims(io);
    Params {
        mean: Normalisation::Observed.into(),
        b: b as u32,
        t: t as u32,
        k: (k / variants::row_width(k)) as u32,
        classes: k as u32,
        lengths_stride: io.x(1).stride as u32,
        slice: SLICE as u32,
        accumulate: 0,
        softmax: (pooling == Pooling::Softmax).into(),
    }
}

impl Op for AttentionPool {
    fn name(&self) -> &'static str {
        "attention_pool"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        match *x[0].shape.dims() {
            [b, t, both] if !x[0].shape.is_empty() && both % 2 == 0 && x[1] == Spec::u32([b]) => Ok(Outputs {
                y: vec![Spec::f32([b, both / 2]), Spec::f32([b, t, both / 2])],
                saved: vec![Spec::f32([b, both / 2])],
                // Unused buffers take no memory.
                scratch: vec![Spec::f32([b, t.div_ceil(MANY_SLICE), 3, both / 2])],
                ..Default::default()
            }),
            _ => {
                let got = format!("{}, {}", x[0].shape, x[1].shape);
                Err(Error::shape(self.name(), "logits (B, T, 2 K), u32 lengths (B)", got))
            }
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let p = params(io, self.pooling);
        let shader = shader(io.y(1).shape.last());
        let inputs = [("logits", io.x(0).view), ("lengths", io.x(1).view)];
        let (y, weights, total) = (("y", io.y(0).view), ("weights", io.y(1).view), ("saved_total", io.saved(0).view));
        let clips = Grid::items((p.b * p.k) as usize, WORKGROUP, io.replicas);
        if p.t as usize <= MANY {
            let bindings = [&inputs[..], &[y, weights, total]].concat();
            r.dispatch(shader, "attention_pool_forward", &bindings, p, clips.iterations(3 * p.t as usize));
            return Ok(());
        }
        let partial = ("partial", io.scratch(0).view);
        let p = Params { slice: MANY_SLICE as u32, ..p };
        let slices = p.t.div_ceil(p.slice);
        let launch = Grid::items((p.b * slices * p.k) as usize, WORKGROUP, io.replicas).iterations(2 * MANY_SLICE);
        r.dispatch(shader, "attention_pool_forward_slices", &[&inputs[..], &[partial]].concat(), p, launch);
        let launch = clips.iterations(2 * slices as usize);
        r.dispatch(shader, "attention_pool_forward_join", &[inputs[1], partial, y, total], p, launch);
        let launch = Grid::items((p.b * p.t * p.k) as usize, WORKGROUP, io.replicas).no_loops();
        r.dispatch(shader, "attention_pool_forward_weights", &[inputs[0], inputs[1], total, weights], p, launch);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let dx = io.dx(0).expect("the only input with a gradient");
        let p = Params { accumulate: dx.accumulate.into(), ..params(io, self.pooling) };
        let both = [("logits", io.x(0).view), ("lengths", io.x(1).view), ("y", io.y(0).view), ("grad_logits", dx.view)];
        let [b, t, k] = dims(io);
        if let Some((loss, of)) = io.loss::<MaskedBce>() {
            let p = Params { mean: loss.norm.into(), ..p };
            let grad_loss = of.dy(0).ok_or(Error::NoGradient { op: "masked_bce" })?;
            let labels = [("targets", of.x(1).view), ("observed", of.x(2).view), ("grad_loss", grad_loss)];
            let rounds = (b.div_ceil(WORKGROUP) + 1) * (1 + k) + lane_rounds(WORKGROUP) + 3 * t;
            let launch = Grid::items((p.b * p.k) as usize, WORKGROUP, io.replicas).iterations(rounds);
            let bindings = [&both[..], &labels].concat();
            let [scalar, vec4] = [0, 1].map(|i| variants::lanes(r.target, &WITH_LOSS[i]));
            let (shader, _) = variants::by_row(k, scalar, vec4);
            r.dispatch(shader, "attention_pool_forward_backward", &bindings, p, launch);
            return Ok(());
        }
        let dy = io.dy(0).ok_or(Error::NoGradient { op: "attention_pool's weights" })?;
        let bindings = [&both[..], &[("saved_total", io.saved(0).view), ("grad_y", dy)]].concat();
        let grid = Grid::items((p.b * p.t.div_ceil(p.slice) * p.k) as usize, WORKGROUP, io.replicas).iterations(SLICE);
        r.dispatch(shader(k), "attention_pool_backward", &bindings, p, grid);
        Ok(())
    }

    /// With a cross-entropy that is not focal, of the same clips, and few instances: each invocation works on all of a
    /// clip.
    fn joins_loss(&self, io: &Io) -> bool {
        let [b, t, k] = dims(io);
        io.loss::<MaskedBce>().is_some_and(|(loss, of)| {
            let fits = loss.focusing.is_none() && of.x(0).shape == io.y(0).shape && of.x(3).view == io.x(1).view;
            fits && io.x(1).stride == b && t <= FEW && b.div_ceil(WORKGROUP) * k <= MOST_LABELS
        })
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (b, t, k) = (x[0].dims()[0], x[0].dims()[1], x[0].dims()[2] / 2);
        let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
        let mut y = Array::zeros([b, k]);
        let mut weights = Array::zeros([b, t, k]);
        for clip in 0..b {
            let valid = clip * t..clip * t + x[1][clip] as usize;
            for c in 0..k {
                let a = |row: usize| match self.pooling {
                    Pooling::Sigmoid => sigmoid(x[0].row(row)[c]).clamp(1e-7, 1.0 - 1e-7),
                    Pooling::Softmax => x[0].row(row)[c].exp(),
                };
                let total: f64 = valid.clone().map(a).sum();
                for row in valid.clone() {
                    weights.row_mut(row)[c] = a(row) / total;
                    y.row_mut(clip)[c] += weights.row(row)[c] * sigmoid(x[0].row(row)[k + c]);
                }
            }
        }
        vec![y.map(|s: f64| s.clamp(0.0, 1.0)), weights]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let (logits, mask) = (to.of(&x[0]), to.mask(&x[1], x[0].dims()[1]));
        let [att, cla] = to.halves(&logits);
        let a = match self.pooling {
            Pooling::Sigmoid => {
                let [low, high] = [1e-7, 1.0 - 1e-7].map(|v| to.scalar(v));
                let a = to.apply("Sigmoid", &[&att], &[]);
                to.apply("Clip", &[&a, &low, &high], &[])
            }
            Pooling::Softmax => {
                // Less the largest of all, also of those that are not valid: it cancels out.
                let most = to.apply("ReduceMax", &[&att], &[("axes", Attribute::Ints(&[1]))]);
                let a = to.apply("Sub", &[&att, &most], &[]);
                to.apply("Exp", &[&a], &[])
            }
        };
        let a = to.apply("Mul", &[&a, &mask], &[]);
        // Of a clip without instances both are 0.
        let (total, least) = (to.sum(&a, &[1], true), to.scalar(f32::MIN_POSITIVE));
        let total = to.apply("Max", &[&total, &least], &[]);
        let weights = to.apply("Div", &[&a, &total], &[]);
        let scores = to.apply("Sigmoid", &[&cla], &[]);
        let weighted = to.apply("Mul", &[&weights, &scores], &[]);
        Ok(vec![to.sum(&weighted, &[1], false), weights])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let len = x[0].shape.len() as f64;
        Cost { flops: 5.0 * len, bytes: 4.0 * 1.5 * len }
    }
}

/// For B clips of T instances and K classes. `att` and `cla`: the ranges of the logits.
fn case(name: &str, [b, t, k]: [usize; 3], lengths: &[u32], att: [f64; 2], cla: [f64; 2]) -> Case {
    let lengths = Fill::Given(lengths.iter().map(|&n| n.into()).collect());
    let mut stream = Stream::new(0, 0);
    let logit = |i: usize| {
        let [low, high] = if i % (2 * k) < k { att } else { cla };
        low + (stream.uniform(1.0) + 1.0) / 2.0 * (high - low)
    };
    let logits = match att == cla {
        true => Fill::Uniform(att[0], att[1]),
        false => Fill::Given((0..2 * b * t * k).map(logit).collect()),
    };
    let inputs = vec![Input::gradient([b, t, 2 * k]).filled(logits), Input::u32([b], lengths)];
    Case::new(name, AttentionPool { pooling: Pooling::Sigmoid }, inputs).seeded(&[0])
}

fn softmax(case: Case) -> Case {
    Case { op: Rc::new(AttentionPool { pooling: Pooling::Softmax }), ..case }
}

/// With the masked binary cross-entropy of its probabilities, a fraction `known` of the labels known.
fn with_loss(case: Case, norm: Normalisation, known: f64) -> Case {
    let [b, _, both] = *case.inputs[0].spec.shape.dims() else { unreachable!("logits are (B, T, 2 K)") };
    let labels = [0.4, known].map(|share| Input::data([b, both / 2]).filled(Fill::Bernoulli(share)));
    case.with_loss(MaskedBce { norm, focusing: None }, labels.into(), &[2, 3, 1])
}

fn cases() -> Vec<Case> {
    use Normalisation::{Clips, Observed};
    let partial = Normalisation::Partial { alpha: -4.45, beta: 5.45, gamma: 1.0 };
    let few = |name, k| case(name, [4, 5, k], &[5, 0, 3, 1], [-3.0, 3.0], [-3.0, 3.0]);
    let clips: Vec<u32> = (0..131).map(|i| i % 4).collect();
    let many = |name| case(name, [131, 3, 4], &clips, [-3.0, 3.0], [-3.0, 3.0]);
    let mixed: Vec<u32> = (0..13).map(|i| i * 3 % 34).collect();
    vec![
        case("one", [1, 1, 1], &[1], [-1.0, 1.0], [-1.0, 1.0]),
        case("no instance", [1, 3, 2], &[0], [-1.0, 1.0], [-1.0, 1.0]),
        case("padding", [4, 5, 7], &[5, 0, 3, 1], [-4.0, 4.0], [-4.0, 4.0]),
        case("padding, vec4", [4, 5, 8], &[5, 0, 3, 1], [-4.0, 4.0], [-4.0, 4.0]),
        case("beyond the clamp", [3, 4, 5], &[4, 2, 3], [-40.0, 40.0], [-40.0, 40.0]),
        case("all below the clamp", [2, 3, 4], &[3, 2], [-30.0, -15.0], [-1.0, 1.0]),
        case("several slices", [13, 33, 11], &mixed, [-3.0, 3.0], [-3.0, 3.0]),
        softmax(case("softmax, one", [1, 1, 1], &[1], [-1.0, 1.0], [-1.0, 1.0])),
        softmax(case("softmax, padding", [4, 5, 7], &[5, 0, 3, 1], [-4.0, 4.0], [-4.0, 4.0])),
        softmax(case("softmax, vec4, large logits", [3, 4, 8], &[4, 2, 3], [-60.0, 60.0], [-4.0, 4.0])),
        softmax(case("softmax, several slices", [13, 33, 11], &mixed, [-3.0, 3.0], [-3.0, 3.0])),
        with_loss(case("one, with its loss", [1, 1, 1], &[1], [-1.0, 1.0], [-1.0, 1.0]), Observed, 1.0),
        with_loss(few("padding, with its loss", 7), Observed, 0.4),
        with_loss(few("padding, with its loss by clips", 7), Clips, 0.3),
        with_loss(few("padding, with its partial loss, vec4", 8), partial, 0.3),
        with_loss(few("nothing known, with its loss", 7), Observed, 0.0),
        with_loss(few("nothing known, with its loss by clips, vec4", 8), Clips, 0.0),
        with_loss(case("padding only, with its loss", [3, 2, 5], &[0; 3], [-3.0, 3.0], [-3.0, 3.0]), Observed, 0.5),
        with_loss(many("more clips than invocations, with its loss, vec4"), Observed, 0.3),
        with_loss(softmax(few("softmax, padding, with its loss", 7)), Observed, 0.4),
        with_loss(softmax(few("softmax, vec4, with its loss by clips", 8)), Clips, 0.4),
        with_loss(case("several slices, with its loss", [13, 33, 11], &mixed, [-3.0, 3.0], [-3.0, 3.0]), Observed, 0.4),
        case("many instances", [2, 100_000, 3], &[100_000, 20_000], [-3.0, 3.0], [-3.0, 3.0]),
        softmax(case("softmax, many instances, vec4", [1, 100_000, 4], &[99_999], [-3.0, 3.0], [-3.0, 3.0])),
        case("time and frequency", [32, 240, 20], &[240; 32], [-3.0, 3.0], [-3.0, 3.0]).bench(),
        case("att", [128, 10, 20], &[10; 128], [-3.0, 3.0], [-3.0, 3.0]).bench(),
        with_loss(case("att, with its loss", [128, 10, 20], &[10; 128], [-3.0, 3.0], [-3.0, 3.0]), Observed, 0.1)
            .bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "attention_pool",
    about: "attention over valid instances",
    shaders: &joined::<8>(&[&SHADERS, &WITH_LOSS[0], &WITH_LOSS[1], &masked_bce::PLAIN]),
    cases,
};
