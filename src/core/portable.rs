//! Elementary functions with the same bits on every machine: only +, -, * and / on f64, which IEEE 754 defines exactly,
//! and no function of the platform's math library.

use std::f64::consts::{LN_2, LOG2_10, LOG2_E, SQRT_2};

/// 2^x for x in -1000..1000, to about 1e-15.
pub(crate) fn exp2(x: f64) -> f64 {
    let whole = x.clamp(-1_000.0, 1_000.0) as i64;
    let z = (x - whole as f64) * LN_2;
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..16 {
        term *= z / f64::from(n);
        sum += term;
    }
    sum * f64::from_bits(((1_023 + whole) as u64) << 52)
}

/// Base-2 logarithm of a normal positive number, to about 1e-15.
pub(crate) fn log2(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut whole = (bits >> 52) as f64 - 1_023.0;
    let mut fraction = f64::from_bits(bits & ((1 << 52) - 1) | 1_023 << 52);
    if fraction > SQRT_2 {
        fraction *= 0.5;
        whole += 1.0;
    }
    // ln f = 2 artanh((f - 1) / (f + 1)), of an argument below 0.172.
    let z = (fraction - 1.0) / (fraction + 1.0);
    let series = (0..12).rev().fold(0.0, |sum, n| sum * z * z + 1.0 / f64::from(2 * n + 1));
    whole + 2.0 * z * series * LOG2_E
}

/// Hyperbolic tangent.
pub(crate) fn tanh(x: f64) -> f64 {
    let fall = exp2(-2.0 * LOG2_E * x.abs().min(300.0));
    ((1.0 - fall) / (1.0 + fall)).copysign(x)
}

/// Cosine of an angle of -pi..pi, to about 1e-15.
pub(crate) fn cos(x: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..16 {
        term *= -x * x / f64::from(2 * n * (2 * n - 1));
        sum += term;
    }
    sum
}

/// The factor of an amplitude for a level in dB.
pub(crate) fn amplitude(db: f64) -> f64 {
    exp2(db / 20.0 * LOG2_10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_functions() {
        for i in 1..2_000 {
            let x = f64::from(i) * 0.0137;
            let near = |own: f64, theirs: f64| (own - theirs).abs() <= 4e-15 * theirs.abs().max(1.0);
            assert!(near(log2(x), x.log2()) && near(tanh(x - 9.0), (x - 9.0).tanh()), "{x}");
            assert!(near(exp2(x - 12.0), (x - 12.0).exp2()) && near(amplitude(-x), 10f64.powf(-x / 20.0)), "{x}");
            assert!(near(cos(x % 3.0), (x % 3.0).cos()), "{x}");
        }
    }
}
