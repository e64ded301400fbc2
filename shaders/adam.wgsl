// One step of Adam or AdamW for all parameters of all replicas, in place.
#import cis
#import grid
#import optimiser

struct Params {
    arena: Arena,
    lr: f32,     // of a cycle: its maximum
    l2: f32,     // times w is added to the gradient
    decay: f32,  // decoupled from the gradient
    steps: u32,  // of a cycle of the learning rate; 0: it is constant
    warmup: u32, // its step with the maximum
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    ln_beta1: f32,
    ln_beta2: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
// (P) every p.arena.stride, each
@group(0) @binding(2) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> v: array<vec4<f32>>;

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

// Between `first` and `last`, after k of n steps along half a cosine.
fn half_cosine(first: f32, last: f32, k: u32, n: u32) -> f32 {
    return last + 0.5 * (first - last) * (1.0 + cis(k, 2u * n).x);
}

// The learning rate after `done` steps.
fn learning_rate(done: u32) -> f32 {
    if p.steps == 0u { return p.lr; }
    let k = min(done, p.steps - 1u);
    if k < p.warmup { return p.lr * half_cosine(0.04, 1.0, k, p.warmup); }
    return p.lr * half_cosine(1.0, 4e-6, k - p.warmup, max(p.steps - 1u - p.warmup, 1u));
}

@compute @workgroup_size(64)
fn adam_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i == 0u { end_step(id.z); }
    if i >= p.arena.quads { return; }
    let at = id.z * p.arena.stride + i;
    let done = step_of(id.z);
    let t = f32(done + 1u);
    let lr = learning_rate(done);
    let correction1 = one_minus_exp(t * p.ln_beta1);
    let correction2 = one_minus_exp(t * p.ln_beta2);
    let old = w[at];
    let slope = gradient_of(id.z, i) + p.l2 * old;
    let mean = towards(m[at], slope, p.one_minus_beta1);
    let square = towards(v[at], slope * slope, p.one_minus_beta2);
    m[at] = mean;
    v[at] = square;
    w[at] = old * (1.0 - lr * p.decay) - lr / correction1 * mean / (sqrt(square) / sqrt(correction2) + p.eps);
}
