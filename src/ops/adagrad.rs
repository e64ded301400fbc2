//! Adagrad (Duchi, Hazan, Singer, JMLR 2011) as in Keras: all parameters of all replicas in one dispatch, or in
//! as many as the size of storage bindings requires.
//!
//! w, grad, accumulator (P): accumulator <- accumulator + grad^2; w <- w - lr grad / (sqrt(accumulator) + eps).
//! The accumulator's initial value is the caller's, [`INITIAL`] in Keras and AACNN21. Elements with w = grad = 0
//! (padding of an arena) stay 0.

use std::rc::Rc;

use super::Entry;
use super::arena::{Elementwise, PART, Slice, Sliced};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("adagrad.wgsl");

/// Keras' initial accumulator value.
pub const INITIAL: f32 = 0.1;

params! {
    struct Params {
        quads: u32,
        w_stride: u32, grad_stride: u32, accumulator_stride: u32,
        lr: f32, eps: f32,
    }
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

/// Adds the update of `w` by `grad` with the sum of squares `accumulator`, all (P) with P a multiple of 4, as arenas
/// have. `w` and `accumulator` change in place.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn adagrad(g: &mut Graph, w: Tensor, grad: Tensor, accumulator: Tensor, config: Adagrad) -> Result<()> {
    g.push(config, &[w, grad, accumulator]).map(drop)
}

impl Op for Adagrad {
    fn name(&self) -> &'static str {
        "adagrad"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let w = &x[0];
        let len = w.shape.len();
        if x.iter().any(|s| *s != Spec::f32([len])) || len == 0 || !len.is_multiple_of(4) {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = "w, grad, accumulator (P) with P a multiple of 4";
            return Err(Error::shape("adagrad", expected, got.join(", ")));
        }
        Ok(Outputs { y: vec![w.clone(); 2], in_place: vec![(0, 0), (1, 2)], ..Default::default() })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        self.record_all(io, r, PART)
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

impl Elementwise for Adagrad {
    fn record(&self, io: &Io, r: &mut Recorder, slice: &Slice) {
        let quads = slice.elements.len() / 4;
        let stride = |i: usize| (io.x(i).stride / 4) as u32;
        let p = Params {
            quads: quads as u32,
            w_stride: stride(0),
            grad_stride: stride(1),
            accumulator_stride: stride(2),
            lr: self.lr as f32,
            eps: self.eps as f32,
        };
        let bindings =
            [("grad", slice.view(io.x(1))), ("w", slice.view(io.y(0))), ("accumulator", slice.view(io.y(1)))];
        r.dispatch(&SHADER, "adagrad_forward", &bindings, p, Grid::items(quads, 64, slice.replicas).no_loops());
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
    let sliced = |name, len, most| {
        let op = Sliced { op: large, most };
        Case { op: Rc::new(op), ..case(name, len, 0.1, large) }
    };
    vec![
        case("one vec4", 4, 0.1, Adagrad::default()),
        case("long steps", 1028, 0.0, large),
        padding,
        sliced("in slices", 192, 128),
        sliced("in slices of two replicas", 128, 256),
        case("real", 55_424, 0.1, Adagrad::default()).bench(),
    ]
}

pub(crate) const OP: Entry = Entry { name: "adagrad", about: "Adagrad's update in place", shaders: &[&SHADER], cases };
