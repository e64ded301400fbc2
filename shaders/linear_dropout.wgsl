// Dropout of a fully connected layer's output, in place, where the product's kernel does not do it.
#import grid
#import dropout

struct Params {
    len: u32,       // Values of one replica
    replicas: u32,
    threshold: u32,
    scale: f32,     // 1 / (1 - p)
    stream: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> clock: array<vec4<u32>>;    // (R): seed low, seed high, step, 0
@group(0) @binding(2) var<storage, read_write> y: array<Value>;      // (R, len)

@compute @workgroup_size(64)
fn linear_forward_dropout(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.len * p.replicas { return; }
    y[i] *= dropout_factor(i % p.len, p.stream, clock[i / p.len], p.threshold, p.scale);
}
