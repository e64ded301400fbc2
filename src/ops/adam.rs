//! Adam (Kingma and Ba, ICLR 2015) with L2 decay, as PyTorch's `Adam`, or with decoupled decay, as its `AdamW`
//! (Loshchilov and Hutter, ICLR 2019): all parameters of all replicas in one dispatch, or in as many as the size of
//! storage bindings requires.
//!
//! w, grad, m, v (P), clock u32 (4) with step counting finished steps. With g = grad + weight_decay w and t = step + 1:
//! m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
//! w <- w - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps). Elements with w = grad = m = v = 0 (padding of an
//! arena) stay 0. Decoupled, g = grad, and w is multiplied by 1 - lr weight_decay before it is updated.
//!
//! lr is constant, or goes through one cycle (Smith and Topin: "Super-convergence", 2018) as PyTorch's `OneCycleLR`
//! does without a cycle of the momentum: over the first three tenths of the steps (in whole steps) from a 25th of the
//! maximum to it, then to a 10 000th of the start, both along half a cosine.

use super::Entry;
use super::arena::{self, Arena, Optimiser, PART, Update};
use super::track::End;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const ALONE: Shader = shader!("adam.wgsl", "shared/optimiser.wgsl", "shared/track.wgsl");
/// Without and with the end of a step.
static SHADERS: [Shader; 2] = [ALONE, ALONE.with(&["TRACK"])];

params! {
    struct Params {
        arena: Arena,
        lr: f32, l2: f32, decay: f32, steps: u32, warmup: u32,
        one_minus_beta1: f32, one_minus_beta2: f32, ln_beta1: f32, ln_beta2: f32, eps: f32,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate; of a cycle its maximum.
    pub lr: f64,
    /// Decay of the running mean of gradients, in (0, 1).
    pub beta1: f64,
    /// Decay of the running mean of their squares, in (0, 1).
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Whether the decay is AdamW's; else w times it is added to the gradient (L2).
    pub decoupled: bool,
    /// Steps of the cycle of the learning rate; `None`: it is constant.
    pub one_cycle: Option<u32>,
}

/// Steps of a cycle that the shader's cosine is exact for.
const MAX_STEPS: u32 = 1 << 19;
/// Of the maximum: the first learning rate of a cycle, and the last.
const FIRST: f64 = 1.0 / 25.0;
const LAST: f64 = FIRST / 1e4;

impl Default for Adam {
    /// PyTorch's.
    fn default() -> Self {
        Adam { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: false, one_cycle: None }
    }
}

/// Adds the update of w by grad with moments m and v, all (P) with P a multiple of 4, as arenas have; `clock` u32 (4)
/// is read. w, m and v change in place, and `end` ends the step.
///
/// # Errors
/// `Usage` for betas outside (0, 1) and for a cycle of no or of more than 524 287 steps, `Shape` for tensors that do
/// not fit together.
pub fn adam(g: &mut Graph, [w, grad, m, v]: [Tensor; 4], clock: Tensor, config: Adam, end: Option<End>) -> Result<()> {
    let betas = [config.beta1, config.beta2];
    if betas.iter().any(|b| *b <= 0.0 || *b >= 1.0 || b.is_nan()) {
        return Err(Error::Usage(format!("Adam's betas must be above 0 and below 1, got {betas:?}")));
    }
    if let Some(steps) = config.one_cycle.filter(|steps| !(1..MAX_STEPS).contains(steps)) {
        return Err(Error::Usage(format!("a one-cycle learning rate takes 1 to {} steps, got {steps}", MAX_STEPS - 1)));
    }
    arena::push(g, config, &[w, grad, m, v, clock], end)
}

/// The step of a cycle of `steps` at which the learning rate is largest.
fn warmup(steps: u32) -> u32 {
    (0.3 * f64::from(steps)).round().max(1.0) as u32 - 1
}

impl Adam {
    /// Times w is added to the gradient, and the decoupled decay.
    fn decays(&self) -> (f64, f64) {
        if self.decoupled { (0.0, self.weight_decay) } else { (self.weight_decay, 0.0) }
    }

    /// The learning rate after `step` finished steps.
    fn rate(&self, step: u32) -> f64 {
        let Some(steps) = self.one_cycle else { return self.lr };
        let (step, warmup) = (f64::from(step.min(steps - 1)), f64::from(warmup(steps)));
        let between =
            |from: f64, to: f64, part: f64| to + (from - to) / 2.0 * (1.0 + (part * std::f64::consts::PI).cos());
        self.lr
            * match step < warmup {
                true => between(FIRST, 1.0, step / warmup),
                false => between(1.0, LAST, (step - warmup) / (f64::from(steps - 1) - warmup).max(1.0)),
            }
    }
}

impl Op for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let expected = "w, grad, m, v (P) with P a multiple of 4, clock u32 (4)";
        arena::infer(self.name(), expected, x, vec![(0, 0), (1, 2), (2, 3)])
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        self.record_all(io, r, PART, None)
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [w, grad, m, v, clock] = x else { unreachable!("adam takes five tensors") };
        let t = clock[2] as i32 + 1;
        let (correction1, correction2) = (1.0 - self.beta1.powi(t), 1.0 - self.beta2.powi(t));
        let rate = self.rate(clock[2] as u32);
        let (l2, decay) = self.decays();
        let slope = |i: usize| grad[i] + l2 * w[i];
        let shape = w.shape();
        let m = Array::from_fn(shape.clone(), |i| self.beta1 * m[i] + (1.0 - self.beta1) * slope(i));
        let v = Array::from_fn(shape.clone(), |i| self.beta2 * v[i] + (1.0 - self.beta2) * slope(i) * slope(i));
        let w = Array::from_fn(shape.clone(), |i| {
            w[i] * (1.0 - rate * decay) - rate / correction1 * m[i] / ((v[i] / correction2).sqrt() + self.eps)
        });
        vec![w, m, v]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 14.0 * n, bytes: 28.0 * n }
    }
}

