//! The one table that says which variant of a kernel runs where. Choices depend on the adapter and on shapes, never on R.

use crate::gpu::{AdapterKind, Target};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatrixProduct {
    /// Tiles in workgroup memory: any GPU, any shape.
    Tile,
    /// Registers and subgroup broadcasts: software adapters with 8 invocations per subgroup, row lengths in whole vec4.
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

/// Invocations that work on a frame of the Fourier transform: where a subgroup is 8 lanes of a CPU, a barrier between
/// several of them costs more than they bring.
pub(super) fn fourier_lanes(target: Target) -> u32 {
    if target.kind == AdapterKind::Software { 8 } else { 64 }
}
