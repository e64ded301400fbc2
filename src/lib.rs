//! Recognises musical instruments in recordings from weak labels, on any GPU.
//!
//! Modules are layered; each imports only from the ones above it in this list.

pub mod array;
pub mod error;
pub mod report;
pub mod shape;
pub mod train;

pub use array::Array;
pub use error::{Error, Result};
pub use shape::Shape;
