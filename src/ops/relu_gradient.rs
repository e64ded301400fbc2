//! ReLU and dropout at the end of a layer, and the first part of the layer's backward pass where its kernels do not do
//! that themselves: g = dy f', with f' from y.

use super::variants;
use crate::gpu::{Grid, Recorder, Shader, View, params, shader};

static SHADER: Shader = shader!("relu_gradient.wgsl");
pub(super) static SHADERS: [Shader; 3] =
    [SHADER, SHADER.with(&["VEC4"]), SHADER.with(&["VEC4", "TEXELS"]).with_textures(&["y", "grad_y"])];

params! {
    struct Params { len: u32, slope: f32, scale: f32, drops: u32 }
}

/// ReLU, leaky with a slope, and dropout with its parameters (see `shaders/shared/relu.wgsl`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Relu {
    pub slope: f32,
    pub threshold: u32,
    pub scale: f32,
}

impl Relu {
    pub const PLAIN: Relu = Relu { slope: 0.0, threshold: 0, scale: 1.0 };
}

/// Records it for `len` elements of all replicas.
pub(super) fn relu_gradient(r: &mut Recorder, relu: Relu, [y, dy, g]: [View; 3], len: usize) {
    let (shader, width) = variants::by_row_texels(r.target, len, &SHADERS);
    let Relu { slope, threshold, scale } = relu;
    let p = Params { len: (len / width) as u32, slope, scale, drops: (threshold > 0).into() };
    let grid = Grid::items(len / width, 256, 1).no_loops();
    r.dispatch(shader, "relu_gradient", &[("y", y), ("grad_y", dy), ("g", g)], p, grid);
}
