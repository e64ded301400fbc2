// Adds normal noise to a tensor, or sets random elements to 0. Noise is a function of (seed, step, stream, element).
#import grid
#import philox
#import normal

struct Params {
    len: u32,          // of a replica
    stream: u32,
    sigma: f32,        // of the noise
    threshold: u32,    // p 2^32, where p is the probability of a 0
    repeat: u32,        // the noise of step 0
    x_stride: u32,
    clock_stride: u32, // in vec4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;            // every x_stride
// (seed low, seed high, step, done) every clock_stride
@group(0) @binding(2) var<storage, read> clock: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (R, len)

// Domain separation of the random stream.
const CORRUPT = 0xC0DEu;

fn words(replica: u32, i: u32) -> vec4<u32> {
    let now = clock[replica * p.clock_stride];
    return philox(vec4(i, p.stream, select(now.z, 0u, p.repeat == 1u), CORRUPT), now.xy);
}

// An invocation per four elements.
@compute @workgroup_size(64)
fn corrupt_forward_normal(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if 4u * i >= p.len { return; }
    let w = words(id.z, i);
    let noise = vec4(normal_radius(w.xy) * normal_direction(w.xy), normal_radius(w.zw) * normal_direction(w.zw));
    for (var k = 0u; k < 4u; k++) {
        let at = 4u * i + k;
        if at < p.len { y[id.z * p.len + at] = x[id.z * p.x_stride + at] + p.sigma * noise[k]; }
    }
}

@compute @workgroup_size(64)
fn corrupt_forward_mask(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if 4u * i >= p.len { return; }
    let w = words(id.z, i);
    for (var k = 0u; k < 4u; k++) {
        let at = 4u * i + k;
        if at < p.len { y[id.z * p.len + at] = select(x[id.z * p.x_stride + at], 0.0, w[k] < p.threshold); }
    }
}
