//! Errors, shapes, arrays, random numbers, portable functions, threads, files, fingerprints, files of tensors; numbers
//! and names as text.

pub mod array;
pub mod error;
pub mod files;
pub(crate) mod hash;
pub mod names;
pub mod numbers;
pub(crate) mod onnx;
pub(crate) mod parallel;
pub(crate) mod pickle;
pub(crate) mod portable;
pub mod random;
pub mod shape;
pub(crate) mod tensors;
pub mod text;
pub mod tflite;
pub mod toml;
pub mod torch;
