//! All that is ever dispatched, for tests and compilers.

use super::peak;
use crate::core::error::Result;
use crate::gpu::{Dispatch, Target};
use crate::ops::OPS;

/// The dispatches of every case of every op for `target`, by the name of the op, and those that measure the peak
/// (`peak`).
///
/// # Errors
/// Whatever an op raises while it describes its dispatches.
pub fn dispatched(target: Target) -> Result<Vec<(&'static str, Dispatch)>> {
    let mut all: Vec<(&str, Dispatch)> = peak::dispatches(target).into_iter().map(|d| ("peak", d)).collect();
    for entry in OPS {
        for case in (entry.cases)() {
            all.extend(case.draft(target)?.steps().iter().map(|d| (entry.name, d.clone())));
        }
    }
    Ok(all)
}
