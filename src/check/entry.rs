//! What is registered of an op.

use super::case::Case;
use crate::gpu::Shader;

/// What the tests, `wmic check`, `wmic bench` and the table in docs/kernels.md need to know of an op.
pub struct Entry {
    pub name: &'static str,
    /// One line for tables.
    pub about: &'static str,
    pub shaders: &'static [&'static Shader],
    pub cases: fn() -> Vec<Case>,
}
