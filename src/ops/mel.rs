//! Sums the bins of a spectrogram into bands, on a linear, logarithmic or decibel scale.
//!
//! x (..., N, bins), bands u32 (M, 3) = first bin, bins and first weight of each band, weights (W), y (..., N, M), or
//! (..., patches frames, M) of patches of the frames, which may overlap. Forward only.

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::shape::Shape;
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};
use crate::ops::filters::mel::{MelBank, MelConfig};

static SHADER: Shader = shader!("mel.wgsl");

params! {
    struct Params {
        rows: u32, frames: u32, patch_frames: u32, hop: u32, x_frames: u32, bins: u32, bands: u32, x_stride: u32,
        scale: u32, offset: f32, factor: f32, level: f32,
    }
}

/// Frames that an invocation works on.
const ROWS: usize = 4;

/// Output for the sum v of a band.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// v
    Linear,
    /// factor ln(v + offset) + shift
    Log { offset: f32, factor: f32, shift: f32 },
    /// 10 log10(max(v, amin) / max(reference, amin)), as `librosa.power_to_db(v, ref=reference, amin=amin,
    /// top_db=None)`.
    Decibels { reference: f32, amin: f32 },
}

impl Scale {
    /// ln(v + offset)
    pub const fn log(offset: f32) -> Scale {
        Scale::Log { offset, factor: 1.0, shift: 0.0 }
    }
}

/// Runs of frames of a clip, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patches {
    pub count: usize,
    /// Of a patch.
    pub frames: usize,
    /// Frames from the first of a patch to the first of the next.
    pub hop: usize,
}

impl Patches {
    /// Frames that they reach over.
    fn extent(&self) -> usize {
        (self.count - 1) * self.hop + self.frames
    }
}

/// Inputs: x, bands, weights.
#[derive(Clone, Copy, Debug)]
pub struct Mel {
    pub scale: Scale,
    /// Those of each clip, one after the other; `None` for all frames.
    pub patches: Option<Patches>,
}

/// Adds the band sums. `x` (..., frames, bins) -> (..., frames, bands).
///
/// # Errors
/// `Shape` if the number of bins differs from the bank's.
pub fn mel(g: &mut Graph, x: Tensor, bank: &MelBank, config: Mel) -> Result<Tensor> {
    if g.shape(x).last() != bank.bins() {
        return Err(Error::shape("mel", format!("x (..., {})", bank.bins()), g.shape(x).to_string()));
    }
    let bands = g.constant(Spec::u32([bank.bands().len(), 3]), bank.bands().as_flattened().to_vec());
    let words = bank.weights().iter().map(|w| w.to_bits()).collect();
    let weights = g.constant(Spec::f32([bank.weights().len()]), words);
    Ok(g.push(config, &[x, bands, weights])?[0])
}

impl Mel {
    /// Shape of the output for x (..., frames, bins).
    fn output(&self, x: &Shape, bands: usize) -> Shape {
        let mut dims = x.with_last(bands).dims().to_vec();
        if let ([.., frames, _], Some(patches)) = (&mut dims[..], self.patches) {
            *frames = patches.count * patches.frames;
        }
        Shape::new(dims)
    }
}

