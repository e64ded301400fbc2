// Convolution for adapters with subgroups of 8 invocations, such as software Vulkan on AVX2 (see linear.wgsl): a
// subgroup computes 32 x 32 results, in registers. Shapes and the other kernels as in ../conv2d.wgsl; N is a multiple
// of 4, and so is C, except with SCALAR_INPUT, where the elements of x are loaded one by one, as a first layer needs.
enable subgroups;
#import grid
#import software8/product
#import texel
#import conv2d
alias Value = vec4<f32>;
alias Bits = vec4<u32>;
#import nan

@group(0) @binding(0) var<uniform> p: Params;
#ifdef SCALAR_INPUT
@group(0) @binding(1) var<storage, read> x: array<f32>;                   // (B, H, W, C) every x_stride
#else
@group(0) @binding(1) var x: Texels;                                      // (B, H, W, C) every x_stride; g for grad_x
#endif
@group(0) @binding(2) var weights: Texels;                                // (R, depth, N) in panels
@group(0) @binding(3) var<storage, read> b: array<vec4<f32>>;             // (N) every b_stride
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;       // (R, B, H, W, N), or grad_x
@group(0) @binding(5) var grad_y: Texels;                                 // (R, M, N)
@group(0) @binding(6) var<storage, read_write> partial: array<vec4<f32>>; // (R, slices, N, depth)

fn put_y(at: u32, row: u32, bias: vec4<f32>, sum: vec4<f32>) {
    if row >= p.m { return; }
    let i = at + row * (p.n / 4u);
    var v = sum + bias;
    if p.relu == 1u { v = keep_nan(v, max(v, vec4(0.0))); }
    if p.accumulate == 1u { v += y[i]; }
    y[i] = v;
}

fn put_rows_y(at: u32, row: u32, bias: vec4<f32>, t: Rows) {
    put_y(at, row, bias, t[0]);
    put_y(at, row + 1u, bias, t[1]);
    put_y(at, row + 2u, bias, t[2]);
    put_y(at, row + 3u, bias, t[3]);
    put_y(at, row + 4u, bias, t[4]);
    put_y(at, row + 5u, bias, t[5]);
    put_y(at, row + 6u, bias, t[6]);
    put_y(at, row + 7u, bias, t[7]);
}

fn put_partial(at: u32, row: u32, sum: vec4<f32>) {
    if row < p.n { partial[at + row * (p.depth / 4u)] = sum; }
}

// Every fourth row, as weight_tile distributes them.
fn put_rows_partial(at: u32, row: u32, t: Rows) {
    put_partial(at, row, t[0]);
    put_partial(at, row + 4u, t[1]);
    put_partial(at, row + 8u, t[2]);
    put_partial(at, row + 12u, t[3]);
    put_partial(at, row + 16u, t[4]);
    put_partial(at, row + 20u, t[5]);
    put_partial(at, row + 24u, t[6]);
    put_partial(at, row + 28u, t[7]);
}

fn inside(position: vec2<u32>, shift: vec2<i32>) -> bool {
    return all(vec2<u32>(vec2<i32>(position) + shift) < vec2(p.height, p.width));
}

// Stores a tile of y, from this row and column on.
fn put_tile(replica: u32, row: u32, col: u32, t0: Rows, t1: Rows, t2: Rows, t3: Rows) {
    if col >= p.n { return; }
    var bias = vec4(0.0);
    if p.has_bias == 1u { bias = b[(replica * p.b_stride + col) / 4u]; }
    let at = (replica * p.m * p.n + col) / 4u;
    put_rows_y(at, row, bias, t0);
    put_rows_y(at, row + 8u, bias, t1);
    put_rows_y(at, row + 16u, bias, t2);
    put_rows_y(at, row + 24u, bias, t3);
}

// The rows of a tile are output channels, its columns positions in the kernel, four for each invocation, and the depth
// is pixels, four neighbours of an image row at a time. Invocation i loads channels 4 i to 4 i + 3 of g, so t0 to t3
// hold every fourth row.
fn weight_tile(id: vec3<u32>, group: u32, lane: u32) {
    let tiles = (p.depth + TILE - 1u) / TILE;
    let replica = id.z / p.slices;
    let slice = id.z % p.slices;
    let row = group / tiles * TILE;
    let col = group % tiles * TILE + 4u * lane;
    let height = p.n / 4u;
    let columns = spot(min(col, p.depth - 4u), replica);
    let rows = replica * p.m * height + min(row + 4u * lane, p.n - 4u) / 4u;
    var t0: Rows;
    var t1: Rows;
    var t2: Rows;
    var t3: Rows;
    for (var image_row = slice_start(slice); image_row < slice_start(slice + 1u); image_row++) {
        let first = image_row * p.width;
        let image = image_row / p.height;
        let h = image_row - image * p.height;
        for (var w = 0u; w < p.width; w += 4u) {
            // Pixels past the end of the row repeat the last one, times zero.
            let ws = min(vec4(w) + vec4(0u, 1u, 2u, 3u), vec4(p.width - 1u));
            let live = vec4<f32>(vec4(w) + vec4(0u, 1u, 2u, 3u) < vec4(p.width));
            let m = first + ws;
            let g = rows + m * height;
            let a = transpose(mat4x4(texel(grad_y, g.x) * live.x, texel(grad_y, g.y) * live.y,
                                     texel(grad_y, g.z) * live.z, texel(grad_y, g.w) * live.w));
            let b = mat4x4(pick(columns, place(vec2(h, ws.x), image, m.x)),
                           pick(columns, place(vec2(h, ws.y), image, m.y)),
                           pick(columns, place(vec2(h, ws.z), image, m.z)),
                           pick(columns, place(vec2(h, ws.w), image, m.w)));
            update(&t0, a[0], b);
            update(&t1, a[1], b);
            update(&t2, a[2], b);
            update(&t3, a[3], b);
        }
    }
    if col >= p.depth { return; }
    let at = (id.z * p.n * p.depth + col) / 4u;
    put_rows_partial(at, row, t0);
    put_rows_partial(at, row + 1u, t1);
    put_rows_partial(at, row + 2u, t2);
    put_rows_partial(at, row + 3u, t3);
}

