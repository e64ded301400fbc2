// y (rows, W + n) = (x, e(row mod n)), e(i) the i-th unit vector of n; grad_x = the first W columns of grad_y.
#import grid

struct Params {
    rows: u32,  // of all replicas
    width: u32, // W
    n: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;            // (rows, W)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;      // (rows, W + n)
@group(0) @binding(3) var<storage, read> grad_y: array<f32>;       // (rows, W + n)
@group(0) @binding(4) var<storage, read_write> grad_x: array<f32>; // (rows, W)

@compute @workgroup_size(64)
fn append_one_hot_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    let columns = p.width + p.n;
    if i >= p.rows * columns { return; }
    let row = i / columns;
    let column = i % columns;
    if column < p.width { y[i] = x[row * p.width + column]; } else { y[i] = f32(column - p.width == row % p.n); }
}

@compute @workgroup_size(64)
fn append_one_hot_backward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                           @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.rows * p.width { return; }
    let v = grad_y[i / p.width * (p.width + p.n) + i % p.width];
    if p.accumulate == 1u { grad_x[i] += v; } else { grad_x[i] = v; }
}
