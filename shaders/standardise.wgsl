// Log magnitudes of a clip, standardised.
//
//   forward    v = ln(x + offset);  y = (v - mean v) / max(std v, floor), both over the N values of a clip
//
// Sums run over d = v - v[0], so that a clip of equal values gives exact zeros; the variance is summed about the mean.
#ifdef SUBGROUPS
enable subgroups;
#endif
#import grid
#import lanes

struct Params {
    b: u32,
    n: u32,              // values per clip
    x_stride: u32,       // elements between replicas
    offset: f32,
    floor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;       // (B, N) every x_stride
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (R, B, N)

const LANES = 256u;

fn mean_of_lanes(lane: u32, sum: f32) -> f32 { return sum_of_lanes(lane, vec2(sum, 0.0)).x / f32(p.n); }

// One workgroup per clip.
@compute @workgroup_size(256)
fn standardise_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                       @builtin(local_invocation_index) local_index: u32) {
    let b = group_index(id, count);
    // The last row of a folded grid may reach beyond the end; such a workgroup returns as a whole.
    if b >= p.b { return; }
    let base = id.z * p.x_stride + b * p.n;
    let at = (id.z * p.b + b) * p.n;

    let first = log(x[base] + p.offset);
    var sum = 0.0;
    for (var i = local_index; i < p.n; i += LANES) {
        let d = log(x[base + i] + p.offset) - first;
        y[at + i] = d;
        sum += d;
    }
    let mean = mean_of_lanes(local_index, sum);
    var squares = 0.0;
    for (var i = local_index; i < p.n; i += LANES) {
        let d = y[at + i] - mean;
        squares += d * d;
    }
    let scale = max(sqrt(mean_of_lanes(local_index, squares)), p.floor);
    for (var i = local_index; i < p.n; i += LANES) {
        y[at + i] = (y[at + i] - mean) / scale;
    }
}
