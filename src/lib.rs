//! Recognises musical instruments in recordings from weak labels, on any GPU.
//!
//! Modules are layered: each imports only from lower layers and its own. Where the design left a choice: a training step is two
//! plans replayed in turn (model and optimiser, see [`train::learner`]), and the clock of seeds and steps is a tensor like any other.

// L0
pub mod array;
pub mod error;
pub mod files;
pub mod fingerprint;
pub mod random;
pub mod shape;
// L1
pub mod gpu;
// L2
pub mod graph;
// L3
pub mod audio;
pub mod check;
pub mod data;
pub mod ops;
// L4
pub mod nn;
// L5
pub mod bench;
pub mod recognition;
pub mod report;
pub mod train;

pub use array::Array;
pub use error::{Error, Result};
pub use shape::Shape;
