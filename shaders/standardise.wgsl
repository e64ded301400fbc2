// Log magnitudes of a clip, standardised.
//
//   forward    v = ln(x + offset);  y = (v - mean v) / max(std v, floor), both over the N values of a clip
//
// Sums run over d = v - v[0], so that a clip of equal values gives exact zeros; the variance is summed about the mean.
#import grid

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

const WORKGROUP_SIZE = 256u;
var<workgroup> sums: array<f32, WORKGROUP_SIZE>;

// The sum over the workgroup, in a fixed order.
fn total(local_index: u32, v: f32) -> f32 {
    sums[local_index] = v;
    workgroupBarrier();
    for (var step = WORKGROUP_SIZE / 2u; step > 0u; step /= 2u) {
        if local_index < step { sums[local_index] += sums[local_index + step]; }
        workgroupBarrier();
    }
    let sum = sums[0];
    workgroupBarrier();
    return sum;
}

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
    for (var i = local_index; i < p.n; i += WORKGROUP_SIZE) {
        let d = log(x[base + i] + p.offset) - first;
        y[at + i] = d;
        sum += d;
    }
    let mean = total(local_index, sum) / f32(p.n);
    var squares = 0.0;
    for (var i = local_index; i < p.n; i += WORKGROUP_SIZE) {
        let d = y[at + i] - mean;
        squares += d * d;
    }
    let scale = max(sqrt(total(local_index, squares) / f32(p.n)), p.floor);
    for (var i = local_index; i < p.n; i += WORKGROUP_SIZE) {
        y[at + i] = (y[at + i] - mean) / scale;
    }
}
