// Level and masks of the spectrograms of a batch.
//
//   draw       of each clip the bands and frames to mask, its mean and the shift of its level
//   forward    y = (masked ? mean : x) + shift within a clip, x in padding
#import philox
#import grid

struct Params {
    b: u32,
    t: u32,
    f: u32,
    unit: u32,           // frames of a unit of lengths
    freq_mask: u32,      // most bands to mask
    time_mask: u32,      // most frames to mask
    level_shift: f32,    // largest shift
    x_stride: u32,       // elements between replicas
    lengths_stride: u32,
    clock_stride: u32,   // in vec4
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                // (B, T, F) every x_stride
@group(0) @binding(2) var<storage, read> lengths: array<u32>;          // (B) every lengths_stride
// (seed low, seed high, step, done) every clock_stride
@group(0) @binding(3) var<storage, read> clock: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> masks: array<vec4<u32>>; // (R, B): bands .x to .y, frames .z to .w
@group(0) @binding(5) var<storage, read_write> levels: array<vec2<f32>>; // (R, B): mean, shift
@group(0) @binding(6) var<storage, read_write> y: array<f32>;          // (R, B, T, F)

const STREAM = 0x5BECu;
const LANES = 64u;

var<workgroup> lane_sum: array<f32, 64>;

fn frames(replica: u32, b: u32) -> u32 { return min(lengths[replica * p.lengths_stride + b] * p.unit, p.t); }

// One workgroup per clip, whose lanes sum its values.
@compute @workgroup_size(64)
fn spec_augment_forward_draw(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) lane: u32) {
    let b = group_index(id, count);
    if b >= p.b { return; }
    let valid = frames(id.z, b);
    let first = id.z * p.x_stride + b * p.t * p.f;
    var sum = 0.0;
    for (var i = lane; i < valid * p.f; i += LANES) { sum += x[first + i]; }
    lane_sum[lane] = sum;
    workgroupBarrier();
    if lane > 0u { return; }
    for (var l = 1u; l < LANES; l++) { sum += lane_sum[l]; }
    let now = clock[id.z * p.clock_stride];
    let words = philox(vec4(b, 0u, now.z, STREAM), now.xy);
    let bands = min(words.x % (p.freq_mask + 1u), p.f);
    let band = words.y % (p.f - bands + 1u);
    let steps = min(words.z % (p.time_mask + 1u), valid);
    let step = words.w % (valid - steps + 1u);
    masks[id.z * p.b + b] = vec4(band, band + bands, step, step + steps);
    let unit = (f32(philox(vec4(b, 1u, now.z, STREAM), now.xy).x >> 9u) + 0.5) / 8388608.0;
    levels[id.z * p.b + b] = vec2(sum / f32(max(valid * p.f, 1u)), p.level_shift * (2.0 * unit - 1.0));
}

// One invocation per frame.
@compute @workgroup_size(64)
fn spec_augment_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.b * p.t { return; }
    let b = i / p.t;
    let frame = i % p.t;
    let mask = masks[id.z * p.b + b];
    let level = levels[id.z * p.b + b];
    let valid = frame < frames(id.z, b);
    let all = mask.z <= frame && frame < mask.w;
    for (var band = 0u; band < p.f; band++) {
        let v = x[id.z * p.x_stride + i * p.f + band];
        let masked = all || (mask.x <= band && band < mask.y);
        y[(id.z * p.b * p.t + i) * p.f + band] = select(v, select(v, level.x, masked) + level.y, valid);
    }
}
