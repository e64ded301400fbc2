// Element-wise activations with dropout before them: y = f(factor x), f = leaky ReLU (slope 0: ReLU, slope 1: none),
// sigmoid or tanh.
//
//   backward   grad_x = grad_y f'(.) factor, with f' from y: leaky ReLU y > 0 ? 1 : slope; sigmoid y (1 - y); tanh 1 -
//   y^2.
//
// One invocation per Value; VEC4 for tensors whose length is a multiple of 4.
#import grid
#import value
#import dropout
#import tanh

struct Params {
    len: u32,       // Values of one replica
    replicas: u32,
    slope: f32,     // of leaky ReLU for negative inputs
    curve: u32,     // 0: leaky ReLU, 1: sigmoid, 2: tanh
    threshold: u32, // of dropout; 0: none
    scale: f32,     // 1 / (1 - p)
    stream: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> clock: array<u32>;          // (R, 4)
@group(0) @binding(2) var<storage, read> x: array<Value>;            // (R, len)
@group(0) @binding(3) var<storage, read_write> y: array<Value>;      // (R, len)
@group(0) @binding(4) var<storage, read> grad_y: array<Value>;       // (R, len)
@group(0) @binding(5) var<storage, read> saved_y: array<Value>;      // (R, len)
@group(0) @binding(6) var<storage, read_write> grad_x: array<Value>; // (R, len)

// The clock is bound even where dropout is off (see activation.rs).
fn factor(replica: u32, i: u32) -> Value {
    if p.threshold == 0u { return Value(1.0); }
    let c = replica * 4u;
    return dropout_factor(i, p.stream, vec4(clock[c], clock[c + 1u], clock[c + 2u], 0u), p.threshold, p.scale);
}

fn activate(v: Value) -> Value {
    if p.curve == 1u { return 1.0 / (1.0 + exp(-v)); }
    if p.curve == 2u { return safe_tanh(v); }
    return select(p.slope * v, v, v > Value(0.0));
}

fn slope_at(y: Value) -> Value {
    if p.curve == 1u { return y * (1.0 - y); }
    if p.curve == 2u { return 1.0 - y * y; }
    return select(Value(p.slope), Value(1.0), y > Value(0.0));
}

#ifdef IN_PLACE
// The output of another op.
fn before(i: u32) -> Value { return y[i]; }
#else
fn before(i: u32) -> Value { return x[i]; }
#endif

@compute @workgroup_size(64)
fn activation_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                      @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.len * p.replicas { return; }
    y[i] = activate(before(i) * factor(i / p.len, i % p.len));
}

#ifndef IN_PLACE
@compute @workgroup_size(64)
fn activation_backward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                       @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.len * p.replicas { return; }
    let d = grad_y[i] * slope_at(saved_y[i]) * factor(i / p.len, i % p.len);
    if p.accumulate == 1u { grad_x[i] += d; } else { grad_x[i] = d; }
}
#endif
