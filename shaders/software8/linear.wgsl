// Fully connected layer for adapters with subgroups of 8 invocations, such as software Vulkan on AVX2: a subgroup
// computes 32 x 32 results. There a load costs several multiply-adds, least from a texture, and a broadcast next to
// nothing: a tile loads each element once, four steps of the depth at a time, and broadcasts it. No barriers, no
// workgroup memory. Shapes as in ../linear.wgsl; N and K are multiples of 4.
enable subgroups;
#import grid
#import software8/product
#import texel
#import linear
alias Value = vec4<f32>;
alias Bits = vec4<u32>;
#import nan

@group(0) @binding(1) var x: texture_2d<f32>;                            // (R, M, S, K)
@group(0) @binding(2) var w: texture_2d<f32>;                            // (N, S, K) every w_stride
@group(0) @binding(3) var<storage, read> b: array<vec4<f32>>;            // (N) every b_stride
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;      // (R, M, S, N)
@group(0) @binding(5) var grad_y: texture_2d<f32>;                       // (R, M, S, N)
@group(0) @binding(6) var<storage, read_write> grad_x: array<vec4<f32>>; // (R, M, S, K)
// (N, S, K) every w_stride; and grad_b (N) every b_stride
@group(0) @binding(7) var<storage, read_write> grad_w: array<vec4<f32>>;

fn put_y(at: u32, row: u32, v: vec4<f32>) {
    if row >= p.m { return; }
    let i = at + row * p.segments * (p.columns / 4u);
    var sum = v;
    if p.accumulate == 1u { sum += y[i]; }
    if p.relu == 1u { y[i] = keep_nan(sum, max(sum, vec4(0.0))); } else { y[i] = sum; }
}

fn put_grad_x(at: u32, row: u32, v: vec4<f32>) {
    if row >= p.m { return; }
    let i = at + row * p.segments * (p.k / 4u);
    if p.accumulate == 1u { grad_x[i] += v; } else { grad_x[i] = v; }
}

fn put_grad_w(at: u32, row: u32, v: vec4<f32>) {
    if row >= p.n { return; }
    let i = at + row * p.segments * (p.k / 4u);
    if (p.accumulate & 1u) == 1u { grad_w[i] += v; } else { grad_w[i] = v; }
}

fn put_rows_y(at: u32, row: u32, bias: vec4<f32>, t: Rows) {
    put_y(at, row, t[0] + bias);
    put_y(at, row + 1u, t[1] + bias);
    put_y(at, row + 2u, t[2] + bias);
    put_y(at, row + 3u, t[3] + bias);
    put_y(at, row + 4u, t[4] + bias);
    put_y(at, row + 5u, t[5] + bias);
    put_y(at, row + 6u, t[6] + bias);
    put_y(at, row + 7u, t[7] + bias);
}

fn put_rows_grad_x(at: u32, row: u32, t: Rows) {
    put_grad_x(at, row, t[0]);
    put_grad_x(at, row + 1u, t[1]);
    put_grad_x(at, row + 2u, t[2]);
    put_grad_x(at, row + 3u, t[3]);
    put_grad_x(at, row + 4u, t[4]);
    put_grad_x(at, row + 5u, t[5]);
    put_grad_x(at, row + 6u, t[6]);
    put_grad_x(at, row + 7u, t[7]);
}

// Every fourth row, as linear_backward_weight distributes them.
fn put_rows_grad_w(at: u32, row: u32, t: Rows) {
    put_grad_w(at, row, t[0]);
    put_grad_w(at, row + 4u, t[1]);
    put_grad_w(at, row + 8u, t[2]);
    put_grad_w(at, row + 12u, t[3]);
    put_grad_w(at, row + 16u, t[4]);
    put_grad_w(at, row + 20u, t[5]);
    put_grad_w(at, row + 24u, t[6]);
    put_grad_w(at, row + 28u, t[7]);
}

