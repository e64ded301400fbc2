//! Corrupts a tensor: normal noise is added, or random elements are set to 0 (and the others not scaled).
//!
//! y = x + std n, n ~ N(0, 1); or y = x b, b ~ Bernoulli(1 - p). Any shape; y as x. clock u32 (4) = (seed low, seed
//! high, step, done): noise is a function of (seed, step, stream, element), by Philox and Box-Muller. In a graph for
//! evaluation it is that of step 0, so that epochs are comparable. No gradient passes: what is corrupted is data.

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::{PHILOX_ROUNDS, dropout_threshold, normal_pair, philox};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Dtype, Graph, Io, Mode, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("corrupt.wgsl");

params! {
    struct Params {
        len: u32, stream: u32, sigma: f32, threshold: u32, repeat: u32, x_stride: u32, clock_stride: u32,
    }
}

/// Domain separation of the random stream, as in the shader.
const CORRUPT: u32 = 0xC0DE;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Noise {
    /// Normal noise of this deviation is added.
    Normal { std: f64 },
    /// Each element is 0 with probability p.
    Mask { p: f64 },
}

/// Inputs: x, clock. Output: y.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Corrupt {
    pub noise: Noise,
    /// Distinguishes the draws of a model.
    pub stream: u32,
    /// The noise of step 0 in every step.
    pub fixed: bool,
}

/// Adds y, the corrupted `x`. `clock` u32 (4); `stream` distinguishes the draws of a model.
///
/// # Errors
/// `Shape` for another clock; `Usage` for a probability outside of [0, 1).
pub fn corrupt(g: &mut Graph, x: Tensor, clock: Tensor, noise: Noise, stream: u32) -> Result<Tensor> {
    if let Noise::Mask { p } = noise
        && !(0.0..1.0).contains(&p)
    {
        return Err(Error::Usage(format!("the probability of a zero must be at least 0 and below 1, got {p}")));
    }
    let op = Corrupt { noise, stream, fixed: g.mode() == Mode::Eval };
    Ok(g.push(op, &[x, clock])?[0])
}

impl Corrupt {
    /// The noise of element `i`: a term or a factor.
    fn draw(&self, clock: &Array<f64>, i: usize) -> f64 {
        let [low, high, step] = [0, 1, 2].map(|k| clock[k] as u32);
        let words = philox([(i / 4) as u32, self.stream, if self.fixed { 0 } else { step }, CORRUPT], [low, high]);
        match self.noise {
            Noise::Normal { std } => std * normal_pair([words[i % 4 / 2 * 2], words[i % 4 / 2 * 2 + 1]])[i % 2],
            Noise::Mask { p } => f64::from(words[i % 4] >= dropout_threshold(p).0),
        }
    }
}

impl Op for Corrupt {
    fn name(&self) -> &'static str {
        "corrupt"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        match x[0].dtype == Dtype::F32 && !x[0].shape.is_empty() && x[1] == Spec::u32([4]) {
            true => Ok(Outputs { detached: true, ..Outputs::one(x[0].clone()) }),
            false => {
                let got = format!("{}, {}", x[0].shape, x[1].shape);
                Err(Error::shape("corrupt", "x (...), clock u32 (4)", got))
            }
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let len = io.x(0).shape.len();
        let (entry, sigma, threshold) = match self.noise {
            Noise::Normal { std } => ("corrupt_forward_normal", std as f32, 0),
            Noise::Mask { p } => ("corrupt_forward_mask", 0.0, dropout_threshold(p).0),
        };
        let p = Params {
            len: len as u32,
            stream: self.stream,
            sigma,
            threshold,
            repeat: self.fixed.into(),
            x_stride: io.x(0).stride as u32,
            clock_stride: io.x(1).stride as u32 / 4,
        };
        let bindings = [("x", io.x(0).view), ("clock", io.x(1).view), ("y", io.y(0).view)];
        let launch = Grid::items(len.div_ceil(4), 64, io.replicas).iterations(PHILOX_ROUNDS + 2 * 16);
        r.dispatch(&SHADER, entry, &bindings, p, launch);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let corrupted = |i: usize| match self.noise {
            Noise::Normal { .. } => x[0][i] + self.draw(&x[1], i),
            Noise::Mask { .. } => x[0][i] * self.draw(&x[1], i),
        };
        vec![Array::from_fn(x[0].shape().clone(), corrupted)]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: n, bytes: 8.0 * n }
    }
}

fn cases() -> Vec<Case> {
    let (normal, mask) = (Noise::Normal { std: 0.5 }, Noise::Mask { p: 0.5 });
    let case = |name: &str, shape: &[usize], noise, fixed| {
        let inputs = vec![Input::data(shape), Input::u32([4], Fill::Below(u32::MAX))];
        Case::new(name, Corrupt { noise, stream: 3, fixed }, inputs)
    };
    let mut shared = case("one tensor for all", &[3, 5], normal, false);
    shared.inputs = vec![Input::data([3, 5]).shared(), Input::u32([4], Fill::Below(1000)).shared()];
    vec![
        case("one", &[1], normal, false),
        case("ragged", &[7, 3, 5], normal, false),
        case("ragged, masked", &[67, 3], mask, false),
        case("always the same", &[7, 5], normal, true),
        case("always the same mask", &[7, 5], mask, true),
        shared,
        case("log-mel patches", &[64, 96, 64], normal, false).bench(),
        case("log-mel patches, masked", &[64, 96, 64], mask, false).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "corrupt", about: "normal noise, or random zeros", shaders: &[&SHADER], cases };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_moments_of_its_distribution() {
        let (n, clock) = (40_000, Array::new([4], vec![3.0, 0.0, 9.0, 0.0]));
        for (noise, mean, std) in
            [(Noise::Normal { std: 0.1 }, 0.0, 0.1), (Noise::Mask { p: 0.25 }, 0.75, 0.1875f64.sqrt())]
        {
            let op = Corrupt { noise, stream: 1, fixed: false };
            let draws: Vec<f64> = (0..n).map(|i| op.draw(&clock, i)).collect();
            let got = draws.iter().sum::<f64>() / n as f64;
            let variance = draws.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            // Four standard errors, the variance's being at most sqrt(2 / n) of it.
            assert!((got - mean).abs() < 4.0 * std / (n as f64).sqrt(), "{noise:?}: mean {got}");
            assert!((variance / (std * std) - 1.0).abs() < 4.0 * (2.0 / n as f64).sqrt(), "{noise:?}: {variance}");
        }
    }
}
