// (cos, sin) of 2 pi k / n for k < n < 2^28, to f32 rounding: built-in sines may be off by 2^-11.
// The angle is reduced to an eighth of a turn in whole numbers, where a Taylor series is exact enough.
fn cis(k: u32, n: u32) -> vec2<f32> {
    let octant = 8u * k / n;
    let odd = (octant & 1u) == 1u;
    let rest = 8u * k - octant * n;
    let a = 0.78539816339744831 * f32(select(rest, n - rest, odd)) / f32(n);
    let q = a * a;
    let s = a * (1.0 + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0 + q * (1.0 / 362880.0)))));
    let c = 1.0 + q * (-0.5 + q * (1.0 / 24.0 + q * (-1.0 / 720.0 + q * (1.0 / 40320.0 + q * (-1.0 / 3628800.0)))));
    // Octants 1 and 2, 5 and 6 are nearer to the other axis.
    let swap = ((octant + 1u) & 2u) == 2u;
    let v = select(vec2(c, s), vec2(s, c), swap);
    let left = octant >= 2u && octant < 6u;
    return vec2(select(v.x, -v.x, left), select(v.y, -v.y, octant >= 4u));
}
