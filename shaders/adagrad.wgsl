// One step of Adagrad for all parameters of all replicas, in place.
#import grid

struct Params {
    quads: u32,              // P / 4
    w_stride: u32,           // strides in vec4
    grad_stride: u32,
    accumulator_stride: u32,
    lr: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> grad: array<vec4<f32>>;              // (P) every grad_stride
@group(0) @binding(2) var<storage, read_write> w: array<vec4<f32>>;           // (P) every w_stride
@group(0) @binding(3) var<storage, read_write> accumulator: array<vec4<f32>>; // (P) every accumulator_stride

@compute @workgroup_size(64)
fn adagrad_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                   @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.quads { return; }
    let at_w = id.z * p.w_stride + i;
    let at = id.z * p.accumulator_stride + i;
    let slope = grad[id.z * p.grad_stride + i];
    let sum = accumulator[at] + slope * slope;
    accumulator[at] = sum;
    w[at_w] -= p.lr * slope / (sqrt(sum) + p.eps);
}
