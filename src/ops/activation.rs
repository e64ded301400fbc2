//! Element-wise activations, with dropout before them: y = f(factor x).
//!
//! f is ReLU, leaky ReLU, sigmoid, tanh or the identity; factor is 1 without dropout, else 0 with probability p and 1 /
//! (1 - p) otherwise, as a function of (seed, step, stream, element), so that backward draws the same mask again
//! instead of storing it. Any shape; y has the shape of x.

use super::{Entry, variants};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::{PHILOX_ROUNDS, dropout_factor, dropout_threshold};
use crate::gpu::{Grid, Launch, Recorder, Shader, View, params, shader};
use crate::graph::onnx::operators::{Attribute, Operators, Value};
use crate::graph::{Bound, Cost, Graph, Io, Mode, Op, Outputs, Spec, Tensor};

const SHADER: Shader = shader!("activation.wgsl");
/// By whether lengths are multiples of 4.
pub(super) static SHADERS: [Shader; 2] = [SHADER, SHADER.with(&["VEC4"])];
pub(super) static IN_PLACE: [Shader; 2] = [SHADER.with(&["IN_PLACE"]), SHADER.with(&["IN_PLACE", "VEC4"])];

params! {
    struct Params {
        len: u32, replicas: u32,
        slope: f32, curve: u32,
        threshold: u32, scale: f32, stream: u32,
        accumulate: u32,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    Identity,
    Relu,
    /// Negative inputs are multiplied by `slope`.
    LeakyRelu {
        slope: f64,
    },
    Sigmoid,
    Tanh,
}

impl Activation {
    /// Its operator on `x`.
    pub(super) fn onnx(self, x: &str, to: &mut Operators) -> String {
        match self {
            Activation::Identity => to.apply("Identity", &[x], &[]),
            Activation::Relu => to.apply("Relu", &[x], &[]),
            Activation::LeakyRelu { slope } => {
                to.apply("LeakyRelu", &[x], &[("alpha", Attribute::Float(slope as f32))])
            }
            Activation::Sigmoid => to.apply("Sigmoid", &[x], &[]),
            Activation::Tanh => to.apply("Tanh", &[x], &[]),
        }
    }
}

/// Dropout probability, and what its random numbers depend on.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Probability of a zero, in [0, 1).
    pub p: f64,
    /// u32 (4): seed low, seed high, step, done.
    pub clock: Tensor,
    /// Distinguishes the dropout layers of a model.
    pub stream: u32,
}

impl Dropout {
    /// # Errors
    /// `Usage` for a probability out of range.
    pub(super) fn check(&self) -> Result<()> {
        match (0.0..1.0).contains(&self.p) {
            true => Ok(()),
            false => Err(Error::Usage(format!("dropout must be at least 0 and below 1, got {}", self.p))),
        }
    }
}

/// Adds y = f(x).
pub fn activation(g: &mut Graph, x: Tensor, f: Activation) -> Result<Tensor> {
    let op = Activate { f, p: 0.0, stream: 0 };
    Ok(g.push(op, &[x])?[0])
}

/// Adds y = f(dropout(x)); in a graph for evaluation, y = f(x).
pub fn dropout_activation(g: &mut Graph, x: Tensor, f: Activation, dropout: Dropout) -> Result<Tensor> {
    dropout.check()?;
    let Dropout { p, clock, stream } = dropout;
    match (g.mode(), f) {
        (Mode::Eval, Activation::Identity) => Ok(x),
        (Mode::Train, _) if p > 0.0 => Ok(g.push(Activate { f, p, stream }, &[x, clock])?[0]),
        _ => activation(g, x, f),
    }
}

#[derive(Debug)]
struct Activate {
    f: Activation,
    p: f64,
    stream: u32,
}

impl Activate {
    /// For `len` elements of each replica.
    fn params(&self, [scalar, vec4]: &'static [Shader; 2], len: usize, replicas: usize) -> (&'static Shader, Params) {
        let (shader, width) = variants::by_row(len, scalar, vec4);
        let (threshold, scale) = dropout_threshold(self.p);
        let (slope, curve) = match self.f {
            Activation::Identity => (1.0, 0),
            Activation::Relu => (0.0, 0),
            Activation::LeakyRelu { slope } => (slope as f32, 0),
            Activation::Sigmoid => (0.0, 1),
            Activation::Tanh => (0.0, 2),
        };
        let p = Params {
            len: (len / width) as u32,
            replicas: replicas as u32,
            slope,
            curve,
            threshold,
            scale,
            stream: self.stream,
            accumulate: 0,
        };
        (shader, p)
    }

    /// The kernel reads the clock even without dropout; then any read-only buffer is bound in its place.
    fn clock(io: &Io) -> View {
        io.x(io.inputs() - 1).view
    }
}

/// Records y = f(dropout(y)) at the end of another op, with dropout of a probability in a random stream. `clock`: any
/// buffer that is only read if there is none.
pub(super) fn activate_in_place(
    r: &mut Recorder,
    f: Activation,
    dropout: Option<(f64, u32)>,
    clock: View,
    y: &Bound,
    replicas: usize,
) {
    let (p, stream) = dropout.unwrap_or((0.0, 0));
    let (shader, p) = Activate { f, p, stream }.params(&IN_PLACE, y.shape.len(), replicas);
    r.dispatch(shader, "activation_forward", &[("clock", clock), ("y", y.view)], p, items(&p));
}

