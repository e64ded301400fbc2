// 3 x 3 convolution for subgroups of 8 invocations: a subgroup computes 4 x 8 pixels of 8, 16 or 32 output channels,
// in registers. Loads decide: the pixels of a tile are loaded once, four input channels at a time, by different
// invocations, and broadcast to all nine taps. All of it comes from textures. Shapes and the other kernels as in
// ../conv2d.wgsl; C is a multiple of 4, or 1 with SCALAR_INPUT.
enable subgroups;
#import grid
#import conv2d
#import texel

// Output channels of an invocation.
#ifdef SCALAR_OUTPUT
alias Value = f32;
alias Bits = u32;
const WIDTH = 1u;
#else
#ifdef VEC2_OUTPUT
alias Value = vec2<f32>;
alias Bits = vec2<u32>;
const WIDTH = 2u;
#else
alias Value = vec4<f32>;
alias Bits = vec4<u32>;
const WIDTH = 4u;
#endif
#endif
#import nan

// Output channels of a workgroup.
const CHANNELS = 8u * WIDTH;
// Rows and columns of a tile.
const ROWS = 4u;
const COLUMNS = 8u;
#ifdef SCALAR_INPUT
alias Input = f32;
const CHUNK = 1u;
@group(0) @binding(1) var<storage, read> x: array<f32>;                    // (B, H, W, C) every x_stride
#else
alias Input = vec4<f32>;
const CHUNK = 4u;
@group(0) @binding(1) var x: Texels;                                       // (B, H, W, C) every x_stride; g for grad_x
#endif
// Positions of a row of the kernel.
const STEPS = 3u * CHUNK;
// Vectors of them, of a channel.
const ROW_LEN = (STEPS + 3u) / 4u;
const KERNEL_LEN = 3u * ROW_LEN;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var weights: Texels;                                 // see conv2d_3x3_pack
@group(0) @binding(3) var<storage, read> b: array<Value>;                  // (N) every b_stride
@group(0) @binding(4) var<storage, read_write> y: array<Value>;            // (R, B, H, W, N), or grad_x
@group(0) @binding(5) var grad_y: Texels;                                  // (R, M, N)
@group(0) @binding(6) var<storage, read_write> partial: array<Input>;      // (R, slices, N, depth)
@group(0) @binding(7) var<storage, read_write> sums: array<Value>;         // (R, slices, N)
@group(0) @binding(8) var<storage, read> w: array<f32>;                    // (N, C, 3, 3) every w_stride
@group(0) @binding(9) var<storage, read_write> packed_weights: array<f32>;

alias Pixels = array<Value, 8>;
alias Taps = array<Value, STEPS>;

// Workgroups for the output channels.
fn panels() -> u32 { return (p.n + CHANNELS - 1u) / CHANNELS; }

// Where a tile lies.
struct Tile {
    first: u32, // its image's first pixel
    row: u32,
    column: u32,
}

fn tiles_of_row() -> u32 { return (p.width + COLUMNS - 1u) / COLUMNS; }

fn tiles_of_column() -> u32 { return (p.height + ROWS - 1u) / ROWS; }

fn tile_at(i: u32) -> Tile {
    let strip = i / tiles_of_row();
    let image = strip / tiles_of_column();
    let row = (strip - image * tiles_of_column()) * ROWS;
    return Tile(image * p.height * p.width, row, (i - strip * tiles_of_row()) * COLUMNS);
}

// The first tile of a slice.
fn first_tile(slice: u32) -> u32 {
    return p.m / (p.height * p.width) * tiles_of_column() * tiles_of_row() * slice / p.slices;
}

// The pixels that a tile needs: invocation i holds column i of the six rows, and row i of the columns beside them.
struct Window {
    row0: Input,
    row1: Input,
    row2: Input,
    row3: Input,
    row4: Input,
    row5: Input,
    left: Input,
    right: Input,
}

#ifdef SCALAR_INPUT
fn image_value(at: u32) -> f32 { return x[at]; }
#else
fn image_value(at: u32) -> vec4<f32> { return texel(x, at); }
#endif

// Loads from row and column 1 before these; pixels outside the image are 0.
fn pixel(at: u32, t: Tile, row: u32, column: u32) -> Input {
    let h = t.row + row - 1u;
    let w = t.column + column - 1u;
    var v = Input(0.0);
    if h < p.height && w < p.width { v = image_value(at + (h * p.width + w) * (p.c / CHUNK)); }
    return v;
}

