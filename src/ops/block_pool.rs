//! Maximum and mean over consecutive blocks of frames.
//!
//! x (B, T, F), y (B, M, 2 F): of block m the maximum over its frames, then the mean. Blocks are `frames / per` frames
//! long, which need not be a whole number: block m has the frames from m frames / per, rounded down, to the first of
//! block m + 1. Frames after the last complete block, M = T per / frames rounded down, are not used. Forward only.

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("block_pool.wgsl");

params! {
    struct Params { clips: u32, t: u32, width: u32, blocks: u32, frames: u32, per: u32 }
}

/// Blocks of `frames / per` frames, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPool {
    pub frames: usize,
    pub per: usize,
}

/// Adds it. `x` (B, T, F) -> (B, blocks, 2 F).
///
/// # Errors
/// `Shape` for fewer frames than a block has.
pub fn block_pool(g: &mut Graph, x: Tensor, blocks: BlockPool) -> Result<Tensor> {
    Ok(g.push(blocks, &[x])?[0])
}

impl BlockPool {
    /// Complete blocks of so many frames.
    pub const fn blocks(&self, frames: usize) -> usize {
        frames * self.per / self.frames
    }

    /// The first frame of a block.
    fn first(&self, block: usize) -> usize {
        block * self.frames / self.per
    }
}

impl Op for BlockPool {
    fn name(&self) -> &'static str {
        "block_pool"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let is_valid = self.per >= 1 && self.frames >= self.per;
        match *x[0].shape.dims() {
            [b, t, f] if is_valid && !x[0].shape.is_empty() && self.blocks(t) > 0 => {
                Ok(Outputs::one(Spec::f32([b, self.blocks(t), 2 * f])))
            }
            _ => {
                let expected = format!("x (B, T, F) with a block of {} / {} frames", self.frames, self.per);
                Err(Error::shape("block_pool", expected, x[0].shape.to_string()))
            }
        }
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let [b, t, width] = *io.x(0).shape.dims() else { unreachable!("infer lets only three axes pass") };
        let (clips, blocks) = (io.replicas * b, self.blocks(t));
        let p = Params {
            clips: clips as u32,
            t: t as u32,
            width: width as u32,
            blocks: blocks as u32,
            frames: self.frames as u32,
            per: self.per as u32,
        };
        let launch = Grid::items(clips * blocks * width, 64, 1).iterations(self.frames.div_ceil(self.per));
        r.dispatch(&SHADER, "block_pool_forward", &[("x", io.x(0).view), ("y", io.y(0).view)], p, launch);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [b, t, width] = *x[0].dims() else { unreachable!("infer lets only three axes pass") };
        let blocks = self.blocks(t);
        let mut y = Array::zeros([b, blocks, 2 * width]);
        for row in 0..b * blocks {
            let frames = self.first(row % blocks)..self.first(row % blocks + 1);
            for c in 0..width {
                let values = frames.clone().map(|frame| x[0].row(row / blocks * t + frame)[c]);
                y.row_mut(row)[c] = values.clone().fold(f64::NEG_INFINITY, f64::max);
                y.row_mut(row)[width + c] = values.sum::<f64>() / frames.len() as f64;
            }
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let len = x[0].shape.len() as f64;
        Cost { flops: 2.0 * len, bytes: 4.0 * len }
    }
}

fn cases() -> Vec<Case> {
    let case = |name: &str, x: [usize; 3], frames, per| {
        let x = Input::data(x).filled(Fill::Uniform(-2.0, 0.5));
        Case::new(name, BlockPool { frames, per }, vec![x])
    };
    vec![
        case("one", [1, 1, 1], 1, 1),
        case("one block, a rest", [3, 8, 5], 7, 1),
        case("blocks of 2 and 3 frames", [2, 11, 67], 5, 2),
        case("musicnn", [16, 626, 753], 125, 4).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "block_pool", about: "maximum and mean over blocks of frames", shaders: &[&SHADER], cases };
