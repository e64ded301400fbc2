// y = sum of the rows' values / sum of what they count.
#ifdef SUBGROUPS
enable subgroups;
#endif
#import lanes

const LANES = 64u;

struct Params {
    rows: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> values: array<vec2<f32>>;       // (R, rows), sum and count of a row
@group(0) @binding(2) var<storage, read_write> y: array<f32>;            // (R)
@group(0) @binding(3) var<storage, read_write> parts: array<vec2<f32>>;  // (R), numerator and denominator of y

@compute @workgroup_size(64)
fn mean_of_rows(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var sum = vec2(0.0);
    for (var i = lane; i < p.rows; i += LANES) { sum += values[id.z * p.rows + i]; }
    let all = sum_of_lanes(lane, sum);
    if lane == 0u {
        parts[id.z] = all;
        y[id.z] = all.x / max(all.y, 1.0);
    }
}
