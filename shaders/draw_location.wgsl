// Glimpse locations: the first uniform, later ones normal around a mean. Random numbers are a function of (seed, step,
// stream, clip).
#import philox
#import normal
#import grid

struct Params {
    batch: u32,   // B
    stream: u32,
    sigma: f32,
    clock_stride: u32, // in vec4
}

@group(0) @binding(0) var<uniform> p: Params;
// (seed low, seed high, step, done) every clock_stride
@group(0) @binding(1) var<storage, read> clock: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> mu: array<vec2<f32>>;          // (R, B)
@group(0) @binding(3) var<storage, read_write> y: array<vec2<f32>>;     // (R, B)
@group(0) @binding(4) var<storage, read_write> drawn: array<vec2<f32>>; // (R, B), y before it was cut

// Domain separation of the random stream of locations.
const DRAW = 0x10CA7Eu;

fn words(replica: u32, b: u32) -> vec2<u32> {
    let now = clock[replica * p.clock_stride];
    return philox(vec4(b, p.stream, now.z, DRAW), now.xy).xy;
}

@compute @workgroup_size(64)
fn draw_location_uniform(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) local_index: u32) {
    let b = group_index(id, count) * 64u + local_index;
    if b >= p.batch { return; }
    y[id.z * p.batch + b] = 2.0 * unit(words(id.z, b)) - 1.0;
}

@compute @workgroup_size(64)
fn draw_location_normal(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let b = group_index(id, count) * 64u + local_index;
    if b >= p.batch { return; }
    let clip = id.z * p.batch + b;
    let word = words(id.z, b);
    let v = mu[clip] + p.sigma * normal_radius(word) * normal_direction(word);
    drawn[clip] = v;
    // Comparisons are false for a NaN, which thus propagates.
    y[clip] = select(select(v, vec2(1.0), v > vec2(1.0)), vec2(-1.0), v < vec2(-1.0));
}
