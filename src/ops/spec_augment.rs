//! SpecAugment (Park et al.: "SpecAugment: A simple data augmentation method for automatic speech recognition",
//! Interspeech 2019), without time warping, and a random level.
//!
//! x (B, T, F): frames of a log-magnitude spectrogram; lengths u32 (B), in units of some frames: the valid ones, the
//! others stay as they are. Of each clip up to `freq_mask` bands and up to `time_mask` frames in a row, both numbers
//! and places uniform, are set to the mean of the clip; then a number within +-`level_shift` is added to it. clock u32
//! (4) = (seed low, seed high, step, done): draws are a function of (seed, step, clip). No gradient passes: it is data.

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::{PHILOX_ROUNDS, philox};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("spec_augment.wgsl");

params! {
    struct Params {
        b: u32, t: u32, f: u32, unit: u32, freq_mask: u32, time_mask: u32, level_shift: f32,
        x_stride: u32, lengths_stride: u32, clock_stride: u32,
    }
}

/// Domain separation of the random stream, as in the shader.
const STREAM: u32 = 0x5BEC;
/// Lanes that sum a clip.
const LANES: usize = 64;

/// How much of a clip's spectrogram is changed; nothing where all are 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecAugment {
    /// F of the paper: most bands to mask.
    pub freq_mask: u32,
    /// T of the paper: most frames to mask.
    pub time_mask: u32,
    /// Largest change of the level, in units of x.
    pub level_shift: f64,
}

impl SpecAugment {
    pub const OFF: SpecAugment = SpecAugment { freq_mask: 0, time_mask: 0, level_shift: 0.0 };
}

/// Inputs: x, lengths, clock.
#[derive(Clone, Copy, Debug)]
pub struct Augment {
    pub config: SpecAugment,
    /// Frames of a unit of the lengths.
    pub unit: usize,
}

/// Adds y, the augmented `x` (B, T, F). `lengths` u32 (B), in units of `unit` frames; `clock` u32 (4).
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn spec_augment(
    g: &mut Graph,
    x: Tensor,
    lengths: Tensor,
    clock: Tensor,
    unit: usize,
    config: SpecAugment,
) -> Result<Tensor> {
    Ok(g.push(Augment { config, unit }, &[x, lengths, clock])?[0])
}

/// What is changed of a clip.
struct Draw {
    bands: [usize; 2],
    frames: [usize; 2],
    shift: f64,
}

impl Augment {
    /// Of batch entry `b`, with `valid` frames of `f` bands. `clock` = [seed low, seed high, step, done].
    fn draw(&self, b: usize, valid: usize, f: usize, clock: [u32; 4]) -> Draw {
        let words = |k| philox([b as u32, k, clock[2], STREAM], [clock[0], clock[1]]);
        let range = |most: u32, [size, place]: [u32; 2], of: usize| {
            let size = ((size % (most + 1)) as usize).min(of);
            let first = place as usize % (of - size + 1);
            [first, first + size]
        };
        let ([a, b, c, d], [level, ..]) = (words(0), words(1));
        let unit = (f64::from(level >> 9) + 0.5) / 8_388_608.0;
        Draw {
            bands: range(self.config.freq_mask, [a, b], f),
            frames: range(self.config.time_mask, [c, d], valid),
            shift: self.config.level_shift * (2.0 * unit - 1.0),
        }
    }
}