/// Records the gradient `g` before f of `dy` after it, of `len` elements of all replicas with output `y`.
pub(super) fn activation_gradient(r: &mut Recorder, f: Activation, [y, dy, g]: [View; 3], len: usize) {
    let (shader, p) = Activate { f, p: 0.0, stream: 0 }.params(&SHADERS, len, 1);
    let bindings = [("clock", y), ("grad_y", dy), ("saved_y", y), ("grad_x", g)];
    r.dispatch(shader, "activation_backward", &bindings, p, items(&p));
}

/// An invocation per Value of all replicas.
fn items(p: &Params) -> Launch {
    Grid::items((p.len * p.replicas) as usize, 64, 1).iterations(PHILOX_ROUNDS)
}

impl Op for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        if x.get(1).is_some_and(|clock| clock.shape.dims() != [4]) {
            return Err(Error::shape("activation", "a clock of shape (4)", x[1].shape.to_string()));
        }
        Ok(Outputs::one(x[0].clone()))
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (shader, p) = self.params(&SHADERS, io.x(0).shape.len(), io.replicas);
        let bindings = [("clock", Activate::clock(io)), ("x", io.x(0).view), ("y", io.y(0).view)];
        r.dispatch(shader, "activation_forward", &bindings, p, items(&p));
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (Some(dy), Some(dx)) = (io.dy(0), io.dx(0)) else { return Ok(()) };
        let (shader, p) = self.params(&SHADERS, io.x(0).shape.len(), io.replicas);
        let p = Params { accumulate: dx.accumulate.into(), ..p };
        let bindings = [("clock", Activate::clock(io)), ("grad_y", dy), ("saved_y", io.y(0).view), ("grad_x", dx.view)];
        r.dispatch(shader, "activation_backward", &bindings, p, items(&p));
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let clock = x.get(1).map_or([0; 4], |c| [0, 1, 2, 3].map(|i| c[i] as u32));
        let y = Array::from_fn(x[0].shape().clone(), |i| {
            let v = x[0][i] * if self.p > 0.0 { dropout_factor(i, self.stream, clock, self.p) } else { 1.0 };
            match self.f {
                Activation::Identity => v,
                Activation::Relu => v.max(0.0),
                Activation::LeakyRelu { slope } => v.max(0.0) + slope * v.min(0.0),
                Activation::Sigmoid => 1.0 / (1.0 + (-v).exp()),
                Activation::Tanh => v.tanh(),
            }
        });
        vec![y]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let x = to.of(&x[0]);
        Ok(vec![self.f.onnx(&x, to)])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 2.0 * n, bytes: 8.0 * n }
    }
}

fn cases() -> Vec<Case> {
    let away = |shape: &[usize]| Input::gradient(shape).filled(Fill::AwayFromZero(0.01));
    let clock = || Input::u32([4], Fill::Below(u32::MAX));
    let leaky = Activation::LeakyRelu { slope: 0.01 };
    let with = |f, p| Activate { f, p, stream: 3 };
    vec![
        Case::new("relu", with(Activation::Relu, 0.0), vec![away(&[3, 20])]),
        Case::new("relu, ragged", with(Activation::Relu, 0.0), vec![away(&[3, 7])]),
        Case::new("leaky relu, one element", with(leaky, 0.0), vec![away(&[1])]),
        Case::new("sigmoid", with(Activation::Sigmoid, 0.0), vec![Input::gradient([5, 4])]),
        Case::new(
            "sigmoid, large values",
            with(Activation::Sigmoid, 0.0),
            vec![Input::gradient([2, 65]).filled(Fill::Uniform(-60.0, 60.0))],
        ),
        Case::new("tanh", with(Activation::Tanh, 0.0), vec![Input::gradient([5, 4])]),
        Case::new("tanh, ragged", with(Activation::Tanh, 0.0), vec![Input::gradient([3, 7])]),
        Case::new(
            "tanh, large values",
            with(Activation::Tanh, 0.0),
            vec![Input::gradient([2, 65]).filled(Fill::Uniform(-200.0, 200.0))],
        ),
        Case::new("dropout", with(Activation::Identity, 0.5), vec![Input::gradient([8, 16]), clock()]),
        Case::new("dropout, ragged", with(Activation::Identity, 0.2), vec![Input::gradient([67]), clock()]),
        Case::new("dropout 0.999", with(Activation::Identity, 0.999), vec![away(&[40]), clock()]),
        Case::new("dropout, leaky relu", with(leaky, 0.5), vec![away(&[9, 12]), clock()]),
        Case::new("dropout, relu", with(Activation::Relu, 0.6), vec![away(&[131]), clock()]),
        Case::new("fc-t layer", with(leaky, 0.5), vec![away(&[128, 10, 128]), clock()]).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "activation",
    about: "ReLU, leaky ReLU, sigmoid, tanh, each with dropout fused in",
    shaders: &[&SHADERS[0], &SHADERS[1]],
    cases,
};
