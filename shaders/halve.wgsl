// Downsampling by 2: a symmetric half-band filter, with taps of 0 at even distances from the centre.
//
//   forward    y[n] = x[2n] / 2 + sum over q of taps[q] (x[2n - 2q - 1] + x[2n + 2q + 1])
//
// Only the odd samples o[m] = x[2m + 1] are filtered: y[n] takes o[n - q - 1] and o[n + q]. One invocation computes
// four neighbouring outputs, for which each step of q loads one new sample on either side.
#import grid

struct Params {
    b: u32,
    s: u32,              // samples per clip
    y_len: u32,           // samples per clip of y
    taps: u32,
    x_stride: u32,       // elements between replicas
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;       // (B, S) every x_stride
@group(0) @binding(2) var<storage, read> taps: array<f32>;    // (Q)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // (R, B, y_len)

const WORKGROUP_SIZE = 64u;
const OUTPUTS = 4u;

// Zeros around the clip. An unneeded load costs less than a branch.
fn sample_at(clip: u32, at: i32) -> f32 {
    let inside = clamp(at, 0, i32(p.s) - 1);
    return select(0.0, x[clip + u32(inside)], at == inside);
}

fn odd(clip: u32, m: i32) -> f32 {
    return sample_at(clip, 2 * m + 1);
}

@compute @workgroup_size(64)
fn halve_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                 @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    let fours = (p.y_len + OUTPUTS - 1u) / OUTPUTS;
    if i >= p.b * fours { return; }
    let b = i / fours;
    let first = i % fours * OUTPUTS;
    let clip = id.z * p.x_stride + b * p.s;
    let n = i32(first);

    let here = vec4(sample_at(clip, 2 * n), sample_at(clip, 2 * n + 2),
                    sample_at(clip, 2 * n + 4), sample_at(clip, 2 * n + 6));
    var sum = 0.5 * here;
    var right = vec4(odd(clip, n), odd(clip, n + 1), odd(clip, n + 2), odd(clip, n + 3));
    var left = vec4(odd(clip, n - 1), right.xyz);
    for (var q = 0; q < i32(p.taps); q++) {
        sum += taps[q] * (left + right);
        left = vec4(odd(clip, n - q - 2), left.xyz);
        right = vec4(right.yzw, odd(clip, n + q + 4));
    }
    let at = (id.z * p.b + b) * p.y_len + first;
    for (var j = 0u; j < min(OUTPUTS, p.y_len - first); j++) {
        y[at + j] = sum[j];
    }
}
