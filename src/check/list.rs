//! The checks for an adapter.

use super::case::Case;
use super::entry::Entry;
use super::run::{Outcome, References, check_against};
use crate::core::error::Result;
use crate::gpu::{Adapter, AdapterKind, Gpu, Precision, Target};

/// A case of an op, with the kernel variants of each target.
pub struct Check {
    pub case: Case,
    pub targets: Vec<Target>,
}

/// Every case of `ops` with the portable kernels and, where they differ, with those of the adapter's own target, with
/// the portable ones for its subgroups and, in half precision, if the adapter has it, with the portable ones and those
/// of cooperative matrices; software adapters are spared half precision in large cases, which would take most of the
/// time.
///
/// # Errors
/// Whatever an op raises while it describes its dispatches.
pub fn list(ops: &[&Entry], adapter: &Adapter) -> Result<Vec<Check>> {
    let own = [adapter.target(), Target { subgroup: adapter.target().subgroup, ..Target::PORTABLE }];
    let mut halves = vec![];
    if let Ok(half) = adapter.target_of(Precision::F16) {
        halves.push(Target::PORTABLE.with(Precision::F16));
        halves.extend(half.matrix.map(|_| half));
    }
    let mut checks = vec![];
    for case in ops.iter().flat_map(|entry| (entry.cases)()) {
        let (mut targets, mut drafts) = (vec![Target::PORTABLE], vec![case.draft(Target::PORTABLE)?]);
        let is_tried = case.halves && (adapter.kind != AdapterKind::Software || !case.is_large());
        let halves = halves.iter().filter(|_| is_tried);
        for &target in own.iter().chain(halves) {
            let draft = case.draft(target)?;
            if drafts.iter().all(|other| other.steps() != draft.steps()) {
                targets.push(target);
                drafts.push(draft);
            }
        }
        checks.push(Check { case, targets });
    }
    Ok(checks)
}

impl Check {
    /// The outcome for each target. One that cannot run (a kernel that the driver rejects) fails.
    pub fn run(&self, gpu: &Gpu) -> impl Iterator<Item = Outcome> {
        let references = References::default();
        self.targets.iter().map(move |&target| {
            check_against(gpu, &self.case, target, &references).unwrap_or_else(|error| Outcome {
                op: self.case.op.name(),
                case: self.case.name.clone(),
                target,
                forward: f64::NAN,
                gradient: None,
                failures: vec![error.to_string()],
            })
        })
    }
}
