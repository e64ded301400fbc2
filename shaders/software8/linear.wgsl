// Fully connected layer for adapters with subgroups of 8 invocations, such as software Vulkan on AVX2: a subgroup
// computes 32 x 32 results. There a load costs several multiply-adds, least from a texture, and a broadcast next to
// nothing: a tile loads each element once, four steps of the depth at a time, and broadcasts it. No barriers, no
// workgroup memory. Shapes and layers as in ../linear.wgsl, but grad_x is that of one layer. With VEC4 N and K are
// multiples of 4; without they need not be: then each four values come from two texels, and what follows the last row
// or step is replaced by zeros.
enable subgroups;
#import grid
#import software8/product
#import texel
#import linear
#import stored

// p.accumulate and p.curve, as constants: a CPU goes through both sides of a branch unless the compiler knows which.
override ACCUMULATE: u32 = 0u;
override CURVE: u32 = 0u;

#ifdef VEC4
const WIDTH = 4u; // elements of a Value, in which views are indexed
#else
const WIDTH = 1u;
#endif

@group(0) @binding(1) var x: Texels;                                     // (R, M, S, K)
@group(0) @binding(2) var w: Texels;                                     // (N, S, K) every w_stride
@group(0) @binding(3) var<storage, read> b: array<Value>;                // (N) every b_stride
@group(0) @binding(4) var<storage, read_write> y: array<Stored>;         // (R, M, S, N)
@group(0) @binding(5) var grad_y: Texels;                                // (R, M, S, N)
@group(0) @binding(6) var<storage, read_write> grad_x: array<Stored>;    // (R, M, S, K)
// (N, S, K) every grad_stride; and grad_b (N) every b_stride
@group(0) @binding(7) var<storage, read_write> grad_w: array<Stored>;

#ifndef VEC4
// Four values from the i-th on.
fn four(t: Texels, i: u32) -> vec4<f32> {
    let low = texel(t, i / 4u);
    let high = texel(t, i / 4u + 1u);
    let odd = (i & 1u) == 1u;
    let first = select(low, vec4(low.yzw, high.x), odd);
    let next = select(high.xy, high.yz, odd);
    return select(first, vec4(first.zw, next), (i & 2u) == 2u);
}

// The first `left` of these, then zeros.
fn leading(v: vec4<f32>, left: u32) -> vec4<f32> {
    return select(vec4(0.0), v, vec4(0u, 1u, 2u, 3u) < vec4(left));
}

fn at_most(i: vec4<u32>, last: u32) -> vec4<u32> { return min(i, vec4(last)); }
#else
fn four(t: Texels, i: u32) -> vec4<f32> { return texel(t, i); }
fn leading(v: vec4<f32>, left: u32) -> vec4<f32> { return v; }
fn at_most(i: vec4<u32>, last: u32) -> vec4<u32> { return i; }
#endif

fn store_y(i: u32, sum: Value) {
    var v = sum;
    if ACCUMULATE == 1u { v += value(y[i]); }
    if CURVE == 1u { v = relu(v, p.slope); }
    y[i] = stored(v);
}

fn store_grad_x(i: u32, v: Value) {
    if (ACCUMULATE & 4u) == 4u { grad_x[i] = stored(value(grad_x[i]) + v); } else { grad_x[i] = stored(v); }
}

fn store_grad_w(i: u32, v: Value) {
    if (ACCUMULATE & 1u) == 1u { grad_w[i] = stored(value(grad_w[i]) + v); } else { grad_w[i] = stored(v); }
}

fn store_grad_b(i: u32, v: Value) {
    if (ACCUMULATE & 2u) == 2u { grad_w[i] = stored(value(grad_w[i]) + v); } else { grad_w[i] = stored(v); }
}

// The `left` columns of v that a row has.
fn put_y(at: u32, row: u32, left: u32, v: vec4<f32>) {
    if row >= p.m { return; }
    let i = at + row * p.segments * (p.columns / WIDTH);
#ifndef VEC4
    store_y(i, v.x);
    if left > 1u { store_y(i + 1u, v.y); }
    if left > 2u { store_y(i + 2u, v.z); }
    if left > 3u { store_y(i + 3u, v.w); }
#else
    store_y(i, v);
#endif
}

fn put_grad_x(at: u32, row: u32, left: u32, v: vec4<f32>) {
    if row >= p.m { return; }
    let i = at + row * p.segments * (p.k / WIDTH);
#ifndef VEC4
    store_grad_x(i, v.x);
    if left > 1u { store_grad_x(i + 1u, v.y); }
    if left > 2u { store_grad_x(i + 2u, v.z); }
    if left > 3u { store_grad_x(i + 3u, v.w); }
#else
    store_grad_x(i, v);
#endif
}