@compute @workgroup_size(8)
fn linear_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.n + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let row = group / tiles * TILE;
    let col = group % tiles * TILE + 4u * lane;
    let depth = p.k / 4u;
    // Loads past the edge repeat the last row; their results are not stored.
    let replica = id.z / p.segments;
    let segment = id.z % p.segments;
    let lines = min(vec4(row + lane) + vec4(0u, 8u, 16u, 24u), vec4(p.m - 1u));
    let start = p.k_from / 4u;
    var rows = ((replica * p.m + lines) * p.segments + segment) * depth + start;
    let next = p.segments * depth;
    var cols = replica * p.w_stride / 4u + min(col, p.n - 4u) * next + segment * depth + start;
    var t0: Rows;
    var t1: Rows;
    var t2: Rows;
    var t3: Rows;
    for (var d = start; d < p.k_to / 4u; d++) {
        let b = transpose(mat4x4(texel(w, cols), texel(w, cols + next), texel(w, cols + 2u * next),
                                 texel(w, cols + 3u * next)));
        update(&t0, texel(x, rows.x), b);
        update(&t1, texel(x, rows.y), b);
        update(&t2, texel(x, rows.z), b);
        update(&t3, texel(x, rows.w), b);
        rows += 1u;
        cols += 1u;
    }
    if col >= p.n { return; }
    var bias = vec4(0.0);
    if p.has_bias == 1u { bias = b[(replica * p.b_stride + p.first + col) / 4u]; }
    let at = ((replica * p.m * p.segments + segment) * p.columns + p.first + col) / 4u;
    put_rows_y(at, row, bias, t0);
    put_rows_y(at, row + 8u, bias, t1);
    put_rows_y(at, row + 16u, bias, t2);
    put_rows_y(at, row + 24u, bias, t3);
}

@compute @workgroup_size(8)
fn linear_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                   @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.k + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let row = group / tiles * TILE;
    let col = group % tiles * TILE + 4u * lane;
    let depth = p.n / 4u;
    let height = p.columns / 4u;
    let width = p.segments * p.k / 4u;
    let replica = id.z / p.segments;
    let segment = id.z % p.segments;
    let lines = min(vec4(row + lane) + vec4(0u, 8u, 16u, 24u), vec4(p.m - 1u));
    var rows = ((replica * p.m + lines) * p.segments + segment) * height + p.first / 4u;
    var step = (replica * p.w_stride + segment * p.k + min(col, p.k - 4u)) / 4u;
    var t0: Rows;
    var t1: Rows;
    var t2: Rows;
    var t3: Rows;
    for (var d = 0u; d < depth; d++) {
        let third = step + 2u * width;
        let b = mat4x4(texel(w, step), texel(w, step + width), texel(w, third), texel(w, third + width));
        update(&t0, texel(grad_y, rows.x), b);
        update(&t1, texel(grad_y, rows.y), b);
        update(&t2, texel(grad_y, rows.z), b);
        update(&t3, texel(grad_y, rows.w), b);
        rows += 1u;
        step += 4u * width;
    }
    if col >= p.k { return; }
    let at = ((replica * p.m * p.segments + segment) * p.k + col) / 4u;
    put_rows_grad_x(at, row, t0);
    put_rows_grad_x(at, row + 8u, t1);
    put_rows_grad_x(at, row + 16u, t2);
    put_rows_grad_x(at, row + 24u, t3);
}

// Here the rows of a tile are outputs n, and the depth is M. Invocation i loads outputs 4 i to 4 i + 3 of the tile, so
// t0 to t3 hold every fourth row. Their sums over M are grad_b, for which one tile of each row is enough.
@compute @workgroup_size(8)
fn linear_backward_weight(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                    @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.k + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let row = group / tiles * TILE;
    let col = group % tiles * TILE + 4u * lane;
    let replica = id.z / p.segments;
    let segment = id.z % p.segments;
    let height = p.segments * p.columns / 4u;
    let width = p.segments * p.k / 4u;
    let rows = (segment * p.columns + p.first + min(row + 4u * lane, p.n - 4u)) / 4u;
    let cols = (segment * p.k + min(col, p.k - 4u)) / 4u;
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
        let a = transpose(mat4x4(texel(grad_y, g.x) * live.x, texel(grad_y, g.y) * live.y,
                                 texel(grad_y, g.z) * live.z, texel(grad_y, g.w) * live.w));
        sums += vec4(dot(a[0], vec4(1.0)), dot(a[1], vec4(1.0)), dot(a[2], vec4(1.0)), dot(a[3], vec4(1.0)));
        let at = m * width + cols;
        let b = mat4x4(texel(x, at.x), texel(x, at.y), texel(x, at.z), texel(x, at.w));
        update(&t0, a[0], b);
        update(&t1, a[1], b);
        update(&t2, a[2], b);
        update(&t3, a[3], b);
    }
    if p.has_bias == 1u && group % tiles == 0u && row + 4u * lane < p.n {
        let i = (p.b_at + replica * p.b_stride + p.first + row) / 4u + lane;
        if (p.accumulate & 2u) == 2u { grad_w[i] += sums; } else { grad_w[i] = sums; }
    }
    if col >= p.k { return; }
    let at = (p.w_at + replica * p.w_stride + segment * p.k + col) / 4u;
    put_rows_grad_w(at, row, t0);
    put_rows_grad_w(at, row + 1u, t1);
    put_rows_grad_w(at, row + 2u, t2);
    put_rows_grad_w(at, row + 3u, t3);
}
