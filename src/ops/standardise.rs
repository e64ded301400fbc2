//! Log magnitudes, standardised to mean 0 and standard deviation 1 in each clip.
//!
//! x (B, N), y (B, N) = (v - mean) / max(std, floor), v = ln(x + offset); mean and standard deviation (of N, not N - 1)
//! over the N values of a clip. Silence gives zeros. Forward only.

use super::Entry;
use super::variants::{self, Lanes, lane_rounds};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const SHADER: Shader = shader!("standardise.wgsl");
static SHADERS: Lanes = [SHADER, SHADER.with(&["SUBGROUPS"])];

/// Invocations of a workgroup, for each clip.
const LANES: usize = 256;

params! {
    struct Params { b: u32, n: u32, x_stride: u32, offset: f32, floor: f32 }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standardise {
    /// Added to values under the logarithm, above 0.
    pub offset: f32,
    /// Least standard deviation to divide by, above 0.
    pub floor: f32,
}

/// Adds it. `x` (B, N) of values not below 0 -> (B, N).
///
/// # Errors
/// `Shape` for a configuration out of range or clips without values.
pub fn standardise(g: &mut Graph, x: Tensor, config: Standardise) -> Result<Tensor> {
    Ok(g.push(config, &[x])?[0])
}

impl Op for Standardise {
    fn name(&self) -> &'static str {
        "standardise"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let above_zero = |v: f32| v.is_normal() && v > 0.0;
        match *x[0].shape.dims() {
            _ if !above_zero(self.offset) || !above_zero(self.floor) => {
                Err(Error::shape("standardise", "offset and floor above 0", format!("{self:?}")))
            }
            [b, n] if b * n > 0 => Ok(Outputs::one(x[0].clone())),
            _ => Err(Error::shape("standardise", "x (B, N)", x[0].shape.to_string())),
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let x = io.x(0);
        let (b, n) = (x.shape.rows(), x.shape.last() as u32);
        let p = Params { b: b as u32, n, x_stride: x.stride as u32, offset: self.offset, floor: self.floor };
        let bindings = [("x", x.view), ("y", io.y(0).view)];
        r.dispatch(
            variants::lanes(r.target, &SHADERS),
            "standardise_forward",
            &bindings,
            p,
            Grid::folded(b, io.replicas).iterations(3 * (n as usize).div_ceil(LANES) + 2 * lane_rounds(LANES)),
        );
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let mut y = x[0].map(|v| (v + f64::from(self.offset)).ln());
        for b in 0..y.shape().rows() {
            let row = y.row_mut(b);
            let mean = |row: &[f64]| row.iter().sum::<f64>() / row.len() as f64;
            let middle = mean(row);
            row.iter_mut().for_each(|v| *v -= middle);
            let std = mean(&row.iter().map(|v| v * v).collect::<Vec<_>>()).sqrt();
            row.iter_mut().for_each(|v| *v /= std.max(self.floor.into()));
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let len = x[0].shape.len() as f64;
        // A logarithm and a division counted as one each.
        Cost { flops: 8.0 * len, bytes: 8.0 * len }
    }
}

fn cases() -> Vec<Case> {
    let case = |name: &str, x: [usize; 2], fill| {
        Case::new(name, Standardise { offset: 1e-3, floor: 1e-2 }, vec![Input::data(x).filled(fill)])
    };
    let spectrum = Fill::Uniform(0.0, 20.0);
    // Silence, a constant, and a clip with a first value far from all others.
    let odd: Vec<f64> = [0.0; 301].into_iter().chain([2.5; 301]).chain([0.0]).chain([1.0; 300]).collect();
    vec![
        case("one value", [1, 1], spectrum.clone()),
        case("ragged", [3, 257], spectrum.clone()),
        // Observed 1.7e-5: the f32 rounding of logarithms near 1.6, divided by the floor.
        case("small spread", [2, 1031], Fill::Uniform(5.0, 5.01)).forward_tolerance(3e-5, 1e-5),
        case("silence, a constant, one outlier", [3, 301], Fill::Given(odd)),
        case("cqt", [16, 87 * 252], spectrum.clone()).bench(),
        case("stft", [16, 87 * 1025], spectrum).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "standardise", about: "standardised log magnitudes", shaders: &[&SHADERS[0], &SHADERS[1]], cases };