// Sources of an invocation's four columns of patches(x): `spot` for columns k to k + 3, `pick` their elements for a
// pixel, 0 outside the image.
#ifdef SCALAR_INPUT
#import conv2d_strided
alias Place = Centre;

fn place(position: vec2<u32>, image: u32, m: u32) -> Place { return centre(position, image); }

// `first` is the replica's first element.
fn element(first: u32, c: Place, tap: Tap) -> f32 {
    let s = source(c, tap);
    return select(0.0, x[first + s.pixel * p.c + tap.channel], s.live);
}

struct Spot {
    taps: array<Tap, 4>,
    at: u32, // of the replica's first pixel
}

fn spot(k: u32, replica: u32) -> Spot {
    return Spot(array(kernel_tap(k), kernel_tap(k + 1u), kernel_tap(k + 2u), kernel_tap(k + 3u)), replica * p.x_stride);
}

fn pick(s: Spot, c: Place) -> vec4<f32> {
    return vec4(element(s.at, c, s.taps[0]), element(s.at, c, s.taps[1]), element(s.at, c, s.taps[2]),
                element(s.at, c, s.taps[3]));
}
#else
struct Place {
    position: vec2<u32>,
    pixel: u32,
}

fn place(position: vec2<u32>, image: u32, m: u32) -> Place { return Place(position, m); }

struct Spot {
    tap: Tap,
    at: u32, // of the replica's first pixel, in vec4
}

fn spot(k: u32, replica: u32) -> Spot {
    let tap = kernel_tap(k);
    return Spot(tap, (replica * p.x_stride + tap.channel) / 4u);
}

fn pick(s: Spot, c: Place) -> vec4<f32> {
    let live = inside(c.position, s.tap.shift);
    return at_tap(s.at + (c.pixel + select(0u, u32(s.tap.pixels), live)) * (p.c / 4u), live);
}

fn at_tap(at: u32, live: bool) -> vec4<f32> { return select(vec4(0.0), texel(x, at), live); }
#endif

// Four rows of the packed weights.
fn weight_rows(at: u32, width: u32) -> mat4x4<f32> {
    return mat4x4(texel(weights, at), texel(weights, at + width), texel(weights, at + 2u * width),
                  texel(weights, at + 3u * width));
}

fn convolve(id: vec3<u32>, group: u32, lane: u32) {
    // Neighbouring workgroups share their weights.
    let tiles = (p.m + TILE - 1u) / TILE;
    let row = group % tiles * TILE;
    let panel = group / tiles * TILE;
    if panel >= p.n { return; } // beyond the end of a folded grid
    let col = panel + 4u * lane;
    let width = min(TILE, p.n - panel) / 4u;
    // Loads past the edge repeat the last pixel; their results are not stored.
    let m = min(vec4(row + lane) + vec4(0u, 8u, 16u, 24u), vec4(p.m - 1u));
    let position0 = pixel_position(m.x);
    let position1 = pixel_position(m.y);
    let position2 = pixel_position(m.z);
    let position3 = pixel_position(m.w);
    var step = (id.z * p.depth * p.n + packed_at(0u, min(col, p.n - 4u))) / 4u;
    var t0: Rows;
    var t1: Rows;
    var t2: Rows;
    var t3: Rows;
#ifdef SCALAR_INPUT
    let c0 = centre(position0, image_of(m.x));
    let c1 = centre(position1, image_of(m.y));
    let c2 = centre(position2, image_of(m.z));
    let c3 = centre(position3, image_of(m.w));
    // Taps past the kernel have weights of 0.
    for (var k = 0u; k < p.depth; k += 4u) {
        let s = spot(k, id.z);
        let b = weight_rows(step, width);
        update(&t0, pick(s, c0), b);
        update(&t1, pick(s, c1), b);
        update(&t2, pick(s, c2), b);
        update(&t3, pick(s, c3), b);
        step += 4u * width;
    }
#else
    let depth = p.c / 4u;
    let x0 = id.z * p.x_stride / 4u;
    for (var k = 0u; k < p.depth; k += p.c) {
        let tap = kernel_tap(k);
        let live = vec4(inside(position0, tap.shift), inside(position1, tap.shift), inside(position2, tap.shift),
                        inside(position3, tap.shift));
        // Pixels outside the image load the centre pixel instead, and count as 0.
        var at = x0 + (m + select(vec4(0u), vec4(u32(tap.pixels)), live)) * depth;
        for (var d = 0u; d < depth; d++) {
            let b = weight_rows(step, width);
            update(&t0, at_tap(at.x, live.x), b);
            update(&t1, at_tap(at.y, live.y), b);
            update(&t2, at_tap(at.z, live.z), b);
            update(&t3, at_tap(at.w, live.w), b);
            at += 1u;
            step += 4u * width;
        }
    }
#endif
    put_tile(id.z, row, col, t0, t1, t2, t3);
}

@compute @workgroup_size(8)
fn conv2d_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) lane: u32) {
    convolve(id, group_index(id, count), lane);
}

#ifndef SCALAR_INPUT
@compute @workgroup_size(8)
fn conv2d_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) lane: u32) {
    convolve(id, group_index(id, count), lane);
}
#endif

@compute @workgroup_size(8)
fn conv2d_backward_weight(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) lane: u32) {
    weight_tile(id, group_index(id, count), lane);
}
