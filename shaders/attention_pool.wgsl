// Attention pooling of instance probabilities over the valid instances t < lengths[b], for logits (B, T, 2 K), att and
// then cla of each instance:
//
//   a = clamp(sigmoid(att), 1e-7, 1 - 1e-7)   w = a / sum_t a   c = sigmoid(cla)   s = sum_t w c   y = clamp(s, 0, 1)
//   backward   ds = grad_y where 0 < s < 1, else 0;  grad_cla = ds w c (1 - c);  grad_att = ds (c - s) w (1 - a), 0
//   where a is clamped
//
// Or by softmax: a = exp(att - max_t att), no clamp;  grad_att = ds (c - s) w.
//
// With BCE both passes in one kernel, for a y that only a masked binary cross-entropy reads.
#ifdef SUBGROUPS
enable subgroups;
#endif
#import value
#import grid
#import lanes
#import nan
#import masked_bce

struct Params {
    mean: Mean,          // of the loss
    b: u32,
    t: u32,
    k: u32,              // in Values
    classes: u32,        // K
    lengths_stride: u32, // elements between replicas
    slice: u32,          // instances per invocation of the backward pass, and of sums in slices
    accumulate: u32,     // add to the gradient
    softmax: u32,        // weights by softmax instead of sigmoid
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<Value>;            // (R, B, T, 2 K)
@group(0) @binding(3) var<storage, read> lengths: array<u32>;             // (B) every lengths_stride
@group(0) @binding(4) var<storage, read_write> y: array<Value>;           // (R, B, K)
@group(0) @binding(5) var<storage, read_write> weights: array<Value>;     // (R, B, T, K)
// (R, B, K): sum of a, 1 for no instances; by softmax max_t att + ln(sum of a)
@group(0) @binding(6) var<storage, read_write> saved_total: array<Value>;
@group(0) @binding(7) var<storage, read> grad_y: array<Value>;            // (R, B, K)
@group(0) @binding(8) var<storage, read_write> grad_logits: array<Value>; // (R, B, T, 2 K)
// (R, B, slices, 3, K): level, total and sum of slices of T
@group(0) @binding(10) var<storage, read_write> partial: array<Value>;
@group(0) @binding(13) var<storage, read> grad_loss: array<f32>;          // (R)

const LANES = 64u;
const LOW = 1e-7;
const HIGH = 1.0 - 1e-7;

fn valid(replica: u32, b: u32) -> u32 { return min(lengths[replica * p.lengths_stride + b], p.t); }

fn sigmoid(v: Value) -> Value {
    let e = exp(-abs(v));
    return select(e, Value(1.0), v >= Value(0.0)) / (1.0 + e);
}

// sigmoid(v) (1 - sigmoid(v)), precise where either is small.
fn sigmoid_slope(v: Value) -> Value {
    let e = exp(-abs(v));
    return e / ((1.0 + e) * (1.0 + e));
}

// a of a logit; `level` is the largest logit, for softmax.
fn attention(v: Value, level: Value) -> Value {
    if p.softmax == 1u { return exp(v - level); }
    return keep_nan(v, clamp(sigmoid(v), Value(LOW), Value(HIGH)));
}

// att of an instance and Value; cla is K further. `row`: of the clip, counted over all replicas.
fn logit_at(row: u32, t: u32, class_value: u32) -> u32 { return (row * p.t + t) * 2u * p.k + class_value; }

// Partial sums of some instances, for their weights and the probability.
struct Pool {
    level: Value, // by softmax the largest logit, else 0
    total: Value, // sum of a
    sum: Value,   // sum of a c
}

// Of the instances begin <= t < end of a clip.
fn pool(row: u32, class_value: u32, begin: u32, end: u32) -> Pool {
    var level = Value(0.0);
    if p.softmax == 1u && begin < end {
        level = logits[logit_at(row, begin, class_value)];
        for (var t = begin + 1u; t < end; t++) { level = max(level, logits[logit_at(row, t, class_value)]); }
    }
    var total = Value(0.0);
    var sum = Value(0.0);
    for (var t = begin; t < end; t++) {
        let at = logit_at(row, t, class_value);
        let a = attention(logits[at], level);
        total += a;
        sum += a * sigmoid(logits[at + p.k]);
    }
    return Pool(level, total, sum);
}

// What n instances give.
struct Pooled {
    y: Value,
    total: Value, // sum of a, 1 for no instances
    saved: Value, // as saved_total
}

fn pooled(all: Pool, n: u32) -> Pooled {
    let total = select(all.total, Value(1.0), n == 0u);
    let mean = all.sum / total;
    var saved = total;
    if p.softmax == 1u { saved = all.level + log(total); }
    return Pooled(keep_nan(mean, clamp(mean, Value(0.0), Value(1.0))), total, saved);
}

#ifndef BCE
// Stores the probability for clip and Value `at`, counted over all replicas, and the sums for the weights. Returns the
// sum of a.
fn store(at: u32, all: Pool, n: u32) -> Value {
    let of_clip = pooled(all, n);
    y[at] = of_clip.y;
    saved_total[at] = of_clip.saved;
    return of_clip.total;
}

// One invocation per clip and Value.
@compute @workgroup_size(64)
fn attention_pool_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * LANES + local_index;
    if i >= p.b * p.k { return; }
    let n = valid(id.z, i / p.k);
    let row = id.z * p.b + i / p.k;
    let first = row * p.t * p.k + i % p.k;
    let all = pool(row, i % p.k, 0u, n);
    let total = store(id.z * p.b * p.k + i, all, n);
    for (var t = 0u; t < n; t++) {
        weights[first + t * p.k] = attention(logits[logit_at(row, t, i % p.k)], all.level) / total;
    }
    for (var t = n; t < p.t; t++) { weights[first + t * p.k] = Value(0.0); }
}

