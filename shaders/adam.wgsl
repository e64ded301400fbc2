// One step of Adam for all parameters of all replicas, in place; with TEXELS, what it reads is in textures too.
#import grid

struct Params {
    quads: u32,        // P / 4
    w_stride: u32,     // strides in vec4
    grad_stride: u32,
    m_stride: u32,
    v_stride: u32,
    clock_stride: u32,
    first_replica: u32, // first replica of the bound arenas
    lr: f32,
    weight_decay: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    ln_beta1: f32,
    ln_beta2: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> clock: array<vec4<u32>>;   // (seed low, seed high, step, 0) every clock_stride
@group(0) @binding(3) var<storage, read_write> w: array<vec4<f32>>; // (P) every w_stride
@group(0) @binding(4) var<storage, read_write> m: array<vec4<f32>>; // (P) every m_stride
@group(0) @binding(5) var<storage, read_write> v: array<vec4<f32>>; // (P) every v_stride

#ifdef TEXELS
#import texel
@group(0) @binding(1) var grad: texture_2d<f32>;                    // (P) every grad_stride
@group(0) @binding(6) var old_w: texture_2d<f32>;                   // w, m and v before the step
@group(0) @binding(7) var old_m: texture_2d<f32>;
@group(0) @binding(8) var old_v: texture_2d<f32>;
fn grad_at(i: u32) -> vec4<f32> { return texel(grad, i); }
fn w_at(i: u32) -> vec4<f32> { return texel(old_w, i); }
fn m_at(i: u32) -> vec4<f32> { return texel(old_m, i); }
fn v_at(i: u32) -> vec4<f32> { return texel(old_v, i); }
#else
@group(0) @binding(1) var<storage, read> grad: array<vec4<f32>>;    // (P) every grad_stride
fn grad_at(i: u32) -> vec4<f32> { return grad[i]; }
fn w_at(i: u32) -> vec4<f32> { return w[i]; }
fn m_at(i: u32) -> vec4<f32> { return m[i]; }
fn v_at(i: u32) -> vec4<f32> { return v[i]; }
#endif

// 1 - e^x for x < 0. Near 0 the difference cancels, so the series of e^x - 1 is summed there, to beyond f32's
// precision.
fn one_minus_exp(x: f32) -> f32 {
    if x < -1.0 { return 1.0 - exp(x); }
    var sum = 1.0;
    for (var n = 12.0; n > 1.0; n -= 1.0) {
        sum = 1.0 + sum * x / n;
    }
    return -x * sum;
}

fn towards(v: vec4<f32>, goal: vec4<f32>, fraction: f32) -> vec4<f32> {
    return v + fraction * (goal - v);
}

@compute @workgroup_size(64)
fn adam_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.quads { return; }
    let at_w = id.z * p.w_stride + i;
    let at_m = id.z * p.m_stride + i;
    let at_v = id.z * p.v_stride + i;
    let t = f32(clock[(p.first_replica + id.z) * p.clock_stride].z + 1u);
    let correction1 = one_minus_exp(t * p.ln_beta1);
    let correction2 = one_minus_exp(t * p.ln_beta2);
    let old = w_at(at_w);
    let slope = grad_at(id.z * p.grad_stride + i) + p.weight_decay * old;
    let mean = towards(m_at(at_m), slope, p.one_minus_beta1);
    let square = towards(v_at(at_v), slope * slope, p.one_minus_beta2);
    m[at_m] = mean;
    v[at_v] = square;
    w[at_w] = old - p.lr / correction1 * mean / (sqrt(square) / sqrt(correction2) + p.eps);
}
