// Packs the parameters of a recurrent layer, and copies states into and out of its saved activations.
#import grid

struct Params {
    len: u32,        // pack: G H, rows of the weights; move: all elements
    hidden: u32,     // H
    directions: u32, // D
    // from one replica to the next, of the first direction and of the other
    w_stride: u32,
    b_stride: u32,
    w_reverse_stride: u32,
    b_reverse_stride: u32,
    plain_at: u32,   // where those begin that are not transposed; 0: there are none
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w: array<f32>;                    // (G H, H) every w_stride
@group(0) @binding(2) var<storage, read> b: array<f32>;                    // (G H) every b_stride
// (R, D, G H (H + 1)) with W_hh transposed, and from plain_at on again as it is
@group(0) @binding(3) var<storage, read_write> packed_weights: array<f32>;
@group(0) @binding(4) var<storage, read> out_of: array<f32>;
@group(0) @binding(5) var<storage, read_write> to: array<f32>;
@group(0) @binding(6) var<storage, read> w_reverse: array<f32>;            // (G H, H) every w_reverse_stride
@group(0) @binding(7) var<storage, read> b_reverse: array<f32>;            // (G H) every b_reverse_stride

const COLUMNS = 16u;

fn weight(direction: u32, replica: u32, at: u32) -> f32 {
    if direction == 1u { return w_reverse[replica * p.w_reverse_stride + at]; }
    return w[replica * p.w_stride + at];
}

fn bias(direction: u32, replica: u32, row: u32) -> f32 {
    if direction == 1u { return b_reverse[replica * p.b_reverse_stride + row]; }
    return b[replica * p.b_stride + row];
}

// W_hh and b_hh of a replica and direction. A workgroup takes 64 rows and 16 columns; the last column is the bias.
@compute @workgroup_size(64)
fn recurrent_pack(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) local_index: u32) {
    let group = group_index(id, count);
    let blocks = (p.len + 63u) / 64u;
    let row = group % blocks * 64u + local_index;
    let first = group / blocks * COLUMNS;
    if row >= p.len { return; }
    let direction = id.z % p.directions;
    let replica = id.z / p.directions;
    let at = id.z * p.len * (p.hidden + 1u);
    for (var column = first; column < min(first + COLUMNS, p.hidden + 1u); column++) {
        var v: f32;
        var plain = at;
        if column < p.hidden {
            v = weight(direction, replica, row * p.hidden + column);
            plain += row * p.hidden + column;
        } else {
            v = bias(direction, replica, row);
            plain += p.len * p.hidden + row;
        }
        packed_weights[at + column * p.len + row] = v;
        if p.plain_at > 0u { packed_weights[p.plain_at + plain] = v; }
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
