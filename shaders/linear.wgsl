// Fully connected layer, y = f(x w^T + b), on any GPU.
//
//   forward          y  (M, N) = f(x (M, K) w (N, K)^T + b), f nothing, or ReLU and dropout, or sigmoid
//   backward input   grad_x (M, K) = g (M, N) w (N, K), g = grad_y f'
//   backward weight  grad_w (N, K) = g (M, N)^T x (M, K), and grad_b (N) = sum over M of g
//
// With S segments there is a product for each: segment s has the rows s, s + S, ... of x and y, and its own columns of
// w (N, S, K). L layers of one size are computed side by side, in the same dispatch: grad_x is the sum of those of all.
// With VEC4, N and K are multiples of 4; else the last four of a row may be fewer.
#import product
#import linear
#import dropout

// Of a layer: the next is x_layer, y_layer, ... elements further.
@group(0) @binding(1) var<storage, read> x: array<Value>;             // (R, M, S, K)
@group(0) @binding(2) var<storage, read> w: array<Value>;             // (N, S, K) every w_stride
@group(0) @binding(3) var<storage, read> b: array<Value>;             // (N) every b_stride
@group(0) @binding(4) var<storage, read_write> y: array<Value>;       // (R, M, S, columns)
@group(0) @binding(5) var<storage, read> grad_y: array<Value>;        // (R, M, S, columns)
@group(0) @binding(6) var<storage, read_write> grad_x: array<Value>;  // (R, M, S, K)
// grad_w (N, S, K) every grad_stride, and grad_b (N) every b_stride; or (R, slices, N S K + N) of both
@group(0) @binding(7) var<storage, read_write> grad_w: array<Value>;
@group(0) @binding(8) var<storage, read> saved_y: array<Value>;       // (R, M, S, columns)
@group(0) @binding(9) var<storage, read> clock: array<u32>;           // (R, 4): seed low, seed high, step, done

#ifdef VEC4
const WIDTH = 4u; // elements of a Value

// Four values from the `at`-th on, of which the first `left` are there.
fn four_of_x(at: u32, left: u32) -> vec4<f32> { return x[at / 4u]; }

fn four_of_w(at: u32, left: u32) -> vec4<f32> { return w[at / 4u]; }

fn four_of_b(at: u32, left: u32) -> vec4<f32> { return b[at / 4u]; }

fn four_of_g(at: u32, left: u32) -> vec4<f32> { return gradient(at / 4u); }

fn store_y(replica: u32, at: u32, left: u32, v: vec4<f32>) { finish_y(replica, at / 4u, v); }

fn store_grad_x(at: u32, left: u32, v: vec4<f32>) { finish_grad_x(at / 4u, v); }

fn store_grad_w(at: u32, left: u32, v: vec4<f32>, accumulate: u32) { finish_grad_w(at / 4u, v, accumulate); }
#else
const WIDTH = 1u;

fn four_of_x(at: u32, left: u32) -> vec4<f32> {
    var v: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { if i < left { v[i] = x[at + i]; } }
    return v;
}

fn four_of_w(at: u32, left: u32) -> vec4<f32> {
    var v: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { if i < left { v[i] = w[at + i]; } }
    return v;
}

fn four_of_b(at: u32, left: u32) -> vec4<f32> {
    var v: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { if i < left { v[i] = b[at + i]; } }
    return v;
}

fn four_of_g(at: u32, left: u32) -> vec4<f32> {
    var v: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { if i < left { v[i] = gradient(at + i); } }
    return v;
}

fn store_y(replica: u32, at: u32, left: u32, v: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) { if i < left { finish_y(replica, at + i, v[i]); } }
}

fn store_grad_x(at: u32, left: u32, v: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) { if i < left { finish_grad_x(at + i, v[i]); } }
}

fn store_grad_w(at: u32, left: u32, v: vec4<f32>, accumulate: u32) {
    for (var i = 0u; i < 4u; i++) { if i < left { finish_grad_w(at + i, v[i], accumulate); } }
}
#endif

fn gradient(at: u32) -> Value {
    let g = grad_y[at];
    if p.curve == 0u { return g; }
    return before_curve(g, saved_y[at]);
}

// Whether dropout follows: its code is longer than all the rest.
override DROPS: bool = false;

