//! L3: the op test runner. An entry's cases drive it; `cargo test` and `wmic check` are two views of the same run.
//!
//! Every case is run for R = 1 and R = 3 between guard zones, in memory poisoned with NaN, and must
//! give the reference's outputs; gradients that agree with central differences of the f64 reference; exactly twice the gradient
//! where two consumers accumulate; the same bits when replayed; and for replica r of 3 the bits of r alone.

mod case;
mod entry;
mod fixture;
mod list;
mod run;

pub use case::{Case, Fill, Input, Kind, Tolerance};
pub use entry::Entry;
pub(crate) use fixture::Fixture;
pub use list::{Check, list};
pub use run::{Outcome, check};
