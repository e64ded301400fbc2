//! Adagrad (Duchi, Hazan, Singer, JMLR 2011) as in Keras: all parameters of all replicas in one dispatch, or in
//! as many as the size of storage bindings requires.
//!
//! w, grad, accumulator (P): accumulator <- accumulator + grad^2; w <- w - lr grad / (sqrt(accumulator) + eps).
//! The accumulator's initial value is the caller's, [`INITIAL`] in Keras and AACNN21. Elements with w = grad = 0
//! (padding of an arena) stay 0.

use super::Entry;
use super::arena::{self, Arena, Optimiser, PART, Update};
use super::track::End;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::Result;
use crate::gpu::{Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const ALONE: Shader = shader!("adagrad.wgsl", "shared/optimiser.wgsl", "shared/track.wgsl");
/// Without and with the end of a step.
static SHADERS: [Shader; 2] = [ALONE, ALONE.with(&["TRACK"])];

/// Keras' initial accumulator value.
pub const INITIAL: f32 = 0.1;

params! {
    struct Params { arena: Arena, lr: f32, eps: f32 }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adagrad {
    /// Learning rate.
    pub lr: f64,
    pub eps: f64,
}

impl Default for Adagrad {
    /// Keras'.
    fn default() -> Self {
        Adagrad { lr: 1e-3, eps: 1e-7 }
    }
}

/// Adds the update of w by grad with the sum of squares `accumulator`, all (P) with P a multiple of 4, as arenas have.
/// w and `accumulator` change in place, and `end` ends the step.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn adagrad(g: &mut Graph, [w, grad, accumulator]: [Tensor; 3], config: Adagrad, end: Option<End>) -> Result<()> {
    arena::push(g, config, &[w, grad, accumulator], end)
}

impl Op for Adagrad {
    fn name(&self) -> &'static str {
        "adagrad"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let expected = "w, grad, accumulator (P) with P a multiple of 4";
        arena::infer(self.name(), expected, x, vec![(0, 0), (1, 2)])
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        self.record_all(io, r, PART, None)
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [w, grad, accumulator] = x else { unreachable!("adagrad takes three tensors") };
        let shape = w.shape();
        let sum = Array::from_fn(shape.clone(), |i| accumulator[i] + grad[i] * grad[i]);
        let w = Array::from_fn(shape.clone(), |i| w[i] - self.lr * grad[i] / (sum[i].sqrt() + self.eps));
        vec![w, sum]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 7.0 * n, bytes: 20.0 * n }
    }
}

impl Optimiser for Adagrad {
    fn record(&self, io: &Io, r: &mut Recorder, update: Update) {
        let p = Params { arena: update.arena, lr: self.lr as f32, eps: self.eps as f32 };
        let arenas = [("w", io.y(0)), ("accumulator", io.y(1))];
        update.record(r, (&SHADERS, "adagrad_forward"), &arenas, None, p, 0);
    }
}

/// With sums of squares of at least `low`.
fn case(name: &str, len: usize, low: f64, config: Adagrad) -> Case {
    let inputs = vec![Input::data([len]), Input::data([len]), Input::data([len]).filled(Fill::Uniform(low, low + 2.0))];
    Case::new(name, config, inputs)
}

fn cases() -> Vec<Case> {
    // Steps as large as the weights, and eps as large as a root, so that errors of either are visible.
    let large = Adagrad { lr: 1.0, eps: 0.3 };
    let mut padding = case("padding", 8, 0.0, large);
    padding.inputs = vec![Input::data([8]).filled(Fill::Given(vec![0.0; 8])); 3];
    let alone = vec![
        case("one vec4", 4, 0.1, Adagrad::default()),
        case("long steps", 1028, 0.0, large),
        padding,
        case("real", 55_424, 0.1, Adagrad::default()).bench(),
    ];
    alone.into_iter().chain(arena::cases(large, |name, len| case(name, len, 0.1, large))).collect()
}

pub(crate) const OP: Entry =
    Entry { name: "adagrad", about: "Adagrad's update in place", shaders: &[&SHADERS[0], &SHADERS[1]], cases };