fn window(replica: u32, t: Tile, chunk: u32, lane: u32) -> Window {
    let at = (replica * p.x_stride + t.first * p.c) / CHUNK + chunk;
    var v: Window;
    v.row0 = pixel(at, t, 0u, lane + 1u);
    v.row1 = pixel(at, t, 1u, lane + 1u);
    v.row2 = pixel(at, t, 2u, lane + 1u);
    v.row3 = pixel(at, t, 3u, lane + 1u);
    v.row4 = pixel(at, t, 4u, lane + 1u);
    v.row5 = pixel(at, t, 5u, lane + 1u);
    if lane < 6u {
        v.left = pixel(at, t, lane, 0u);
        v.right = pixel(at, t, lane, COLUMNS + 1u);
    }
    return v;
}

// The window one row below.
fn below(v: Window, lane: u32) -> Window {
    return Window(v.row1, v.row2, v.row3, v.row4, v.row5, v.row5,
                  subgroupShuffle(v.left, (lane + 1u) % 8u), subgroupShuffle(v.right, (lane + 1u) % 8u));
}

#ifdef SCALAR_INPUT
fn add3(t: Value, w: ptr<function, Taps>, a: Input, b: Input, c: Input) -> Value {
    return t + a * (*w)[0] + b * (*w)[1] + c * (*w)[2];
}

#else
fn add3(t: Value, w: ptr<function, Taps>, a: Input, b: Input, c: Input) -> Value {
    return t + a.x * (*w)[0] + a.y * (*w)[1] + a.z * (*w)[2] + a.w * (*w)[3]
             + b.x * (*w)[4] + b.y * (*w)[5] + b.z * (*w)[6] + b.w * (*w)[7]
             + c.x * (*w)[8] + c.y * (*w)[9] + c.z * (*w)[10] + c.w * (*w)[11];
}
#endif

// Vectors of weights of a panel.
fn panel_len() -> u32 { return p.c / CHUNK * KERNEL_LEN * CHANNELS; }

// An invocation's weights for a row of the kernel: of its channels, in turn, the vectors from `at` on.
#ifdef SCALAR_INPUT
fn kernel_row(at: u32) -> Taps {
#ifdef SCALAR_OUTPUT
    let a = texel(weights, at);
    return Taps(a.x, a.y, a.z);
#else
#ifdef VEC2_OUTPUT
    let a = two_channels(at);
#else
    let a = four_channels(at);
#endif
    return Taps(a[0], a[1], a[2]);
#endif
}
#else
fn kernel_row(at: u32) -> Taps {
    let next = CHANNELS;
#ifdef SCALAR_OUTPUT
    let a = texel(weights, at);
    let b = texel(weights, at + next);
    let c = texel(weights, at + 2u * next);
    return Taps(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w, c.x, c.y, c.z, c.w);
#else
#ifdef VEC2_OUTPUT
    let a = two_channels(at);
    let b = two_channels(at + next);
    let c = two_channels(at + 2u * next);
#else
    let a = four_channels(at);
    let b = four_channels(at + next);
    let c = four_channels(at + 2u * next);
#endif
    return Taps(a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3]);
#endif
}
#endif

fn two_channels(at: u32) -> mat4x2<f32> { return transpose(mat2x4(texel(weights, at), texel(weights, at + 1u))); }

fn four_channels(at: u32) -> mat4x4<f32> {
    return transpose(mat4x4(texel(weights, at), texel(weights, at + 1u),
                            texel(weights, at + 2u), texel(weights, at + 3u)));
}

// A row of pixels from a row of the window: adds three taps.
fn add_row(t: ptr<function, Pixels>, w: ptr<function, Taps>, v: Input, left: Input, right: Input) {
    let x0 = subgroupBroadcast(v, 0u);
    let x1 = subgroupBroadcast(v, 1u);
    let x2 = subgroupBroadcast(v, 2u);
    let x3 = subgroupBroadcast(v, 3u);
    let x4 = subgroupBroadcast(v, 4u);
    let x5 = subgroupBroadcast(v, 5u);
    let x6 = subgroupBroadcast(v, 6u);
    let x7 = subgroupBroadcast(v, 7u);
    (*t)[0] = add3((*t)[0], w, left, x0, x1);
    (*t)[1] = add3((*t)[1], w, x0, x1, x2);
    (*t)[2] = add3((*t)[2], w, x1, x2, x3);
    (*t)[3] = add3((*t)[3], w, x2, x3, x4);
    (*t)[4] = add3((*t)[4], w, x3, x4, x5);
    (*t)[5] = add3((*t)[5], w, x4, x5, x6);
    (*t)[6] = add3((*t)[6], w, x5, x6, x7);
    (*t)[7] = add3((*t)[7], w, x6, x7, right);
}