fn put_grad_w(at: u32, row: u32, left: u32, v: vec4<f32>) {
    if row >= p.n { return; }
    let i = at + row * p.segments * (p.k / WIDTH);
#ifndef VEC4
    store_grad_w(i, v.x);
    if left > 1u { store_grad_w(i + 1u, v.y); }
    if left > 2u { store_grad_w(i + 2u, v.z); }
    if left > 3u { store_grad_w(i + 3u, v.w); }
#else
    store_grad_w(i, v);
#endif
}

fn put_rows_y(at: u32, row: u32, left: u32, bias: vec4<f32>, t: Rows) {
    put_y(at, row, left, t[0] + bias);
    put_y(at, row + 1u, left, t[1] + bias);
    put_y(at, row + 2u, left, t[2] + bias);
    put_y(at, row + 3u, left, t[3] + bias);
    put_y(at, row + 4u, left, t[4] + bias);
    put_y(at, row + 5u, left, t[5] + bias);
    put_y(at, row + 6u, left, t[6] + bias);
    put_y(at, row + 7u, left, t[7] + bias);
}

fn put_rows_grad_x(at: u32, row: u32, left: u32, t: Rows) {
    put_grad_x(at, row, left, t[0]);
    put_grad_x(at, row + 1u, left, t[1]);
    put_grad_x(at, row + 2u, left, t[2]);
    put_grad_x(at, row + 3u, left, t[3]);
    put_grad_x(at, row + 4u, left, t[4]);
    put_grad_x(at, row + 5u, left, t[5]);
    put_grad_x(at, row + 6u, left, t[6]);
    put_grad_x(at, row + 7u, left, t[7]);
}

// Every fourth row, as linear_backward_weight distributes them.
fn put_rows_grad_w(at: u32, row: u32, left: u32, t: Rows) {
    put_grad_w(at, row, left, t[0]);
    put_grad_w(at, row + 4u, left, t[1]);
    put_grad_w(at, row + 8u, left, t[2]);
    put_grad_w(at, row + 12u, left, t[3]);
    put_grad_w(at, row + 16u, left, t[4]);
    put_grad_w(at, row + 20u, left, t[5]);
    put_grad_w(at, row + 24u, left, t[6]);
    put_grad_w(at, row + 28u, left, t[7]);
}

@compute @workgroup_size(8)
fn linear_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.n + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let row = group / tiles / p.layers * TILE;
    let layer = group / tiles % p.layers;
    let col = group % tiles * TILE + 4u * lane;
    let depth = p.k / WIDTH;
    // Loads past the edge repeat the last row; their results are not stored.
    let replica = id.z / p.segments;
    let segment = id.z % p.segments;
    let lines = min(vec4(row + lane) + vec4(0u, 8u, 16u, 24u), vec4(p.m - 1u));
    let start = p.k_from / WIDTH;
    var rows = layer * (p.x_layer / WIDTH) + ((replica * p.m + lines) * p.segments + segment) * depth + start;
    let next = p.segments * depth;
    let outputs = at_most(vec4(min(col, p.n - WIDTH)) + vec4(0u, 1u, 2u, 3u), p.n - 1u);
    var cols = (replica * p.w_stride + layer * p.w_layer) / WIDTH + outputs * next + segment * depth + start;
    var t0: Rows;
    var t1: Rows;
    var t2: Rows;
    var t3: Rows;
    for (var d = p.k_from; d < p.k_to; d += 4u) {
        let left = p.k_to - d;
        let b = transpose(mat4x4(leading(four(w, cols.x), left), leading(four(w, cols.y), left),
                                 leading(four(w, cols.z), left), leading(four(w, cols.w), left)));
        update(&t0, leading(four(x, rows.x), left), b);
        update(&t1, leading(four(x, rows.y), left), b);
        update(&t2, leading(four(x, rows.z), left), b);
        update(&t3, leading(four(x, rows.w), left), b);
        rows += 4u / WIDTH;
        cols += 4u / WIDTH;
    }
    if col >= p.n { return; }
    let left = p.n - col;
    var bias = vec4(0.0);
    if p.has_bias == 1u {
        let i = (replica * p.b_stride + layer * p.b_layer + p.first + col) / WIDTH;
#ifndef VEC4
        let last = i + left - 1u;
        bias = vec4(b[i], b[min(i + 1u, last)], b[min(i + 2u, last)], b[min(i + 3u, last)]);
#else
        bias = b[i];
#endif
    }
    let at = (y_at(layer, replica * p.m * p.segments + segment) + col) / WIDTH;
    put_rows_y(at, row, left, bias, t0);
    put_rows_y(at, row + 8u, left, bias, t1);
    put_rows_y(at, row + 16u, left, bias, t2);
    put_rows_y(at, row + 24u, left, bias, t3);
}

