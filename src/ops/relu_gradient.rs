//! First part of the backward passes of layers with a fused ReLU: g = dy where y > 0, else 0.

use super::variants;
use crate::gpu::{Grid, Recorder, Shader, View, params, shader};

static SHADER: Shader = shader!("relu_gradient.wgsl");
pub(super) static SHADERS: [Shader; 3] =
    [SHADER, SHADER.with(&["VEC4"]), SHADER.with(&["VEC4", "TEXELS"]).with_textures(&["y", "grad_y"])];

params! {
    struct Params { len: u32 }
}

/// Records it for `len` elements of all replicas.
pub(super) fn relu_gradient(r: &mut Recorder, y: View, dy: View, g: View, len: usize) {
    let (shader, width) = variants::by_row_texels(r.target, len, &SHADERS);
    let p = Params { len: (len / width) as u32 };
    let grid = Grid::items(len / width, 256, 1).no_loops();
    r.dispatch(shader, "relu_gradient", &[("y", y), ("grad_y", dy), ("g", g)], p, grid);
}
