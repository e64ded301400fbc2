// y = x^2, and its gradient 2 x grad_y. One element per invocation.
#import grid

struct Params {
    len: u32, // all replicas
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> grad_y: array<f32>;
@group(0) @binding(4) var<storage, read_write> grad_x: array<f32>;

@compute @workgroup_size(64)
fn square_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * 64u + worker;
    if i < p.len { y[i] = x[i] * x[i]; }
}

@compute @workgroup_size(64)
fn square_backward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                   @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * 64u + worker;
    if i >= p.len { return; }
    let g = 2.0 * x[i] * grad_y[i];
    if p.accumulate == 1u { grad_x[i] += g; } else { grad_x[i] = g; }
}
