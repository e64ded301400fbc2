//! Convolution over time and bands, ReLU, scale and shift, and the maximum over the bands: the filters of musicnn
//! (Pons, Nieto, Prockup, Schmidt, Ehmann, Serra: "End-to-end learning for music audio tagging at scale", ISMIR 2018).
//!
//! x (B, T, F), w (N, S, K), b, scale, shift (N), y (B, T, N): the maximum over the bands f <= F - K of
//! `scale[n] relu(b[n] + sum of w[n, i, j] x[t + i - (S - 1) / 2, f + j]) + shift[n]`, with zeros around the clip.
//! Where the scale is negative, the least sum has the greatest output. With K = F it is a convolution over time. The
//! map of all bands is never stored. Forward only.

use super::arena::ALIGN;
use super::variants::Variant;
use super::{Entry, variants};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("conv_max.wgsl", "shared/conv_max.wgsl");
static SUBGROUP8: Shader = shader!("software8/conv_max.wgsl", "shared/conv_max.wgsl").with_textures(&["x", "weights"]);
static PAIRS: Shader = SUBGROUP8.with(&["PAIRS"]).with_textures(&["x"]);

params! {
    struct Params {
        batch: u32, t: u32, bands: u32, n: u32, size: u32, width: u32, before: u32, chunks: u32, panel_len: u32,
        x_stride: u32, w_stride: u32, b_stride: u32, scale_stride: u32, shift_stride: u32, replica: u32, panel: u32,
    }
}

/// Frames and output channels of a workgroup (see the shaders).
const TILE: usize = 32;
/// Elements of a panel of weights in a uniform buffer, 64 KiB.
const PANEL: usize = 16_384;

/// Inputs: x, w, b, scale, shift.
#[derive(Clone, Copy, Debug)]
struct ConvMax;

/// Parameters of the filters.
#[derive(Clone, Copy, Debug)]
pub struct Filters {
    /// (N, S, K)
    pub weight: Tensor,
    /// (N)
    pub bias: Tensor,
    /// (N): of a batch norm after the ReLU.
    pub scale: Tensor,
    /// (N)
    pub shift: Tensor,
}

/// Adds it. `x` (B, T, F) -> (B, T, N).
///
/// # Errors
/// `Shape` for tensors that do not fit together, or filters of more bands than x has.
pub fn conv_max(g: &mut Graph, x: Tensor, filters: Filters) -> Result<Tensor> {
    let Filters { weight, bias, scale, shift } = filters;
    Ok(g.push(ConvMax, &[x, weight, bias, scale, shift])?[0])
}

#[derive(Clone, Copy)]
struct Dims {
    batch: usize,
    t: usize,
    bands: usize,
    n: usize,
    size: usize,
    width: usize,
}

impl Dims {
    /// `None` if x and w do not fit together.
    fn new(x: &[usize], w: &[usize]) -> Option<Dims> {
        match (x, w) {
            (&[batch, t, bands], &[n, size, width]) if (1..=bands).contains(&width) => {
                Some(Dims { batch, t, bands, n, size, width })
            }
            _ => None,
        }
    }

    fn of(io: &Io) -> Dims {
        Dims::new(io.x(0).shape.dims(), io.x(1).shape.dims()).expect("inferred before")
    }

    /// Frames of padding before a clip.
    fn before(&self) -> usize {
        (self.size - 1) / 2
    }

    /// Bands of the map.
    fn positions(&self) -> usize {
        self.bands - self.width + 1
    }

    fn panels(&self) -> usize {
        self.n.div_ceil(TILE)
    }

    /// Whether neighbouring bands of the map share enough of their columns to be computed in pairs, and the weights of
    /// a panel fit in a uniform buffer.
    fn in_pairs(&self) -> bool {
        let weights = self.width * self.size.max(7) * TILE;
        self.size <= 8 && self.positions() > 1 && self.width >= 4 && weights <= PANEL
    }

    /// How the weights are packed for a variant.
    fn packing(&self, variant: Variant) -> Packing {
        // All filters that are not in pairs share a kernel for subgroups: compiling it takes a driver a second or more.
        let exact = self.in_pairs() || variant == Variant::Tile;
        let taps = if self.size <= 7 && exact { 7 } else { 8 };
        let chunks = self.size.div_ceil(taps);
        let weights = self.width * chunks * taps * TILE;
        Packing { taps, chunks, weights, len: if self.in_pairs() { PANEL } else { weights.next_multiple_of(ALIGN) } }
    }

    /// Loop iterations of an invocation, each chunk counted as `rounds`.
    fn iterations(&self, packing: &Packing, rounds: usize) -> usize {
        self.positions() * (1 + self.width * (1 + packing.chunks * rounds))
    }
}

struct Packing {
    /// Frames of a filter that are multiplied at once.
    taps: usize,
    chunks: usize,
    /// Of a panel.
    weights: usize,
    /// Elements from a panel to the next.
    len: usize,
}

