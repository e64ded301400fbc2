// (cos, sin) of 2 pi k / n for k <= n < 2^20, to f32 rounding: built-in sines may be off by 2^-11.
// The angle is reduced to an eighth of a turn exactly, where a Taylor series suffices. All in f32, since integer
// division is expensive; if a division rounds to the neighbouring octant, the reduced angle is 0 or 45 degrees all the
// same.
fn cis(k: u32, n: u32) -> vec2<f32> {
    let eighths = f32(8u * k);
    let size = f32(n);
    let whole = floor(eighths / size);
    let octant = u32(whole);
    let rest = eighths - whole * size;
    let a = 0.78539816339744831 * select(rest, size - rest, (octant & 1u) == 1u) / size;
    let q = a * a;
    let s = a * (1.0 + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0 + q * (1.0 / 362880.0)))));
    let c = 1.0 + q * (-0.5 + q * (1.0 / 24.0 + q * (-1.0 / 720.0 + q * (1.0 / 40320.0 + q * (-1.0 / 3628800.0)))));
    // Octants 1 and 2, 5 and 6 are nearer to the other axis.
    let swap = ((octant + 1u) & 2u) == 2u;
    let v = select(vec2(c, s), vec2(s, c), swap);
    let left = ((octant + 2u) & 4u) == 4u;
    let below = (octant & 4u) == 4u;
    return vec2(select(v.x, -v.x, left), select(v.y, -v.y, below));
}
