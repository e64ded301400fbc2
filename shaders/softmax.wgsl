// Softmax of rows of K values. One workgroup per row.
//
//   forward          y  = exp(x - max) / sum exp(x - max)
//   backward input   grad_x = y (grad_y - sum y grad_y)
#import grid
#import value
#import nan

struct Params {
    rows: u32,       // of all replicas
    k: u32,
    accumulate: u32, // add to what grad_x holds
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;            // (R, ..., K)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;      // (R, ..., K)
@group(0) @binding(3) var<storage, read> saved_y: array<f32>;      // (R, ..., K)
@group(0) @binding(4) var<storage, read> grad_y: array<f32>;       // (R, ..., K)
@group(0) @binding(5) var<storage, read_write> grad_x: array<f32>; // (R, ..., K)

const WORKERS = 64u;
const LOWEST = -3.40282346e38;

var<workgroup> shares: array<f32, 64>;

// The sum over the workers, in one order.
fn add_up(worker: u32, share: f32) -> f32 {
    shares[worker] = share;
    for (var step = WORKERS / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if worker < step { shares[worker] += shares[worker + step]; }
    }
    workgroupBarrier();
    return shares[0];
}

fn largest(worker: u32, share: f32) -> f32 {
    shares[worker] = share;
    for (var step = WORKERS / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if worker < step { shares[worker] = max(shares[worker], shares[worker + step]); }
    }
    workgroupBarrier();
    return shares[0];
}

// e^d for d = x - max. A NaN, and the inf - inf of an infinite x, stay NaN and reach the whole row through its sum.
fn grown(d: f32) -> f32 { return keep_nan(d, exp(d)); }

@compute @workgroup_size(64)
fn softmax_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                   @builtin(local_invocation_index) worker: u32) {
    let row = group_index(id, count);
    if row >= p.rows { return; }
    let first = row * p.k;
    var top = LOWEST;
    for (var i = worker; i < p.k; i += WORKERS) { top = max(top, x[first + i]); }
    top = largest(worker, top);
    // All have read the largest before the sums take its place.
    workgroupBarrier();
    var sum = 0.0;
    for (var i = worker; i < p.k; i += WORKERS) { sum += grown(x[first + i] - top); }
    sum = add_up(worker, sum);
    for (var i = worker; i < p.k; i += WORKERS) { y[first + i] = grown(x[first + i] - top) / sum; }
}

@compute @workgroup_size(64)
fn softmax_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) worker: u32) {
    let row = group_index(id, count);
    if row >= p.rows { return; }
    let first = row * p.k;
    var mean = 0.0;
    for (var i = worker; i < p.k; i += WORKERS) { mean += saved_y[first + i] * grad_y[first + i]; }
    mean = add_up(worker, mean);
    for (var i = worker; i < p.k; i += WORKERS) {
        var d = saved_y[first + i] * (grad_y[first + i] - mean);
        if p.accumulate == 1u { d += grad_x[first + i]; }
        grad_x[first + i] = d;
    }
}
