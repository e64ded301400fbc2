//! What the backward passes of layers with a fused ReLU begin with: g = dy where y > 0, else 0.

use crate::gpu::{Grid, Recorder, Shader, View, params};

pub(super) static SHADER: Shader =
    Shader::portable("relu_gradient.wgsl", include_str!("../../shaders/relu_gradient.wgsl"));

params! {
    struct Params { len: u32 }
}

/// Records it for `len` elements of all replicas.
pub(super) fn relu_gradient(r: &mut Recorder, y: View, dy: View, g: View, len: usize) {
    let p = Params { len: len as u32 };
    let (entry, names, items) = match len.is_multiple_of(4) {
        true => ("relu_gradient_vec4", ["y4", "grad_y4", "g4"], len / 4),
        false => ("relu_gradient_scalar", ["y", "grad_y", "g"], len),
    };
    let bindings = [(names[0], y), (names[1], dy), (names[2], g)];
    r.dispatch(&SHADER, entry, &bindings, p, Grid::items(items, 256, 1).no_loops());
}
