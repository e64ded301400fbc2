//! Peak arithmetic and bandwidth and the latency of a launch, measured with three kernels.

use crate::bench::results::Peak;
use crate::bench::timer::Timer;
use crate::core::error::Result;
use crate::gpu::{Buffer, Dispatch, Grid, Recorder, Recording, Shader, Slot, Target, View, params, shader};

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
/// Items of 4 floats per workgroup of the copy, and workgroups: 64 MiB there and 64 MiB back, more than any cache.
const COPY_ITEMS: usize = 1024;
const COPY_GROUPS: usize = 4096;

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

/// Measures fused multiply-adds in registers, a copy of a buffer larger than any cache, and a chain of dispatches of
/// one invocation, each waiting for the one before.
pub fn peak(timer: &Timer) -> Result<Peak> {
    let buffers: Vec<Buffer> =
        ["peak source", "peak target"].iter().map(|label| timer.gpu.buffer(label, LEN)).collect::<Result<_>>()?;
    let find = |slot: Slot| buffers[slot.0 as usize].clone();
    let record = |dispatch: &Dispatch| Recording::new(timer.gpu, std::slice::from_ref(dispatch), &find);
    let [arithmetic, copy, launch] = &dispatches().iter().map(record).collect::<Result<Vec<_>>>()?[..] else {
        unreachable!("there are three")
    };
    timer.warm_up(&[arithmetic])?;
    let seconds = |recording: &Recording| timer.fastest(&[recording]);
    let flops = ARITHMETIC_GROUPS * 256 * ROUNDS * FLOPS_PER_ROUND;
    Ok(Peak {
        f32_gflops: flops as f64 / seconds(arithmetic)? / 1e9,
        bandwidth_gbs: (2 * 4 * LEN) as f64 / seconds(copy)? / 1e9,
        launch_us: Some(seconds(launch)? * 1e6),
    })
}
