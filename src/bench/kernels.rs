//! Times every dispatch of a case.
//!
//! Floating-point operations come from [`Op::cost`](crate::graph::Op::cost), for the forward pass. They are
//! shared equally by the forward dispatches; `<op>_backward_input` and `<op>_backward_weight` do as many each, since
//! each gradient of a product is a product of the same size; other backward kernels (biases, slices, elementwise ops)
//! and `<op>_pack` count for the bandwidth only. Bytes are those of the bound views, each moved once; for the
//! forward pass no more than its cost says (a gather binds a whole dataset and reads a batch). Small cases fit a
//! cache and can exceed the bandwidth of large buffers.

use crate::bench::results::{KernelResult, Peak, Time};
use crate::bench::timer::Timer;
use crate::check::{Case, Fixture};
use crate::core::error::Result;
use crate::gpu::{Dispatch, Precision, View};
use crate::graph::Cost;

/// Times the dispatches of `case`, forward and backward, with the kernel variants of the adapter.
pub fn kernels(timer: &Timer, case: &Case, peak: Peak, precision: Precision) -> Result<Vec<KernelResult>> {
    let gpu = timer.gpu;
    let fixture = Fixture::new(gpu, case, gpu.adapter().target_of(precision)?, &[0], 1)?;
    fixture.fill(gpu)?;
    // One full replay, so that kernels that read the indices of earlier ones can be replayed alone.
    gpu.run(|s| s.replay(&[&fixture.plan.recording], 1))?;

    let (forward, _) = fixture.prepared.draft.dispatches();
    let computing = fixture.prepared.draft.steps()[..forward].iter().filter(|d| !packs(d)).count();
    let cost = case.op.cost(&case.specs());
    let steps = fixture.prepared.draft.steps();
    let mut results = vec![];
    for (at, dispatch) in steps.iter().enumerate() {
        let Time { seconds, sampling } = timer.time(&[&fixture.plan.part(gpu, std::slice::from_ref(dispatch))?])?;
        let work = work(dispatch, cost, (at < forward).then_some(computing));
        let (gflops, gbs) = (work.flops / seconds / 1e9, work.bytes / seconds / 1e9);
        let before = steps[..at].iter().filter(|d| d.entry == dispatch.entry).count();
        results.push(KernelResult {
            op: case.op.name().into(),
            kernel: if before == 0 { dispatch.entry.into() } else { format!("{} ({})", dispatch.entry, before + 1) },
            case: case.name.clone(),
            time_us: seconds * 1e6,
            sampling: Some(sampling),
            gflops,
            gbs,
            share_of_peak: peak.share(gflops, gbs),
        });
    }
    Ok(results)
}

/// Whether a dispatch only packs data for another.
fn packs(dispatch: &Dispatch) -> bool {
    dispatch.entry.ends_with("_pack")
}

/// Cost of a dispatch, where the whole forward pass costs `cost`. `forward`: number of computing dispatches of the
/// forward pass, if it is one of them.
fn work(dispatch: &Dispatch, cost: Cost, forward: Option<usize>) -> Cost {
    let mut views: Vec<View> = vec![];
    for (_, view) in &dispatch.bindings {
        if !views.contains(view) {
            views.push(*view);
        }
    }
    let bytes: f64 = views.iter().map(|view| view.len as f64 * 4.0).sum();
    let product = ["input", "weight"].map(|what| format!("{}_backward_{what}", dispatch.op));
    match forward {
        _ if packs(dispatch) => Cost { flops: 0.0, bytes },
        Some(count) => Cost { flops: cost.flops / count as f64, bytes: bytes.min(cost.bytes) },
        None if product.iter().any(|name| dispatch.entry.starts_with(name)) => Cost { flops: cost.flops, bytes },
        None => Cost { flops: 0.0, bytes },
    }
}
