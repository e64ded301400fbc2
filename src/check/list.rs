//! The checks for an adapter.

use super::case::Case;
use super::entry::Entry;
use super::run::{Outcome, check};
use crate::core::error::Result;
use crate::gpu::{Gpu, Target};

/// A case of an op, with the kernel variants of a target.
pub struct Check {
    pub case: Case,
    pub target: Target,
}

/// Every case of `ops` with the portable kernels and, if those of the adapter's own target differ, with these too.
///
/// # Errors
/// Whatever an op raises while it describes its dispatches.
pub fn list(ops: &[&Entry], own: Target) -> Result<Vec<Check>> {
    let mut checks = vec![];
    for case in ops.iter().flat_map(|entry| (entry.cases)()) {
        let differs = case.draft(own)?.steps() != case.draft(Target::PORTABLE)?.steps();
        checks.push(Check { case: case.clone(), target: Target::PORTABLE });
        if differs {
            checks.push(Check { case, target: own });
        }
    }
    Ok(checks)
}

impl Check {
    /// Runs the check. One that cannot run (a kernel that the driver rejects) fails.
    pub fn run(&self, gpu: &Gpu) -> Outcome {
        check(gpu, &self.case, self.target).unwrap_or_else(|error| Outcome {
            op: self.case.op.name(),
            case: self.case.name.clone(),
            target: self.target,
            forward: f64::NAN,
            gradient: None,
            failures: vec![error.to_string()],
        })
    }
}
