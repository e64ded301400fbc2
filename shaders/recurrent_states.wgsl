// Packs the parameters of a recurrent layer for its forward pass, and copies states in and out.
#import grid

struct Params {
    len: u32,        // pack: G H, rows of the weights; move: all elements
    hidden: u32,     // H
    directions: u32, // D
    // from one replica to the next, and from the first direction to the other
    w_stride: u32,
    w_direction: u32,
    b_stride: u32,
    b_direction: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w: array<f32>;                    // (G H, H) of a replica and direction
@group(0) @binding(2) var<storage, read> b: array<f32>;                    // (G H)
@group(0) @binding(3) var<storage, read_write> packed_weights: array<f32>; // (R, D, (H + 1) G H)
@group(0) @binding(4) var<storage, read> out_of: array<f32>;
@group(0) @binding(5) var<storage, read_write> to: array<f32>;

const COLUMNS = 16u;

// W_hh, transposed, and b_hh of a replica and direction: in each step of the time loop neighbouring invocations, which
// work on neighbouring rows of W_hh, then read neighbours. A workgroup takes 64 rows and 16 columns; the last column is
// the bias.
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
    let from_w = replica * p.w_stride + direction * p.w_direction + row * p.hidden;
    let from_b = replica * p.b_stride + direction * p.b_direction + row;
    let at = id.z * p.len * (p.hidden + 1u) + row;
    for (var column = first; column < min(first + COLUMNS, p.hidden + 1u); column++) {
        var v: f32;
        if column < p.hidden { v = w[from_w + column]; } else { v = b[from_b]; }
        packed_weights[at + column * p.len] = v;
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