impl Op for Augment {
    fn name(&self) -> &'static str {
        "spec_augment"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        match *x[0].shape.dims() {
            [b, _, _] if !x[0].shape.is_empty() && x[1] == Spec::u32([b]) && x[2] == Spec::u32([4]) => Ok(Outputs {
                y: vec![x[0].clone()],
                scratch: vec![Spec::u32([b, 4]), Spec::f32([b, 2])],
                detached: true,
                ..Default::default()
            }),
            _ => {
                let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
                Err(Error::shape(self.name(), "x (B, T, F), u32 lengths (B), u32 clock (4)", got.join(", ")))
            }
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let [b, t, f] = *io.x(0).shape.dims() else { unreachable!("inferred before") };
        let SpecAugment { freq_mask, time_mask, level_shift } = self.config;
        let p = Params {
            b: b as u32,
            t: t as u32,
            f: f as u32,
            unit: self.unit as u32,
            freq_mask,
            time_mask,
            level_shift: level_shift as f32,
            x_stride: io.x(0).stride as u32,
            lengths_stride: io.x(1).stride as u32,
            clock_stride: io.x(2).stride as u32 / 4,
        };
        let inputs = [("x", io.x(0).view), ("lengths", io.x(1).view)];
        let drawn = [("masks", io.scratch(0).view), ("levels", io.scratch(1).view)];
        let sums = Grid::folded(b, io.replicas).iterations((t * f).div_ceil(LANES).max(LANES + 2 * PHILOX_ROUNDS));
        let bindings = [&inputs[..], &drawn, &[("clock", io.x(2).view)]].concat();
        r.dispatch(&SHADER, "spec_augment_forward_draw", &bindings, p, sums);
        let bindings = [&inputs[..], &drawn, &[("y", io.y(0).view)]].concat();
        r.dispatch(&SHADER, "spec_augment_forward", &bindings, p, Grid::items(b * t, 64, io.replicas).iterations(f));
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [_, t, f] = *x[0].dims() else { unreachable!("inferred before") };
        let clock = [0, 1, 2, 3].map(|i| x[2][i] as u32);
        let mut y = x[0].clone();
        for (b, clip) in y.data_mut().chunks_mut(t * f).enumerate() {
            let valid = (x[1][b] as usize * self.unit).min(t);
            let clip = &mut clip[..valid * f];
            let mean = clip.iter().sum::<f64>() / clip.len().max(1) as f64;
            let Draw { bands, frames, shift } = self.draw(b, valid, f, clock);
            let within = |[first, end]: [usize; 2], i: usize| first <= i && i < end;
            for (i, v) in clip.iter_mut().enumerate() {
                *v = shift + if within(bands, i % f) || within(frames, i / f) { mean } else { *v };
            }
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 2.0 * n, bytes: 12.0 * n }
    }
}

fn case(name: &str, x: [usize; 3], lengths: &[u32], unit: usize, config: SpecAugment) -> Case {
    let lengths = Fill::Given(lengths.iter().map(|&n| n.into()).collect());
    let inputs = vec![Input::data(x), Input::u32([x[0]], lengths), Input::u32([4], Fill::Below(u32::MAX))];
    Case::new(name, Augment { config, unit }, inputs)
}

fn cases() -> Vec<Case> {
    let some = SpecAugment { freq_mask: 3, time_mask: 4, level_shift: 0.5 };
    let wide = SpecAugment { freq_mask: 50, time_mask: 100, level_shift: 0.5 };
    vec![
        case("one", [1, 1, 1], &[1], 1, wide),
        case("nothing", [2, 6, 5], &[6, 3], 1, SpecAugment::OFF),
        case("level", [5, 6, 5], &[6, 3, 0, 1, 6], 1, SpecAugment { level_shift: 2.0, ..SpecAugment::OFF }),
        case("padding", [7, 12, 9], &[4, 0, 3, 1, 4, 2, 4], 3, some),
        case("wider than clips", [67, 7, 5], &[7; 67], 1, wide),
        case("longer than workgroups", [3, 101, 13], &[101, 50, 33], 1, some),
        case("clips of 10 s", [8, 960, 64], &[20; 8], 48, SpecAugment { freq_mask: 8, time_mask: 40, ..some }).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "spec_augment",
    about: "SpecAugment: masked bands and frames, and a random level (augmentation)",
    shaders: &[&SHADER],
    cases,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_of_every_size_at_every_place() {
        let config = SpecAugment { freq_mask: 2, time_mask: 3, level_shift: 0.5 };
        let op = Augment { config, unit: 1 };
        let draws: Vec<Draw> = (0..4000).map(|i| op.draw(i % 50, 5, 4, [1, 2, (i / 50) as u32, 0])).collect();
        let fraction = |of: &dyn Fn(&Draw) -> bool| draws.iter().filter(|d| of(d)).count() as f64 / 4000.0;
        // Four standard errors of the fraction p.
        let near =
            |got: f64, p: f64| assert!((got - p).abs() < 4.0 * (p * (1.0 - p) / 4000.0).sqrt(), "{got}, not {p}");
        for size in 0..=2 {
            near(fraction(&|d| d.bands[1] - d.bands[0] == size), 1.0 / 3.0);
            for first in 0..=4 - size {
                near(fraction(&|d| d.bands == [first, first + size]), 1.0 / 3.0 / (5 - size) as f64);
            }
        }
        for size in 0..=3 {
            near(fraction(&|d| d.frames[1] - d.frames[0] == size), 0.25);
        }
        near(fraction(&|d| d.shift < -0.25), 0.25);
        near(fraction(&|d| d.shift > 0.0), 0.5);
        assert!(draws.iter().all(|d| d.shift.abs() <= 0.5));
    }
}