// For many instances: partial sums of slices, their reduction, then the weights.
@compute @workgroup_size(64)
fn attention_pool_forward_slices(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                 @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * LANES + local_index;
    let slices = (p.t + p.slice - 1u) / p.slice;
    if i >= p.b * slices * p.k { return; }
    let b = i / (slices * p.k);
    let begin = i / p.k % slices * p.slice;
    let some = pool(id.z * p.b + b, i % p.k, begin, min(begin + p.slice, valid(id.z, b)));
    let at = id.z * p.b * slices * 3u * p.k + i / p.k * 3u * p.k + i % p.k;
    partial[at] = some.level;
    partial[at + p.k] = some.total;
    partial[at + 2u * p.k] = some.sum;
}

@compute @workgroup_size(64)
fn attention_pool_forward_join(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                               @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * LANES + local_index;
    if i >= p.b * p.k { return; }
    let n = valid(id.z, i / p.k);
    let slices = (p.t + p.slice - 1u) / p.slice;
    let first = (id.z * p.b + i / p.k) * slices * 3u * p.k + i % p.k;
    // Slices of padding only contribute nothing.
    let used = (n + p.slice - 1u) / p.slice;
    var all = Pool(Value(0.0), Value(0.0), Value(0.0));
    if used > 0u { all.level = partial[first]; }
    for (var s = 1u; s < used; s++) { all.level = max(all.level, partial[first + s * 3u * p.k]); }
    for (var s = 0u; s < used; s++) {
        let at = first + s * 3u * p.k;
        let factor = exp(partial[at] - all.level);
        all.total += partial[at + p.k] * factor;
        all.sum += partial[at + 2u * p.k] * factor;
    }
    store(id.z * p.b * p.k + i, all, n);
}

@compute @workgroup_size(64)
fn attention_pool_forward_weights(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                  @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * LANES + local_index;
    if i >= p.b * p.t * p.k { return; }
    let b = i / (p.t * p.k);
    let saved = saved_total[(id.z * p.b + b) * p.k + i % p.k];
    var w = attention(logits[logit_at(id.z * p.b + b, i / p.k % p.t, i % p.k)], saved);
    if p.softmax == 0u { w /= saved; }
    weights[id.z * p.b * p.t * p.k + i] = select(Value(0.0), w, i / p.k % p.t < valid(id.z, b));
}
#endif

