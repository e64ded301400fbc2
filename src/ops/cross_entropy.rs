//! Softmax cross-entropy from logits, for single-label classification.
//!
//! logits x (B, K), target t (B, K) with one 1 in a row, lengths u32 (B); a clip of length 0 is padding and ignored.
//! A clip's loss is -sum_k t_k log softmax(x)_k, with the logarithm as x_k - max x - log sum_j exp(x_j - max x).
//! Its slope is (softmax(x)_k sum_j t_j - t_k) / valid clips, right for any t, so that clips may be mixed.
//! Outputs: loss (1), the mean over valid clips, 0 where there is none, and its parts (2): sum and number of valid
//! clips. The sums of both over the batches of an epoch give the loss of the epoch. A NaN among the logits, or an
//! infinity, makes the loss NaN.

use super::Entry;
use super::variants::{self, Lanes, lane_rounds};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Launch, Recorder, Shader, View, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const SHADER: Shader = shader!("cross_entropy.wgsl");
static SHADERS: Lanes = [SHADER, SHADER.with(&["SUBGROUPS"])];

/// Invocations of the workgroup that sums a replica's loss: the loss of a batch is small.
const WORKGROUP: usize = 256;

params! {
    struct Params { batch: u32, classes: u32, accumulate: u32 }
}

/// Inputs: logits, target, lengths.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy;

/// Adds the loss (1) and its parts (2) of `logits` (B, K) against `target` (B, K), for `lengths` u32 (B); see the
/// module. Only `logits` gets a gradient, and only from the loss.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn cross_entropy(g: &mut Graph, logits: Tensor, target: Tensor, lengths: Tensor) -> Result<(Tensor, Tensor)> {
    let y = g.push(CrossEntropy, &[logits, target, lengths])?;
    Ok((y[0], y[1]))
}

fn params(io: &Io) -> Params {
    let shape = &io.x(0).shape;
    Params { batch: shape.rows() as u32, classes: shape.last() as u32, accumulate: 0 }
}

/// What every kernel binds.
fn inputs(io: &Io) -> [(&'static str, View); 5] {
    let [x, targets, lengths] = [0, 1, 2].map(|i| io.x(i).view);
    let [parts, saved] = [io.y(1).view, io.saved(0).view];
    [("x", x), ("targets", targets), ("lengths", lengths), ("parts", parts), ("saved_rows", saved)]
}

/// One workgroup for each replica, in a fixed order.
fn launch(p: &Params, replicas: usize) -> Launch {
    let rounds = p.batch.div_ceil(WORKGROUP as u32) * (1 + 3 * p.classes);
    Grid::folded(1, replicas).iterations(rounds as usize + lane_rounds(WORKGROUP))
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let shape = &x[0].shape;
        let f32s = x[..2].iter().all(|s| *s == Spec::f32(shape.clone()));
        if shape.rank() != 2 || shape.is_empty() || !f32s || x[2] != Spec::u32([shape.rows()]) {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = "logits (B, K), target (B, K), lengths u32 (B)";
            return Err(Error::shape("cross_entropy", expected, got.join(", ")));
        }
        Ok(Outputs {
            y: vec![Spec::f32([1]), Spec::f32([2])],
            saved: vec![Spec::f32([shape.rows(), 2])],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let bindings = [&inputs(io)[..], &[("y", io.y(0).view)]].concat();
        let p = params(io);
        r.dispatch(variants::lanes(r.target, &SHADERS), "cross_entropy_forward", &bindings, p, launch(&p, io.replicas));
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let dx = match io.dx(0) {
            Some(dx) if (1..io.inputs()).all(|i| io.dx(i).is_none()) => dx,
            _ => return Err(Error::NoGradient { op: "cross_entropy" }),
        };
        let dy = io.dy(0).ok_or(Error::NoGradient { op: "cross_entropy" })?;
        let mut bindings = [&inputs(io)[..], &[("grad_y", dy), ("grad_x", dx.view)]].concat();
        let (p, len) = (Params { accumulate: dx.accumulate.into(), ..params(io) }, io.x(0).shape.len());
        if io.with_forward() {
            bindings.push(("y", io.y(0).view));
            let launch = launch(&p, io.replicas).and(len.div_ceil(WORKGROUP));
            r.dispatch(variants::lanes(r.target, &SHADERS), "cross_entropy_forward_backward", &bindings, p, launch);
        } else {
            let launch = Grid::items(len, 64, io.replicas).no_loops();
            r.dispatch(variants::lanes(r.target, &SHADERS), "cross_entropy_backward_input", &bindings, p, launch);
        }
        Ok(())
    }

    /// For a clip to each invocation.
    fn joins_passes(&self, x: &[Spec]) -> bool {
        x[0].shape.rows() <= WORKGROUP
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [logits, target, lengths] = x else { unreachable!("cross_entropy takes three tensors") };
        let mut parts = [0.0, 0.0];
        for b in (0..logits.shape().rows()).filter(|&b| lengths[b] > 0.0) {
            let row = logits.row(b);
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = row.iter().map(|v| (v - top).exp()).sum::<f64>().ln();
            parts[0] += row.iter().zip(target.row(b)).map(|(v, t)| t * (log_sum - (v - top))).sum::<f64>();
            parts[1] += 1.0;
        }
        let loss = if parts[1] > 0.0 { parts[0] / parts[1] } else { 0.0 };
        vec![Array::new([1], vec![loss]), Array::new([2], parts.to_vec())]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 7.0 * n, bytes: 8.0 * n }
    }
}

/// Logits from -`bound` to `bound`, against one class per clip.
fn case(name: &str, shape: [usize; 2], bound: f64, lengths: Fill) -> Case {
    let [clips, classes] = shape;
    let class = |i: usize| f64::from(u8::from(i / classes * 7 % classes == i % classes));
    let inputs = vec![
        Input::gradient(shape).filled(Fill::Uniform(-bound, bound)),
        Input::data(shape).filled(Fill::Given((0..clips * classes).map(class).collect())),
        Input::u32([clips], lengths),
    ];
    Case::new(name, CrossEntropy, inputs).seeded(&[0])
}

/// Targets between 0 and 1 that do not sum to 1.
fn soft(name: &str, shape: [usize; 2]) -> Case {
    let mut case = case(name, shape, 3.0, Fill::Below(2));
    case.inputs[1] = Input::data(shape).filled(Fill::Uniform(0.0, 1.0));
    case
}

fn cases() -> Vec<Case> {
    let whole = || Fill::Given(vec![87.0; 600]);
    vec![
        case("one", [1, 1], 3.0, whole()),
        case("two classes", [1, 2], 3.0, whole()),
        case("padding", [7, 5], 3.0, Fill::Below(2)),
        case("padding only", [5, 4], 3.0, Fill::Below(1)),
        case("more clips than invocations", [259, 3], 3.0, Fill::Below(3)),
        // Their exponentials overflow, and log softmax reaches -800.
        case("large logits", [6, 9], 400.0, whole()),
        soft("soft targets", [9, 7]),
        case("real", [128, 19], 3.0, whole()).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "cross_entropy",
    about: "softmax cross-entropy, single-label",
    shaders: &[&SHADERS[0], &SHADERS[1]],
    cases,
};
