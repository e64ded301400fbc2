// Fully connected layer for adapters with subgroups of 8 invocations, such as software Vulkan on AVX2: 16 x 32 results per
// subgroup stay in registers, and an element of A reaches all 8 invocations by a broadcast instead of a load. No barriers, no
// workgroup memory. Shapes as in linear.wgsl; N and K are multiples of 4.
#import grid

struct Params {
    m: u32,
    n: u32,
    k: u32,
    w_stride: u32,
    b_stride: u32,
    has_bias: u32,
    accumulate: u32,
    slices: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (R, M, K)
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;        // (N, K) every w_stride
@group(0) @binding(3) var<storage, read> b: array<vec4<f32>>;        // (N) every b_stride
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;  // (R, M, N)
@group(0) @binding(5) var<storage, read> dy: array<vec4<f32>>;       // (R, M, N)
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>; // (R, M, K)
@group(0) @binding(7) var<storage, read_write> dw: array<vec4<f32>>; // (N, K) every w_stride

const ROWS = 16u;
const COLS = 32u; // 4 per invocation

// Rank-one update: row i gets (element i of the column `lo`, `hi`) times `bv`. Invocation i of the subgroup holds element i.
// Constant indices only: an array indexed by a loop variable would live in memory instead of registers.
fn update(t: ptr<function, array<vec4<f32>, 16>>, lo: f32, hi: f32, bv: vec4<f32>) {
    (*t)[0] += subgroupBroadcast(lo, 0u) * bv;
    (*t)[1] += subgroupBroadcast(lo, 1u) * bv;
    (*t)[2] += subgroupBroadcast(lo, 2u) * bv;
    (*t)[3] += subgroupBroadcast(lo, 3u) * bv;
    (*t)[4] += subgroupBroadcast(lo, 4u) * bv;
    (*t)[5] += subgroupBroadcast(lo, 5u) * bv;
    (*t)[6] += subgroupBroadcast(lo, 6u) * bv;
    (*t)[7] += subgroupBroadcast(lo, 7u) * bv;
    (*t)[8] += subgroupBroadcast(hi, 0u) * bv;
    (*t)[9] += subgroupBroadcast(hi, 1u) * bv;
    (*t)[10] += subgroupBroadcast(hi, 2u) * bv;
    (*t)[11] += subgroupBroadcast(hi, 3u) * bv;
    (*t)[12] += subgroupBroadcast(hi, 4u) * bv;
    (*t)[13] += subgroupBroadcast(hi, 5u) * bv;
    (*t)[14] += subgroupBroadcast(hi, 6u) * bv;
    (*t)[15] += subgroupBroadcast(hi, 7u) * bv;
}

fn store_y(replica: u32, row0: u32, col: u32, bias: vec4<f32>, i: u32, v: vec4<f32>) {
    if row0 + i < p.m { y[((replica * p.m + row0 + i) * p.n + col) / 4u] = v + bias; }
}

fn store_dx(replica: u32, row0: u32, col: u32, i: u32, v: vec4<f32>) {
    if row0 + i >= p.m { return; }
    let at = ((replica * p.m + row0 + i) * p.k + col) / 4u;
    if p.accumulate == 1u { dx[at] += v; } else { dx[at] = v; }
}

fn store_dw(replica: u32, row0: u32, col: u32, i: u32, v: vec4<f32>) {
    if row0 + i >= p.n { return; }
    let at = (replica * p.w_stride + (row0 + i) * p.k + col) / 4u;
    if p.accumulate == 1u { dw[at] += v; } else { dw[at] = v; }
}

@compute @workgroup_size(8)
fn linear_forward_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.n + COLS - 1u) / COLS;
    let group = group_index(id, count);
    let row0 = group / tiles * ROWS;
    let col = group % tiles * COLS + 4u * lane;
    let depth = p.k / 4u;
    // Loads past the edge repeat the last row; their results are not stored.
    let lo = (id.z * p.m + min(row0 + lane, p.m - 1u)) * depth;
    let hi = (id.z * p.m + min(row0 + 8u + lane, p.m - 1u)) * depth;
    let w0 = (id.z * p.w_stride) / 4u + min(col, p.n - 4u) * depth;
    var t: array<vec4<f32>, 16>;
    for (var d = 0u; d < depth; d++) {
        let al = x[lo + d];
        let ah = x[hi + d];
        let b0 = w[w0 + d];
        let b1 = w[w0 + depth + d];
        let b2 = w[w0 + 2u * depth + d];
        let b3 = w[w0 + 3u * depth + d];
        update(&t, al.x, ah.x, vec4(b0.x, b1.x, b2.x, b3.x));
        update(&t, al.y, ah.y, vec4(b0.y, b1.y, b2.y, b3.y));
        update(&t, al.z, ah.z, vec4(b0.z, b1.z, b2.z, b3.z));
        update(&t, al.w, ah.w, vec4(b0.w, b1.w, b2.w, b3.w));
    }
    if col >= p.n { return; }
    var bias = vec4(0.0);
    if p.has_bias == 1u { bias = b[(id.z * p.b_stride + col) / 4u]; }
    store_y(id.z, row0, col, bias, 0u, t[0]);
    store_y(id.z, row0, col, bias, 1u, t[1]);
    store_y(id.z, row0, col, bias, 2u, t[2]);
    store_y(id.z, row0, col, bias, 3u, t[3]);
    store_y(id.z, row0, col, bias, 4u, t[4]);
    store_y(id.z, row0, col, bias, 5u, t[5]);
    store_y(id.z, row0, col, bias, 6u, t[6]);
    store_y(id.z, row0, col, bias, 7u, t[7]);
    store_y(id.z, row0, col, bias, 8u, t[8]);
    store_y(id.z, row0, col, bias, 9u, t[9]);
    store_y(id.z, row0, col, bias, 10u, t[10]);
    store_y(id.z, row0, col, bias, 11u, t[11]);
    store_y(id.z, row0, col, bias, 12u, t[12]);
    store_y(id.z, row0, col, bias, 13u, t[13]);
    store_y(id.z, row0, col, bias, 14u, t[14]);
    store_y(id.z, row0, col, bias, 15u, t[15]);
}

