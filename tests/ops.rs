//! Every case of every op on this machine's adapter, with the kernel variants of this adapter and with the portable ones.

use wmic::check::check;
use wmic::gpu::{AdapterKind, Gpu, Target};
use wmic::ops::ROOMS;

#[test]
fn every_kernel_agrees_with_its_reference() {
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let own = gpu.adapter().target();
    let portable = Target { kind: AdapterKind::Discrete, subgroup: None };
    let targets = if own == portable { vec![own] } else { vec![own, portable] };
    let mut failed = vec![];
    let mut run = 0;
    for room in ROOMS {
        for case in (room.cases)() {
            for &target in &targets {
                let outcome = check(&gpu, &case, target).unwrap_or_else(|e| panic!("{} {}: {e}", room.name, case.name));
                run += 1;
                if !outcome.passed() {
                    failed.push(format!("{} / {} / {target:?}: {}", room.name, case.name, outcome.failures.join("; ")));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{} of {run} checks failed:\n{}", failed.len(), failed.join("\n"));
    assert!(run >= ROOMS.len() * 2, "every room has cases");
}
