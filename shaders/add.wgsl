// y = a + b, and for the gradients copies of grad_y. One invocation per Value; VEC4 for tensors whose length is a
// multiple of 4.
#import grid
#import value

struct Params {
    len: u32, // in Values, all replicas
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<Value>;
@group(0) @binding(2) var<storage, read> b: array<Value>;
@group(0) @binding(3) var<storage, read_write> y: array<Value>;
@group(0) @binding(4) var<storage, read> grad_y: array<Value>;
@group(0) @binding(5) var<storage, read_write> grad_x: array<Value>;

@compute @workgroup_size(64)
fn add_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i < p.len { y[i] = a[i] + b[i]; }
}

@compute @workgroup_size(64)
fn add_backward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.len { return; }
    if p.accumulate == 1u { grad_x[i] += grad_y[i]; } else { grad_x[i] = grad_y[i]; }
}