impl Op for Mel {
    fn name(&self) -> &'static str {
        "mel"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let fits = self
            .patches
            .is_none_or(|of| of.count * of.frames > 0 && x[0].shape.rank() > 1 && of.extent() <= frames(&x[0].shape));
        match (x[0].shape.is_empty(), x[1].shape.dims(), x[2].shape.dims()) {
            (false, &[bands, 3], &[_]) if bands > 0 && fits => {
                Ok(Outputs::one(Spec::f32(self.output(&x[0].shape, bands))))
            }
            _ => {
                let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
                let expected = "x (..., bins) with all frames of the patches, bands (M, 3), weights (W)";
                Err(Error::shape("mel", expected, got.join(", ")))
            }
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (x, y, bands) = (io.x(0), io.y(0), io.x(1).shape.rows());
        let rows = y.shape.rows();
        let [frames, x_frames] = [&y.shape, &x.shape].map(|shape| frames(shape) as u32);
        let (scale, offset, factor, level) = match self.scale {
            Scale::Linear => (0, 0.0, 0.0, 0.0),
            Scale::Log { offset, factor, shift } => (1, offset, factor, -shift),
            Scale::Decibels { reference, amin } => {
                (2, amin, (10.0 / std::f64::consts::LN_10) as f32, decibels(reference, amin) as f32)
            }
        };
        let (bins, x_stride) = (x.shape.last() as u32, x.stride as u32);
        let (rows_u32, bands) = (rows as u32, bands as u32);
        let [patch_frames, hop] = self.patches.map_or([frames; 2], |of| [of.frames as u32, of.hop as u32]);
        let p = Params {
            rows: rows_u32,
            frames,
            patch_frames,
            hop,
            x_frames,
            bins,
            bands,
            x_stride,
            scale,
            offset,
            factor,
            level,
        };
        let bindings = [("x", x.view), ("bands", io.x(1).view), ("weights", io.x(2).view), ("y", y.view)];
        r.dispatch(
            &SHADER,
            "mel_forward",
            &bindings,
            p,
            Grid::items(rows.div_ceil(ROWS) * bands as usize, 64, io.replicas).iterations(x.shape.last() + ROWS),
        );
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (input, bands, weights) = (&x[0], &x[1], &x[2]);
        let mut y = Array::zeros(self.output(input.shape(), bands.shape().rows()));
        let [each, x_each] = [y.shape(), input.shape()].map(frames);
        for row in 0..y.shape().rows() {
            let in_clip = row % each;
            let frame = self.patches.map_or(in_clip, |of| in_clip / of.frames * of.hop + in_clip % of.frames);
            let from = input.row(row / each * x_each + frame);
            for m in 0..bands.shape().rows() {
                let [first, count, at] = [0, 1, 2].map(|i| bands.row(m)[i] as usize);
                let v: f64 = (0..count).map(|k| weights[at + k] * from[first + k]).sum();
                y.row_mut(row)[m] = match self.scale {
                    Scale::Linear => v,
                    Scale::Log { offset, factor, shift } => {
                        f64::from(factor) * (v + f64::from(offset)).ln() + f64::from(shift)
                    }
                    Scale::Decibels { reference, amin } => {
                        10.0 * v.max(amin.into()).log10() - decibels(reference, amin)
                    }
                };
            }
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let (bands, weights) = (x[1].shape.rows() as f64, x[2].shape.len() as f64);
        let rows = self.output(&x[0].shape, x[1].shape.rows()).rows() as f64;
        let bins = x[0].shape.last() as f64;
        Cost { flops: 2.0 * rows * weights, bytes: 4.0 * (rows * (bins + bands) + 3.0 * bands + weights) }
    }
}

/// Frames of a clip.
fn frames(shape: &Shape) -> usize {
    shape.dims().iter().rev().nth(1).copied().unwrap_or(1)
}

/// The level of the reference.
fn decibels(reference: f32, amin: f32) -> f64 {
    10.0 * f64::from(reference.max(amin)).log10()
}

fn case(name: &str, rows: &[usize], config: MelConfig, scale: Scale, patches: Option<Patches>) -> Case {
    let bank = MelBank::new(&config).expect("a valid bank");
    let given = |values: &mut dyn Iterator<Item = f64>| Fill::Given(values.collect());
    let bands = given(&mut bank.bands().as_flattened().iter().map(|&v| v.into()));
    let weights = given(&mut bank.weights().iter().map(|&v| v.into()));
    let x = [rows, &[bank.bins()]].concat();
    let inputs = vec![
        Input::data(x).filled(Fill::Uniform(0.0, 2.0)),
        Input::u32([bank.bands().len(), 3], bands).shared(),
        Input::data([bank.weights().len()]).filled(weights).shared(),
    ];
    Case::new(name, Mel { scale, patches }, inputs)
}

fn cases() -> Vec<Case> {
    let log = Scale::log(0.01);
    let patches = |count, frames, hop| Some(Patches { count, frames, hop });
    let scaled = Scale::Log { offset: 1e-4, factor: 0.43, shift: 4.0 };
    let decibels = Scale::Decibels { reference: 0.5, amin: 1e-10 };
    let tiny = MelConfig { n_mels: 1, ..MelConfig::htk(8000, 256) };
    let narrow = MelConfig { n_mels: 67, fmin: 300.0, fmax: 900.0, ..MelConfig::slaney(16_000, 256) };
    vec![
        case("one band", &[1], tiny, Scale::Linear, None),
        case("empty bands", &[2, 3], narrow, decibels, None),
        case("slaney, scaled logarithm", &[9], MelConfig::slaney(16_000, 512), scaled, None),
        case("slaney, 128 bands", &[5], MelConfig::slaney(22_050, 2048), decibels, None),
        case("htk, 40 bands", &[13], MelConfig { n_mels: 40, ..MelConfig::htk(44_100, 1024) }, log, None),
        case("vggish, ragged", &[2, 31], MelConfig::vggish(), log, None),
        case("vggish, first frames only", &[3, 7], MelConfig::vggish(), log, patches(1, 5, 5)),
        case("vggish, overlapping patches", &[2, 17], MelConfig::vggish(), log, patches(3, 6, 5)),
        case("vggish", &[20, 998], MelConfig::vggish(), log, None).bench(),
    ]
}

pub(crate) const OP: Entry = Entry { name: "mel", about: "mel bands, linear, log or dB", shaders: &[&SHADER], cases };
