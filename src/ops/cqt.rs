//! Magnitudes of complex filters of different lengths at frame centres: the bins of the constant-Q transform at one
//! sample rate.
//!
//! x (B, S), y (B, T, K) = `|sum over j of h_k[j] x[t hop + first_k + j - centre]|`, zeros around the clip. Filters are
//! stored in groups of four, zero-padded to the longest: groups u32 (K / 4 rounded up, 3) = first, taps and index of
//! the first tap, taps a multiple of 4; h (taps of all groups, 8) = four real parts, four imaginary parts. Forward
//! only.

use super::Entry;
use super::variants::{self, Variant};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};
use crate::ops::filters::wavelet::{Cqt, WaveletBank};

static SHADER: Shader = shader!("cqt.wgsl", "shared/cqt.wgsl");
static SUBGROUP8: Shader = shader!("software8/cqt.wgsl", "shared/cqt.wgsl");

params! {
    struct Params { b: u32, s: u32, t: u32, k: u32, groups: u32, hop: u32, centre: i32, x_stride: u32 }
}

/// Inputs: x, groups, h.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wavelets {
    /// Samples from one frame to the next, at least 1.
    pub hop_length: usize,
    /// T.
    pub frames: usize,
    /// K.
    pub filters: usize,
    /// Samples from the start of a frame to its centre.
    pub centre: usize,
}

/// Adds the magnitudes. `x` (B, S) at the rate of the bank -> (B, frames, filters of the bank).
///
/// # Errors
/// `Shape` for a hop of 0, no frames or no samples.
pub(crate) fn wavelets(
    g: &mut Graph,
    x: Tensor,
    bank: &WaveletBank,
    hop_length: usize,
    frames: usize,
) -> Result<Tensor> {
    let groups = g.constant(Spec::u32([bank.groups().len(), 3]), bank.groups().as_flattened().to_vec());
    let taps = bank.taps().as_flattened().iter().map(|v| v.to_bits()).collect();
    let taps = g.constant(Spec::f32([bank.taps().len(), 8]), taps);
    let op = Wavelets { hop_length, frames, filters: bank.filters(), centre: bank.centre() };
    Ok(g.push(op, &[x, groups, taps])?[0])
}

impl Op for Wavelets {
    fn name(&self) -> &'static str {
        "cqt"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let sizes = self.hop_length > 0 && self.frames > 0 && self.filters > 0;
        match (x[0].shape.dims(), x[1].shape.dims(), x[2].shape.dims()) {
            (&[b, s], &[groups, 3], &[_, 8]) if sizes && b * s > 0 && groups == self.filters.div_ceil(4) => {
                Ok(Outputs::one(Spec::f32([b, self.frames, self.filters])))
            }
            _ => {
                let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
                let expected = format!("x (B, S), groups (K / 4 rounded up, 3), h (taps, 8) for {self:?}");
                Err(Error::shape("cqt", expected, got.join(", ")))
            }
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let x = io.x(0);
        let (b, groups) = (x.shape.rows(), io.x(1).shape.rows());
        let p = Params {
            b: b as u32,
            s: x.shape.last() as u32,
            t: self.frames as u32,
            k: self.filters as u32,
            groups: groups as u32,
            hop: self.hop_length as u32,
            centre: self.centre as i32,
            x_stride: x.stride as u32,
        };
        // Rows of frames and groups of filters that a workgroup works on.
        let (shader, rows, side_by_side) = match variants::filters(r.target) {
            Variant::Tile => (&SHADER, 64, 4),
            Variant::Subgroup8 => (&SUBGROUP8, 32, 1),
        };
        let bindings = [("x", x.view), ("groups", io.x(1).view), ("h", io.x(2).view), ("y", io.y(0).view)];
        let tiles = (b * self.frames).div_ceil(rows) * groups.div_ceil(side_by_side);
        // The longest filter is centred, and takes up to two iterations for each of its taps.
        let rounds = 33 * (2 * self.centre + 8).div_ceil(16) + 16;
        r.dispatch(shader, "cqt_forward", &bindings, p, Grid::folded(tiles, io.replicas).iterations(rounds));
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (groups, taps) = (&x[1], &x[2]);
        let mut y = Array::zeros([x[0].shape().rows(), self.frames, self.filters]);
        for row in 0..y.shape().rows() {
            let clip = x[0].row(row / self.frames);
            let start = (row % self.frames * self.hop_length) as i64 - self.centre as i64;
            for (k, y) in y.row_mut(row).iter_mut().enumerate() {
                let [first, count, at] = [0, 1, 2].map(|i| groups.row(k / 4)[i] as usize);
                let (mut re, mut im) = (0.0, 0.0);
                for j in 0..count {
                    let sample = usize::try_from(start + (first + j) as i64).ok().and_then(|i| clip.get(i));
                    re += sample.unwrap_or(&0.0) * taps.row(at + j)[k % 4];
                    im += sample.unwrap_or(&0.0) * taps.row(at + j)[4 + k % 4];
                }
                *y = re.hypot(im);
            }
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let (clips, taps) = (x[0].shape.rows() as f64, x[2].shape.len() as f64);
        let rows = clips * self.frames as f64;
        let flops = rows * (2.0 * taps + 4.0 * self.filters as f64);
        Cost { flops, bytes: 4.0 * (x[0].shape.len() as f64 + taps + rows * self.filters as f64) }
    }
}

fn case(name: &str, x: [usize; 2], sr: f64, hop_length: usize, config: &Cqt) -> Case {
    let bank = WaveletBank::new(config, sr, 0..config.n_bins);
    let given = |values: &mut dyn Iterator<Item = f64>| Fill::Given(values.collect());
    let groups = given(&mut bank.groups().as_flattened().iter().map(|&v| v.into()));
    let taps = given(&mut bank.taps().as_flattened().iter().map(|&v| v.into()));
    let inputs = vec![
        Input::data(x),
        Input::u32([bank.groups().len(), 3], groups).shared(),
        Input::data([bank.taps().len(), 8]).filled(taps).shared(),
    ];
    let frames = 1 + x[1] / hop_length;
    Case::new(name, Wavelets { hop_length, frames, filters: bank.filters(), centre: bank.centre() }, inputs)
}

fn cases() -> Vec<Case> {
    let tiny = Cqt { sr: 1000, hop_length: 3, fmin: 40.0, bins_per_octave: 3, n_bins: 1 };
    let octaves = Cqt { sr: 8000, fmin: 110.0, bins_per_octave: 12, n_bins: 30, ..tiny };
    let wide = Cqt { fmin: 300.0, bins_per_octave: 1, n_bins: 4, ..octaves };
    // The highest octave of AACNN21, at the rate that it is computed at.
    let top = Cqt { sr: 44_100, fmin: 32.703 * 64.0, bins_per_octave: 36, n_bins: 36, hop_length: 512 };
    vec![
        case("one sample, one filter", [1, 1], 1000.0, 7, &tiny),
        case("clips shorter than a filter", [2, 61], 8000.0, 5, &octaves),
        case("ragged, a hop beyond the filters", [3, 1009], 8000.0, 331, &wide),
        case("two octaves and a half", [2, 1500], 8000.0, 37, &octaves),
        case("the top octave of aacnn", [16, 22_050], 22_050.0, 256, &top).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "cqt", about: "magnitudes of constant-Q filters", shaders: &[&SHADER, &SUBGROUP8], cases };
