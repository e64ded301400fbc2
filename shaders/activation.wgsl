// Element-wise activations with dropout before them: y = f(factor x), f = leaky ReLU (slope 0: ReLU, slope 1: none), sigmoid or tanh.
//
//   backward   grad_x = grad_y f'(.) factor, with f' from y: leaky ReLU y > 0 ? 1 : slope; sigmoid y (1 - y); tanh 1 - y^2.
//
// One invocation per vec4; the `_ragged` twins take one element each, for tensors whose length is no multiple of 4.
#import grid
#import dropout
alias Value = vec4<f32>;
#import tanh

struct Params {
    len: u32,       // elements of one replica
    replicas: u32,
    slope: f32,     // of leaky ReLU for negative inputs
    curve: u32,     // 0: leaky ReLU, 1: sigmoid, 2: tanh
    threshold: u32, // of dropout; 0: none
    scale: f32,     // 1 / (1 - p)
    stream: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> clock: array<u32>;              // (R, 4)
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;            // (R, len)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;      // (R, len)
@group(0) @binding(4) var<storage, read> grad_y: array<vec4<f32>>;       // (R, len)
@group(0) @binding(5) var<storage, read> saved_y: array<vec4<f32>>;      // (R, len)
@group(0) @binding(6) var<storage, read_write> grad_x: array<vec4<f32>>; // (R, len)
@group(0) @binding(7) var<storage, read> x_ragged: array<f32>;
@group(0) @binding(8) var<storage, read_write> y_ragged: array<f32>;
@group(0) @binding(9) var<storage, read> grad_y_ragged: array<f32>;
@group(0) @binding(10) var<storage, read> saved_y_ragged: array<f32>;
@group(0) @binding(11) var<storage, read_write> grad_x_ragged: array<f32>;

// The clock is bound even where dropout is off (see activation.rs).
fn factors(replica: u32, i: u32) -> vec4<f32> {
    if p.threshold == 0u { return vec4(1.0); }
    let c = replica * 4u;
    return dropout_factors(i, p.stream, vec4(clock[c], clock[c + 1u], clock[c + 2u], 0u), p.threshold, p.scale);
}

fn activate(v: vec4<f32>) -> vec4<f32> {
    if p.curve == 1u { return 1.0 / (1.0 + exp(-v)); }
    if p.curve == 2u { return safe_tanh(v); }
    return select(p.slope * v, v, v > vec4(0.0));
}

fn slope_at(y: vec4<f32>) -> vec4<f32> {
    if p.curve == 1u { return y * (1.0 - y); }
    if p.curve == 2u { return 1.0 - y * y; }
    return select(vec4(p.slope), vec4(1.0), y > vec4(0.0));
}

@compute @workgroup_size(64)
fn activation_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                      @builtin(local_invocation_index) worker: u32) {
    let quads = p.len / 4u;
    let i = group_index(id, count) * 64u + worker;
    if i >= quads * p.replicas { return; }
    y[i] = activate(x[i] * factors(i / quads, i % quads));
}

@compute @workgroup_size(64)
fn activation_forward_ragged(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * 64u + worker;
    if i >= p.len * p.replicas { return; }
    let e = i % p.len;
    y_ragged[i] = activate(x_ragged[i] * factors(i / p.len, e / 4u))[e % 4u];
}

@compute @workgroup_size(64)
fn activation_backward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                       @builtin(local_invocation_index) worker: u32) {
    let quads = p.len / 4u;
    let i = group_index(id, count) * 64u + worker;
    if i >= quads * p.replicas { return; }
    let d = grad_y[i] * slope_at(saved_y[i]) * factors(i / quads, i % quads);
    if p.accumulate == 1u { grad_x[i] += d; } else { grad_x[i] = d; }
}

@compute @workgroup_size(64)
fn activation_backward_ragged(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                              @builtin(local_invocation_index) worker: u32) {
    let i = group_index(id, count) * 64u + worker;
    if i >= p.len * p.replicas { return; }
    let e = i % p.len;
    let d = grad_y_ragged[i] * (slope_at(vec4(saved_y_ragged[i])) * factors(i / p.len, e / 4u))[e % 4u];
    if p.accumulate == 1u { grad_x_ragged[i] += d; } else { grad_x_ragged[i] = d; }
}
