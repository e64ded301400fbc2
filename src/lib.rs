//! Recognises musical instruments in recordings from weak labels, on any GPU.
//!
//! Modules are layered; each imports only from the ones above it in this list.

// L0
pub mod array;
pub mod error;
pub mod files;
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
pub mod report;
pub mod train;

pub use array::Array;
pub use error::{Error, Result};
pub use shape::Shape;
