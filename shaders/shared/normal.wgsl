// Normal numbers from random words, by Box and Muller.
#import cis

// Of a circle.
const ANGLES = 524288u;

// In (0, 1), in steps that f32 holds exactly.
fn unit(word: vec2<u32>) -> vec2<f32> {
    return (vec2<f32>(word >> vec2(9u)) + 0.5) / 8388608.0;
}

// -ln(u). Near 1, where the built-in is off by up to 2^-21, by its series in 1 - u, which is exact.
fn minus_log(u: f32) -> f32 {
    let d = 1.0 - u;
    if d >= 0.125 { return -log(u); }
    var series = 0.0;
    for (var n = 8.0; n > 0.0; n -= 1.0) { series = 1.0 / n + d * series; }
    return d * series;
}

// The length of a normal vector in the plane, and its direction, in 19 bits.
fn normal_radius(word: vec2<u32>) -> f32 { return sqrt(2.0 * minus_log(unit(word).x)); }
fn normal_direction(word: vec2<u32>) -> vec2<f32> { return cis(word.y >> 13u, ANGLES); }
