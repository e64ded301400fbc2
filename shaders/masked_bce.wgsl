// Binary cross-entropy over the known labels of a batch.
//
//   forward         y = sum_b weight_b sum_k observed_bk bce(x_bk, target_bk) / sum_b denominator_b
//   backward input  grad_x = grad_y weight_b / sum denominator (x - target) / (x (1 - x)) where observed, else 0
//
// Focal: bce and its slope become
//   -(t a (1 - x)^c log x + (1 - t) (1 - a) x^c log(1 - x)), for a = balance_k, c = focusing.
//
// Weights and denominators: see shared/masked_bce.wgsl.
#ifdef SUBGROUPS
enable subgroups;
#endif
#import grid
#import lanes
#import log_ratio
#import masked_bce

struct Params {
    mean: Mean,
    batch: u32,       // B
    classes: u32,     // K
    accumulate: u32,
    focusing: f32,
    balance_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                  // (R, B, K), probabilities
@group(0) @binding(4) var<storage, read> lengths: array<u32>;            // (R, B)
@group(0) @binding(5) var<storage, read_write> y: array<f32>;            // (R)
@group(0) @binding(6) var<storage, read_write> parts: array<vec2<f32>>;  // (R), numerator and denominator of y
@group(0) @binding(7) var<storage, read_write> saved_weight: array<f32>; // (R, B)
@group(0) @binding(8) var<storage, read> grad_y: array<f32>;             // (R)
@group(0) @binding(9) var<storage, read_write> grad_x: array<f32>;       // (R, B, K)
#ifdef FOCAL
@group(0) @binding(10) var<storage, read> balance: array<f32>;           // (K) every balance_stride
#endif

const LANES = 256u;
// Below it logarithms are clamped: f32 has nothing normal there.
const SMALLEST = 1.1754944e-38;

fn clamped_log(v: f32) -> f32 {
    if v < SMALLEST { return -100.0; }
    return max(log(v), -100.0);
}

#ifdef FOCAL
// v^focusing for v in 0 .. 1; 0^0 is 1.
fn focused(v: f32) -> f32 {
    if p.focusing == 0.0 { return 1.0; }
    if v <= 0.0 { return 0.0; }
    return pow(v, p.focusing);
}

// Of class k. A value that is not finite is passed on as it is, since shader arithmetic may lose it.
fn bce(v: f32, t: f32, replica: u32, k: u32) -> f32 {
    if (bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u { return v; }
    let a = balance[replica * p.balance_stride + k];
    let present = t * a * focused(1.0 - v) * clamped_log(v);
    return -(present + (1.0 - t) * (1.0 - a) * focused(v) * clamped_log(1.0 - v));
}

fn clamped_ratio(v: f32) -> f32 {
    if v >= 1.0 { return -100.0 / v; }
    return log_ratio(v);
}

// Times `factor`.
fn slope_at(v: f32, t: f32, replica: u32, k: u32, factor: f32) -> f32 {
    let a = balance[replica * p.balance_stride + k];
    let w = 1.0 - v;
    let d = max(v * w, 1e-12);
    let present = t * a * focused(w) * (p.focusing * clamped_ratio(w) - w / d);
    return factor * (present + (1.0 - t) * (1.0 - a) * focused(v) * (v / d - p.focusing * clamped_ratio(v)));
}
#else
fn bce(v: f32, t: f32, replica: u32, k: u32) -> f32 {
    if (bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u { return v; }
    return -(t * clamped_log(v) + (1.0 - t) * clamped_log(1.0 - v));
}

fn slope_at(v: f32, t: f32, replica: u32, k: u32, factor: f32) -> f32 { return slope_of(v, t, factor); }
#endif

// Of a clip: the loss of its known labels, their weight, and its part of the denominator.
struct Clip {
    loss: f32,
    weight: f32,
    denominator: f32,
}

fn clip_of(replica: u32, b: u32) -> Clip {
    let clip = replica * p.batch + b;
    var loss = 0.0;
    var known = 0.0;
    if lengths[clip] == 0u { return Clip(0.0, 0.0, 0.0); }
    for (var k = 0u; k < p.classes; k++) {
        let at = clip * p.classes + k;
        if observed[at] != 0.0 {
            loss += bce(x[at], targets[at], replica, k);
            known += 1.0;
        }
    }
    let weighed = weigh(p.mean, known, f32(p.classes));
    return Clip(loss, weighed.x, weighed.y);
}

// Of the whole batch, from the parts of the invocations, numerator and denominator. Returns the denominator.
fn finish(replica: u32, local_index: u32, part: vec2<f32>) -> f32 {
    let all = sum_of_lanes(local_index, part);
    if local_index == 0u {
        parts[replica] = all;
        var loss = 0.0;
        if all.y > 0.0 { loss = all.x / all.y; }
        y[replica] = loss;
    }
    return all.y;
}

@compute @workgroup_size(256)
fn masked_bce_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local_index: u32) {
    var total = vec2(0.0);
    for (var b = local_index; b < p.batch; b += LANES) {
        let clip = clip_of(id.z, b);
        saved_weight[id.z * p.batch + b] = clip.weight;
        total += vec2(clip.weight * clip.loss, clip.denominator);
    }
    finish(id.z, local_index, total);
}

// The gradient of entry i, for a clip of this weight.
fn put_gradient(replica: u32, i: u32, weight: f32, denominator: f32) {
    let at = replica * p.batch * p.classes + i;
    var slope = 0.0;
    if observed[at] != 0.0 && denominator > 0.0 {
        slope = slope_at(x[at], targets[at], replica, i % p.classes, grad_y[replica] * weight / denominator);
    }
    if p.accumulate == 1u { slope += grad_x[at]; }
    grad_x[at] = slope;
}

@compute @workgroup_size(64)
fn masked_bce_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.batch * p.classes { return; }
    put_gradient(id.z, i, saved_weight[id.z * p.batch + i / p.classes], parts[id.z].y);
}

#ifndef FOCAL
var<workgroup> weights: array<f32, LANES>; // (B)

// Both, of at most as many clips as there are invocations.
@compute @workgroup_size(256)
fn masked_bce_forward_backward(@builtin(workgroup_id) id: vec3<u32>,
                               @builtin(local_invocation_index) local_index: u32) {
    var total = vec2(0.0);
    if local_index < p.batch {
        let clip = clip_of(id.z, local_index);
        weights[local_index] = clip.weight;
        total = vec2(clip.weight * clip.loss, clip.denominator);
    }
    let denominator = finish(id.z, local_index, total);
    for (var i = local_index; i < p.batch * p.classes; i += LANES) {
        put_gradient(id.z, i, weights[i / p.classes], denominator);
    }
}
#endif