// Where a row of a tile lies.
struct Row {
    at: u32,    // its first pixel, in Value
    count: u32, // its pixels in the image
}

fn row_at(at: u32, t: Tile, row: u32, live: bool) -> Row {
    let i = at + (t.first + (t.row + row) * p.width + t.column) * (p.n / WIDTH);
    return Row(i, select(0u, p.width - t.column, live && t.row + row < p.height));
}

fn put(at: u32, live: bool, bias: Value, sum: Value) {
    if !live { return; }
    var v = sum + bias;
    if p.relu == 1u { v = keep_nan(v, max(v, Value(0.0))); }
    if p.accumulate == 1u { v += y[at]; }
    y[at] = v;
}

fn put_row(row: Row, bias: Value, v: Pixels) {
    let stride = p.n / WIDTH;
    put(row.at, 0u < row.count, bias, v[0]);
    put(row.at + stride, 1u < row.count, bias, v[1]);
    put(row.at + 2u * stride, 2u < row.count, bias, v[2]);
    put(row.at + 3u * stride, 3u < row.count, bias, v[3]);
    put(row.at + 4u * stride, 4u < row.count, bias, v[4]);
    put(row.at + 5u * stride, 5u < row.count, bias, v[5]);
    put(row.at + 6u * stride, 6u < row.count, bias, v[6]);
    put(row.at + 7u * stride, 7u < row.count, bias, v[7]);
}

fn convolve(replica: u32, group: u32, lane: u32) {
    let slice = group / panels();
    if slice >= p.slices { return; } // beyond the end of a folded grid
    let panel = group - slice * panels();
    let col = panel * CHANNELS + WIDTH * lane;
    let live = col < p.n;
    let known = min(col, p.n - WIDTH);
    var bias = Value(0.0);
    if p.has_bias == 1u { bias = b[(replica * p.b_stride + known) / WIDTH]; }
    let at = (replica * p.m * p.n + known) / WIDTH;
    let first_weight = (replica * panels() + panel) * panel_len() + WIDTH * lane;
    for (var i = first_tile(slice); i < first_tile(slice + 1u); i++) {
        let t = tile_at(i);
        var t0: Pixels;
        var t1: Pixels;
        var t2: Pixels;
        var t3: Pixels;
        var at_weight = first_weight;
        for (var chunk = 0u; chunk < p.c / CHUNK; chunk++) {
            var v = window(replica, t, chunk, lane);
            for (var row = 0u; row < 3u; row++) {
                var w = kernel_row(at_weight);
                at_weight += ROW_LEN * CHANNELS;
                add_row(&t0, &w, v.row0, subgroupBroadcast(v.left, 0u), subgroupBroadcast(v.right, 0u));
                add_row(&t1, &w, v.row1, subgroupBroadcast(v.left, 1u), subgroupBroadcast(v.right, 1u));
                add_row(&t2, &w, v.row2, subgroupBroadcast(v.left, 2u), subgroupBroadcast(v.right, 2u));
                add_row(&t3, &w, v.row3, subgroupBroadcast(v.left, 3u), subgroupBroadcast(v.right, 3u));
                v = below(v, lane);
            }
        }
        put_row(row_at(at, t, 0u, live), bias, t0);
        put_row(row_at(at, t, 1u, live), bias, t1);
        put_row(row_at(at, t, 2u, live), bias, t2);
        put_row(row_at(at, t, 3u, live), bias, t3);
    }
}

@compute @workgroup_size(8)
fn conv2d_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) lane: u32) {
    convolve(id.z, group_index(id, count), lane);
}

#ifndef SCALAR_INPUT
@compute @workgroup_size(8)
fn conv2d_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) lane: u32) {
    convolve(id.z, group_index(id, count), lane);
}
#endif

// The i-th Value of g.
#ifdef SCALAR_OUTPUT
fn gradient_at(i: u32) -> f32 { return texel(grad_y, i / 4u)[i % 4u]; }
#else
#ifdef VEC2_OUTPUT
fn gradient_at(i: u32) -> vec2<f32> {
    let v = texel(grad_y, i / 2u);
    return select(v.xy, v.zw, i % 2u == 1u);
}
#else
fn gradient_at(i: u32) -> vec4<f32> { return texel(grad_y, i); }
#endif
#endif