@compute @workgroup_size(8)
fn linear_backward_input_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                   @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.k + COLS - 1u) / COLS;
    let group = group_index(id, count);
    let row0 = group / tiles * ROWS;
    let col = group % tiles * COLS + 4u * lane;
    let depth = p.n / 4u;
    let lo = (id.z * p.m + min(row0 + lane, p.m - 1u)) * depth;
    let hi = (id.z * p.m + min(row0 + 8u + lane, p.m - 1u)) * depth;
    let w0 = (id.z * p.w_stride + min(col, p.k - 4u)) / 4u;
    let width = p.k / 4u;
    var t: array<vec4<f32>, 16>;
    for (var d = 0u; d < depth; d++) {
        let al = dy[lo + d];
        let ah = dy[hi + d];
        update(&t, al.x, ah.x, w[w0 + (4u * d) * width]);
        update(&t, al.y, ah.y, w[w0 + (4u * d + 1u) * width]);
        update(&t, al.z, ah.z, w[w0 + (4u * d + 2u) * width]);
        update(&t, al.w, ah.w, w[w0 + (4u * d + 3u) * width]);
    }
    if col >= p.k { return; }
    store_dx(id.z, row0, col, 0u, t[0]);
    store_dx(id.z, row0, col, 1u, t[1]);
    store_dx(id.z, row0, col, 2u, t[2]);
    store_dx(id.z, row0, col, 3u, t[3]);
    store_dx(id.z, row0, col, 4u, t[4]);
    store_dx(id.z, row0, col, 5u, t[5]);
    store_dx(id.z, row0, col, 6u, t[6]);
    store_dx(id.z, row0, col, 7u, t[7]);
    store_dx(id.z, row0, col, 8u, t[8]);
    store_dx(id.z, row0, col, 9u, t[9]);
    store_dx(id.z, row0, col, 10u, t[10]);
    store_dx(id.z, row0, col, 11u, t[11]);
    store_dx(id.z, row0, col, 12u, t[12]);
    store_dx(id.z, row0, col, 13u, t[13]);
    store_dx(id.z, row0, col, 14u, t[14]);
    store_dx(id.z, row0, col, 15u, t[15]);
}

// Here the 16 rows of a tile are outputs n, and the depth is M. Invocations 0 to 3 load the 16 values of dy that belong to one
// row m; broadcasting then needs them in invocation order, so each invocation loads n0 + lane and n0 + 8 + lane as scalars.
@compute @workgroup_size(8)
fn linear_backward_weight_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                    @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.k + COLS - 1u) / COLS;
    let group = group_index(id, count);
    let row0 = group / tiles * ROWS;
    let col = group % tiles * COLS + 4u * lane;
    let width = p.k / 4u;
    let height = p.n / 4u;
    let x0 = min(col, p.k - 4u) / 4u;
    // Rows past the edge repeat the last one; their results are not stored.
    let lo = min(row0 + lane, p.n - 1u);
    let hi = min(row0 + 8u + lane, p.n - 1u);
    var t: array<vec4<f32>, 16>;
    for (var m = id.z * p.m; m < (id.z + 1u) * p.m; m++) {
        update(&t, dy[m * height + lo / 4u][lo % 4u], dy[m * height + hi / 4u][hi % 4u], x[m * width + x0]);
    }
    if col >= p.k { return; }
    store_dw(id.z, row0, col, 0u, t[0]);
    store_dw(id.z, row0, col, 1u, t[1]);
    store_dw(id.z, row0, col, 2u, t[2]);
    store_dw(id.z, row0, col, 3u, t[3]);
    store_dw(id.z, row0, col, 4u, t[4]);
    store_dw(id.z, row0, col, 5u, t[5]);
    store_dw(id.z, row0, col, 6u, t[6]);
    store_dw(id.z, row0, col, 7u, t[7]);
    store_dw(id.z, row0, col, 8u, t[8]);
    store_dw(id.z, row0, col, 9u, t[9]);
    store_dw(id.z, row0, col, 10u, t[10]);
    store_dw(id.z, row0, col, 11u, t[11]);
    store_dw(id.z, row0, col, 12u, t[12]);
    store_dw(id.z, row0, col, 13u, t[13]);
    store_dw(id.z, row0, col, 14u, t[14]);
    store_dw(id.z, row0, col, 15u, t[15]);
}
