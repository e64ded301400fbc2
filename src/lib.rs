//! Recognises musical instruments in recordings from weak labels, on any GPU.
//!
//! Modules are layered; each imports only from the ones above it in this list.

pub mod array;
pub mod data;
pub mod error;
pub mod files;
pub mod shape;

pub use array::Array;
pub use error::{Error, Result};
pub use shape::Shape;
