// Mean of x (B, T, F) over the valid instances t < n = lengths[b].
//
//   forward    y (B, F) = 1/n sum of x over t < n; 0 for n = 0; with SKIP of x + skip
//   backward   grad_x (B, T, F) = t < n ? grad_y / n : 0
#import value
#import grid

struct Params {
    b: u32,
    t: u32,
    f: u32,              // in Values
    lengths_stride: u32, // elements between replicas
    slice: u32,          // instances per invocation of the backward pass, and of sums in slices
    accumulate: u32,     // add to grad_x
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Value>;            // (R, B, T, F)
@group(0) @binding(2) var<storage, read> lengths: array<u32>;        // (B) every lengths_stride
@group(0) @binding(3) var<storage, read_write> y: array<Value>;      // (R, B, F)
@group(0) @binding(4) var<storage, read> grad_y: array<Value>;       // (R, B, F)
@group(0) @binding(5) var<storage, read_write> grad_x: array<Value>; // (R, B, T, F)
@group(0) @binding(6) var<storage, read_write> partial: array<Value>; // (R, B, slices, F): sums of slices of T
#ifdef SKIP
@group(0) @binding(7) var<storage, read> skip: array<Value>;         // (R, B, T, F)

fn term(at: u32) -> Value { return x[at] + skip[at]; }
#else
fn term(at: u32) -> Value { return x[at]; }
#endif

const WORKGROUP_SIZE = 64u;

fn valid(replica: u32, b: u32) -> u32 { return min(lengths[replica * p.lengths_stride + b], p.t); }

// One invocation per clip and Value.
@compute @workgroup_size(64)
fn mean_pool_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                     @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.b * p.f { return; }
    let n = valid(id.z, i / p.f);
    let x0 = (id.z * p.b + i / p.f) * p.t * p.f + i % p.f;
    var sum = Value(0.0);
    for (var t = 0u; t < n; t++) { sum += term(x0 + t * p.f); }
    y[id.z * p.b * p.f + i] = sum / f32(max(n, 1u));
}

// For many instances: partial sums of slices, then their mean.
@compute @workgroup_size(64)
fn mean_pool_forward_slices(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    let slices = (p.t + p.slice - 1u) / p.slice;
    if i >= p.b * slices * p.f { return; }
    let b = i / (slices * p.f);
    let first = i / p.f % slices * p.slice;
    let x0 = (id.z * p.b + b) * p.t * p.f + i % p.f;
    var sum = Value(0.0);
    for (var t = first; t < min(first + p.slice, valid(id.z, b)); t++) { sum += term(x0 + t * p.f); }
    partial[id.z * p.b * slices * p.f + i] = sum;
}

@compute @workgroup_size(64)
fn mean_pool_forward_join(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.b * p.f { return; }
    let slices = (p.t + p.slice - 1u) / p.slice;
    let first = (id.z * p.b + i / p.f) * slices * p.f + i % p.f;
    var sum = Value(0.0);
    for (var s = 0u; s < slices; s++) { sum += partial[first + s * p.f]; }
    y[id.z * p.b * p.f + i] = sum / f32(max(valid(id.z, i / p.f), 1u));
}

#ifndef SKIP
// One invocation per clip, slice of instances and Value.
@compute @workgroup_size(64)
fn mean_pool_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    let slices = (p.t + p.slice - 1u) / p.slice;
    if i >= p.b * slices * p.f { return; }
    let b = i / (slices * p.f);
    let c = i % p.f;
    let n = valid(id.z, b);
    let g = grad_y[(id.z * p.b + b) * p.f + c] / f32(max(n, 1u));
    let first = i / p.f % slices * p.slice;
    for (var t = first; t < min(first + p.slice, p.t); t++) {
        let at = ((id.z * p.b + b) * p.t + t) * p.f + c;
        let v = select(Value(0.0), g, t < n);
        if p.accumulate == 1u { grad_x[at] += v; } else { grad_x[at] = v; }
    }
}
#endif
