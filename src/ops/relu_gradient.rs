//! First part of the backward passes of layers with a fused ReLU: g = dy where y > 0, else 0.

use super::variants;
use crate::gpu::{Grid, Recorder, Shader, View, params, shader};

pub(super) static SHADER: Shader = shader!("relu_gradient.wgsl");
pub(super) static VEC4: Shader = SHADER.with(&["VEC4"]);

params! {
    struct Params { len: u32 }
}

/// Records it for `len` elements of all replicas.
pub(super) fn relu_gradient(r: &mut Recorder, y: View, dy: View, g: View, len: usize) {
    let (shader, width) = variants::by_row(len, &SHADER, &VEC4);
    let p = Params { len: (len / width) as u32 };
    let grid = Grid::items(len / width, 256, 1).no_loops();
    r.dispatch(shader, "relu_gradient", &[("y", y), ("grad_y", dy), ("g", g)], p, grid);
}
