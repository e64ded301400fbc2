//! The counter-based generator on the CPU: the same numbers as `shaders/shared/philox.wgsl`.
//!
//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011). A word is a
//! function of (seed, counter) alone, never of the order in which threads or replicas run.

use std::convert::Infallible;

use rand::TryRng;

/// Rounds of mixing for each four words.
pub(crate) const PHILOX_ROUNDS: usize = 10;

/// Four random words for a counter under a key.
pub(crate) fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..PHILOX_ROUNDS {
        let a = u64::from(c[0]) * 0xD251_1F53;
        let b = u64::from(c[2]) * 0xCD9E_8D57;
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

/// Splits a 64-bit seed into Philox's key.
pub fn key(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

/// Dropout probability p as a u32 threshold: random words below it drop, other values are scaled by 1 / (1 - p).
pub(crate) fn dropout_threshold(p: f64) -> (u32, f32) {
    ((p * 4_294_967_296.0) as u32, (1.0 / (1.0 - p)) as f32)
}

/// The factor of element `i` of a tensor, as in `shaders/shared/dropout.wgsl`. `clock` = [seed low, seed high, step,
/// 0].
pub(crate) fn dropout_factor(i: usize, stream: u32, clock: [u32; 4], p: f64) -> f64 {
    let (threshold, scale) = dropout_threshold(p);
    let words = philox([(i / 4) as u32, stream, clock[2], 0xD20], [clock[0], clock[1]]);
    if words[i % 4] < threshold { 0.0 } else { f64::from(scale) }
}

/// Two independent normal numbers of two words, by Box and Muller, as in `shaders/shared/normal.wgsl`.
pub(crate) fn normal_pair([radius, angle]: [u32; 2]) -> [f64; 2] {
    let unit = (f64::from(radius >> 9) + 0.5) / 8_388_608.0;
    let angle = std::f64::consts::TAU * f64::from(angle >> 13) / 524_288.0;
    [angle.cos(), angle.sin()].map(|direction| (-2.0 * unit.ln()).sqrt() * direction)
}

/// A stream of random numbers for one (seed, stream) pair, for weight initialisation.
pub struct Stream {
    key: [u32; 2],
    stream: u32,
    next: u32,
}

impl Stream {
    pub fn new(seed: u64, stream: u32) -> Self {
        Stream { key: key(seed), stream, next: 0 }
    }

    /// Two independent uniform numbers in (0, 1), 32 bits each.
    fn pair(&mut self) -> [f64; 2] {
        let w = philox([self.next, self.stream, 0, 0x1217], self.key);
        self.next += 1;
        [w[0], w[1]].map(|w| (f64::from(w) + 0.5) / 4_294_967_296.0)
    }

    /// Uniform in (-bound, bound).
    pub fn uniform(&mut self, bound: f64) -> f64 {
        (2.0 * self.pair()[0] - 1.0) * bound
    }

    /// Normal with mean 0 (Box-Muller).
    pub fn normal(&mut self, std: f64) -> f64 {
        let [u, v] = self.pair();
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos() * std
    }
}

/// A generator for the distributions of `rand`. Its numbers are a function of the seed and of the three that name the
/// stream.
pub struct Counter {
    key: [u32; 2],
    stream: [u32; 3],
    block: u32,
    words: [u32; 4],
    used: usize,
}

impl Counter {
    pub fn new(seed: u64, stream: [u32; 3]) -> Counter {
        Counter { key: key(seed), stream, block: 0, words: [0; 4], used: 4 }
    }
}

impl TryRng for Counter {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        if self.used == self.words.len() {
            let [a, b, c] = self.stream;
            self.words = philox([self.block, a, b, c], self.key);
            self.block = self.block.wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        Ok(self.words[self.used - 1])
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = u64::from(self.try_next_u32()?);
        Ok(u64::from(self.try_next_u32()?) << 32 | low)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for bytes in bytes.chunks_mut(4) {
            bytes.copy_from_slice(&self.try_next_u32()?.to_le_bytes()[..bytes.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_vectors() {
        // Test vectors of the Random123 distribution.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn moments_are_right() {
        let mut s = Stream::new(7, 3);
        let n = 20_000;
        let (mut sum, mut square) = (0.0, 0.0);
        for _ in 0..n {
            let v = s.normal(2.0);
            sum += v;
            square += v * v;
        }
        assert!((sum / n as f64).abs() < 0.05);
        assert!((square / n as f64 - 4.0).abs() < 0.15);
    }
}
