//! Which variant of a kernel runs where. Choices depend on the adapter and on shapes, never on R.

use crate::gpu::{AdapterKind, Shader, Target};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatrixProduct {
    /// Tiles in workgroup memory: any GPU, any shape.
    Tile,
    /// Registers and subgroup broadcasts: software adapters with 8 invocations per subgroup, row lengths a multiple of 4.
    Subgroup8,
}

pub(super) fn matrix_product(target: Target, n: usize, k: usize) -> MatrixProduct {
    match target {
        Target { kind: AdapterKind::Software, subgroup: Some(8) } if n.is_multiple_of(4) && k.is_multiple_of(4) => {
            MatrixProduct::Subgroup8
        }
        _ => MatrixProduct::Tile,
    }
}

/// The scalar or the vec4 variant for rows of `n`, and its vector width.
pub(super) fn by_row(n: usize, scalar: &'static Shader, vec4: &'static Shader) -> (&'static Shader, usize) {
    if n.is_multiple_of(4) { (vec4, 4) } else { (scalar, 1) }
}

/// Invocations that work on a frame of the Fourier transform: where a subgroup is 8 lanes of a CPU, a barrier between
/// several of them costs more than it gains.
pub(super) fn fourier_lanes(target: Target) -> u32 {
    if target.kind == AdapterKind::Software { 8 } else { 64 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convolution {
    /// As for a matrix product.
    Tile,
    /// As for a matrix product, channels a multiple of 4.
    Subgroup8,
    /// The same for input channels that are not a multiple of 4 (a first layer's one or three). Input gradients use tiles.
    Subgroup8Unaligned,
    /// Each invocation computes a run of pixels: for few output channels, a multiple of 4, and kernels of up to 5 x 5.
    Runs,
    /// The same for input channels that are not a multiple of 4. Input gradients use tiles.
    RunsUnaligned,
}

/// For `c` channels in, `n` out and a square kernel of `size`.
pub(super) fn convolution(target: Target, n: usize, c: usize, size: usize) -> Convolution {
    let runs = n <= 16 && size <= 5;
    match (matrix_product(target, n, c), matrix_product(target, n, 4)) {
        (MatrixProduct::Subgroup8, _) if runs => Convolution::Runs,
        (MatrixProduct::Subgroup8, _) => Convolution::Subgroup8,
        (_, MatrixProduct::Subgroup8) if runs => Convolution::RunsUnaligned,
        (_, MatrixProduct::Subgroup8) => Convolution::Subgroup8Unaligned,
        _ => Convolution::Tile,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filtering {
    /// Samples of frames in workgroup memory: any GPU.
    Tile,
    /// Registers and subgroup broadcasts: software adapters with 8 invocations per subgroup.
    Subgroup8,
}

/// For complex filters at frame centres.
pub(super) fn filtering(target: Target) -> Filtering {
    match target {
        Target { kind: AdapterKind::Software, subgroup: Some(8) } => Filtering::Subgroup8,
        _ => Filtering::Tile,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attention {
    /// Tiles in workgroup memory: any GPU, any shape.
    Tile,
    /// The same with more workgroups that accumulate sums, each in fewer iterations (see `Recorder::runs`): software adapters, at
    /// the cost of memory.
    TileSoftware,
    /// Subgroup broadcasts: software adapters with 8 invocations per subgroup, heads of up to 8 channels, up to 128 rows of positions.
    Subgroup8,
}

/// For images of `height` rows and heads of up to `depth` channels.
pub(super) fn attention(target: Target, height: usize, depth: usize) -> Attention {
    match matrix_product(target, 4, 4) {
        MatrixProduct::Subgroup8 if height <= 128 && depth <= 8 => Attention::Subgroup8,
        _ if target.kind == AdapterKind::Software => Attention::TileSoftware,
        _ => Attention::Tile,
    }
}