// An element of g, a row of them; 0 outside the image.
fn gradient(at: u32, live: bool) -> Value {
    var v = Value(0.0);
    if live { v = gradient_at(at); }
    return v;
}

fn gradient_row(row: Row) -> Pixels {
    let stride = p.n / WIDTH;
    return Pixels(gradient(row.at, 0u < row.count), gradient(row.at + stride, 1u < row.count),
                  gradient(row.at + 2u * stride, 2u < row.count), gradient(row.at + 3u * stride, 3u < row.count),
                  gradient(row.at + 4u * stride, 4u < row.count), gradient(row.at + 5u * stride, 5u < row.count),
                  gradient(row.at + 6u * stride, 6u < row.count), gradient(row.at + 7u * stride, 7u < row.count));
}

fn total(g: Pixels) -> Value { return g[0] + g[1] + g[2] + g[3] + g[4] + g[5] + g[6] + g[7]; }

// A tap's gradient from a row of pixels.
#ifdef SCALAR_INPUT
fn outer(t: ptr<function, Taps>, tap: u32, g: ptr<function, Pixels>,
         x0: Input, x1: Input, x2: Input, x3: Input, x4: Input, x5: Input, x6: Input, x7: Input) {
    (*t)[tap] += x0 * (*g)[0] + x1 * (*g)[1] + x2 * (*g)[2] + x3 * (*g)[3]
               + x4 * (*g)[4] + x5 * (*g)[5] + x6 * (*g)[6] + x7 * (*g)[7];
}
#else
fn outer(t: ptr<function, Taps>, tap: u32, g: ptr<function, Pixels>,
         x0: Input, x1: Input, x2: Input, x3: Input, x4: Input, x5: Input, x6: Input, x7: Input) {
    (*t)[4u * tap] += x0.x * (*g)[0] + x1.x * (*g)[1] + x2.x * (*g)[2] + x3.x * (*g)[3]
                    + x4.x * (*g)[4] + x5.x * (*g)[5] + x6.x * (*g)[6] + x7.x * (*g)[7];
    (*t)[4u * tap + 1u] += x0.y * (*g)[0] + x1.y * (*g)[1] + x2.y * (*g)[2] + x3.y * (*g)[3]
                         + x4.y * (*g)[4] + x5.y * (*g)[5] + x6.y * (*g)[6] + x7.y * (*g)[7];
    (*t)[4u * tap + 2u] += x0.z * (*g)[0] + x1.z * (*g)[1] + x2.z * (*g)[2] + x3.z * (*g)[3]
                         + x4.z * (*g)[4] + x5.z * (*g)[5] + x6.z * (*g)[6] + x7.z * (*g)[7];
    (*t)[4u * tap + 3u] += x0.w * (*g)[0] + x1.w * (*g)[1] + x2.w * (*g)[2] + x3.w * (*g)[3]
                         + x4.w * (*g)[4] + x5.w * (*g)[5] + x6.w * (*g)[6] + x7.w * (*g)[7];
}
#endif

fn outer_row(t: ptr<function, Taps>, g: ptr<function, Pixels>, v: Input, left: Input, right: Input) {
    let x0 = subgroupBroadcast(v, 0u);
    let x1 = subgroupBroadcast(v, 1u);
    let x2 = subgroupBroadcast(v, 2u);
    let x3 = subgroupBroadcast(v, 3u);
    let x4 = subgroupBroadcast(v, 4u);
    let x5 = subgroupBroadcast(v, 5u);
    let x6 = subgroupBroadcast(v, 6u);
    let x7 = subgroupBroadcast(v, 7u);
    outer(t, 0u, g, left, x0, x1, x2, x3, x4, x5, x6);
    outer(t, 1u, g, x0, x1, x2, x3, x4, x5, x6, x7);
    outer(t, 2u, g, x1, x2, x3, x4, x5, x6, x7, right);
}

#ifdef SCALAR_OUTPUT
fn channel(v: Value, i: u32) -> f32 { return v; }
#else
fn channel(v: Value, i: u32) -> f32 { return v[i]; }
#endif

// Stores the gradient of a kernel row for an invocation's channels.
fn put_taps(at: u32, d: Taps) {
    let tap = p.c / CHUNK;
    for (var i = 0u; i < WIDTH; i++) {
        let to = at + i * (p.depth / CHUNK);
#ifdef SCALAR_INPUT
        partial[to] = channel(d[0], i);
        partial[to + tap] = channel(d[1], i);
        partial[to + 2u * tap] = channel(d[2], i);
#else
        partial[to] = vec4(channel(d[0], i), channel(d[1], i), channel(d[2], i), channel(d[3], i));
        partial[to + tap] = vec4(channel(d[4], i), channel(d[5], i), channel(d[6], i), channel(d[7], i));
        partial[to + 2u * tap] = vec4(channel(d[8], i), channel(d[9], i), channel(d[10], i), channel(d[11], i));
#endif
    }
}

