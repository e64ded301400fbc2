//! Gradient descent without momentum, as PyTorch's `SGD`: all parameters of all replicas in one dispatch, or in as many
//! as the size of storage bindings requires.
//!
//! w, grad (P): w <- w - lr (grad + weight_decay w). Elements with w = grad = 0 (padding of an arena) stay 0.

use std::rc::Rc;

use super::Entry;
use super::arena::{Elementwise, PART, Slice, Sliced};
use crate::check::{Case, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("sgd.wgsl");

params! {
    struct Params { quads: u32, w_stride: u32, grad_stride: u32, lr: f32, weight_decay: f32 }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// Times w is added to the gradient (L2).
    pub weight_decay: f64,
}

/// Adds the update of `w` by `grad`, both (P) with P a multiple of 4, as arenas have. `w` changes in place.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn sgd(g: &mut Graph, w: Tensor, grad: Tensor, config: Sgd) -> Result<()> {
    g.push(config, &[w, grad]).map(drop)
}

impl Op for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let w = &x[0];
        let len = w.shape.len();
        if x.iter().any(|s| *s != Spec::f32([len])) || len == 0 || !len.is_multiple_of(4) {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            return Err(Error::shape("sgd", "w, grad (P) with P a multiple of 4", got.join(", ")));
        }
        Ok(Outputs { y: vec![w.clone()], in_place: vec![(0, 0)], ..Default::default() })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        self.record_all(io, r, PART)
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

impl Elementwise for Sgd {
    fn record(&self, io: &Io, r: &mut Recorder, slice: &Slice) {
        let quads = slice.elements.len() / 4;
        let p = Params {
            quads: quads as u32,
            w_stride: (io.x(0).stride / 4) as u32,
            grad_stride: (io.x(1).stride / 4) as u32,
            lr: self.lr as f32,
            weight_decay: self.weight_decay as f32,
        };
        let bindings = [("grad", slice.view(io.x(1))), ("w", slice.view(io.y(0)))];
        r.dispatch(&SHADER, "sgd_forward", &bindings, p, Grid::items(quads, 64, slice.replicas).no_loops());
    }
}

fn cases() -> Vec<Case> {
    // Steps as large as the weights.
    let large = Sgd { lr: 1.0, weight_decay: 0.1 };
    let case =
        |name: &str, len: usize, config: Sgd| Case::new(name, config, vec![Input::data([len]), Input::data([len])]);
    let sliced = |name, len, most| Case { op: Rc::new(Sliced { op: large, most }), ..case(name, len, large) };
    vec![
        case("one vec4", 4, Sgd { lr: 5e-3, weight_decay: 0.0 }),
        case("groups, decay", 1028, large),
        sliced("in slices", 192, 128),
        sliced("in slices of two replicas", 128, 256),
        case("real", 55_424, large).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "sgd", about: "gradient descent's update in place", shaders: &[&SHADER], cases };
