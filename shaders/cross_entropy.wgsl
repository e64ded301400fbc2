// Softmax cross-entropy of the rows of a batch, from logits.
//
//   forward          y = sum_b -sum_k target_bk log softmax(x_b)_k / valid rows
//   backward input   grad_x = grad_y (softmax(x_b)_k sum_j target_bj - target_bk) / valid rows; 0 in padding
//
// A row of length 0 is padding and ignored.
#ifdef SUBGROUPS
enable subgroups;
#endif
#import grid
#import lanes
#import value
#import nan

struct Params {
    batch: u32,      // B
    classes: u32,    // K
    accumulate: u32, // add to grad_x
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                      // (R, B, K), logits
@group(0) @binding(2) var<storage, read> targets: array<f32>;                // (R, B, K)
@group(0) @binding(3) var<storage, read> lengths: array<u32>;                // (R, B)
@group(0) @binding(4) var<storage, read_write> y: array<f32>;                // (R)
@group(0) @binding(5) var<storage, read_write> parts: array<vec2<f32>>;      // (R), numerator and denominator of y
// (R, B), max x and sum target / sum exp(x - max)
@group(0) @binding(6) var<storage, read_write> saved_rows: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read> grad_y: array<f32>;                 // (R)
@group(0) @binding(8) var<storage, read_write> grad_x: array<f32>;           // (R, B, K)

const LANES = 256u;
const LOWEST = -3.40282346e38;

// e^d for d = x - max. A NaN, and the inf - inf of an infinite x, stay NaN.
fn shifted_exp(d: f32) -> f32 { return keep_nan(d, exp(d)); }

// Returns the number of valid rows.
fn put_loss(replica: u32, local_index: u32) -> f32 {
    var total = vec2(0.0);
    for (var b = local_index; b < p.batch; b += LANES) {
        let clip = replica * p.batch + b;
        let first = clip * p.classes;
        var saved = vec2(0.0);
        if lengths[clip] > 0u {
            var top = LOWEST;
            for (var k = 0u; k < p.classes; k++) { top = max(top, x[first + k]); }
            var sum = 0.0;
            var target_sum = 0.0;
            for (var k = 0u; k < p.classes; k++) {
                sum += shifted_exp(x[first + k] - top);
                target_sum += targets[first + k];
            }
            let log_sum = keep_nan(sum, log(sum));
            var loss = 0.0;
            for (var k = 0u; k < p.classes; k++) { loss += targets[first + k] * (log_sum - (x[first + k] - top)); }
            total += vec2(loss, 1.0);
            saved = vec2(top, target_sum / sum);
        }
        saved_rows[clip] = saved;
    }
    let all = sum_of_lanes(local_index, total);
    if local_index == 0u {
        parts[replica] = all;
        y[replica] = all.x / max(all.y, 1.0);
    }
    return all.y;
}

// The gradient of entry i.
fn put_gradient(replica: u32, i: u32, valid_rows: f32) {
    let clip = replica * p.batch + i / p.classes;
    let at = replica * p.batch * p.classes + i;
    var slope = 0.0;
    if lengths[clip] > 0u {
        let row = saved_rows[clip];
        slope = grad_y[replica] * (shifted_exp(x[at] - row.x) * row.y - targets[at]) / valid_rows;
    }
    if p.accumulate == 1u { slope += grad_x[at]; }
    grad_x[at] = slope;
}

@compute @workgroup_size(256)
fn cross_entropy_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local_index: u32) {
    put_loss(id.z, local_index);
}

@compute @workgroup_size(64)
fn cross_entropy_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i < p.batch * p.classes { put_gradient(id.z, i, parts[id.z].y); }
}

@compute @workgroup_size(256)
fn cross_entropy_forward_backward(@builtin(workgroup_id) id: vec3<u32>,
                                  @builtin(local_invocation_index) local_index: u32) {
    let valid_rows = put_loss(id.z, local_index);
    storageBarrier();
    for (var i = local_index; i < p.batch * p.classes; i += LANES) { put_gradient(id.z, i, valid_rows); }
}
