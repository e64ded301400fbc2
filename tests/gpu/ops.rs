//! Every case of every op on this machine's adapter, with the portable kernel variants and with those of this adapter.

use wmic::check::{Outcome, list};
use wmic::gpu::Gpu;
use wmic::ops::{OPS, select};

#[test]
fn every_kernel_agrees_with_its_reference() {
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let checks = list(&select(None).unwrap(), gpu.adapter()).expect("all cases can be described");
    let mut failed = vec![];
    let outcomes: Vec<Outcome> = checks.iter().flat_map(|check| check.run(&gpu)).collect();
    for outcome in outcomes.iter().filter(|outcome| !outcome.passed()) {
        let (op, case, target) = (outcome.op, &outcome.case, outcome.target);
        failed.push(format!("{op} / {case} / {target}: {}", outcome.failures.join("; ")));
    }
    assert!(failed.is_empty(), "{} of {} checks failed:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
    assert!(outcomes.len() >= OPS.len() * 2, "every entry has cases");
}
