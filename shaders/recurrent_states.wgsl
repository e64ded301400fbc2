// Packs the parameters of a recurrent layer, and copies states into and out of its saved activations.
#import grid

struct Params {
    len: u32,        // pack: G H, rows of the weights; move: all elements
    hidden: u32,     // H
    directions: u32, // D
    direction: u32,
    w_stride: u32,
    b_stride: u32,
    transposed: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w: array<f32>;                    // (G H, H) every w_stride
@group(0) @binding(2) var<storage, read> b: array<f32>;                    // (G H) every b_stride
@group(0) @binding(3) var<storage, read_write> packed_weights: array<f32>; // (R, D, G H (H + 1))
@group(0) @binding(4) var<storage, read> out_of: array<f32>;
@group(0) @binding(5) var<storage, read_write> to: array<f32>;

const COLUMNS = 16u;

// W_hh, transposed if asked for, and b_hh of a direction. A workgroup takes 64 rows and 16 columns; the last column is
// the bias.
@compute @workgroup_size(64)
fn recurrent_pack(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) local_index: u32) {
    let group = group_index(id, count);
    let blocks = (p.len + 63u) / 64u;
    let row = group % blocks * 64u + local_index;
    let first = group / blocks * COLUMNS;
    if row >= p.len { return; }
    let at = (id.z * p.directions + p.direction) * p.len * (p.hidden + 1u);
    let from_w = id.z * p.w_stride + row * p.hidden;
    for (var column = first; column < min(first + COLUMNS, p.hidden + 1u); column++) {
        if column == p.hidden {
            packed_weights[at + p.len * p.hidden + row] = b[id.z * p.b_stride + row];
        } else if p.transposed == 1u {
            packed_weights[at + column * p.len + row] = w[from_w + column];
        } else {
            packed_weights[at + row * p.hidden + column] = w[from_w + column];
        }
    }
}

@compute @workgroup_size(64)
fn recurrent_move(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.len { return; }
    var v = out_of[i];
    if p.accumulate == 1u { v += to[i]; }
    to[i] = v;
}
