//! Short-time Fourier transform of mono clips: magnitude or power.
//!
//! x (B, S) samples, y (B, T, n_fft / 2 + 1) = `|sum over j of w[j] x[t hop + first + j] e^(-2 pi i k j / n_fft)|^p`,
//! p 1 or 2. The window w is Hann's of win_length samples; zeros fill it up to n_fft, where they cannot change a
//! magnitude. Forward only.

use super::{Entry, variants};
use crate::check::{Case, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("stft.wgsl");

params! {
    struct Params {
        b: u32, s: u32, t: u32, hop: u32, window: u32, period: u32,
        first: i32, reflect: u32, power: u32, x_stride: u32,
    }
}

/// The cosine under the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hann {
    /// 0.5 - 0.5 cos(2 pi j / win_length), for spectral analysis.
    Periodic,
    /// 0.5 - 0.5 cos(2 pi j / (win_length - 1)).
    Symmetric,
}

/// Position of frame t in the clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The window starts at sample t hop; T = 1 + (S - win_length) / hop. As VGGish does.
    Window,
    /// A frame of n_fft samples starts at t hop, the window in its middle; T = 1 + (S - n_fft) / hop. librosa's
    /// `center=False`.
    Frame,
    /// A frame of n_fft samples has its middle at t hop, zeros around the clip; T = 1 + S / hop. librosa's default.
    CentredZero,
    /// As `CentredZero`, with the clip reflected about its first and last sample; S > n_fft / 2.
    CentredReflect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spectrum {
    Magnitude,
    /// Squared magnitude.
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stft {
    /// Points of the transform: a power of two in 256..=4096.
    pub n_fft: usize,
    /// Samples from one frame to the next, at least 1.
    pub hop_length: usize,
    /// Samples under the window, in 1..=n_fft.
    pub win_length: usize,
    pub window: Hann,
    pub framing: Framing,
    pub spectrum: Spectrum,
}

/// Adds the transform. `x` (B, S) -> (B, T, n_fft / 2 + 1).
///
/// # Errors
/// `Shape` for a configuration out of range or clips too short for one frame.
pub fn stft(g: &mut Graph, x: Tensor, config: Stft) -> Result<Tensor> {
    Ok(g.push(config, &[x])?[0])
}

impl Stft {
    /// Frames of a clip of `samples`; `None` if there are too few for one.
    pub fn frames(&self, samples: usize) -> Option<usize> {
        let hops = match self.framing {
            Framing::Window => samples.checked_sub(self.win_length)? / self.hop_length,
            Framing::Frame => samples.checked_sub(self.n_fft)? / self.hop_length,
            Framing::CentredZero => samples.checked_sub(1).map(|_| samples / self.hop_length)?,
            Framing::CentredReflect => samples.checked_sub(self.n_fft / 2 + 1).map(|_| samples / self.hop_length)?,
        };
        Some(1 + hops)
    }

    /// Outputs per frame.
    pub fn bins(&self) -> usize {
        self.n_fft / 2 + 1
    }

    /// First sample under the window of frame 0.
    fn first(&self) -> i32 {
        let margin = (self.n_fft - self.win_length) as i32 / 2;
        match self.framing {
            Framing::Window => 0,
            Framing::Frame => margin,
            Framing::CentredZero | Framing::CentredReflect => margin - self.n_fft as i32 / 2,
        }
    }

    /// Samples after which the cosine under the window repeats.
    fn period(&self) -> usize {
        match self.window {
            Hann::Periodic => self.win_length,
            Hann::Symmetric => self.win_length.max(2) - 1,
        }
    }

    fn valid(&self) -> bool {
        let sizes = self.n_fft.is_power_of_two() && (256..=4096).contains(&self.n_fft);
        sizes && self.hop_length >= 1 && (1..=self.n_fft).contains(&self.win_length)
    }
}

impl Op for Stft {
    fn name(&self) -> &'static str {
        "stft"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        if !self.valid() {
            let expected = "n_fft a power of two in 256..=4096, hop_length >= 1, win_length in 1..=n_fft";
            return Err(Error::shape("stft", expected, format!("{self:?}")));
        }
        let frames = match *x[0].shape.dims() {
            [b, samples] if b > 0 => self.frames(samples).map(|t| (b, t)),
            _ => None,
        };
        let Some((b, t)) = frames else {
            let expected = format!("x (B, S) with samples for at least one frame of {self:?}");
            return Err(Error::shape("stft", expected, x[0].shape.to_string()));
        };
        Ok(Outputs::one(Spec::f32([b, t, self.bins()])))
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (x, t) = (io.x(0), io.y(0).shape.dims()[1]);
        let (b, s) = (x.shape.dims()[0], x.shape.dims()[1]);
        let p = Params {
            b: b as u32,
            s: s as u32,
            t: t as u32,
            hop: self.hop_length as u32,
            window: self.win_length as u32,
            period: self.period() as u32,
            first: self.first(),
            reflect: (self.framing == Framing::CentredReflect).into(),
            power: (self.spectrum == Spectrum::Power).into(),
            x_stride: x.stride as u32,
        };
        let n = self.n_fft / 2;
        let lanes = variants::fourier_lanes(r.target);
        let constants = [("N", n as f64), ("LOG2_N", f64::from(n.ilog2())), ("LANES", f64::from(lanes))];
        let bindings = [("x", x.view), ("y", io.y(0).view)];
        // Loading, splitting, and a pass over a lane's points in each stage.
        let rounds = (n / lanes as usize + 2) * (3 + n.ilog2() as usize);
        let launch = Grid::folded(b * t, io.replicas).iterations(rounds);
        r.dispatch_with(&SHADER, "stft_forward", &constants, &bindings, p, launch);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (clips, samples) = (x[0].dims()[0], x[0].dims()[1] as i64);
        let frames = self.frames(samples as usize).expect("inferred before");
        let mut y = Array::zeros([clips, frames, self.bins()]);
        let hann = |j: usize| match self.win_length {
            1 => 1.0,
            _ => 0.5 - 0.5 * (std::f64::consts::TAU * j as f64 / self.period() as f64).cos(),
        };
        let window: Vec<f64> = (0..self.win_length).map(hann).collect();
        let angle = |k: usize| -std::f64::consts::TAU * k as f64 / self.n_fft as f64;
        let turns: Vec<(f64, f64)> = (0..self.n_fft / 2).map(|k| (angle(k).cos(), angle(k).sin())).collect();
        let mut spectrum = vec![(0.0, 0.0); self.n_fft];
        for row in 0..clips * frames {
            let (clip, start) =
                (x[0].row(row / frames), (row % frames * self.hop_length) as i64 + i64::from(self.first()));
            let mut frame = vec![0.0; self.n_fft];
            for (j, w) in window.iter().enumerate() {
                let at = start + j as i64;
                let at = match self.framing {
                    Framing::CentredReflect if at < 0 => -at,
                    Framing::CentredReflect if at >= samples => 2 * (samples - 1) - at,
                    _ => at,
                };
                frame[j] = if (0..samples).contains(&at) { w * clip[at as usize] } else { 0.0 };
            }
            fourier(&frame, 1, &turns, &mut spectrum);
            for (y, (re, im)) in y.row_mut(row).iter_mut().zip(&spectrum) {
                let power = re * re + im * im;
                *y = if self.spectrum == Spectrum::Power { power } else { power.sqrt() };
            }
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let (b, s) = (x[0].shape.dims()[0] as f64, x[0].shape.dims()[1]);
        let (rows, n) = (b * self.frames(s).unwrap_or(0) as f64, self.n_fft as f64);
        // 5 n log2 n for a complex transform, half of it for a real one.
        let flops = rows * (2.5 * n * n.log2() + self.win_length as f64 + 3.0 * self.bins() as f64);
        Cost { flops, bytes: 4.0 * (b * s as f64 + rows * self.bins() as f64) }
    }
}

/// y: the discrete Fourier transform of every `step`th point of x, a power of two of them, by halves. `turns` holds
/// e^(-2 pi i k / n) for k < n / 2, n = `step` y.len().
fn fourier(x: &[f64], step: usize, turns: &[(f64, f64)], y: &mut [(f64, f64)]) {
    if y.len() == 1 {
        y[0] = (x[0], 0.0);
        return;
    }
    let (even, odd) = y.split_at_mut(y.len() / 2);
    fourier(x, 2 * step, turns, even);
    fourier(&x[step..], 2 * step, turns, odd);
    for ((even, odd), (cos, sin)) in even.iter_mut().zip(odd).zip(turns.iter().step_by(step)) {
        let turned = (cos * odd.0 - sin * odd.1, cos * odd.1 + sin * odd.0);
        *odd = (even.0 - turned.0, even.1 - turned.1);
        *even = (even.0 + turned.0, even.1 + turned.1);
    }
}

fn cases() -> Vec<Case> {
    use Framing::{CentredReflect, CentredZero, Frame, Window};
    use Hann::{Periodic, Symmetric};
    use Spectrum::{Magnitude, Power};
    let case = |name: &str, x: [usize; 2], sizes: [usize; 3], window, framing, spectrum| {
        let [n_fft, hop_length, win_length] = sizes;
        let op = Stft { n_fft, hop_length, win_length, window, framing, spectrum };
        // Magnitudes reach about 0.4 sqrt(n_fft) for noise, with an f32 error of some 1e-7 of the largest.
        let atol = if spectrum == Power { 1e-7 * n_fft as f64 } else { 1e-5 };
        Case::new(name, op, vec![Input::data(x)]).forward_tolerance(atol, 1e-5)
    };
    vec![
        case("one frame, one sample", [1, 1], [256, 1, 1], Periodic, Window, Magnitude),
        case("256 points, symmetric", [2, 523], [256, 67, 256], Symmetric, Frame, Magnitude),
        case("512 points, odd window", [3, 1009], [512, 160, 399], Periodic, Window, Power),
        case("1024 points, zero padding", [2, 700], [1024, 331, 1000], Periodic, CentredZero, Power),
        case("2048 points, reflect padding", [2, 1031], [2048, 512, 2048], Periodic, CentredReflect, Magnitude),
        case("4096 points, reflect padding", [1, 2500], [4096, 1024, 3001], Symmetric, CentredReflect, Power),
        case("4096 points, zero padding", [1, 3], [4096, 2, 4096], Periodic, CentredZero, Magnitude),
        case("vggish", [BENCH_CLIPS, 160_000], [512, 160, 400], Periodic, Window, Magnitude).bench(),
    ]
}

/// Clips of 10 s in the benchmark.
const BENCH_CLIPS: usize = 20;

pub(crate) const OP: Entry =
    Entry { name: "stft", about: "magnitude or power spectrogram", shaders: &[&SHADER], cases };
