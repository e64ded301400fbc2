// Cosine embedding loss of the rows of a batch.
//
//   forward rows     cos of each pair, and its loss: 1 - cos, or max(0, cos - margin) of pairs that should differ
//   backward input   grad_x by the slope of cos
//
// A row of length 0 is padding and ignored, and so is a pair that should differ but whose target is the row's own.
#ifdef SUBGROUPS
enable subgroups;
#endif
#import grid
#import lanes

const LANES = 64u;

struct Params {
    batch: u32,      // B
    width: u32,      // D
    differ: u32,     // pairs should differ: own is given
    margin: f32,
    accumulate: u32, // add to grad_x
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                  // (R, B, D)
@group(0) @binding(2) var<storage, read> targets: array<f32>;            // (R, B, D)
@group(0) @binding(3) var<storage, read> lengths: array<u32>;            // (R, B)
@group(0) @binding(4) var<storage, read> own: array<f32>;                // (R, B, D)
@group(0) @binding(5) var<storage, read_write> rows: array<vec2<f32>>;   // (R, B), loss and 1 for a pair that counts
// (R, B): cos, 1 / |x|, 1 / |target|, slope of the loss by cos
@group(0) @binding(6) var<storage, read_write> saved: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> parts: array<vec2<f32>>;        // (R), sum and count of the mean
@group(0) @binding(8) var<storage, read> grad_y: array<f32>;             // (R)
@group(0) @binding(9) var<storage, read_write> grad_x: array<f32>;      // (R, B, D)

// Added to squared norms, as in PyTorch.
const EPS = 1e-12;

@compute @workgroup_size(64)
fn cosine_loss_forward_rows(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) lane: u32) {
    let b = group_index(id, count);
    if b >= p.batch { return; }
    let row = id.z * p.batch + b;
    var dot_x = 0.0;
    var square_t = 0.0;
    var square_x = 0.0;
    var unlike = 1.0 - f32(p.differ);
    for (var i = lane; i < p.width; i += LANES) {
        let v = x[row * p.width + i];
        let t = targets[row * p.width + i];
        dot_x += v * t;
        square_x += v * v;
        square_t += t * t;
#ifdef DIFFER
        if own[row * p.width + i] != t { unlike = 1.0; }
#endif
    }
    let sums = sum_of_lanes(lane, vec2(dot_x, square_x));
    let others = sum_of_lanes(lane, vec2(square_t, unlike));
    if lane > 0u { return; }
    let inverse = 1.0 / sqrt(vec2(sums.y, others.x) + EPS);
    let cosine = sums.x * inverse.x * inverse.y;
    var loss = 1.0 - cosine;
    var slope = -1.0;
    if p.differ == 1u {
        // A NaN stays one.
        loss = select(cosine - p.margin, 0.0, cosine <= p.margin);
        slope = select(1.0, 0.0, cosine <= p.margin);
    }
    let counts = lengths[row] > 0u && others.y > 0.0;
    rows[row] = select(vec2(0.0), vec2(loss, 1.0), counts);
    saved[row] = vec4(cosine, inverse, select(0.0, slope, counts));
}

@compute @workgroup_size(64)
fn cosine_loss_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                              @builtin(local_invocation_index) lane: u32) {
    let i = group_index(id, count) * LANES + lane;
    if i >= p.batch * p.width { return; }
    let at = id.z * p.batch * p.width + i;
    let row = saved[id.z * p.batch + i / p.width];
    var slope = 0.0;
    if row.w != 0.0 {
        let by_x = (targets[at] * row.z - row.x * x[at] * row.y) * row.y;
        slope = grad_y[id.z] * row.w * by_x / max(parts[id.z].y, 1.0);
    }
    if p.accumulate == 1u { slope += grad_x[at]; }
    grad_x[at] = slope;
}