// Adds the products of a row of g and the window's top rows to a chunk's gradient, a row of the kernel each.
fn add_outer(d0: ptr<function, Taps>, d1: ptr<function, Taps>, d2: ptr<function, Taps>, g: ptr<function, Pixels>,
             v: Window) {
    outer_row(d0, g, v.row0, subgroupBroadcast(v.left, 0u), subgroupBroadcast(v.right, 0u));
    outer_row(d1, g, v.row1, subgroupBroadcast(v.left, 1u), subgroupBroadcast(v.right, 1u));
    outer_row(d2, g, v.row2, subgroupBroadcast(v.left, 2u), subgroupBroadcast(v.right, 2u));
}

fn put_chunk(at: u32, d0: Taps, d1: Taps, d2: Taps) {
    put_taps(at, d0);
    put_taps(at + 3u * p.c / CHUNK, d1);
    put_taps(at + 6u * p.c / CHUNK, d2);
}

// Two chunks of the input channels for each workgroup, which share their loads of g.
@compute @workgroup_size(8)
fn conv2d_backward_weight(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) lane: u32) {
    let chunks = p.c / CHUNK;
    let pairs = (chunks + 1u) / 2u;
    let group = group_index(id, count);
    let slice = group / pairs / panels();
    if slice >= p.slices { return; } // beyond the end of a folded grid
    let chunk = 2u * (group % pairs);
    let col = (group / pairs - slice * panels()) * CHANNELS + WIDTH * lane;
    let live = col < p.n;
    let at = (id.z * p.m * p.n + col) / WIDTH;
    var d0: Taps;
    var d1: Taps;
    var d2: Taps;
#ifndef SCALAR_INPUT
    var e0: Taps;
    var e1: Taps;
    var e2: Taps;
#endif
    var sum = Value(0.0);
    for (var i = first_tile(slice); i < first_tile(slice + 1u); i++) {
        let t = tile_at(i);
        var v = window(id.z, t, chunk, lane);
#ifndef SCALAR_INPUT
        var u = window(id.z, t, min(chunk + 1u, chunks - 1u), lane);
#endif
        let rows = min(ROWS, p.height - t.row);
        for (var row = 0u; row < rows; row++) {
            var g = gradient_row(row_at(at, t, row, live));
            sum += total(g);
            add_outer(&d0, &d1, &d2, &g, v);
            v = below(v, lane);
#ifndef SCALAR_INPUT
            add_outer(&e0, &e1, &e2, &g, u);
            u = below(u, lane);
#endif
        }
    }
    if !live { return; }
    let part = id.z * p.slices + slice;
    if chunk == 0u { sums[(part * p.n + col) / WIDTH] = sum; }
    let to = (part * p.n + col) * p.depth / CHUNK + chunk;
    put_chunk(to, d0, d1, d2);
#ifndef SCALAR_INPUT
    if chunk + 1u < chunks { put_chunk(to + 1u, e0, e1, e2); }
#endif
}

// Packs the weights, one invocation for each pair of channels: (R, panels, C / CHUNK, 3, CHANNELS) of 3 taps, or
// (R, panels, C / CHUNK, 9, CHANNELS) of CHUNK input channels; each is a vec4.
@compute @workgroup_size(64)
fn conv2d_3x3_pack(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                   @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.c * p.n { return; }
    let c = i / p.n;
    let n = i - c * p.n;
    let panel = n / CHANNELS;
    let chunk = c / CHUNK;
    let first = (id.z * panels() + panel) * panel_len() + chunk * KERNEL_LEN * CHANNELS + n - panel * CHANNELS;
    for (var tap = 0u; tap < 9u; tap++) {
        var source = (n * p.c + c) * 9u + tap;
        if p.transposed == 1u { source = i * 9u + 8u - tap; }
#ifdef SCALAR_INPUT
        let to = 4u * (first + tap / 3u * CHANNELS) + tap % 3u;
#else
        let to = 4u * (first + tap * CHANNELS) + c - chunk * CHUNK;
#endif
        packed_weights[to] = w[id.z * p.w_stride + source];
    }
}
