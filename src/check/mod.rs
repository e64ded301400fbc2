//! The op test runner, driven by the cases of the registry, for `cargo test` and `wmic check`.
//!
//! Every case is run between guard zones, in memory poisoned with NaN, and must give the reference's outputs, gradients
//! that agree with central differences of the f64 reference, and bit-identical results when replayed (on software
//! adapters, where they are slow, large cases are not replayed). Small cases also run with two consumers, which must
//! accumulate exactly twice the gradient, and with R = 3, where replica r must be bit-identical to r alone.

mod case;
mod entry;
mod fixture;
mod list;
mod report;
mod run;

pub use case::{Case, Fill, Input, InputRole, Loss, Tolerance};
pub use entry::Entry;
pub(crate) use entry::joined;
pub(crate) use fixture::{Fixture, Prepared};
pub use list::{Check, list};
pub use report::{CheckReport, Row, share};
pub(crate) use run::{EVERY_COORDINATE, Expected};
pub use run::{Outcome, check};
