//! Peak arithmetic and bandwidth and the latency of a launch, measured with a kernel each.

use crate::bench::results::Peak;
use crate::bench::timer::Timer;
use crate::core::error::{Error, Result};
use crate::gpu::{
    AdapterKind, Buffer, CooperativeMatrix, Dispatch, Grid, Precision, Recorder, Recording, Shader, Slot, Target, View,
    params, shader,
};

const MATRIX: Shader = shader!("peak_matrix.wgsl");
/// The last two for cooperative matrices, by their side, 8 or 16.
pub static SHADERS: [Shader; 3] = [shader!("peak.wgsl"), MATRIX.with(&["MATRIX8"]), MATRIX];

params! {
    struct Params {
        rounds: u32, factor: f32, summand: f32,
    }
}

/// Workgroups of 256 invocations for the arithmetic, and what one invocation does (see the shader).
const ARITHMETIC_GROUPS: usize = 4096;
const ROUNDS: usize = 64;
const FLOPS_PER_ROUND: usize = 96;
/// Of each of four subgroups, as a multiple of the side of the matrices, cubed.
const PRODUCTS_PER_ROUND: usize = 8;
/// Items of 4 floats per workgroup of a copy, and workgroups: 64 MiB are read and 64 MiB written.
const COPY_ITEMS: usize = 1024;
const COPY_GROUPS: usize = 4096;
/// Copies in turn, each between buffers of its own, which are more than any cache together. CPUs have smaller ones.
const COPIES: usize = 4;
const COPIES_ON_CPU: usize = 1;

/// Elements of the two buffers.
const LEN: usize = 4 * COPY_ITEMS * COPY_GROUPS;

/// The arithmetic, the copy, the launch and, where the target has them, cooperative matrices. Slot 0 is read and slot 1
/// written, `LEN` elements each.
pub fn dispatches(target: Target) -> Vec<Dispatch> {
    let view = |slot| View { slot: Slot(slot), offset: 0, len: LEN };
    let p = Params { rounds: ROUNDS as u32, factor: 0.999, summand: 0.001 };
    let mut r = Recorder::new(target);
    r.op = "peak";
    let arithmetic = Grid::folded(ARITHMETIC_GROUPS, 1).iterations(ROUNDS);
    r.dispatch(&SHADERS[0], "peak_arithmetic", &[("y", view(1))], p, arithmetic);
    let both = [("x", view(0)), ("y", view(1))];
    r.dispatch(&SHADERS[0], "peak_copy", &both, p, Grid::folded(COPY_GROUPS, 1).no_loops());
    r.dispatch(&SHADERS[0], "peak_launch", &[("y", view(1))], p, Grid::folded(1, 1).no_loops());
    if let Some(matrix) = target.matrix {
        let shader = &SHADERS[matrix.side as usize / 8];
        r.dispatch_with(shader, "peak_matrix", &[matrix.workgroup()], &[("y", view(1))], p, arithmetic);
    }
    r.dispatches
}

/// Measures fused multiply-adds in registers, copies of buffers larger than any cache, a chain of dispatches of one
/// invocation, each waiting for the one before, and in half precision products of cooperative matrices.
///
/// # Errors
/// `Gpu` for a precision that the adapter does not have, and if it fails.
pub fn peak(timer: &Timer, precision: Precision) -> Result<Peak> {
    let target = timer.gpu.adapter().target_of(precision)?;
    let software = timer.gpu.adapter().kind == AdapterKind::Software;
    let copies = if software { COPIES_ON_CPU } else { COPIES };
    let buffers: Vec<Buffer> = (0..2 * copies).map(|_| timer.gpu.buffer("peak", LEN)).collect::<Result<_>>()?;
    let record = |dispatch: &Dispatch, pair: usize| {
        let find = |slot: Slot| buffers[2 * pair + slot.0 as usize].clone();
        Recording::new(timer.gpu, std::slice::from_ref(dispatch), &find)
    };
    let dispatches = dispatches(target);
    let [arithmetic, copy, launch, matrix @ ..] = &dispatches[..] else { unreachable!("there are three at least") };
    let (arithmetic, launch) = (record(arithmetic, 0)?, record(launch, 0)?);
    let matrix = matrix.first().map(|dispatch| record(dispatch, 0)).transpose()?;
    let copy = (0..copies).map(|pair| record(copy, pair)).collect::<Result<Vec<_>>>()?;
    timer.warm_up(&[&arithmetic])?;
    let gflops = |of_group: usize, recording: &Recording| {
        Ok::<_, Error>((ARITHMETIC_GROUPS * ROUNDS * of_group) as f64 / timer.fastest(&[recording])? / 1e9)
    };
    let of_matrices = |side: u32| 4 * PRODUCTS_PER_ROUND * (side as usize).pow(3);
    Ok(Peak {
        f32_gflops: gflops(256 * FLOPS_PER_ROUND, &arithmetic)?,
        matrix_gflops: match (target.matrix, &matrix) {
            (Some(CooperativeMatrix { side, .. }), Some(matrix)) => Some(gflops(of_matrices(side), matrix)?),
            _ => None,
        },
        bandwidth_gbs: (2 * 4 * LEN * copies) as f64 / timer.fastest(&copy.iter().collect::<Vec<_>>())? / 1e9,
        launch_us: Some(timer.fastest(&[&launch])? * 1e6),
    })
}
