//! Glimpses: K patches of a spectrogram around one location, one after the other, flat (Mnih, Heess, Graves,
//! Kavukcuoglu: "Recurrent models of visual attention", NIPS 2014; several shapes as in Watcharasupat, Gururani and
//! Lerch, "Visual attention for musical instrument recognition", 2020).
//!
//! x (B, T, F), location (B, 2) = (time, frequency), lengths u32 (B) = n valid frames, y (B, N), N the sum of the
//! patches' sizes. On an axis of n cells, numbered from 0, location l is at (l + 1) / 2 (n - 1): -1 is the first cell
//! and 1 the last; in time only the valid frames count. A patch of s cells has its centre as near as possible, the
//! later or higher one of two: it begins at floor((l + 1) / 2 (n - 1) + 1 - s / 2). So an odd patch is centred on the
//! nearest cell, an even one between two. Cells outside the valid frames and the bands are 0. A patch is stored frame
//! by frame. There is no gradient.

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("glimpse.wgsl");

params! {
    struct Params { batch: u32, frames: u32, bands: u32, len: u32, lengths_stride: u32 }
}

/// Frames and bands of a patch.
pub type Patch = [usize; 2];

/// Inputs: x, location, lengths, and the patches as u32 (K, 2).
#[derive(Clone, Debug)]
struct Glimpse(Vec<Patch>);

/// Values of a glimpse.
pub(crate) fn glimpse_len(patches: &[Patch]) -> usize {
    patches.iter().map(|[frames, bands]| frames * bands).sum()
}

/// Adds the patches of `x` (B, T, F) around `location` (B, 2), flat: (B, N). `lengths` u32 (B).
///
/// # Errors
/// `Shape` for tensors that do not fit together, and for an empty patch.
pub fn glimpse(g: &mut Graph, x: Tensor, location: Tensor, lengths: Tensor, patches: &[Patch]) -> Result<Tensor> {
    let words = patches.iter().flatten().map(|size| *size as u32).collect();
    let table = g.constant(Spec::u32([patches.len(), 2]), words);
    Ok(g.push(Glimpse(patches.to_vec()), &[x, location, lengths, table])?[0])
}

