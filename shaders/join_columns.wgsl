// y (rows, W) holds the columns of x (rows, F) from `first` on, and after them those of x_next (rows, G); grad_x and
// grad_x_next are those columns of grad_y.
#import grid

struct Params {
    rows: u32,    // of all replicas
    columns: u32, // W
    first: u32,
    width: u32,   // F
    next: u32,    // G; 0: only x
    accumulate: u32, // bits: 1 add to grad_x, 2 to grad_x_next
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                 // (rows, F)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;           // (rows, W)
@group(0) @binding(3) var<storage, read> grad_y: array<f32>;            // (rows, W)
@group(0) @binding(4) var<storage, read_write> grad_x: array<f32>;      // (rows, F)
@group(0) @binding(5) var<storage, read> x_next: array<f32>;            // (rows, G)
@group(0) @binding(6) var<storage, read_write> grad_x_next: array<f32>; // (rows, G)

@compute @workgroup_size(64)
fn join_columns_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    let both = p.width + p.next;
    if i >= p.rows * both { return; }
    let row = i / both;
    let column = i % both;
    var v: f32;
    if column < p.width { v = x[row * p.width + column]; } else { v = x_next[row * p.next + column - p.width]; }
    y[row * p.columns + p.first + column] = v;
}

@compute @workgroup_size(64)
fn join_columns_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                               @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    let both = p.width + p.next;
    if i >= p.rows * both { return; }
    let row = i / both;
    let column = i % both;
    let v = grad_y[row * p.columns + p.first + column];
    if column < p.width {
        let at = row * p.width + column;
        if (p.accumulate & 1u) != 0u { grad_x[at] += v; } else { grad_x[at] = v; }
    } else {
        let at = row * p.next + column - p.width;
        if (p.accumulate & 2u) != 0u { grad_x_next[at] += v; } else { grad_x_next[at] = v; }
    }
}
