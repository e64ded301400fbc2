//! Glimpse locations (time, frequency) in [-1, 1]^2, one per clip of a batch, drawn in each step.
//!
//! The first is uniform. A later one is drawn ~ N(mu, std^2 I), mu (B, 2), and then clipped to the square: y =
//! clip(drawn, -1, 1). clock u32 (4) = (seed low, seed high, step, done): a draw is a function of (seed, step, stream,
//! clip), by Philox and Box-Muller. Gradients end here: what a policy learns from its draws is in `reinforce`.

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::{PHILOX_ROUNDS, normal_pair, philox};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("draw_location.wgsl");

params! {
    struct Params { batch: u32, stream: u32, sigma: f32, clock_stride: u32 }
}

/// Domain separation of the random stream of locations, as in the shader.
const DRAW: u32 = 0x10_CA7E;

/// Inputs: clock. Output: y.
#[derive(Clone, Copy, Debug)]
struct Uniform {
    batch: usize,
    stream: u32,
}

/// Inputs: clock, mu. Outputs: y, drawn.
#[derive(Clone, Copy, Debug)]
struct Normal {
    std: f64,
    stream: u32,
}

/// Adds locations (B, 2) that are uniform in [-1, 1]^2. `clock` u32 (4); `stream` distinguishes the draws of a model.
pub(crate) fn draw_uniform(g: &mut Graph, clock: Tensor, batch: usize, stream: u32) -> Result<Tensor> {
    Ok(g.push(Uniform { batch, stream }, &[clock])?[0])
}

/// A draw around a mean, (B, 2) each.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    /// Within [-1, 1]^2.
    pub location: Tensor,
    /// The draw before clipping, which has the normal density.
    pub uncut: Tensor,
}

/// Adds locations ~ N(`mu`, std^2 I), `mu` (B, 2).
///
/// # Errors
/// `Shape` for a mu or clock of another shape.
pub fn draw_normal(g: &mut Graph, clock: Tensor, mu: Tensor, std: f64, stream: u32) -> Result<Drawn> {
    let y = g.push(Normal { std, stream }, &[clock, mu])?;
    Ok(Drawn { location: y[0], uncut: y[1] })
}

fn params(io: &Io, stream: u32, std: f64) -> Params {
    let batch = io.y(0).shape.rows() as u32;
    Params { batch, stream, sigma: std as f32, clock_stride: io.x(0).stride as u32 / 4 }
}

fn words(clock: &Array<f64>, clip: usize, stream: u32) -> [u32; 2] {
    let [low, high, step] = [0, 1, 2].map(|i| clock[i] as u32);
    let [a, b, ..] = philox([clip as u32, stream, step, DRAW], [low, high]);
    [a, b]
}

fn unit(word: u32) -> f64 {
    (f64::from(word >> 9) + 0.5) / 8_388_608.0
}

impl Op for Uniform {
    fn name(&self) -> &'static str {
        "draw_location"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        match x[0] == Spec::u32([4]) && self.batch > 0 {
            true => Ok(Outputs { y: vec![Spec::f32([self.batch, 2])], detached: true, ..Default::default() }),
            false => Err(Error::shape(self.name(), "clock u32 (4), B > 0", x[0].shape.to_string())),
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let bindings = [("clock", io.x(0).view), ("y", io.y(0).view)];
        let grid = Grid::items(self.batch, 64, io.replicas).iterations(PHILOX_ROUNDS);
        r.dispatch(&SHADER, "draw_location_uniform", &bindings, params(io, self.stream, 0.0), grid);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let value = |i: usize| 2.0 * unit(words(&x[0], i / 2, self.stream)[i % 2]) - 1.0;
        vec![Array::from_fn([self.batch, 2], value)]
    }

    fn cost(&self, _: &[Spec]) -> Cost {
        Cost { flops: 0.0, bytes: 8.0 * self.batch as f64 }
    }
}

impl Op for Normal {
    fn name(&self) -> &'static str {
        "draw_location"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let mu = Spec::f32([x[1].shape.rows(), 2]);
        match x[0] == Spec::u32([4]) && x[1] == mu {
            true => Ok(Outputs { y: vec![mu.clone(), mu], detached: true, ..Default::default() }),
            false => {
                let got = format!("{}, {}", x[0].shape, x[1].shape);
                Err(Error::shape(self.name(), "clock u32 (4), mu (B, 2)", got))
            }
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let bindings = [("clock", io.x(0).view), ("mu", io.x(1).view), ("y", io.y(0).view), ("drawn", io.y(1).view)];
        let grid = Grid::items(io.x(1).shape.rows(), 64, io.replicas).iterations(PHILOX_ROUNDS + 16);
        r.dispatch(&SHADER, "draw_location_normal", &bindings, params(io, self.stream, self.std), grid);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let drawn = Array::from_fn(x[1].shape().clone(), |i| {
            x[1][i] + self.std * normal_pair(words(&x[0], i / 2, self.stream))[i % 2]
        });
        vec![drawn.map(|v| v.clamp(-1.0, 1.0)), drawn]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[1].shape.len() as f64;
        Cost { flops: 20.0 * n, bytes: 12.0 * n }
    }
}

fn cases() -> Vec<Case> {
    let clock = || Input::u32([4], Fill::Below(u32::MAX));
    let mu = |batch: usize, reach: f64| Input::data([batch, 2]).filled(Fill::Uniform(-reach, reach));
    let uniform = |name: &str, batch| Case::new(name, Uniform { batch, stream: 5 }, vec![clock()]);
    let normal =
        |name: &str, batch, std, reach| Case::new(name, Normal { std, stream: 2 }, vec![clock(), mu(batch, reach)]);
    vec![
        uniform("one, uniform", 1),
        uniform("ragged, uniform", 67),
        normal("one", 1, 0.17, 1.0),
        normal("ragged", 67, 0.17, 1.0),
        normal("mostly clipped", 131, 3.0, 1.0),
        Case::new("one clock for all", Normal { std: 0.5, stream: 0 }, vec![clock().shared(), mu(13, 1.0)]),
        normal("sr16", 32, 0.17, 1.0).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "draw_location",
    about: "glimpse location drawn from a normal distribution",
    shaders: &[&SHADER],
    cases,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_moments_of_their_distributions() {
        let clock = Array::new([4], vec![3.0, 0.0, 9.0, 0.0]);
        let n = 20_000;
        let mu = Array::from_fn([n, 2], |i| [0.25, -0.5][i % 2]);
        let normal = &Normal { std: 0.2, stream: 4 }.reference(&[clock.clone(), mu])[1];
        let uniform = &Uniform { batch: n, stream: 4 }.reference(&[clock])[0];
        for (draws, axis, mean, std) in [
            (normal, 0, 0.25, 0.2),
            (normal, 1, -0.5, 0.2),
            (uniform, 0, 0.0, 3f64.powf(-0.5)),
            (uniform, 1, 0.0, 3f64.powf(-0.5)),
        ] {
            let values: Vec<f64> = draws.data().iter().copied().skip(axis).step_by(2).collect();
            let got = values.iter().sum::<f64>() / n as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            // Four standard errors, the variance's being at most sqrt(2 / n) of it.
            assert!((got - mean).abs() < 4.0 * std / (n as f64).sqrt(), "mean {got}");
            assert!((variance / (std * std) - 1.0).abs() < 4.0 * (2.0 / n as f64).sqrt(), "variance {variance}");
        }
    }
}
