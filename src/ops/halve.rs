//! Downsamples mono clips by 2, without delay.
//!
//! x (B, S), taps (Q), y (B, ceil(S / 2)) = `x[2n] / 2 + sum over q of taps[q] (x[2n - 2q - 1] + x[2n + 2q + 1])`,
//! zeros around the clip: a half-band filter of 4 Q - 1 points, of which every second is 0. Forward only.

use std::f64::consts::PI;

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("halve.wgsl");

params! {
    struct Params { b: u32, s: u32, y_len: u32, taps: u32, x_stride: u32 }
}

/// Outputs of an invocation.
const OUTPUTS: usize = 4;

/// Q. With 16 (63 points) and [`ATTENUATION`] the transition is 0.4 of the new Nyquist frequency wide, around it.
const TAPS: usize = 16;
/// Attenuation of the stop band, dB.
const ATTENUATION: f64 = 96.0;

/// Inputs: x, taps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halve;

/// Adds it. `x` (B, S) -> (B, ceil(S / 2)). Up to 0.8 of the new Nyquist frequency amplitudes are kept to within 2e-5;
/// beyond 1.2 of it they are 94 dB down, and between them aliases fall between 0.8 and 1.
///
/// # Errors
/// `Shape` for anything but clips of at least one sample.
pub fn halve(g: &mut Graph, x: Tensor) -> Result<Tensor> {
    let taps = g.constant(Spec::f32([TAPS]), taps().iter().map(|tap| (*tap as f32).to_bits()).collect());
    Ok(g.push(Halve, &[x, taps])?[0])
}

/// The ideal half-band filter under Kaiser's window (Kaiser, "Nonrecursive digital filter design using the I0-sinh
/// window function", 1974), at distances 1, 3, 5 and so on from its middle; with 1/2 in the middle the gain at 0 Hz is
/// 1.
fn taps() -> Vec<f64> {
    let beta = 0.1102 * (ATTENUATION - 8.7);
    let tap = |q: usize| {
        let at = (2 * q + 1) as f64;
        (PI * at / 2.0).sin() / (PI * at) * bessel_i0(beta * (1.0 - (at / (2 * TAPS) as f64).powi(2)).sqrt())
    };
    let taps: Vec<f64> = (0..TAPS).map(tap).collect();
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|tap| 0.25 * tap / sum).collect()
}

/// The modified Bessel function of the first kind of order 0, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let terms = (1..).scan(1.0, |term, k| {
        *term *= (x / (2.0 * f64::from(k))).powi(2);
        Some(*term)
    });
    1.0 + terms.take_while(|term| *term > 1e-20).sum::<f64>()
}

impl Op for Halve {
    fn name(&self) -> &'static str {
        "halve"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        match (x[0].shape.dims(), x[1].shape.dims()) {
            (&[b, s], &[taps]) if b * s > 0 && taps > 0 => Ok(Outputs::one(Spec::f32([b, s.div_ceil(2)]))),
            _ => Err(Error::shape("halve", "x (B, S), taps (Q)", format!("{}, {}", x[0].shape, x[1].shape))),
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (x, half) = (io.x(0), io.y(0).shape.last());
        let (b, s) = (x.shape.rows(), x.shape.last());
        let taps = io.x(1).shape.len() as u32;
        let p = Params { b: b as u32, s: s as u32, y_len: half as u32, taps, x_stride: x.stride as u32 };
        let bindings = [("x", x.view), ("taps", io.x(1).view), ("y", io.y(0).view)];
        r.dispatch(
            &SHADER,
            "halve_forward",
            &bindings,
            p,
            Grid::items(b * half.div_ceil(OUTPUTS), 64, io.replicas).iterations(taps as usize + OUTPUTS),
        );
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (clips, samples) = (x[0].shape().rows(), x[0].shape().last() as i64);
        let mut y = Array::zeros([clips, x[0].shape().last().div_ceil(2)]);
        for b in 0..clips {
            let sample = |at: i64| if (0..samples).contains(&at) { x[0].row(b)[at as usize] } else { 0.0 };
            for (n, y) in y.row_mut(b).iter_mut().enumerate() {
                let middle = 2 * n as i64;
                let sides = x[1].data().iter().zip((1..).step_by(2));
                *y = 0.5 * sample(middle)
                    + sides.map(|(tap, d)| tap * (sample(middle - d) + sample(middle + d))).sum::<f64>();
            }
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let (len, taps) = (x[0].shape.len() as f64, x[1].shape.len() as f64);
        Cost { flops: len / 2.0 * (1.0 + 3.0 * taps), bytes: 6.0 * len }
    }
}

fn cases() -> Vec<Case> {
    let case = |name: &str, x: [usize; 2], taps: Vec<f64>| {
        Case::new(name, Halve, vec![Input::data(x), Input::data([taps.len()]).filled(Fill::Given(taps)).shared()])
    };
    vec![
        case("one sample", [1, 1], taps()),
        case("two samples, one tap", [3, 2], vec![0.25]),
        case("shorter than the filter", [2, 61], taps()),
        case("odd length", [3, 1009], taps()),
        case("1 s at 44.1 kHz", [16, 44_100], taps()).bench(),
    ]
}

pub(crate) const OP: Entry = Entry { name: "halve", about: "downsampling by 2", shaders: &[&SHADER], cases };
