// Sums shifted frames, the second half of a transposed convolution, see src/ops/overlap_add.rs.
#import grid

struct Params {
    batch: u32,  // B
    t: u32,      // T
    size: u32,   // k
    width: u32,  // N
    b_stride: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;           // (R, B, T, k, N)
@group(0) @binding(2) var<storage, read> bias: array<f32>;        // (N) every b_stride
@group(0) @binding(3) var<storage, read_write> y: array<f32>;     // (R, B, T + k - 1, N)
@group(0) @binding(4) var<storage, read> grad_y: array<f32>;      // (R, B, T + k - 1, N)
@group(0) @binding(5) var<storage, read_write> grad_x: array<f32>; // (R, B, T, k, N)
@group(0) @binding(6) var<storage, read_write> grad_b: array<f32>; // (N) every b_stride
@group(0) @binding(7) var<storage, read_write> partial: array<f32>; // (R, B, N): sums of grad_y over time

// An invocation per element of y.
@compute @workgroup_size(64)
fn overlap_add_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                       @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    let steps = p.t + p.size - 1u;
    if i >= p.batch * steps * p.width { return; }
    let n = i % p.width;
    let step = i / p.width % steps;
    let clip = id.z * p.batch + i / p.width / steps;
    // Frame f adds its row step - f, for 0 <= step - f < k.
    var sum = bias[id.z * p.b_stride + n];
    var f = 0u;
    if step >= p.size { f = step - p.size + 1u; }
    for (; f < min(step + 1u, p.t); f++) { sum += x[((clip * p.t + f) * p.size + (step - f)) * p.width + n]; }
    y[id.z * p.batch * steps * p.width + i] = sum;
}

// An invocation per element of x.
@compute @workgroup_size(64)
fn overlap_add_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                              @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.batch * p.t * p.size * p.width { return; }
    let steps = p.t + p.size - 1u;
    let j = i / p.width % p.size;
    let frame = i / p.width / p.size;
    let clip = id.z * p.batch + frame / p.t;
    let at = id.z * p.batch * p.t * p.size * p.width + i;
    var slope = grad_y[(clip * steps + frame % p.t + j) * p.width + i % p.width];
    if p.accumulate == 1u { slope += grad_x[at]; }
    grad_x[at] = slope;
}

// An invocation per clip and column: the sum over time.
@compute @workgroup_size(64)
fn overlap_add_backward_sums(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.batch * p.width { return; }
    let steps = p.t + p.size - 1u;
    let clip = id.z * p.batch + i / p.width;
    var sum = 0.0;
    for (var step = 0u; step < steps; step++) { sum += grad_y[(clip * steps + step) * p.width + i % p.width]; }
    partial[id.z * p.batch * p.width + i] = sum;
}

// An invocation per column: the sum over the clips.
@compute @workgroup_size(64)
fn overlap_add_backward_bias(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) local_index: u32) {
    let n = group_index(id, count) * 64u + local_index;
    if n >= p.width { return; }
    var sum = 0.0;
    for (var b = 0u; b < p.batch; b++) { sum += partial[(id.z * p.batch + b) * p.width + n]; }
    let at = id.z * p.b_stride + n;
    if p.accumulate == 1u { sum += grad_b[at]; }
    grad_b[at] = sum;
}
