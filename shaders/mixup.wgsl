// Weighted sums of the clips of two batches.
//
//   draw       lambda (B) from Beta(alpha, alpha); y_lengths = max(lengths, lengths2)
//   features   y = lambda x + (1 - lambda) x2, each 0 beyond its clip's length
//   labels     known in both: lambda t + (1 - lambda) t2; in one: that one's, if its weight is above 1/2; else unknown
#import value
#import philox
#import cis
#import log_ratio
#import grid

struct Params {
    b: u32,
    t: u32,
    f: u32,            // in Values
    classes: u32,      // K
    positions: u32,    // factor of the lengths
    clock_stride: u32, // in vec4
    alpha: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
// (seed low, seed high, step, done) every clock_stride
@group(0) @binding(1) var<storage, read> clock: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> lengths: array<u32>;           // (R, B)
@group(0) @binding(3) var<storage, read> lengths2: array<u32>;          // (R, B)
@group(0) @binding(4) var<storage, read_write> y_lengths: array<u32>;   // (R, B)
@group(0) @binding(5) var<storage, read_write> y_lambda: array<f32>;    // (R, B)
@group(0) @binding(6) var<storage, read> lambda: array<f32>;            // (R, B), as drawn
@group(0) @binding(7) var<storage, read> x: array<Value>;               // (R, B, T, F)
@group(0) @binding(8) var<storage, read> x2: array<Value>;              // (R, B, T, F)
@group(0) @binding(9) var<storage, read_write> y: array<Value>;         // (R, B, T, F)
@group(0) @binding(10) var<storage, read> targets: array<f32>;          // (R, B, K)
@group(0) @binding(11) var<storage, read> observed: array<f32>;         // (R, B, K)
@group(0) @binding(12) var<storage, read> targets2: array<f32>;         // (R, B, K)
@group(0) @binding(13) var<storage, read> observed2: array<f32>;        // (R, B, K)
@group(0) @binding(14) var<storage, read_write> y_targets: array<f32>;  // (R, B, K)
@group(0) @binding(15) var<storage, read_write> y_observed: array<f32>; // (R, B, K)

const STREAM = 0x313Fu;
const TURN = 524288u; // angles in a full turn
const LARGEST = 80.0; // safe bound of exponents in f32

// From two uniform words: Student's t with 2 alpha degrees of freedom by Bailey's polar method, transformed to
// Beta(alpha, alpha).
fn beta(words: vec2<u32>) -> f32 {
    let v = (f32(words.x >> 9u) + 0.5) / 8388608.0; // 1 - u, all bits of which f32 holds
    let e = min(-v * log_ratio(v) / p.alpha, LARGEST);
    // u^(-1 / alpha) - 1; for small e as a series.
    let w = select(exp(e) - 1.0, e * (1.0 + e * (0.5 + e * (1.0 / 6.0 + e / 24.0))), e < 0.03125);
    let c = cis(words.y % TURN, TURN).x;
    let q = w * c * c;
    let d = 1.0 / (1.0 + q);
    // The distance from the nearer end, without the difference of near numbers.
    let near = 0.5 * d / (1.0 + sqrt(q * d));
    return select(near, 1.0 - near, c >= 0.0);
}

@compute @workgroup_size(64)
fn mixup_forward_draw(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                      @builtin(local_invocation_index) local_index: u32) {
    let b = group_index(id, count) * 64u + local_index;
    if b >= p.b { return; }
    let now = clock[id.z * p.clock_stride];
    let at = id.z * p.b + b;
    let n = lengths[at];
    let n2 = lengths2[at];
    var weight = beta(philox(vec4(b, 0u, now.z, STREAM), now.xy).xy);
    // A clip of length 0 has weight 0.
    if n2 == 0u { weight = 1.0; }
    if n == 0u { weight = 0.0; }
    y_lambda[at] = weight;
    y_lengths[at] = max(n, n2);
}

@compute @workgroup_size(64)
fn mixup_forward_features(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.b * p.t * p.f { return; }
    let clip = id.z * p.b + i / (p.t * p.f);
    let position = i / p.f % p.t * p.positions;
    let at = id.z * p.b * p.t * p.f + i;
    var v = Value(0.0);
    if position < lengths[clip] { v = lambda[clip] * x[at]; }
    if position < lengths2[clip] { v += (1.0 - lambda[clip]) * x2[at]; }
    y[at] = v;
}

@compute @workgroup_size(64)
fn mixup_forward_labels(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.b * p.classes { return; }
    let weight = lambda[id.z * p.b + i / p.classes];
    let at = id.z * p.b * p.classes + i;
    let known = observed[at] != 0.0;
    let known2 = observed2[at] != 0.0;
    var label = vec2(0.0); // target, observed
    if known && known2 {
        label = vec2(weight * targets[at] + (1.0 - weight) * targets2[at], 1.0);
    } else if known && weight > 0.5 {
        label = vec2(targets[at], 1.0);
    } else if known2 && weight < 0.5 {
        label = vec2(targets2[at], 1.0);
    }
    y_targets[at] = label.x;
    y_observed[at] = label.y;
}
