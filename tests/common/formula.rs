//! Numbers that Python and Rust both evaluate exactly.

/// The numbers of `tests/golden/README.md`, in [0, 1).
pub fn frac(i: u32, salt: u32) -> f64 {
    let mut h = i.wrapping_add(salt.wrapping_mul(0x9E37_79B9));
    h ^= h >> 16;
    h = h.wrapping_mul(0x7FEB_352D);
    h ^= h >> 15;
    h = h.wrapping_mul(0x846C_A68B);
    h ^= h >> 16;
    f64::from(h) / 4_294_967_296.0
}
