// Attention pooling of instance probabilities over the valid instances t < lengths[b], for logits att, cla (B, T, K):
//
//   a = clamp(sigmoid(att), 1e-7, 1 - 1e-7)   w = a / sum_t a   c = sigmoid(cla)   s = sum_t w c   y = clamp(s, 0, 1)
//   backward   ds = dy where 0 < s < 1, else 0;  dcla = ds w c (1 - c);  datt = ds (c - s) w (1 - a), 0 where a is clamped
#import grid

struct Params {
    b: u32,
    t: u32,
    k: u32,
    lengths_stride: u32, // elements from one replica to the next
    slice: u32,          // backward: instances per invocation
    accumulate: u32,     // add to what the gradient holds
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> att: array<f32>;                  // (R, B, T, K)
@group(0) @binding(2) var<storage, read> cla: array<f32>;                  // (R, B, T, K)
@group(0) @binding(3) var<storage, read> lengths: array<u32>;              // (B) every lengths_stride
@group(0) @binding(4) var<storage, read_write> y: array<f32>;              // (R, B, K)
@group(0) @binding(5) var<storage, read_write> weights: array<f32>;        // (R, B, T, K)
@group(0) @binding(6) var<storage, read_write> saved_total: array<f32>;    // (R, B, K): sum of a, 1 for no instances
@group(0) @binding(7) var<storage, read> dy: array<f32>;                   // (R, B, K)
@group(0) @binding(8) var<storage, read_write> datt: array<f32>;           // (R, B, T, K)
@group(0) @binding(9) var<storage, read_write> dcla: array<f32>;           // (R, B, T, K)

const WORKERS = 64u;
const LOW = 1e-7;
const HIGH = 1.0 - 1e-7;

fn valid(replica: u32, b: u32) -> u32 { return min(lengths[replica * p.lengths_stride + b], p.t); }

// (sigmoid(v), 1 - sigmoid(v)), both to full relative precision and without overflow.
fn sigmoid(v: f32) -> vec2<f32> {
    let e = exp(-abs(v));
    let s = vec2(1.0, e) / (1.0 + e);
    return select(s.yx, s, v >= 0.0);
}

// One invocation per clip and class.
@compute @workgroup_size(64)
fn attention_pool_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * WORKERS + worker;
    if i >= p.b * p.k { return; }
    let n = valid(id.z, i / p.k);
    let first = (id.z * p.b + i / p.k) * p.t * p.k + i % p.k;
    var total = 0.0;
    var sum = 0.0;
    for (var t = 0u; t < n; t++) {
        let a = clamp(sigmoid(att[first + t * p.k]).x, LOW, HIGH);
        total += a;
        sum += a * sigmoid(cla[first + t * p.k]).x;
    }
    if n == 0u { total = 1.0; }
    let at = id.z * p.b * p.k + i;
    y[at] = clamp(sum / total, 0.0, 1.0);
    saved_total[at] = total;
    for (var t = 0u; t < n; t++) { weights[first + t * p.k] = clamp(sigmoid(att[first + t * p.k]).x, LOW, HIGH) / total; }
    for (var t = n; t < p.t; t++) { weights[first + t * p.k] = 0.0; }
}

// Where an invocation of a backward kernel starts and what it needs to know of its clip and class.
struct Work {
    first: u32, // element of the first of its instances
    count: u32, // its instances
    valid: u32, // those of them that are no padding
    ds: f32,
    s: f32,
    total: f32,
}

// Number `i` of the invocations, one per clip, slice of instances and class.
fn work(replica: u32, i: u32, slices: u32) -> Work {
    let row = replica * p.b + i / (slices * p.k);
    let t = i / p.k % slices * p.slice;
    let count = min(p.slice, p.t - t);
    let n = valid(replica, i / (slices * p.k));
    let at = row * p.k + i % p.k;
    let s = y[at];
    let ds = select(0.0, dy[at], s > 0.0 && s < 1.0);
    return Work((row * p.t + t) * p.k + i % p.k, count, min(count, max(n, t) - t), ds, s, saved_total[at]);
}

@compute @workgroup_size(64)
fn attention_pool_backward_att(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                               @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * WORKERS + worker;
    let slices = (p.t + p.slice - 1u) / p.slice;
    if i >= p.b * slices * p.k { return; }
    let w = work(id.z, i, slices);
    for (var t = 0u; t < w.count; t++) {
        let at = w.first + t * p.k;
        var v = 0.0;
        if t < w.valid {
            let a = sigmoid(att[at]);
            let inside = a.x >= LOW && a.x <= HIGH;
            v = select(0.0, w.ds * (sigmoid(cla[at]).x - w.s) * a.x * a.y / w.total, inside);
        }
        if p.accumulate == 1u { datt[at] += v; } else { datt[at] = v; }
    }
}

@compute @workgroup_size(64)
fn attention_pool_backward_cla(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                               @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * WORKERS + worker;
    let slices = (p.t + p.slice - 1u) / p.slice;
    if i >= p.b * slices * p.k { return; }
    let w = work(id.z, i, slices);
    for (var t = 0u; t < w.count; t++) {
        let at = w.first + t * p.k;
        var v = 0.0;
        if t < w.valid {
            let c = sigmoid(cla[at]);
            v = w.ds * clamp(sigmoid(att[at]).x, LOW, HIGH) * c.x * c.y / w.total;
        }
        if p.accumulate == 1u { dcla[at] += v; } else { dcla[at] = v; }
    }
}
