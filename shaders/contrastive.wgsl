// NT-Xent of the rows of two batches, see src/ops/contrastive.rs. Rows 0 .. B - 1 are those of a, B .. 2 B - 1 those of
// g.
#ifdef SUBGROUPS
enable subgroups;
#endif
#import grid
#import lanes

const LANES = 64u;

struct Params {
    batch: u32,        // B
    width: u32,        // D
    inverse_tau: f32,
    side: u32,         // 0: a, 1: g
    accumulate: u32,   // add to grad_x
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                        // (R, B, D), of a side
@group(0) @binding(2) var<storage, read> lengths: array<u32>;                  // (R, B)
@group(0) @binding(3) var<storage, read_write> unit_rows: array<f32>;          // (R, 2 B, D)
@group(0) @binding(4) var<storage, read_write> inverse_norms: array<f32>;      // (R, 2 B)
// (R, 2 B, 2 B), 0 on the diagonal and in padding
@group(0) @binding(5) var<storage, read_write> softmax: array<f32>;
@group(0) @binding(6) var<storage, read_write> rows: array<vec2<f32>>;         // (R, 2 B), loss and 1 for a valid row
@group(0) @binding(7) var<storage, read> parts: array<vec2<f32>>;              // (R), sum and count of the mean
@group(0) @binding(8) var<storage, read> grad_y: array<f32>;                   // (R)
@group(0) @binding(9) var<storage, read_write> grad_unit: array<f32>;         // (R, B, D)
@group(0) @binding(10) var<storage, read_write> grad_x: array<f32>;            // (R, B, D)

const LOWEST = -3.40282346e38;
const LEAST_NORM = 1e-8;

fn is_valid(replica: u32, i: u32) -> bool { return lengths[replica * p.batch + i % p.batch] > 0u; }

// A workgroup per row of a side: scales it to norm 1.
@compute @workgroup_size(64)
fn contrastive_forward_units(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) lane: u32) {
    let b = group_index(id, count);
    if b >= p.batch { return; }
    let x_at = (id.z * p.batch + b) * p.width;
    let row = (2u * id.z + p.side) * p.batch + b;
    var square = 0.0;
    for (var i = lane; i < p.width; i += LANES) { square += x[x_at + i] * x[x_at + i]; }
    let inverse = 1.0 / max(sqrt(sum_of_lanes(lane, vec2(square, 0.0)).x), LEAST_NORM);
    if lane == 0u { inverse_norms[row] = inverse; }
    for (var i = lane; i < p.width; i += LANES) { unit_rows[row * p.width + i] = x[x_at + i] * inverse; }
}

var<workgroup> lane_tops: array<f32, 64>;

// A workgroup per row: its softmax over all others, and its loss.
@compute @workgroup_size(64)
fn contrastive_forward_rows(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) lane: u32) {
    let i = group_index(id, count);
    let all = 2u * p.batch;
    if i >= all { return; }
    let row = id.z * all + i;
    var top = LOWEST;
    for (var j = lane; j < all; j += LANES) {
        var score = LOWEST;
        if j != i && is_valid(id.z, j) && is_valid(id.z, i) {
            score = 0.0;
            for (var d = 0u; d < p.width; d++) {
                score += unit_rows[row * p.width + d] * unit_rows[(id.z * all + j) * p.width + d];
            }
            score *= p.inverse_tau;
        }
        softmax[row * all + j] = score;
        top = max(top, score);
    }
    lane_tops[lane] = top;
    workgroupBarrier();
    for (var l = 0u; l < LANES; l++) { top = max(top, lane_tops[l]); }
    var sum = 0.0;
    var partner = 0.0;
    for (var j = lane; j < all; j += LANES) {
        let score = softmax[row * all + j];
        if score > LOWEST { sum += exp(score - top); }
        if j == (i + p.batch) % all { partner = score - top; }
    }
    let sums = sum_of_lanes(lane, vec2(sum, partner));
    for (var j = lane; j < all; j += LANES) {
        let score = softmax[row * all + j];
        softmax[row * all + j] = select(0.0, exp(score - top) / sums.x, score > LOWEST);
    }
    if lane == 0u { rows[row] = select(vec2(0.0), vec2(log(sums.x) - sums.y, 1.0), is_valid(id.z, i)); }
}

// A workgroup per row of a side.
@compute @workgroup_size(64)
fn contrastive_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                              @builtin(local_invocation_index) lane: u32) {
    let b = group_index(id, count);
    if b >= p.batch { return; }
    let all = 2u * p.batch;
    let i = p.side * p.batch + b;
    let row = id.z * all + i;
    let to = (id.z * p.batch + b) * p.width;
    let valid = is_valid(id.z, i);
    let scale = grad_y[id.z] * p.inverse_tau / max(parts[id.z].y, 1.0);
    var along = 0.0;
    for (var d = lane; d < p.width; d += LANES) {
        var slope = 0.0;
        if valid {
            // Of the scores of this row, and of this row in the others'; each is the other's partner.
            for (var j = 0u; j < all; j++) {
                let both = softmax[row * all + j] + softmax[(id.z * all + j) * all + i];
                slope += both * unit_rows[(id.z * all + j) * p.width + d];
            }
            slope -= 2.0 * unit_rows[(id.z * all + (i + p.batch) % all) * p.width + d];
            slope *= scale;
        }
        grad_unit[to + d] = slope;
        along += slope * unit_rows[row * p.width + d];
    }
    let projection = sum_of_lanes(lane, vec2(along, 0.0)).x;
    for (var d = lane; d < p.width; d += LANES) {
        var slope = (grad_unit[to + d] - projection * unit_rows[row * p.width + d]) * inverse_norms[row];
        if p.accumulate == 1u { slope += grad_x[to + d]; }
        grad_x[to + d] = slope;
    }
}
