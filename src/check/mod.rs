//! The op test runner, driven by the cases of the registry, for `cargo test` and `wmic check`.
//!
//! Every case is run for R = 1 and, unless it is large, R = 3 between guard zones, in memory poisoned with NaN, and must
//! give the reference's outputs; gradients that agree with central differences of the f64 reference; exactly twice the gradient
//! where two consumers accumulate; bit-identical results when replayed; and for replica r of 3 results bit-identical to r alone.

mod case;
mod entry;
mod fixture;
mod list;
mod run;

pub use case::{Case, Fill, Input, InputRole, Tolerance};
pub use entry::Entry;
pub(crate) use fixture::Fixture;
pub use list::{Check, list};
pub use run::{Outcome, check};