// The gradients of a Value of the logits of the instances begin <= t < end of a clip with n valid ones, from that of
// its probability s.
fn put_gradients(row: u32, class_value: u32, begin: u32, end: u32, n: u32, s: Value, saved: Value, grad: Value) {
    let ds = select(Value(0.0), grad, (s > Value(0.0)) & (s < Value(1.0)));
    for (var t = begin; t < end; t++) {
        let at = logit_at(row, t, class_value);
        var to_att = Value(0.0);
        var to_cla = Value(0.0);
        if t < n {
            let att_logit = logits[at];
            let cla_logit = logits[at + p.k];
            let above = ds * (sigmoid(cla_logit) - s);
            if p.softmax == 1u {
                let w = attention(att_logit, saved);
                to_att = above * w;
                to_cla = ds * w * sigmoid_slope(cla_logit);
            } else {
                let a = sigmoid(att_logit);
                let free = (a >= Value(LOW)) & (a <= Value(HIGH));
                to_att = select(Value(0.0), above * sigmoid_slope(att_logit) / saved, free);
                to_cla = ds * attention(att_logit, saved) / saved * sigmoid_slope(cla_logit);
            }
        }
        if p.accumulate == 1u {
            to_att += grad_logits[at];
            to_cla += grad_logits[at + p.k];
        }
        grad_logits[at] = to_att;
        grad_logits[at + p.k] = to_cla;
    }
}

#ifdef BCE
#ifdef VEC4
fn known_in(labels: Value) -> f32 { return dot(select(Value(0.0), Value(1.0), labels != Value(0.0)), Value(1.0)); }
#else
fn known_in(labels: Value) -> f32 { return select(0.0, 1.0, labels != 0.0); }
#endif

// Weight and denominator of a clip.
fn weighed(replica: u32, b: u32) -> vec2<f32> {
    if valid(replica, b) == 0u { return vec2(0.0); }
    let first = (replica * p.b + b) * p.k;
    var known = 0.0;
    for (var c = 0u; c < p.k; c++) { known += known_in(observed[first + c]); }
    return weigh(p.mean, known, f32(p.classes));
}

// One invocation per clip and Value. Every workgroup counts the known labels of the batch.
@compute @workgroup_size(64)
fn attention_pool_forward_backward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                   @builtin(local_invocation_index) local_index: u32) {
    var some = 0.0;
    for (var b = local_index; b < p.b; b += LANES) { some += weighed(id.z, b).y; }
    let denominator = sum_of_lanes(local_index, vec2(some, 0.0)).x;
    let i = group_index(id, count) * LANES + local_index;
    if i >= p.b * p.k { return; }
    let row = id.z * p.b + i / p.k;
    let at = row * p.k + i % p.k;
    let n = valid(id.z, i / p.k);
    let of_clip = pooled(pool(row, i % p.k, 0u, n), n);
    y[at] = of_clip.y;
    var grad = Value(0.0);
    if denominator > 0.0 {
        let slope = slope_of(of_clip.y, targets[at], grad_loss[id.z] * weighed(id.z, i / p.k).x / denominator);
        grad = select(Value(0.0), slope, observed[at] != Value(0.0));
    }
    put_gradients(row, i % p.k, 0u, p.t, n, of_clip.y, of_clip.saved, grad);
}
#else
// One invocation per clip, slice of instances and Value.
@compute @workgroup_size(64)
fn attention_pool_backward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                           @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * LANES + local_index;
    let slices = (p.t + p.slice - 1u) / p.slice;
    if i >= p.b * slices * p.k { return; }
    let b = i / (slices * p.k);
    let row = id.z * p.b + b;
    let at = row * p.k + i % p.k;
    let first = i / p.k % slices * p.slice;
    let end = min(first + p.slice, p.t);
    put_gradients(row, i % p.k, first, end, valid(id.z, b), y[at], saved_total[at], grad_y[at]);
}
#endif
