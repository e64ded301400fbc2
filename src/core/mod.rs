//! Errors, shapes, arrays, random numbers, files, fingerprints, files of tensors; numbers and names as text.

pub mod array;
pub mod error;
pub mod files;
pub(crate) mod hash;
pub mod names;
pub mod numbers;
pub(crate) mod pickle;
pub mod random;
pub mod shape;
pub(crate) mod tensors;
pub mod text;
pub mod toml;
pub(crate) mod torch;