// Without dropout another buffer is bound as the clock, of any length.
fn clock_of(replica: u32) -> vec4<u32> {
    let i = 4u * replica;
    return vec4(clock[i], clock[i + 1u], clock[i + 2u], clock[i + 3u]);
}

fn finish_y(replica: u32, at: u32, sum: Value) {
    var v = sum;
    if p.accumulate == 1u { v += y[at]; }
    if p.curve == 1u { v = relu(v, p.slope); }
    if p.curve == 2u { v = 1.0 / (1.0 + exp(-v)); }
    if DROPS {
        let i = at - replica * p.m * p.segments * p.columns / WIDTH;
        v *= dropout_factor(i, p.stream, clock_of(replica), p.threshold, p.scale);
    }
    y[at] = v;
}

fn finish_grad_x(at: u32, sum: Value) {
    if (p.accumulate & 4u) != 0u { grad_x[at] += sum; } else { grad_x[at] = sum; }
}

fn finish_grad_w(at: u32, sum: Value, accumulate: u32) {
    if accumulate != 0u { grad_w[at] += sum; } else { grad_w[at] = sum; }
}

// Output n of a product, among rows of K weights; `weights` is the first of the replica and layer.
fn weights_of(weights: u32, product: u32, n: u32) -> u32 {
    return weights + (n * p.segments + product % p.segments) * p.k;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn linear_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) local_index: u32) {
    let tiles = (p.n + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let row0 = group / tiles / p.layers * TILE;
    let layer = group / tiles % p.layers;
    let col0 = group % tiles * TILE;
    let w0 = id.z / p.segments * p.w_stride + layer * p.w_layer;
    let line0 = line_along(local_index);
    let step = step_along(local_index);
    var sums: Sums;
    var block: Block;
    for (var d = p.k_from; ; d += DEPTH) {
        if d < p.k_to {
            let k = d + step;
            for (var j = 0u; j < 4u; j++) {
                let m = row0 + line0 + j;
                let n = col0 + line0 + j;
                block[j] = vec4(0.0);
                if k < p.k_to {
                    if fetches_a(local_index) && m < p.m {
                        block[j] = four_of_x(x_at(layer, row_of(id.z, m)) + k, p.k_to - k);
                    }
                    if fetches_b(local_index) && n < p.n {
                        block[j] = four_of_w(weights_of(w0, id.z, n) + k, p.k_to - k);
                    }
                }
            }
        }
        if d > p.k_from { multiply(&sums, local_index); }
        if d >= p.k_to { break; }
        workgroupBarrier();
        if fetches_a(local_index) { put_a(line0, step, transposed(block)); }
        if fetches_b(local_index) { put_b(line0, step, transposed(block)); }
        workgroupBarrier();
    }
    finish(&sums, local_index);
    for (var h = 0u; h < FOURS; h++) {
        let c = col0 + result_col(local_index, h);
        if c >= p.n { continue; }
        let left = p.n - c;
        var bias = vec4(0.0);
        if p.has_bias == 1u {
            bias = four_of_b(id.z / p.segments * p.b_stride + layer * p.b_layer + p.first + c, left);
        }
        for (var i = 0u; i < ROWS; i++) {
            let r = row0 + result_row(local_index, i);
            let at = y_at(layer, row_of(id.z, r)) + c;
            if r < p.m { store_y(id.z / p.segments, at, left, sums[i][h] + bias); }
        }
    }
}

// A tile of grad_x.
fn input_tile(product: u32, tile: u32, local_index: u32) {
    let tiles = (p.k + TILE - 1u) / TILE;
    let row0 = tile / tiles * TILE;
    let col0 = tile % tiles * TILE;
    var sums: Sums;
    var block: Block;
    for (var layer = 0u; layer < p.layers; layer++) {
        let w0 = product / p.segments * p.w_stride + layer * p.w_layer;
        for (var d = 0u; ; d += DEPTH) {
            if d < p.n {
                for (var j = 0u; j < 4u; j++) {
                    block[j] = vec4(0.0);
                    if fetches_a(local_index) {
                        let m = row0 + line_along(local_index) + j;
                        let n = d + step_along(local_index);
                        if m < p.m && n < p.n { block[j] = four_of_g(y_at(layer, row_of(product, m)) + n, p.n - n); }
                    }
                    if fetches_b(local_index) {
                        let c = col0 + line_across(local_index);
                        let n = d + step_across(local_index) + j;
                        if c < p.k && n < p.n { block[j] = four_of_w(weights_of(w0, product, n) + c, p.k - c); }
                    }
                }
            }
            if d > 0u { multiply(&sums, local_index); }
            if d >= p.n { break; }
            workgroupBarrier();
            if fetches_a(local_index) { put_a(line_along(local_index), step_along(local_index), transposed(block)); }
            if fetches_b(local_index) { put_b(line_across(local_index), step_across(local_index), block); }
            workgroupBarrier();
        }
    }
    finish(&sums, local_index);
    for (var h = 0u; h < FOURS; h++) {
        let c = col0 + result_col(local_index, h);
        if c >= p.k { continue; }
        for (var i = 0u; i < ROWS; i++) {
            let r = row0 + result_row(local_index, i);
            if r < p.m { store_grad_x(row_of(product, r) * p.k + c, p.k - c, sums[i][h]); }
        }
    }
}

fn weight_tiles() -> u32 { return (p.n + TILE - 1u) / TILE * ((p.k + TILE - 1u) / TILE); }

// A tile of grad_w, or of a slice of it: several are summed later. Those of the first columns also
// sum grad_b. `group`: a tile of a layer of a slice.
fn weight_tile(product: u32, group: u32, local_index: u32) {
    let tiles = (p.k + TILE - 1u) / TILE;
    let slice = group / weight_tiles() / p.layers;
    if slice >= p.slices { return; } // of a folded grid
    let layer = group / weight_tiles() % p.layers;
    let row0 = group % weight_tiles() / tiles * TILE;
    let col0 = group % tiles * TILE;
    let start = slice_start(slice);
    let end = slice_start(slice + 1u);
    let with_bias = p.has_bias == 1u && col0 == 0u;
    let line0 = line_across(local_index);
    let step = step_across(local_index);
    var sums: Sums;
    var bias: Lines;
    var block: Block;
    for (var d = start; ; d += DEPTH) {
        if d < end {
            let n = row0 + line0;
            let c = col0 + line0;
            for (var j = 0u; j < 4u; j++) {
                let m = row_of(product, d + step + j);
                block[j] = vec4(0.0);
                if d + step + j < end {
                    if fetches_a(local_index) && n < p.n { block[j] = four_of_g(y_at(layer, m) + n, p.n - n); }
                    if fetches_b(local_index) && c < p.k { block[j] = four_of_x(x_at(layer, m) + c, p.k - c); }
                }
            }
        }
        if d > start {
            multiply(&sums, local_index);
            if with_bias { add_lines(&bias, local_index); }
        }
        if d >= end { break; }
        workgroupBarrier();
        if fetches_a(local_index) { put_a(line0, step, block); }
        if fetches_b(local_index) { put_b(line0, step, block); }
        workgroupBarrier();
    }
    finish(&sums, local_index);
    let copy = product / p.segments * p.slices + slice;
    let w0 = p.w_at + copy * p.grad_stride + layer * p.grad_layer;
    for (var i = 0u; i < ROWS; i++) {
        let r = row0 + result_row(local_index, i);
        if r >= p.n { continue; }
        for (var h = 0u; h < FOURS; h++) {
            let c = col0 + result_col(local_index, h);
            let at = weights_of(w0, product, r) + c;
            if c < p.k { store_grad_w(at, p.k - c, sums[i][h], p.accumulate & 1u); }
        }
    }
    if !with_bias || !sums_lines(local_index) { return; }
    for (var h = 0u; h < LINES; h++) {
        let r = row0 + line_of(local_index, h);
        let at = p.b_at + copy * p.b_stride + layer * p.b_layer + r;
        if r < p.n { store_grad_w(at, p.n - r, bias[h], p.accumulate & 2u); }
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn linear_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) local_index: u32) {
    input_tile(id.z, group_index(id, count), local_index);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn linear_backward_weight(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    weight_tile(id.z, group_index(id, count), local_index);
}

#ifndef TILE128
// Both: the tiles of all layers and slices of grad_w, then those of grad_x. Products large enough for tiles of 128 do
// not need it.
@compute @workgroup_size(WORKGROUP_SIZE)
fn linear_backward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                   @builtin(local_invocation_index) local_index: u32) {
    let group = group_index(id, count);
    let first = weight_tiles() * p.layers * p.slices;
    if group < first {
        weight_tile(id.z, group, local_index);
    } else {
        input_tile(id.z, group - first, local_index);
    }
}
#endif
