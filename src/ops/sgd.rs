//! Gradient descent without momentum, as PyTorch's `SGD`: all parameters of all replicas in one dispatch, or in as many
//! as the size of storage bindings requires.
//!
//! w, grad (P): w <- w - lr (grad + weight_decay w). Elements with w = grad = 0 (padding of an arena) stay 0.

use super::Entry;
use super::arena::{self, Arena, Optimiser, PART, Update};
use super::track::End;
use crate::check::{Case, Input};
use crate::core::array::Array;
use crate::core::error::Result;
use crate::gpu::{Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const ALONE: Shader = shader!("sgd.wgsl", "shared/optimiser.wgsl", "shared/track.wgsl");
/// Without and with the end of a step.
static SHADERS: [Shader; 2] = [ALONE, ALONE.with(&["TRACK"])];

params! {
    struct Params { arena: Arena, lr: f32, weight_decay: f32 }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// Times w is added to the gradient (L2).
    pub weight_decay: f64,
}

/// Adds the update of w by grad, both (P) with P a multiple of 4, as arenas have. w changes in place, and `end` ends
/// the step.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn sgd(g: &mut Graph, [w, grad]: [Tensor; 2], config: Sgd, end: Option<End>) -> Result<()> {
    arena::push(g, config, &[w, grad], end)
}

impl Op for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        arena::infer(self.name(), "w, grad (P) with P a multiple of 4", x, vec![(0, 0)])
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        self.record_all(io, r, PART, None)
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [w, grad] = x else { unreachable!("sgd takes two tensors") };
        let step = |i: usize| w[i] - self.lr * (grad[i] + self.weight_decay * w[i]);
        vec![Array::from_fn(w.shape().clone(), step)]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 4.0 * n, bytes: 12.0 * n }
    }
}

impl Optimiser for Sgd {
    fn record(&self, io: &Io, r: &mut Recorder, update: Update) {
        let p = Params { arena: update.arena, lr: self.lr as f32, weight_decay: self.weight_decay as f32 };
        update.record(r, (&SHADERS, "sgd_forward"), &[("w", io.y(0))], None, p, 0);
    }
}

fn cases() -> Vec<Case> {
    // Steps as large as the weights.
    let large = Sgd { lr: 1.0, weight_decay: 0.1 };
    let case =
        |name: &str, len: usize, config: Sgd| Case::new(name, config, vec![Input::data([len]), Input::data([len])]);
    let alone = vec![
        case("one vec4", 4, Sgd { lr: 5e-3, weight_decay: 0.0 }),
        case("groups, decay", 1028, large),
        case("real", 55_424, large).bench(),
    ];
    alone.into_iter().chain(arena::cases(large, |name, len| case(name, len, large))).collect()
}

pub(crate) const OP: Entry =
    Entry { name: "sgd", about: "gradient descent's update in place", shaders: &[&SHADERS[0], &SHADERS[1]], cases };