impl Op for ConvMax {
    fn name(&self) -> &'static str {
        "conv_max"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let dims = Dims::new(x[0].shape.dims(), x[1].shape.dims());
        let channels = |d: &Dims| x[2..].iter().all(|s| *s == Spec::f32([d.n]));
        let full = x.iter().all(|s| !s.shape.is_empty());
        let Some(d) = dims.filter(|d| full && channels(d)) else {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = "x (B, T, F), w (N, S, K) with K <= F, b (N), scale (N), shift (N)";
            return Err(Error::shape("conv_max", expected, got.join(", ")));
        };
        let len = [Variant::Tile, Variant::Subgroup8].map(|variant| d.packing(variant).len).into_iter().max();
        let packed = Spec::f32([d.panels() * len.expect("of two")]);
        Ok(Outputs { scratch: vec![packed], ..Outputs::one(Spec::f32([d.batch, d.t, d.n])) })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (d, variant) = (Dims::of(io), variants::filters(r.target));
        let packing = d.packing(variant);
        let [x, w, b, scale, shift] = [0, 1, 2, 3, 4].map(|i| io.x(i));
        let p = Params {
            batch: d.batch as u32,
            t: d.t as u32,
            bands: d.bands as u32,
            n: d.n as u32,
            size: d.size as u32,
            width: d.width as u32,
            before: d.before() as u32,
            chunks: packing.chunks as u32,
            panel_len: packing.len as u32,
            x_stride: x.stride as u32,
            w_stride: w.stride as u32,
            b_stride: b.stride as u32,
            scale_stride: scale.stride as u32,
            shift_stride: shift.stride as u32,
            replica: 0,
            panel: 0,
        };
        let (packed, constants) = (io.scratch(0).view, [("TAPS", packing.taps as f64)]);
        let launch = Grid::items(d.panels() * packing.weights, 64, io.replicas).no_loops();
        let bindings = [("w", w.view), ("packed_weights", packed)];
        r.dispatch_with(&SHADER, "conv_max_pack", &constants, &bindings, p, launch);

        let mut bindings = [
            ("weights", packed),
            ("x", x.view),
            ("b", b.view),
            ("scale", scale.view),
            ("shift", shift.view),
            ("y", io.y(0).view),
        ];
        let tiles = d.batch * d.t.div_ceil(TILE);
        match variant {
            Variant::Tile => {
                let launch =
                    Grid::folded(tiles * d.panels(), io.replicas).iterations(d.iterations(&packing, 1 + packing.taps));
                r.dispatch_with(&SHADER, "conv_max_forward", &constants, &bindings, p, launch);
            }
            Variant::Subgroup8 => {
                let shader = if d.in_pairs() { &PAIRS } else { &SUBGROUP8 };
                let launch = Grid::folded(tiles, 1).iterations(d.iterations(&packing, 1));
                for i in 0..io.replicas * d.panels() {
                    let (replica, panel) = ((i / d.panels()) as u32, (i % d.panels()) as u32);
                    bindings[0].1.offset = packed.offset + i * packing.len;
                    bindings[0].1.len = packing.len;
                    let p = Params { replica, panel, ..p };
                    r.dispatch_with(shader, "conv_max_forward", &constants, &bindings, p, launch);
                }
            }
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let d = Dims::new(x[0].dims(), x[1].dims()).expect("inferred before");
        let mut y = Array::zeros([d.batch, d.t, d.n]);
        for (row, n) in (0..d.batch * d.t).flat_map(|row| (0..d.n).map(move |n| (row, n))) {
            let (clip, t) = (row / d.t, row % d.t);
            let mut best = f64::NEG_INFINITY;
            for band in 0..d.positions() {
                let mut sum = x[2][n];
                for i in 0..d.size {
                    let Some(frame) = (t + i).checked_sub(d.before()).filter(|frame| *frame < d.t) else { continue };
                    let values = &x[0].row(clip * d.t + frame)[band..];
                    sum += x[1].row(n * d.size + i).iter().zip(values).map(|(w, x)| w * x).sum::<f64>();
                }
                best = best.max(x[3][n] * sum.max(0.0) + x[4][n]);
            }
            y.row_mut(row)[n] = best;
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let d = Dims::new(x[0].shape.dims(), x[1].shape.dims()).expect("inferred before");
        let rows = (d.batch * d.t) as f64;
        let weights = (d.n * d.size * d.width) as f64;
        let flops = 2.0 * rows * d.positions() as f64 * weights;
        Cost { flops, bytes: 4.0 * (rows * (d.bands + d.n) as f64 + weights) }
    }
}

/// `x` (B, T, F) and `w` (N, S, K). The scales have both signs.
fn case(name: &str, x: [usize; 3], w: [usize; 3]) -> Case {
    let bound = 1.0 / ((w[1] * w[2]) as f64).sqrt();
    let inputs = vec![
        Input::data(x),
        Input::data(w).filled(Fill::Uniform(-bound, bound)),
        Input::data([w[0]]),
        Input::data([w[0]]),
        Input::data([w[0]]),
    ];
    Case::new(name, ConvMax, inputs)
}

/// The same with one set of filters for all replicas.
fn frozen(mut case: Case) -> Case {
    case.inputs[1..].iter_mut().for_each(|input| *input = input.clone().shared());
    case
}

fn cases() -> Vec<Case> {
    vec![
        case("one", [1, 1, 1], [1, 1, 1]),
        case("filters longer than the clip", [2, 3, 5], [5, 7, 2]),
        case("even length", [2, 37, 3], [6, 4, 3]),
        case("several chunks, one band", [2, 67, 5], [33, 12, 1]),
        frozen(case("ragged tiles", [3, 65, 11], [35, 7, 4])),
        // Weights that do not fit in a uniform buffer.
        frozen(case("over all bands", [1, 33, 101], [7, 7, 101])),
        frozen(case("timbral, 67 bands", [1, 32, 96], [204, 7, 67])).bench(),
        frozen(case("timbral, 38 bands", [1, 32, 96], [204, 7, 38])).bench(),
        frozen(case("temporal", [1, 64, 96], [51, 128, 1])).bench(),
        frozen(case("over time", [1, 64, 561], [64, 7, 561])).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "conv_max",
    about: "convolution over time and bands, maximum over bands",
    shaders: &[&SHADER, &SUBGROUP8, &PAIRS],
    cases,
};