impl Op for Glimpse {
    fn name(&self) -> &'static str {
        "glimpse"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let whole = !self.0.is_empty() && self.0.iter().flatten().all(|size| *size > 0);
        match *x[0].shape.dims() {
            [b, frames, bands]
                if whole
                    && frames * bands > 0
                    && x[1] == Spec::f32([b, 2])
                    && x[2] == Spec::u32([b])
                    && x[3] == Spec::u32([self.0.len(), 2]) =>
            {
                Ok(Outputs { y: vec![Spec::f32([b, glimpse_len(&self.0)])], detached: true, ..Default::default() })
            }
            _ => {
                let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
                let expected = "x (B, T, F), location (B, 2), u32 lengths (B), u32 patches (K, 2) above 0";
                Err(Error::shape(self.name(), expected, got.join(", ")))
            }
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let [batch, frames, bands] = *io.x(0).shape.dims() else { unreachable!("inferred with three axes") };
        let len = glimpse_len(&self.0);
        let p = Params {
            batch: batch as u32,
            frames: frames as u32,
            bands: bands as u32,
            len: len as u32,
            lengths_stride: io.x(2).stride as u32,
        };
        let names = ["x", "location", "lengths", "patches"];
        let bindings: Vec<_> =
            names.iter().enumerate().map(|(i, name)| (*name, io.x(i).view)).chain([("y", io.y(0).view)]).collect();
        r.dispatch(
            &SHADER,
            "glimpse_forward",
            &bindings,
            p,
            Grid::items(batch * len, 64, io.replicas).iterations(self.0.len()),
        );
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [_, frames, bands] = *x[0].dims() else { unreachable!("inferred with three axes") };
        let mut y = Array::zeros([x[1].dims()[0], glimpse_len(&self.0)]);
        for b in 0..x[1].dims()[0] {
            let length = x[2][b].min(frames as f64);
            let first = |place: f64, cells: f64, size: usize| {
                (0.5 * (place + 1.0) * (cells - 1.0) + 1.0 - 0.5 * size as f64).floor()
            };
            let mut cells = y.row_mut(b).iter_mut();
            for [tall, wide] in &self.0 {
                let t0 = first(x[1].row(b)[0], length, *tall);
                let f0 = first(x[1].row(b)[1], bands as f64, *wide);
                for (t, f) in (0..*tall).flat_map(|i| (0..*wide).map(move |j| (t0 + i as f64, f0 + j as f64))) {
                    let into = cells.next().expect("as many cells as the patches have");
                    if t >= 0.0 && t < length && f >= 0.0 && f < bands as f64 {
                        *into = x[0].row(b * frames + t as usize)[f as usize];
                    }
                }
            }
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        Cost { flops: 0.0, bytes: (8 * x[1].shape.rows() * glimpse_len(&self.0)) as f64 }
    }
}

/// `locations`: as many as there are clips, else random ones.
fn case(name: &str, [batch, frames, bands]: [usize; 3], patches: &[Patch], locations: &[f64]) -> Case {
    let location = match locations {
        [] => Fill::Uniform(-1.0, 1.0),
        given => Fill::Given(given.to_vec()),
    };
    let words = patches.iter().flatten().map(|size| *size as f64).collect();
    let inputs = vec![
        Input::data([batch, frames, bands]),
        Input::data([batch, 2]).filled(location),
        Input::u32([batch], Fill::Below(frames as u32 + 2)),
        Input::u32([patches.len(), 2], Fill::Given(words)).shared(),
    ];
    // Copies: nothing is rounded.
    Case::new(name, Glimpse(patches.to_vec()), inputs).forward_tolerance(0.0, 0.0)
}

/// With all frames valid.
fn whole(case: Case) -> Case {
    let mut case = case;
    let frames = f64::from(case.inputs[0].spec.shape.dims()[1] as u32);
    let batch = case.inputs[2].spec.shape.len();
    case.inputs[2] = Input::u32([batch], Fill::Given(vec![frames; batch]));
    case
}

fn cases() -> Vec<Case> {
    let corners = [-1.0, -1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 0.0, 0.0];
    // Halfway between two of 9 cells, a quarter off a cell, and a little on either side of the middle between two.
    let between = [-0.875, 0.875, -0.6875, 0.3125, 0.124, 0.126, -0.124, -0.126];
    let set: &[Patch] = &[[3, 4], [1, 1], [7, 2], [2, 5]];
    vec![
        case("one", [1, 1, 1], &[[1, 1]], &[0.0, 0.0]),
        whole(case("corners, odd", [5, 9, 9], &[[3, 5]], &corners)),
        whole(case("corners, even", [5, 9, 9], &[[4, 2]], &corners)),
        whole(case("between cells, odd", [4, 9, 9], &[[3, 1]], &between)),
        whole(case("between cells, even", [4, 9, 9], &[[2, 4]], &between)),
        whole(case("an axis of even length", [5, 8, 6], &[[3, 2]], &corners)),
        whole(case("patches larger than the picture", [5, 4, 3], &[[9, 8], [1, 7]], &corners)),
        whole(case("beyond every border", [2, 6, 5], &[[3, 3]], &[-30.0, 0.5, 0.5, 4e9])),
        case("several patches, some clips short or empty", [13, 11, 7], set, &[]),
        case("ram16", [32, 998, 64], &[[12, 12]], &[]),
        case("sr16", [32, 998, 64], &[[7, 57], [7, 25], [128, 1], [64, 1], [32, 1]], &[]).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "glimpse", about: "patches of a spectrogram around a location", shaders: &[&SHADER], cases };
