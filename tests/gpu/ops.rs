//! Every case of every op on this machine's adapter, with the portable kernel variants and with those of this adapter.

use wmic::check::list;
use wmic::gpu::Gpu;
use wmic::ops::{OPS, select};

#[test]
fn every_kernel_agrees_with_its_reference() {
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let checks = list(&select(None).unwrap(), gpu.adapter().target()).expect("all cases can be described");
    let mut failed = vec![];
    for outcome in checks.iter().map(|check| check.run(&gpu)).filter(|outcome| !outcome.passed()) {
        let (op, case, target) = (outcome.op, outcome.case, outcome.target);
        failed.push(format!("{op} / {case} / {target}: {}", outcome.failures.join("; ")));
    }
    assert!(failed.is_empty(), "{} of {} checks failed:\n{}", failed.len(), checks.len(), failed.join("\n"));
    assert!(checks.len() >= OPS.len() * 2, "every entry has cases");
}
