//! The checks for an adapter.

use std::cell::OnceCell;

use super::case::Case;
use super::entry::Entry;
use super::run::{Outcome, check_against};
use crate::core::error::Result;
use crate::gpu::{Gpu, Target};

/// A case of an op, with the kernel variants of each target.
pub struct Check {
    pub case: Case,
    pub targets: Vec<Target>,
}

/// Every case of `ops` with the portable kernels and, if those of the adapter's own target differ, with these too.
///
/// # Errors
/// Whatever an op raises while it describes its dispatches.
pub fn list(ops: &[&Entry], own: Target) -> Result<Vec<Check>> {
    let mut checks = vec![];
    for case in ops.iter().flat_map(|entry| (entry.cases)()) {
        let mut targets = vec![Target::PORTABLE];
        if case.draft(own)?.steps() != case.draft(Target::PORTABLE)?.steps() {
            targets.push(own);
        }
        checks.push(Check { case, targets });
    }
    Ok(checks)
}

impl Check {
    /// The outcome for each target. One that cannot run (a kernel that the driver rejects) fails.
    pub fn run(&self, gpu: &Gpu) -> impl Iterator<Item = Outcome> {
        let expected = OnceCell::new();
        self.targets.iter().map(move |&target| {
            check_against(gpu, &self.case, target, &expected).unwrap_or_else(|error| Outcome {
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
