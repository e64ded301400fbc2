//! Registry entry of an op.

use super::case::Case;
use crate::gpu::Shader;

/// An op for the tests, `wmic check`, `wmic bench` and the table in docs/kernels.md.
pub struct Entry {
    pub name: &'static str,
    /// One line for tables.
    pub about: &'static str,
    pub shaders: &'static [&'static Shader],
    pub cases: fn() -> Vec<Case>,
}
