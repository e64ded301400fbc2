// What the kernels for subgroups of 8 invocations have in common, whatever C is; N is a multiple of 4. An importing file declares x, and
//   struct Spot                      what an invocation's four columns of patches(x) look at
//   fn spot(k, replica) -> Spot      for columns k to k + 3
//   fn pick(s, m, place) -> vec4     the four elements for a pixel, 0 outside the image
#import grid
#import subgroup8_product
#import conv2d
alias Value = vec4<f32>;
alias Bits = vec4<u32>;
#import nan

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>;       // (R, depth, N) in panels
@group(0) @binding(3) var<storage, read> b: array<vec4<f32>>;             // (N) every b_stride
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;       // (R, B, H, W, N); grad_x for the backward input
@group(0) @binding(5) var<storage, read> grad_y: array<vec4<f32>>;        // (R, M, N)
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

// Every fourth row, as weight_tile shares them out.
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

// The rows of a tile are output channels, its columns places in the kernel, four for each invocation, and the depth are pixels, four
// neighbours of an image row at a time. Invocation i loads channels 4 i to 4 i + 3 of g, so t0 to t3 hold every fourth row.
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
        let h = image_row % p.height;
        for (var w = 0u; w < p.width; w += 4u) {
            // Pixels past the end of the row repeat the last one, times zero.
            let ws = min(vec4(w) + vec4(0u, 1u, 2u, 3u), vec4(p.width - 1u));
            let live = vec4<f32>(vec4(w) + vec4(0u, 1u, 2u, 3u) < vec4(p.width));
            let m = first + ws;
            let g = rows + m * height;
            let a = transpose(mat4x4(grad_y[g.x] * live.x, grad_y[g.y] * live.y, grad_y[g.z] * live.z, grad_y[g.w] * live.w));
            let b = mat4x4(pick(columns, m.x, vec2(h, ws.x)), pick(columns, m.y, vec2(h, ws.y)),
                           pick(columns, m.z, vec2(h, ws.z)), pick(columns, m.w, vec2(h, ws.w)));
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