impl Optimiser for Adam {
    fn record(&self, io: &Io, r: &mut Recorder, update: Update) {
        let (l2, decay) = self.decays();
        let p = Params {
            arena: update.arena,
            lr: self.lr as f32,
            l2: l2 as f32,
            decay: decay as f32,
            steps: self.one_cycle.unwrap_or(0),
            warmup: self.one_cycle.map_or(0, warmup),
            one_minus_beta1: (1.0 - self.beta1) as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            ln_beta1: self.beta1.ln() as f32,
            ln_beta2: self.beta2.ln() as f32,
            eps: self.eps as f32,
        };
        let arenas = [("w", io.y(0)), ("m", io.y(1)), ("v", io.y(2))];
        update.record(r, (&SHADERS, "adam_forward"), &arenas, Some(io.x(4)), p, 24);
    }
}

/// The update after `step` finished steps.
fn case(name: &str, len: usize, step: u32, config: Adam) -> Case {
    let inputs = vec![
        Input::data([len]),
        Input::data([len]),
        Input::data([len]),
        Input::data([len]).filled(Fill::Uniform(0.0, 1.0)),
        Input::u32([4], Fill::Given(vec![1.0, 2.0, f64::from(step), 0.0])),
    ];
    Case::new(name, config, inputs)
}

fn cases() -> Vec<Case> {
    // Steps as large as the weights, so that an error of the bias corrections is visible.
    let large = Adam { lr: 1.0, ..Default::default() };
    let att = Adam { lr: 5e-4, weight_decay: 1e-5, ..Default::default() };
    let mut cases: Vec<Case> = [0, 1, 9, 10, 100, 999, 1000, 30_000]
        .map(|step| case(&format!("step {step}"), 64, step, large).forward_tolerance(2e-6, 2e-6))
        .into();
    cases.push(case("one vec4", 4, 0, att));
    cases.push(case("groups, decay", 1028, 7, Adam { weight_decay: 0.1, ..large }));
    let decoupled = Adam { weight_decay: 0.1, decoupled: true, ..large };
    cases.push(case("decoupled decay", 1028, 7, decoupled));
    for (steps, at) in [(1, 0), (2, 1), (10, 0), (10, 1), (10, 2), (10, 3), (10, 9), (10, 50), (500_000, 400_000)] {
        let cycle = Adam { one_cycle: Some(steps), ..decoupled };
        cases.push(case(&format!("step {at} of a cycle of {steps}"), 64, at, cycle).forward_tolerance(2e-6, 2e-6));
    }
    cases.extend(arena::cases(large, |name, len| case(name, len, 7, large)));
    cases.push(case("real", 55_424, 1000, att).bench());
    cases
}

pub(crate) const OP: Entry = Entry {
    name: "adam",
    about: "Adam's and AdamW's update in place, learning rate of one cycle",
    shaders: &[&SHADERS[0], &SHADERS[1]],
    cases,
};
