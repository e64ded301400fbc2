//! Errors, shapes, arrays, random numbers, files, fingerprints.

pub mod array;
pub mod error;
pub mod files;
pub(crate) mod hash;
pub mod names;
pub mod random;
pub mod shape;
pub(crate) mod tensors;
pub mod toml;
