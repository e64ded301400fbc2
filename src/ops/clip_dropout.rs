//! Dropout with one draw per clip and feature shared by all instances of the clip (Gal and Ghahramani, "A theoretically
//! grounded application of dropout in recurrent neural networks", 2016): for the inputs and the states of recurrent
//! layers.
//!
//! y (B, T, F) = x times a factor of (b, f), 0 with probability p and 1 / (1 - p) otherwise, as a function of (seed,
//! step, stream, b F + f); backward draws again. Or the factors (B, F) themselves, for [`recurrent`](super::recurrent).

use super::Entry;
use super::activation::Dropout;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::{PHILOX_ROUNDS, dropout_factor, dropout_threshold};
use crate::core::shape::Shape;
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Mode, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("clip_dropout.wgsl");

params! {
    struct Params {
        len: u32, replicas: u32, clip: u32, width: u32, threshold: u32, scale: f32, stream: u32, accumulate: u32,
    }
}

/// Inputs: clock and, unless it gives factors, x.
#[derive(Clone, Debug)]
struct ClipDropout {
    p: f64,
    stream: u32,
    /// (B, F) of the factors to give.
    factors: Option<Shape>,
}

/// Adds dropout to `x` (B, T, F); none in a graph for evaluation.
pub fn clip_dropout(g: &mut Graph, x: Tensor, dropout: Dropout) -> Result<Tensor> {
    dropout.check()?;
    let Dropout { p, clock, stream } = dropout;
    match g.mode() {
        Mode::Train if p > 0.0 => Ok(g.push(ClipDropout { p, stream, factors: None }, &[clock, x])?[0]),
        _ => Ok(x),
    }
}

/// Adds the factors (batch, width); none in a graph for evaluation.
pub fn clip_dropout_factors(g: &mut Graph, [batch, width]: [usize; 2], dropout: Dropout) -> Result<Option<Tensor>> {
    dropout.check()?;
    let Dropout { p, clock, stream } = dropout;
    match g.mode() {
        Mode::Train if p > 0.0 => {
            let factors = Some(Shape::new([batch, width]));
            Ok(Some(g.push(ClipDropout { p, stream, factors }, &[clock])?[0]))
        }
        _ => Ok(None),
    }
}

impl ClipDropout {
    fn params(&self, replicas: usize, y: &Shape) -> Params {
        let (threshold, scale) = dropout_threshold(self.p);
        Params {
            len: y.len() as u32,
            replicas: replicas as u32,
            clip: (y.len() / y.dims()[0]) as u32,
            width: y.last() as u32,
            threshold,
            scale,
            stream: self.stream,
            accumulate: 0,
        }
    }
}

impl Op for ClipDropout {
    fn name(&self) -> &'static str {
        "clip_dropout"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let shape = self.factors.as_ref().unwrap_or_else(|| &x[1].shape);
        let rank = if self.factors.is_some() { 2 } else { 3 };
        if x[0] != Spec::u32([4]) || shape.is_empty() || shape.rank() != rank {
            let got = format!("{}, {shape}", x[0].shape);
            return Err(Error::shape("clip_dropout", "clock u32 (4), x (B, T, F) or factors (B, F)", got));
        }
        Ok(Outputs::one(Spec::f32(shape.clone())))
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let p = self.params(io.replicas, &io.y(0).shape);
        let (clock, y) = (("clock", io.x(0).view), io.y(0).view);
        let grid = Grid::items(y.len, 64, 1).iterations(PHILOX_ROUNDS);
        match self.factors {
            Some(_) => r.dispatch(&SHADER, "clip_dropout_factors", &[clock, ("y", y)], p, grid),
            None => r.dispatch(&SHADER, "clip_dropout_forward", &[clock, ("x", io.x(1).view), ("y", y)], p, grid),
        }
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (Some(dy), Some(dx)) = (io.dy(0), io.dx(1)) else { return Ok(()) };
        let p = Params { accumulate: dx.accumulate.into(), ..self.params(io.replicas, &io.y(0).shape) };
        let bindings = [("clock", io.x(0).view), ("x", dy), ("y", dx.view)];
        r.dispatch(&SHADER, "clip_dropout_forward", &bindings, p, Grid::items(dy.len, 64, 1).iterations(PHILOX_ROUNDS));
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let clock = [0, 1, 2, 3].map(|i| x[0][i] as u32);
        let shape = self.factors.clone().unwrap_or_else(|| x[1].shape().clone());
        let (width, clip) = (shape.last(), shape.len() / shape.dims()[0]);
        vec![Array::from_fn(shape, |i| {
            let factor = dropout_factor(i / clip * width + i % width, self.stream, clock, self.p);
            factor * if self.factors.is_some() { 1.0 } else { x[1][i] }
        })]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = self.factors.as_ref().map_or_else(|| x[1].shape.len(), Shape::len) as f64;
        Cost { flops: n, bytes: 8.0 * n }
    }
}

fn cases() -> Vec<Case> {
    let clock = || Input::u32([4], Fill::Below(u32::MAX));
    let case = |name: &str, p: f64, x: [usize; 3]| {
        let op = ClipDropout { p, stream: 5, factors: None };
        Case::new(name, op, vec![clock(), Input::gradient(x)])
    };
    let factors = |name: &str, p: f64, shape: [usize; 2]| {
        let op = ClipDropout { p, stream: 5, factors: Some(Shape::new(shape)) };
        Case::new(name, op, vec![clock()])
    };
    vec![
        case("one", 0.5, [1, 1, 1]),
        case("ragged", 0.5, [3, 4, 5]),
        case("dropout 0.99", 0.99, [2, 3, 20]),
        factors("factors, ragged", 0.5, [3, 7]),
        factors("factors of bilstm-att", 0.2, [32, 128]),
        case("bilstm-att", 0.2, [32, 10, 128]).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "clip_dropout", about: "dropout, one mask per clip", shaders: &[&SHADER], cases };