@compute @workgroup_size(8)
fn linear_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                   @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.k + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let row = group / tiles * TILE;
    let col = group % tiles * TILE + 4u * lane;
    let height = p.columns / WIDTH;
    let width = p.segments * p.k / WIDTH;
    let replica = id.z / p.segments;
    let segment = id.z % p.segments;
    let lines = min(vec4(row + lane) + vec4(0u, 8u, 16u, 24u), vec4(p.m - 1u));
    var rows = ((replica * p.m + lines) * p.segments + segment) * height + p.first / WIDTH;
    let first = (replica * p.w_stride + segment * p.k + min(col, p.k - WIDTH)) / WIDTH;
    let last = first + (p.n - 1u) * width;
    var cols = first + vec4(0u, 1u, 2u, 3u) * width;
    var t0: Rows;
    var t1: Rows;
    var t2: Rows;
    var t3: Rows;
    for (var d = 0u; d < p.n; d += 4u) {
        let left = p.n - d;
        let at = at_most(cols, last);
        let b = mat4x4(four(w, at.x), four(w, at.y), four(w, at.z), four(w, at.w));
        update(&t0, leading(four(grad_y, rows.x), left), b);
        update(&t1, leading(four(grad_y, rows.y), left), b);
        update(&t2, leading(four(grad_y, rows.z), left), b);
        update(&t3, leading(four(grad_y, rows.w), left), b);
        rows += 4u / WIDTH;
        cols += 4u * width;
    }
    if col >= p.k { return; }
    let at = ((replica * p.m * p.segments + segment) * p.k + col) / WIDTH;
    put_rows_grad_x(at, row, p.k - col, t0);
    put_rows_grad_x(at, row + 8u, p.k - col, t1);
    put_rows_grad_x(at, row + 16u, p.k - col, t2);
    put_rows_grad_x(at, row + 24u, p.k - col, t3);
}

// Here the rows of a tile are outputs n, and the depth is M. Invocation i loads outputs 4 i to 4 i + 3 of the tile, so
// t0 to t3 hold every fourth row. Their sums over M are grad_b, for which one tile of each row is enough.
@compute @workgroup_size(8)
fn linear_backward_weight(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                    @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.k + TILE - 1u) / TILE;
    let tiles_of_layer = (p.n + TILE - 1u) / TILE * tiles;
    let group = group_index(id, count);
    let layer = group / tiles_of_layer;
    if layer >= p.layers { return; }
    let row = group % tiles_of_layer / tiles * TILE;
    let col = group % tiles * TILE + 4u * lane;
    let replica = id.z / p.segments;
    let segment = id.z % p.segments;
    let height = p.segments * p.columns / WIDTH;
    let width = p.segments * p.k / WIDTH;
    let rows = (y_at(layer, segment) + min(row + 4u * lane, p.n - WIDTH)) / WIDTH;
    let cols = (x_at(layer, segment) + min(col, p.k - WIDTH)) / WIDTH;
    let first = replica * p.m;
    var t0: Rows;
    var t1: Rows;
    var t2: Rows;
    var t3: Rows;
    var sums = vec4(0.0);
    for (var d = 0u; d < p.m; d += 4u) {
        // Steps past the end repeat the last one, times zero.
        let m = first + min(vec4(d) + vec4(0u, 1u, 2u, 3u), vec4(p.m - 1u));
        let live = vec4<f32>(vec4(d) + vec4(0u, 1u, 2u, 3u) < vec4(p.m));
        let g = m * height + rows;
        let a = transpose(mat4x4(four(grad_y, g.x) * live.x, four(grad_y, g.y) * live.y,
                                 four(grad_y, g.z) * live.z, four(grad_y, g.w) * live.w));
        sums += vec4(dot(a[0], vec4(1.0)), dot(a[1], vec4(1.0)), dot(a[2], vec4(1.0)), dot(a[3], vec4(1.0)));
        let at = m * width + cols;
        let b = mat4x4(four(x, at.x), four(x, at.y), four(x, at.z), four(x, at.w));
        update(&t0, a[0], b);
        update(&t1, a[1], b);
        update(&t2, a[2], b);
        update(&t3, a[3], b);
    }
    if p.has_bias == 1u && group % tiles == 0u && row + 4u * lane < p.n {
        let i = (p.b_at + replica * p.b_stride + layer * p.b_layer + row + 4u * lane) / WIDTH;
#ifndef VEC4
        let outputs = p.n - row - 4u * lane;
        store_grad_b(i, sums.x);
        if outputs > 1u { store_grad_b(i + 1u, sums.y); }
        if outputs > 2u { store_grad_b(i + 2u, sums.z); }
        if outputs > 3u { store_grad_b(i + 3u, sums.w); }
#else
        store_grad_b(i, sums);
#endif
    }
    if col >= p.k { return; }
    let at = (p.w_at + replica * p.grad_stride + layer * p.grad_layer + segment * p.k + col) / WIDTH;
    put_rows_grad_w(at, row, p.k - col, t0);
    put_rows_grad_w(at, row + 1u, p.k - col, t1);
    put_rows_grad_w(at, row + 2u, p.k - col, t2);
    put_rows_grad_w(at, row + 3u, p.k - col, t3);
}
