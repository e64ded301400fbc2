// Fully connected layer, y = f(x w^T + b), on any GPU: tiles in workgroup memory, 4 x 4 results per invocation.
//
//   forward          y  (M, N) = f(x (M, K) w (N, K)^T + b), f nothing or ReLU
//   backward input   grad_x (M, K) = grad_y (M, N) w (N, K)
//   backward weight  grad_w (N, K) = grad_y (M, N)^T x (M, K)
//   backward bias    grad_b (N)    = sum over M of grad_y
//
// All three products are C (rows, cols) = A (rows, depth) B (depth, cols); only the loads into the tiles differ.
// With S segments there is a product for each: segment s has the rows s, s + S, ... of x and y, and its own columns of
// w (N, S, K).
#import grid
#import tile_product
#import linear
#import value
#import nan

@group(0) @binding(1) var<storage, read> x: array<f32>;             // (R, M, S, K)
@group(0) @binding(2) var<storage, read> w: array<f32>;             // (N, S, K) every w_stride
@group(0) @binding(3) var<storage, read> b: array<f32>;             // (N) every b_stride
@group(0) @binding(4) var<storage, read_write> y: array<f32>;       // (R, M, S, N)
@group(0) @binding(5) var<storage, read> grad_y: array<f32>;        // (R, M, S, N)
@group(0) @binding(6) var<storage, read_write> grad_x: array<f32>;  // (R, M, S, K)
// (N, S, K) every w_stride for R and slices, or (R, slices, N)
@group(0) @binding(7) var<storage, read_write> partial: array<f32>;
@group(0) @binding(8) var<storage, read_write> total: array<f32>;   // grad_w, grad_b or grad_x, every w_stride

// Row m of a product, among the rows of x or y.
fn row_of(product: u32, m: u32) -> u32 {
    return (product / p.segments * p.m + m) * p.segments + product % p.segments;
}

// Output n of a product, among rows of K weights; `weights` is the first of the replica.
fn weights_of(weights: u32, product: u32, n: u32) -> u32 {
    return weights + (n * p.segments + product % p.segments) * p.k;
}

@compute @workgroup_size(64)
fn linear_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) local_index: u32) {
    let tiles = (p.n + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let row0 = group / tiles * TILE;
    let col0 = group % tiles * TILE;
    let row = local_index / 8u * 4u;
    let col = local_index % 8u * 4u;
    let w0 = id.z / p.segments * p.w_stride;
    var acc: array<vec4<f32>, 4>;
    for (var d0 = p.k_from; d0 < p.k_to; d0 += DEPTH) {
        for (var i = local_index; i < TILE * DEPTH; i += WORKGROUP_SIZE) {
            let d = i % DEPTH;
            let tile_row = i / DEPTH;
            let inside = d0 + d < p.k_to;
            var a = 0.0;
            var bb = 0.0;
            if inside && row0 + tile_row < p.m { a = x[row_of(id.z, row0 + tile_row) * p.k + d0 + d]; }
            if inside && col0 + tile_row < p.n { bb = w[weights_of(w0, id.z, col0 + tile_row) + d0 + d]; }
            a_tile[d * TILE + tile_row] = a;
            b_tile[d * TILE + tile_row] = bb;
        }
        workgroupBarrier();
        multiply(&acc, row, col);
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let r = row0 + row + i;
            let c = col0 + col + j;
            if r < p.m && c < p.n {
                let at = row_of(id.z, r) * p.columns + p.first + c;
                var v = acc[i][j];
                if p.accumulate == 1u { v += y[at]; }
                if p.has_bias == 1u { v += b[id.z / p.segments * p.b_stride + p.first + c]; }
                if p.relu == 1u { v = keep_nan(v, max(v, 0.0)); }
                y[at] = v;
            }
        }
    }
}

