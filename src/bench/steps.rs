//! Whole training steps: forward, backward and update of all replicas.

use super::Timer;
use crate::error::Result;
use crate::gpu::Recording;
use crate::report::bench::StepResult;

/// Times a training step of `replicas` replicas on batches of `batch` clips each: all `recordings`, one after the other.
pub fn step(
    timer: &Timer,
    model: &str,
    batch: usize,
    replicas: usize,
    recordings: &[&Recording],
) -> Result<StepResult> {
    let seconds = timer.seconds(recordings)?;
    Ok(StepResult {
        model: model.into(),
        batch,
        replicas,
        ms_per_step: seconds * 1e3,
        clips_per_s: (batch * replicas) as f64 / seconds,
        peer: None,
    })
}
