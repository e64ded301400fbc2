//! The reward of a glimpse: R_j = R_{j-1} + the fraction of a clip's known labels that step j predicts correctly
//! (Watcharasupat, Gururani, Lerch: "Visual attention for musical instrument recognition", 2020, section III.C).
//!
//! p (B, K) probabilities, present if at least 0.5; target (B, K), likewise; observed (B, K) 0 or 1; R_{j-1} (B), if
//! there is one. Outputs: R_j (B), and counts (B), 1 for clips of which any label is known, else 0 (including padding,
//! with reward 0). Gradients end here.

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("reward.wgsl");

params! {
    struct Params { batch: u32, classes: u32, follows: u32 }
}

/// Inputs: p, target, observed, and R_{j-1} if there is one.
#[derive(Clone, Copy, Debug)]
struct Accuracy;

/// (B) each.
#[derive(Clone, Copy, Debug)]
pub struct Reward {
    /// R_j.
    pub sum: Tensor,
    /// 1 for clips that count, else 0.
    pub counts: Tensor,
}

/// Adds the reward of probabilities `p` (B, K) to `before` (B).
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn reward(g: &mut Graph, p: Tensor, target: Tensor, observed: Tensor, before: Option<Tensor>) -> Result<Reward> {
    let inputs: Vec<Tensor> = [p, target, observed].into_iter().chain(before).collect();
    let y = g.push(Accuracy, &inputs)?;
    Ok(Reward { sum: y[0], counts: y[1] })
}

impl Op for Accuracy {
    fn name(&self) -> &'static str {
        "reward"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let batch = Spec::f32([x[0].shape.rows()]);
        let fits = x[0].shape.rank() == 2 && x[..3].iter().all(|s| *s == Spec::f32(x[0].shape.clone()));
        if !fits || x.get(3).is_some_and(|before| *before != batch) {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = "p (B, K), target (B, K), observed (B, K), rewards (B)";
            return Err(Error::shape(self.name(), expected, got.join(", ")));
        }
        Ok(Outputs { y: vec![batch.clone(), batch], detached: true, ..Default::default() })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let shape = &io.x(0).shape;
        let p = Params { batch: shape.rows() as u32, classes: shape.last() as u32, follows: (io.inputs() == 4).into() };
        let bindings = [
            ("x", io.x(0).view),
            ("targets", io.x(1).view),
            ("observed", io.x(2).view),
            // In the first step any read-only buffer is bound in their place.
            ("before", io.x(io.inputs() - 1).view),
            ("y", io.y(0).view),
            ("counts", io.y(1).view),
        ];
        r.dispatch(
            &SHADER,
            "reward_forward",
            &bindings,
            p,
            Grid::items(shape.rows(), 64, io.replicas).iterations(shape.last()),
        );
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let batch = x[0].shape().rows();
        let known = |b: usize| (0..x[0].shape().last()).filter(move |k| x[2].row(b)[*k] != 0.0);
        let right = |b: usize| known(b).filter(|k| (x[0].row(b)[*k] >= 0.5) == (x[1].row(b)[*k] >= 0.5)).count();
        let sum = |b: usize| right(b) as f64 / known(b).count().max(1) as f64 + x.get(3).map_or(0.0, |r| r[b]);
        vec![Array::from_fn([batch], sum), Array::from_fn([batch], |b| f64::from(known(b).count() > 0))]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 3.0 * n, bytes: 12.0 * n }
    }
}

fn cases() -> Vec<Case> {
    let case = |name: &str, [batch, classes]: [usize; 2], known: f64, follows: bool| {
        let mut inputs = vec![
            Input::data([batch, classes]).filled(Fill::Uniform(0.0, 1.0)),
            Input::data([batch, classes]).filled(Fill::Uniform(0.0, 1.0)),
            Input::data([batch, classes]).filled(Fill::Bernoulli(known)),
        ];
        inputs.extend(follows.then(|| Input::data([batch]).filled(Fill::Uniform(0.0, 9.0))));
        Case::new(name, Accuracy, inputs)
    };
    let mut halves = case("exactly one half", [2, 2], 1.0, false);
    halves.inputs[0] = Input::data([2, 2]).filled(Fill::Given(vec![0.5, 0.5, 0.5, 0.49]));
    halves.inputs[1] = Input::data([2, 2]).filled(Fill::Given(vec![1.0, 0.5, 0.0, 0.0]));
    vec![
        case("one", [1, 1], 1.0, false),
        halves,
        case("first, ragged", [67, 5], 0.3, false),
        case("later, ragged", [67, 5], 0.3, true),
        case("nothing known", [5, 3], 0.0, true),
        case("sr16", [32, 20], 0.15, true).bench(),
    ]
}

pub(crate) const OP: Entry = Entry { name: "reward", about: "accuracy summed over steps", shaders: &[&SHADER], cases };
