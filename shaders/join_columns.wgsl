// y (rows, W) holds the columns of x (rows, F) from `first` on; grad_x is those columns of grad_y.
#import grid

struct Params {
    rows: u32,  // of all replicas
    width: u32, // F
    columns: u32, // W
    first: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;            // (rows, F)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;      // (rows, W)
@group(0) @binding(3) var<storage, read> grad_y: array<f32>;       // (rows, W)
@group(0) @binding(4) var<storage, read_write> grad_x: array<f32>; // (rows, F)

@compute @workgroup_size(64)
fn join_columns_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                       @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.rows * p.width { return; }
    y[i / p.width * p.columns + p.first + i % p.width] = x[i];
}

@compute @workgroup_size(64)
fn join_columns_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.rows * p.width { return; }
    let v = grad_y[i / p.width * p.columns + p.first + i % p.width];
    if p.accumulate == 1u { grad_x[i] += v; } else { grad_x[i] = v; }
}
