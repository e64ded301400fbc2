// One step of gradient descent for all parameters of all replicas, in place.
#import grid

struct Params {
    quads: u32,       // P / 4
    w_stride: u32,    // strides in vec4
    grad_stride: u32,
    lr: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> grad: array<vec4<f32>>;    // (P) every grad_stride
@group(0) @binding(2) var<storage, read_write> w: array<vec4<f32>>; // (P) every w_stride

@compute @workgroup_size(64)
fn sgd_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.quads { return; }
    let at = id.z * p.w_stride + i;
    w[at] -= p.lr * (grad[id.z * p.grad_stride + i] + p.weight_decay * w[at]);
}
