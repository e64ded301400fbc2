//! Peak arithmetic and bandwidth and the latency of a launch, measured with three kernels.

use crate::bench::results::Peak;
use crate::bench::timer::Timer;
use crate::core::error::Result;
use crate::gpu::{
    AdapterKind, Buffer, Dispatch, Grid, Recorder, Recording, Shader, Slot, Target, View, params, shader,
};

pub static SHADER: Shader = shader!("peak.wgsl");

params! {
    struct Params {
        rounds: u32, factor: f32, summand: f32,
    }
}

/// Workgroups of 256 invocations for the arithmetic, and what one invocation does (see the shader).
const ARITHMETIC_GROUPS: usize = 4096;
const ROUNDS: usize = 64;
const FLOPS_PER_ROUND: usize = 96;
/// Items of 4 floats per workgroup of a copy, and workgroups: 64 MiB are read and 64 MiB written.
const COPY_ITEMS: usize = 1024;
const COPY_GROUPS: usize = 4096;
/// Copies in turn, each between buffers of its own, which are more than any cache together. CPUs have smaller ones.
const COPIES: usize = 4;
const COPIES_ON_CPU: usize = 1;

/// Elements of the two buffers.
const LEN: usize = 4 * COPY_ITEMS * COPY_GROUPS;

/// The arithmetic, the copy and the launch. Slot 0 is read and slot 1 written, `LEN` elements each.
pub fn dispatches() -> Vec<Dispatch> {
    let view = |slot| View { slot: Slot(slot), offset: 0, len: LEN };
    let p = Params { rounds: ROUNDS as u32, factor: 0.999, summand: 0.001 };
    let mut r = Recorder::new(Target::PORTABLE);
    r.op = "peak";
    r.dispatch(&SHADER, "peak_arithmetic", &[("y", view(1))], p, Grid::folded(ARITHMETIC_GROUPS, 1).iterations(ROUNDS));
    let both = [("x", view(0)), ("y", view(1))];
    r.dispatch(&SHADER, "peak_copy", &both, p, Grid::folded(COPY_GROUPS, 1).no_loops());
    r.dispatch(&SHADER, "peak_launch", &[("y", view(1))], p, Grid::folded(1, 1).no_loops());
    r.dispatches
}

/// Measures fused multiply-adds in registers, copies of buffers larger than any cache, and a chain of dispatches of
/// one invocation, each waiting for the one before.
pub fn peak(timer: &Timer) -> Result<Peak> {
    let software = timer.gpu.adapter().kind == AdapterKind::Software;
    let copies = if software { COPIES_ON_CPU } else { COPIES };
    let buffers: Vec<Buffer> = (0..2 * copies).map(|_| timer.gpu.buffer("peak", LEN)).collect::<Result<_>>()?;
    let record = |dispatch: &Dispatch, pair: usize| {
        let find = |slot: Slot| buffers[2 * pair + slot.0 as usize].clone();
        Recording::new(timer.gpu, std::slice::from_ref(dispatch), &find)
    };
    let [arithmetic, copy, launch] = &dispatches()[..] else { unreachable!("there are three") };
    let (arithmetic, launch) = (record(arithmetic, 0)?, record(launch, 0)?);
    let copy = (0..copies).map(|pair| record(copy, pair)).collect::<Result<Vec<_>>>()?;
    timer.warm_up(&[&arithmetic])?;
    let flops = ARITHMETIC_GROUPS * 256 * ROUNDS * FLOPS_PER_ROUND;
    Ok(Peak {
        f32_gflops: flops as f64 / timer.fastest(&[&arithmetic])? / 1e9,
        bandwidth_gbs: (2 * 4 * LEN * copies) as f64 / timer.fastest(&copy.iter().collect::<Vec<_>>())? / 1e9,
        launch_us: Some(timer.fastest(&[&launch])? * 1e6),
    })
}
