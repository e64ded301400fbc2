// Convolution for adapters with subgroups of 8 invocations, such as software Vulkan on AVX2 (see linear_subgroup8.wgsl): a subgroup
// keeps 32 x 32 results, in registers. Shapes and the other kernels as in conv2d.wgsl; C and N are multiples of 4.
#import grid
#import subgroup8_product
#import conv2d

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;             // (B, H, W, C) every x_stride; g for the backward input
@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>;       // (R, depth, N)
@group(0) @binding(3) var<storage, read> b: array<vec4<f32>>;             // (N) every b_stride
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;       // (R, B, H, W, N); dx for the backward input
@group(0) @binding(5) var<storage, read> dy: array<vec4<f32>>;            // (R, M, N)
@group(0) @binding(6) var<storage, read_write> partial: array<vec4<f32>>; // (R, slices, N, K)

fn put_y(at: u32, row: u32, bias: vec4<f32>, sum: vec4<f32>) {
    if row >= p.m { return; }
    let i = at + row * (p.n / 4u);
    var v = sum + bias;
    if p.relu == 1u { v = max(v, vec4(0.0)); }
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

// Every fourth row, as conv2d_backward_weight_subgroup8 shares them out.
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

fn inside(place: vec2<u32>, shift: vec2<i32>) -> bool {
    return all(vec2<u32>(vec2<i32>(place) + shift) < vec2(p.height, p.width));
}

fn at_tap(at: u32, live: bool) -> vec4<f32> { return select(vec4(0.0), x[at], live); }

fn convolve(id: vec3<u32>, group: u32, lane: u32) {
    let tiles = (p.n + TILE - 1u) / TILE;
    let row = group / tiles * TILE;
    let col = group % tiles * TILE + 4u * lane;
    let width = p.n / 4u;
    let depth = p.c / 4u;
    // Loads past the edge repeat the last pixel; their results are not stored.
    let m = min(vec4(row + lane) + vec4(0u, 8u, 16u, 24u), vec4(p.m - 1u));
    let place0 = image_place(m.x);
    let place1 = image_place(m.y);
    let place2 = image_place(m.z);
    let place3 = image_place(m.w);
    let x0 = id.z * p.x_stride / 4u;
    var step = (id.z * p.depth * p.n + min(col, p.n - 4u)) / 4u;
    var t0: Rows;
    var t1: Rows;
    var t2: Rows;
    var t3: Rows;
    for (var k = 0u; k < p.depth; k += p.c) {
        let tap = kernel_tap(k);
        let live = vec4(inside(place0, tap.shift), inside(place1, tap.shift), inside(place2, tap.shift),
                        inside(place3, tap.shift));
        // Pixels outside the image are loaded from their own place, and count as 0.
        var at = x0 + (m + select(vec4(0u), vec4(u32(tap.pixels)), live)) * depth;
        for (var d = 0u; d < depth; d++) {
            let b = mat4x4(weights[step], weights[step + width], weights[step + 2u * width], weights[step + 3u * width]);
            update(&t0, at_tap(at.x, live.x), b);
            update(&t1, at_tap(at.y, live.y), b);
            update(&t2, at_tap(at.z, live.z), b);
            update(&t3, at_tap(at.w, live.w), b);
            at += 1u;
            step += 4u * width;
        }
    }
    if col >= p.n { return; }
    var bias = vec4(0.0);
    if p.has_bias == 1u { bias = b[(id.z * p.b_stride + col) / 4u]; }
    let at = (id.z * p.m * p.n + col) / 4u;
    put_rows_y(at, row, bias, t0);
    put_rows_y(at, row + 8u, bias, t1);
    put_rows_y(at, row + 16u, bias, t2);
    put_rows_y(at, row + 24u, bias, t3);
}

@compute @workgroup_size(8)
fn conv2d_forward_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) lane: u32) {
    convolve(id, group_index(id, count), lane);
}

@compute @workgroup_size(8)
fn conv2d_backward_input_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                   @builtin(local_invocation_index) lane: u32) {
    convolve(id, group_index(id, count), lane);
}

// The rows of a tile are output channels, its columns four neighbouring input channels of a tap for each invocation, and the depth
// are pixels, four neighbours of an image row at a time. Invocation i loads channels 4 i to 4 i + 3 of g, so t0 to t3 hold every
// fourth row.
@compute @workgroup_size(8)
fn conv2d_backward_weight_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                    @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.depth + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let replica = id.z / p.slices;
    let slice = id.z % p.slices;
    let row = group / tiles * TILE;
    let col = group % tiles * TILE + 4u * lane;
    let height = p.n / 4u;
    let width = p.c / 4u;
    let tap = kernel_tap(min(col, p.depth - 4u));
    let rows = replica * p.m * height + min(row + 4u * lane, p.n - 4u) / 4u;
    let cols = (replica * p.x_stride + tap.channel) / 4u;
    var t0: Rows;
    var t1: Rows;
    var t2: Rows;
    var t3: Rows;
    for (var line = slice_start(slice); line < slice_start(slice + 1u); line++) {
        let first = line * p.width;
        let h = line % p.height;
        for (var w = 0u; w < p.width; w += 4u) {
            // Pixels past the end of the row, or outside the image, are loaded from a place nearby and count as 0.
            let ws = vec4(w) + vec4(0u, 1u, 2u, 3u);
            let m = first + min(ws, vec4(p.width - 1u));
            let counts = ws < vec4(p.width);
            let live = vec4(inside(vec2(h, ws.x), tap.shift), inside(vec2(h, ws.y), tap.shift),
                            inside(vec2(h, ws.z), tap.shift), inside(vec2(h, ws.w), tap.shift));
            let at = cols + (m + select(vec4(0u), vec4(u32(tap.pixels)), live & counts)) * width;
            let g = rows + m * height;
            let a = transpose(mat4x4(select(vec4(0.0), dy[g.x], counts.x), select(vec4(0.0), dy[g.y], counts.y),
                                     select(vec4(0.0), dy[g.z], counts.z), select(vec4(0.0), dy[g.w], counts.w)));
            let b = mat4x4(at_tap(at.x, live.x), at_tap(at.y, live.y), at_tap(at.z, live.z), at_tap(at.w, live.w));
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
