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

/// The shaders of arrays of them, one after the other.
pub(crate) const fn joined<const N: usize>(arrays: &[&'static [Shader]]) -> [&'static Shader; N] {
    let (mut shaders, mut count, mut array) = ([&arrays[0][0]; N], 0, 0);
    while array < arrays.len() {
        let mut i = 0;
        while i < arrays[array].len() {
            shaders[count] = &arrays[array][i];
            (i, count) = (i + 1, count + 1);
        }
        array += 1;
    }
    assert!(count == N, "N is not the number of shaders");
    shaders
}