@compute @workgroup_size(64)
fn linear_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) local_index: u32) {
    let tiles = (p.k + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let row0 = group / tiles * TILE;
    let col0 = group % tiles * TILE;
    let row = local_index / 8u * 4u;
    let col = local_index % 8u * 4u;
    let w0 = id.z / p.segments * p.w_stride;
    var acc: array<vec4<f32>, 4>;
    for (var d0 = 0u; d0 < p.n; d0 += DEPTH) {
        for (var i = local_index; i < TILE * DEPTH; i += WORKGROUP_SIZE) {
            let at_depth_a = i % DEPTH;
            let tile_row = i / DEPTH;
            var a = 0.0;
            if d0 + at_depth_a < p.n && row0 + tile_row < p.m {
                a = grad_y[row_of(id.z, row0 + tile_row) * p.columns + p.first + d0 + at_depth_a];
            }
            a_tile[at_depth_a * TILE + tile_row] = a;
            let c = i % TILE;
            let at_depth_b = i / TILE;
            var bb = 0.0;
            if d0 + at_depth_b < p.n && col0 + c < p.k { bb = w[weights_of(w0, id.z, d0 + at_depth_b) + col0 + c]; }
            b_tile[at_depth_b * TILE + c] = bb;
        }
        workgroupBarrier();
        multiply(&acc, row, col);
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let r = row0 + row + i;
            let c = col0 + col + j;
            if r < p.m && c < p.k {
                let at = row_of(id.z, r) * p.k + c;
                if p.accumulate == 1u { grad_x[at] += acc[i][j]; } else { grad_x[at] = acc[i][j]; }
            }
        }
    }
}

// The rows of grad_y and x that belong to a slice of M. A single slice's `partial` is grad_w itself.
fn slice_start(slice: u32) -> u32 { return p.m * slice / p.slices; }

@compute @workgroup_size(64)
fn linear_backward_weight(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let tiles = (p.k + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let product = id.z / p.slices;
    let slice = id.z % p.slices;
    let row0 = group / tiles * TILE;
    let col0 = group % tiles * TILE;
    let row = local_index / 8u * 4u;
    let col = local_index % 8u * 4u;
    let end = slice_start(slice + 1u);
    var acc: array<vec4<f32>, 4>;
    for (var d0 = slice_start(slice); d0 < end; d0 += DEPTH) {
        for (var i = local_index; i < TILE * DEPTH; i += WORKGROUP_SIZE) {
            let tile_row = i % TILE;
            let d = i / TILE;
            let inside = d0 + d < end;
            let m = row_of(product, d0 + d);
            var a = 0.0;
            var bb = 0.0;
            if inside && row0 + tile_row < p.n { a = grad_y[m * p.columns + p.first + row0 + tile_row]; }
            if inside && col0 + tile_row < p.k { bb = x[m * p.k + col0 + tile_row]; }
            a_tile[d * TILE + tile_row] = a;
            b_tile[d * TILE + tile_row] = bb;
        }
        workgroupBarrier();
        multiply(&acc, row, col);
        workgroupBarrier();
    }
    let partial0 = (product / p.segments * p.slices + slice) * p.w_stride;
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let r = row0 + row + i;
            let c = col0 + col + j;
            if r < p.n && c < p.k {
                let at = weights_of(partial0, product, r) + c;
                if p.accumulate == 1u { partial[at] += acc[i][j]; } else { partial[at] = acc[i][j]; }
            }
        }
    }
}

@compute @workgroup_size(64)
fn linear_backward_bias(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let c = group_index(id, count) * WORKGROUP_SIZE + local_index;
    let replica = id.z / p.slices;
    let slice = id.z % p.slices;
    if c >= p.n { return; }
    var sum = 0.0;
    for (var m = slice_start(slice); m < slice_start(slice + 1u); m++) {
        sum += grad_y[(replica * p.m + m) * p.n + c];
    }
    partial[id.z * p.n + c] = sum;
}

// Reduces the slices, in order. Here n * k is the number of weights (k = 1 for a bias), in one segment; or of the
// elements of grad_x, in a single slice.
@compute @workgroup_size(64)
fn linear_backward_slices(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    let len = p.n * p.k;
    if i >= len { return; }
    var sum = 0.0;
    for (var s = 0u; s < p.slices; s++) { sum += partial[(id.z * p.slices + s) * len + i]; }
    let at = id.z * p.w_stride + i;
    if p.accumulate == 1u { total[at] += sum; } else { total[at] = sum; }
}
