// Dropout with one mask per clip, shared by all its instances: y (B, T, F) = x times a factor of (b, f), grad_x =
// grad_y times it; and the factors alone.
#import grid
#import dropout

struct Params {
    len: u32,       // elements of one replica
    replicas: u32,
    clip: u32,      // T F
    width: u32,     // F
    threshold: u32,
    scale: f32,
    stream: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> clock: array<u32>;   // (R, 4)
@group(0) @binding(2) var<storage, read> x: array<f32>;       // (R, B, T, F), or grad_y
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // the same, or grad_x

fn factor(i: u32) -> f32 {
    let c = i / p.len * 4u;
    let e = i % p.len;
    let draw = e / p.clip * p.width + e % p.width;
    let now = vec4(clock[c], clock[c + 1u], clock[c + 2u], 0u);
    return dropout_factor(draw, p.stream, now, p.threshold, p.scale);
}

@compute @workgroup_size(64)
fn clip_dropout_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.len * p.replicas { return; }
    let v = x[i] * factor(i);
    if p.accumulate == 1u { y[i] += v; } else { y[i] = v; }
}

@compute @workgroup_size(64)
fn clip_dropout_factors(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i < p.len * p.replicas { y[i] = factor(i); }
}
