// One step of Adagrad for all parameters of all replicas, in place.
#import grid
#import optimiser

struct Params {
    arena: Arena,
    lr: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
// (P) every p.arena.stride, each
@group(0) @binding(2) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> accumulator: array<vec4<f32>>;

@compute @workgroup_size(64)
fn adagrad_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                   @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i == 0u { end_step(id.z); }
    if i >= p.arena.quads { return; }
    let at = id.z * p.arena.stride + i;
    let slope = gradient_of(id.z, i);
    let sum = accumulator[at] + slope * slope;
    accumulator[at] = sum;
    w[at] -= p.lr * slope / (sqrt(sum) + p.eps);
}
