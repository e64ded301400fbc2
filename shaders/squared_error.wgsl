// Mean squared or absolute error over the rows of a batch.
//
//   forward rows     rows_b = sum_i e(x_bi - target_bi), and the elements of the row; 0 in padding
//   backward input   grad_x = grad_y e'(x - target) / elements; 0 in padding
#ifdef SUBGROUPS
enable subgroups;
#endif
#import grid
#import lanes

const LANES = 64u;

struct Params {
    batch: u32,      // B
    width: u32,      // D
    absolute: u32,   // e(d) = |d|, else d^2
    accumulate: u32, // add to grad_x
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                      // (R, B, D)
@group(0) @binding(2) var<storage, read> targets: array<f32>;                // (R, B, D)
@group(0) @binding(3) var<storage, read> lengths: array<u32>;                // (R, B)
@group(0) @binding(4) var<storage, read_write> rows: array<vec2<f32>>;       // (R, B), error and elements
@group(0) @binding(5) var<storage, read> parts: array<vec2<f32>>;            // (R), sum and count of the mean
@group(0) @binding(6) var<storage, read> grad_y: array<f32>;                 // (R)
@group(0) @binding(7) var<storage, read_write> grad_x: array<f32>;           // (R, B, D)

@compute @workgroup_size(64)
fn squared_error_forward_rows(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                              @builtin(local_invocation_index) lane: u32) {
    let b = group_index(id, count);
    if b >= p.batch { return; }
    let row = id.z * p.batch + b;
    let valid = lengths[row] > 0u;
    var sum = 0.0;
    if valid {
        for (var i = lane; i < p.width; i += LANES) {
            let d = x[row * p.width + i] - targets[row * p.width + i];
            sum += select(d * d, abs(d), p.absolute == 1u);
        }
    }
    let all = sum_of_lanes(lane, vec2(sum, 0.0)).x;
    if lane == 0u { rows[row] = vec2(all, select(0.0, f32(p.width), valid)); }
}

@compute @workgroup_size(64)
fn squared_error_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                @builtin(local_invocation_index) lane: u32) {
    let i = group_index(id, count) * LANES + lane;
    if i >= p.batch * p.width { return; }
    let at = id.z * p.batch * p.width + i;
    var slope = 0.0;
    if lengths[id.z * p.batch + i / p.width] > 0u {
        let d = x[at] - targets[at];
        slope = grad_y[id.z] * select(2.0 * d, sign(d), p.absolute == 1u) / parts[id.z].y;
    }
    if p.accumulate == 1u { slope += grad_x[at]; }
    grad_x[at] = slope;
}
