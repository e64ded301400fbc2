// The gradient of y = max(0, v) with respect to v: g = grad_y where y > 0, else 0.
#import grid

struct Params {
    len: u32, // elements
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;              // (len)
@group(0) @binding(2) var<storage, read> grad_y: array<f32>;         // (len)
@group(0) @binding(3) var<storage, read_write> g: array<f32>;        // (len)
@group(0) @binding(4) var<storage, read> y4: array<vec4<f32>>;       // (len / 4)
@group(0) @binding(5) var<storage, read> grad_y4: array<vec4<f32>>;  // (len / 4)
@group(0) @binding(6) var<storage, read_write> g4: array<vec4<f32>>; // (len / 4)

@compute @workgroup_size(256)
fn relu_gradient_scalar(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * 256u + worker;
    if i < p.len { g[i] = select(0.0, grad_y[i], y[i] > 0.0); }
}

@compute @workgroup_size(256)
fn relu_gradient_vec4(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                      @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * 256u + worker;
    if i < p.len / 4u { g4[i] = select(vec4(0.0), grad_y4[i], y4[i] > vec4(0.0)); }
}
