//! Times every dispatch of a case.
//!
//! Floating-point operations come from [`Op::cost`](crate::graph::Op::cost), for the forward pass. They are
//! shared equally by the dispatches of the forward pass, also those that do both passes; `<op>_backward_input` and
//! `<op>_backward_weight` do as many each, since each gradient of a product is a product of the same size; other
//! backward kernels (biases, slices, elementwise ops) and `<op>_pack` count for the bandwidth only. Bytes are those of
//! the bound views, each moved once; for the forward pass no more than its cost says (a gather binds a whole dataset
//! and reads a batch). Small cases fit a cache and can exceed the bandwidth of large buffers.

use crate::bench::results::{KernelResult, Peak, Time};
use crate::bench::timer::Timer;
use crate::check::{Case, Fixture};
use crate::core::error::Result;
use crate::gpu::{Dispatch, Pass, Precision, View};
use crate::graph::Cost;

/// Times the dispatches of `case`, forward and backward, with the kernel variants of the adapter.
pub fn kernels(timer: &Timer, case: &Case, peak: Peak, precision: Precision) -> Result<Vec<KernelResult>> {
    let gpu = timer.gpu;
    let fixture = Fixture::new(gpu, case, gpu.adapter().target_of(precision)?, &[0], 1)?;
    fixture.fill(gpu)?;
    // One full replay, so that kernels that read the indices of earlier ones can be replayed alone.
    gpu.run(|s| s.replay(&[&fixture.plan.recording], 1))?;

    let steps = fixture.prepared.draft.steps();
    let mut results = vec![];
    for ((at, dispatch), work) in steps.iter().enumerate().zip(works(steps, case.cost()?)) {
        let Time { seconds, sampling } = timer.time(&[&fixture.plan.part(gpu, std::slice::from_ref(dispatch))?])?;
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

/// Cost of each dispatch, where the whole forward pass costs `cost`.
fn works(steps: &[Dispatch], cost: Cost) -> Vec<Cost> {
    let computing = steps.iter().filter(|d| d.pass != Pass::Backward && !packs(d)).count();
    let each = Cost { flops: cost.flops / computing as f64, ..cost };
    steps.iter().map(|dispatch| work(dispatch, cost, each)).collect()
}

/// `each`: of a computing dispatch of the forward pass.
fn work(dispatch: &Dispatch, cost: Cost, each: Cost) -> Cost {
    let mut views: Vec<View> = vec![];
    for (_, view) in &dispatch.bindings {
        if !views.contains(view) {
            views.push(*view);
        }
    }
    let bytes: f64 = views.iter().map(|view| view.len as f64 * 4.0).sum();
    let product = ["input", "weight"].map(|what| format!("{}_backward_{what}", dispatch.op));
    match dispatch.pass {
        _ if packs(dispatch) => Cost { flops: 0.0, bytes },
        Pass::Forward => Cost { bytes: bytes.min(each.bytes), ..each },
        Pass::Both => Cost { bytes, ..each },
        Pass::Backward if product.iter().any(|name| dispatch.entry.starts_with(name)) => {
            Cost { flops: cost.flops, bytes }
        }
        Pass::Backward => Cost { flops: 0.0, bytes },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Target;
    use crate::ops::OPS;

    #[test]
    fn a_dispatch_of_both_passes_does_the_work_of_forward() {
        for (op, name) in [("masked_bce", "real"), ("cross_entropy", "real"), ("attention_pool", "att, with its loss")]
        {
            let all = OPS.iter().find(|entry| entry.name == op).expect("an op").cases;
            let case = all().into_iter().find(|case| case.name == name).expect("a case");
            let (draft, cost) = (case.draft(Target::PORTABLE).unwrap(), case.cost().unwrap());
            assert_eq!(draft.steps()[0].pass, Pass::Both, "{op}");
            let works = works(draft.steps(), cost);
            assert_eq!(works.iter().map(|work| work.flops).sum::<f64>(), cost.flops, "{op}");
            assert!(works[0].flops > 0.0 && works[0].bytes > 0.0, "{op}");
        }
    }
}
