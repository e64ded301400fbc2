// y = a + b, and for the gradients copies of grad_y.
//
// One invocation per vec4; the `_ragged` twins take one element each, for tensors whose length is no multiple of 4.
#import grid

struct Params {
    len: u32, // all replicas
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> grad_x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> a_ragged: array<f32>;
@group(0) @binding(7) var<storage, read> b_ragged: array<f32>;
@group(0) @binding(8) var<storage, read_write> y_ragged: array<f32>;
@group(0) @binding(9) var<storage, read> grad_y_ragged: array<f32>;
@group(0) @binding(10) var<storage, read_write> grad_x_ragged: array<f32>;

@compute @workgroup_size(64)
fn add_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * 64u + worker;
    if i < p.len / 4u { y[i] = a[i] + b[i]; }
}

@compute @workgroup_size(64)
fn add_forward_ragged(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                      @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * 64u + worker;
    if i < p.len { y_ragged[i] = a_ragged[i] + b_ragged[i]; }
}

@compute @workgroup_size(64)
fn add_backward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * 64u + worker;
    if i >= p.len / 4u { return; }
    if p.accumulate == 1u { grad_x[i] += grad_y[i]; } else { grad_x[i] = grad_y[i]; }
}

@compute @workgroup_size(64)
fn add_backward_ragged(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                       @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * 64u + worker;
    if i >= p.len { return; }
    if p.accumulate == 1u { grad_x_ragged[i] += grad_y_ragged[i]; } else { grad_x_ragged[i] = grad_y_ragged[i]; }
}
