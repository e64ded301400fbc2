// Clips of one batch, some of them followed by a clip of another.
//
//   draw       y_lengths = lengths, for the chosen ones + lengths2
//   features   y (B, T + T2, F): the valid instances of x, then for the chosen ones those of x2, then 0
//   labels     of the chosen ones: known in both: max(t, t2); in one: that one's if at least 1/2; else unknown. Others
//   are unchanged
#import value
#import philox
#import grid

struct Params {
    b: u32,
    t: u32,
    t2: u32,
    f: u32,            // in Values
    classes: u32,      // K
    positions: u32,    // factor of the lengths
    clock_stride: u32, // in vec4
    threshold: u32,    // probability 2^24
}

@group(0) @binding(0) var<uniform> p: Params;
// (seed low, seed high, step, done) every clock_stride
@group(0) @binding(1) var<storage, read> clock: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> lengths: array<u32>;           // (R, B)
@group(0) @binding(3) var<storage, read> lengths2: array<u32>;          // (R, B)
@group(0) @binding(4) var<storage, read_write> y_lengths: array<u32>;   // (R, B)
@group(0) @binding(5) var<storage, read> joined: array<u32>;            // (R, B), y_lengths as drawn
@group(0) @binding(6) var<storage, read> x: array<Value>;               // (R, B, T, F)
@group(0) @binding(7) var<storage, read> x2: array<Value>;              // (R, B, T2, F)
@group(0) @binding(8) var<storage, read_write> y: array<Value>;         // (R, B, T + T2, F)
@group(0) @binding(9) var<storage, read> targets: array<f32>;           // (R, B, K)
@group(0) @binding(10) var<storage, read> observed: array<f32>;         // (R, B, K)
@group(0) @binding(11) var<storage, read> targets2: array<f32>;         // (R, B, K)
@group(0) @binding(12) var<storage, read> observed2: array<f32>;        // (R, B, K)
@group(0) @binding(13) var<storage, read_write> y_targets: array<f32>;  // (R, B, K)
@group(0) @binding(14) var<storage, read_write> y_observed: array<f32>; // (R, B, K)

const STREAM = 0xC0CA7u;

// Valid lengths of clip `at` of either batch.
fn valid(at: u32) -> u32 { return min(lengths[at], p.t * p.positions); }
fn valid2(at: u32) -> u32 { return min(lengths2[at], p.t2 * p.positions); }

@compute @workgroup_size(64)
fn concat_forward_draw(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                       @builtin(local_invocation_index) local_index: u32) {
    let b = group_index(id, count) * 64u + local_index;
    if b >= p.b { return; }
    let now = clock[id.z * p.clock_stride];
    let at = id.z * p.b + b;
    let word = philox(vec4(b, 0u, now.z, STREAM), now.xy).x;
    y_lengths[at] = valid(at) + select(0u, valid2(at), (word >> 8u) < p.threshold);
}

@compute @workgroup_size(64)
fn concat_forward_features(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                           @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    let instances = p.t + p.t2;
    if i >= p.b * instances * p.f { return; }
    let clip = id.z * p.b + i / (instances * p.f);
    let t = i / p.f % instances;
    let c = i % p.f;
    let first = valid(clip) / p.positions;
    var v = Value(0.0);
    if t < first {
        v = x[(clip * p.t + t) * p.f + c];
    } else if t < joined[clip] / p.positions {
        v = x2[(clip * p.t2 + t - first) * p.f + c];
    }
    y[id.z * p.b * instances * p.f + i] = v;
}

@compute @workgroup_size(64)
fn concat_forward_labels(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.b * p.classes { return; }
    let clip = id.z * p.b + i / p.classes;
    let at = id.z * p.b * p.classes + i;
    let known = observed[at] != 0.0;
    var label = select(vec2(0.0), vec2(targets[at], 1.0), known); // target, observed
    if joined[clip] > valid(clip) {
        let known2 = observed2[at] != 0.0;
        let most = max(select(0.0, targets[at], known), select(0.0, targets2[at], known2));
        let certain = (known && known2) || most >= 0.5;
        label = select(vec2(0.0), vec2(most, 1.0), certain);
    }
    y_targets[at] = label.x;
    y_observed[at] = label.y;
}
