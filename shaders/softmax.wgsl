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
    accumulate: u32, // add to grad_x
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;            // (R, ..., K)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;      // (R, ..., K)
@group(0) @binding(3) var<storage, read> saved_y: array<f32>;      // (R, ..., K)
@group(0) @binding(4) var<storage, read> grad_y: array<f32>;       // (R, ..., K)
@group(0) @binding(5) var<storage, read_write> grad_x: array<f32>; // (R, ..., K)

const WORKGROUP_SIZE = 64u;
const LOWEST = -3.40282346e38;

var<workgroup> values: array<f32, 64>;

// The sum over the workgroup, in a fixed order.
fn add_up(local_index: u32, v: f32) -> f32 {
    values[local_index] = v;
    for (var step = WORKGROUP_SIZE / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if local_index < step { values[local_index] += values[local_index + step]; }
    }
    workgroupBarrier();
    return values[0];
}

fn largest(local_index: u32, v: f32) -> f32 {
    values[local_index] = v;
    for (var step = WORKGROUP_SIZE / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if local_index < step { values[local_index] = max(values[local_index], values[local_index + step]); }
    }
    workgroupBarrier();
    return values[0];
}

// e^d for d = x - max. A NaN, and the inf - inf of an infinite x, stay NaN and reach the whole row through its sum.
fn shifted_exp(d: f32) -> f32 { return keep_nan(d, exp(d)); }

@compute @workgroup_size(64)
fn softmax_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                   @builtin(local_invocation_index) local_index: u32) {
    let row = group_index(id, count);
    if row >= p.rows { return; }
    let first = row * p.k;
    var top = LOWEST;
    for (var i = local_index; i < p.k; i += WORKGROUP_SIZE) { top = max(top, x[first + i]); }
    top = largest(local_index, top);
    // All have read the maximum before the sums overwrite it.
    workgroupBarrier();
    var sum = 0.0;
    for (var i = local_index; i < p.k; i += WORKGROUP_SIZE) { sum += shifted_exp(x[first + i] - top); }
    sum = add_up(local_index, sum);
    for (var i = local_index; i < p.k; i += WORKGROUP_SIZE) { y[first + i] = shifted_exp(x[first + i] - top) / sum; }
}

@compute @workgroup_size(64)
fn softmax_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let row = group_index(id, count);
    if row >= p.rows { return; }
    let first = row * p.k;
    var mean = 0.0;
    for (var i = local_index; i < p.k; i += WORKGROUP_SIZE) { mean += saved_y[first + i] * grad_y[first + i]; }
    mean = add_up(local_index, mean);
    for (var i = local_index; i < p.k; i += WORKGROUP_SIZE) {
        var d = saved_y[first + i] * (grad_y[first + i] - mean);
        if p.accumulate == 1u { d += grad_x[first + i]; }
        grad_x[first + i] = d;
    }
}
