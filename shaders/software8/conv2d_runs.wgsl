// Convolution to few channels for subgroups of 8 invocations, where tiles of 32 output channels would leave most lanes
// idle: each invocation computes a run of 8 neighbouring pixels of an image row, its neighbours the adjacent runs, row
// after row, and a vec4 is four output channels. An invocation loads its own pixels only: the pixels beyond them that a
// kernel of up to 5 columns needs come from its neighbours by shuffles and, at the two ends of the subgroup, from one
// more load. Weights are loaded once by different lanes, and broadcast. The depth is processed in chunks of four
// positions (row, channel) of a kernel column, the channel innermost, and each chunk is multiplied by all columns.
// Shapes and the other kernels as in ../conv2d.wgsl; N is a multiple of 4, and so is C, except with SCALAR_INPUT, where
// the elements of x are loaded one by one, as a first layer needs.
enable subgroups;
#import grid
#import conv2d
#import texel
alias Value = vec4<f32>;
alias Bits = vec4<u32>;
#import nan

// Rows and columns of the kernel: 1, 3 or 5.
override SIZE: u32 = 5u;

const LANES = 8u;
// Pixels of a run.
const RUN = 8u;

@group(0) @binding(0) var<uniform> p: Params;
#ifdef SCALAR_INPUT
@group(0) @binding(1) var<storage, read> x: array<f32>;                   // (B, H, W, C) every x_stride
@group(0) @binding(6) var<storage, read_write> partial: array<f32>;       // (R, slices, N, depth)
#else
@group(0) @binding(1) var x: Texels;                                      // (B, H, W, C) every x_stride; g for grad_x
@group(0) @binding(6) var<storage, read_write> partial: array<vec4<f32>>; // (R, slices, N, depth)
#endif
@group(0) @binding(2) var weights: Texels;                          // (R, N / 4, chunks, SIZE, 4), see conv2d_runs_pack
@group(0) @binding(3) var<storage, read> b: array<vec4<f32>>;       // (N) every b_stride
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // (R, B, H, W, N), or grad_x
@group(0) @binding(5) var grad_y: Texels;                           // (R, M, N)

alias Pixels = array<vec4<f32>, 8>;

// A run with two more pixels on either side.
struct Window {
    left2: vec4<f32>,
    left1: vec4<f32>,
    own: Pixels,
    right1: vec4<f32>,
    right2: vec4<f32>,
}

// An image row, counted over all images, and its index in its image.
struct Line {
    row: u32,
    h: u32,
}

fn chunks() -> u32 { return (SIZE * p.c + 3u) / 4u; }

fn runs_of_row() -> u32 { return (p.width + RUN - 1u) / RUN; }

// a / b for small numbers: integer division is scalar on these adapters.
fn quotient(a: vec4<u32>, b: u32) -> vec4<u32> { return vec4<u32>((vec4<f32>(a) + 0.5) / f32(b)); }

// The kernel rows of a chunk's four positions.
fn kernel_rows(chunk: u32) -> vec4<u32> { return quotient(vec4(4u * chunk) + vec4(0u, 1u, 2u, 3u), p.c); }

// Positions of the pixels beyond a subgroup's ends: invocations 0 and 1 load the two on its left, the others the two on
// its right.
struct Ends {
    image_row: Line,
    column: u32, // wraps around at the left edge, which is outside the image as well
}

fn ends(image_row: Line, column: u32, lane: u32) -> Ends {
    let left = lane < 2u;
    let row = select(subgroupBroadcast(image_row.row, 7u), subgroupBroadcast(image_row.row, 0u), left);
    let h = select(subgroupBroadcast(image_row.h, 7u), subgroupBroadcast(image_row.h, 0u), left);
    let after = subgroupBroadcast(column, 7u) + RUN + (lane & 1u);
    return Ends(Line(row, h), select(after, subgroupBroadcast(column, 0u) + lane - 2u, left));
}

fn from_left(v: vec4<f32>, end: vec4<f32>, begins: bool, lane: u32) -> vec4<f32> {
    return select(select(subgroupShuffle(v, (lane + 7u) % LANES), end, lane == 0u), vec4(0.0), begins);
}

fn from_right(v: vec4<f32>, end: vec4<f32>, ends: bool, lane: u32) -> vec4<f32> {
    return select(select(subgroupShuffle(v, (lane + 1u) % LANES), end, lane == 7u), vec4(0.0), ends);
}

fn load_window(chunk: u32, replica: u32, image_row: Line, column: u32, e: Ends, lane: u32) -> Window {
    let s = source(chunk, replica, image_row);
    var v: Window;
    v.own[0] = pick(s, column);
    v.own[1] = pick(s, column + 1u);
    v.own[2] = pick(s, column + 2u);
    v.own[3] = pick(s, column + 3u);
    v.own[4] = pick(s, column + 4u);
    v.own[5] = pick(s, column + 5u);
    v.own[6] = pick(s, column + 6u);
    v.own[7] = pick(s, column + 7u);
    if SIZE > 1u {
        let end = pick(source(chunk, replica, e.image_row), e.column);
        // The neighbour's run is of another row where this one begins or ends a row.
        let begins = column == 0u;
        let ends = column + RUN >= p.width;
        v.left1 = from_left(v.own[7], subgroupBroadcast(end, 1u), begins, lane);
        v.right1 = from_right(v.own[0], subgroupBroadcast(end, 2u), ends, lane);
        if SIZE > 3u {
            v.left2 = from_left(v.own[6], subgroupBroadcast(end, 0u), begins, lane);
            v.right2 = from_right(v.own[1], subgroupBroadcast(end, 3u), ends, lane);
        }
    }
    return v;
}

// The values of the first and of the last four invocations.
fn low(v: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u),
                  subgroupBroadcast(v, 2u), subgroupBroadcast(v, 3u));
}

fn high(v: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(subgroupBroadcast(v, 4u), subgroupBroadcast(v, 5u),
                  subgroupBroadcast(v, 6u), subgroupBroadcast(v, 7u));
}

// A result from the five pixels around it; smaller kernels use the inner ones.
fn add5(t: vec4<f32>, w: ptr<function, array<mat4x4<f32>, 5>>,
        a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, e: vec4<f32>) -> vec4<f32> {
    if SIZE == 5u {
        return t + (*w)[0] * a + (*w)[1] * b + (*w)[2] * c + (*w)[3] * d + (*w)[4] * e;
    } else if SIZE == 3u {
        return t + (*w)[0] * b + (*w)[1] * c + (*w)[2] * d;
    } else {
        return t + (*w)[0] * c;
    }
}

fn put(at: u32, column: u32, bias: vec4<f32>, sum: vec4<f32>) {
    if column >= p.width { return; }
    let i = at + column * (p.n / 4u);
    var v = sum + bias;
    if p.relu == 1u { v = keep_nan(v, max(v, vec4(0.0))); }
    if p.accumulate == 1u { v += y[i]; }
    y[i] = v;
}

fn convolve(id: vec3<u32>, group: u32, lane: u32) {
    // Neighbouring workgroups share their weights.
    let rows = p.m / p.width;
    let runs = runs_of_row();
    let tiles = (rows * runs + LANES - 1u) / LANES;
    let panel = group / tiles;
    if 4u * panel >= p.n { return; } // beyond the end of a folded grid
    let run = group % tiles * LANES + lane;
    // Runs past the end repeat the last row; their results are not stored.
    let row = min(run / runs, rows - 1u);
    let image_row = Line(row, row % p.height);
    let column = run % runs * RUN;
    let e = ends(image_row, column, lane);
    let depth = chunks();
    var step = (id.z * (p.n / 4u) + panel) * depth * SIZE * 4u;
    var t: Pixels;
    for (var chunk = 0u; chunk < depth; chunk++) {
        var v = load_window(chunk, id.z, image_row, column, e, lane);
        var w: array<mat4x4<f32>, 5>;
        let first = texel(weights, step + min(lane, 4u * SIZE - 1u));
        w[0] = low(first);
        if SIZE > 1u {
            let second = texel(weights, step + min(8u + lane, 4u * SIZE - 1u));
            w[1] = high(first);
            w[2] = low(second);
            if SIZE > 3u {
                let third = texel(weights, step + 16u + lane % 4u);
                w[3] = high(second);
                w[4] = low(third);
            }
        }
        t[0] = add5(t[0], &w, v.left2, v.left1, v.own[0], v.own[1], v.own[2]);
        t[1] = add5(t[1], &w, v.left1, v.own[0], v.own[1], v.own[2], v.own[3]);
        t[2] = add5(t[2], &w, v.own[0], v.own[1], v.own[2], v.own[3], v.own[4]);
        t[3] = add5(t[3], &w, v.own[1], v.own[2], v.own[3], v.own[4], v.own[5]);
        t[4] = add5(t[4], &w, v.own[2], v.own[3], v.own[4], v.own[5], v.own[6]);
        t[5] = add5(t[5], &w, v.own[3], v.own[4], v.own[5], v.own[6], v.own[7]);
        t[6] = add5(t[6], &w, v.own[4], v.own[5], v.own[6], v.own[7], v.right1);
        t[7] = add5(t[7], &w, v.own[5], v.own[6], v.own[7], v.right1, v.right2);
        step += 4u * SIZE;
    }
    if run >= rows * runs { return; }
    var bias = vec4(0.0);
    if p.has_bias == 1u { bias = b[id.z * p.b_stride / 4u + panel]; }
    let at = (id.z * p.m + row * p.width) * (p.n / 4u) + panel;
    put(at, column, bias, t[0]);
    put(at, column + 1u, bias, t[1]);
    put(at, column + 2u, bias, t[2]);
    put(at, column + 3u, bias, t[3]);
    put(at, column + 4u, bias, t[4]);
    put(at, column + 5u, bias, t[5]);
    put(at, column + 6u, bias, t[6]);
    put(at, column + 7u, bias, t[7]);
}

// g of a run, 0 past its row's end and for runs past the end.
fn gradient(at: u32, column: u32, live: bool) -> vec4<f32> {
    let inside = live && column < p.width;
    return select(vec4(0.0), texel(grad_y, at + select(0u, column * (p.n / 4u), inside)), inside);
}

// The elements of a weight column's gradient: rows are four output channels, a vec4 is the positions of a chunk.
fn outer(t: ptr<function, mat4x4<f32>>, g: ptr<function, Pixels>,
         v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>,
         v4: vec4<f32>, v5: vec4<f32>, v6: vec4<f32>, v7: vec4<f32>) {
    (*t)[0] += (*g)[0].x * v0 + (*g)[1].x * v1 + (*g)[2].x * v2 + (*g)[3].x * v3
             + (*g)[4].x * v4 + (*g)[5].x * v5 + (*g)[6].x * v6 + (*g)[7].x * v7;
    (*t)[1] += (*g)[0].y * v0 + (*g)[1].y * v1 + (*g)[2].y * v2 + (*g)[3].y * v3
             + (*g)[4].y * v4 + (*g)[5].y * v5 + (*g)[6].y * v6 + (*g)[7].y * v7;
    (*t)[2] += (*g)[0].z * v0 + (*g)[1].z * v1 + (*g)[2].z * v2 + (*g)[3].z * v3
             + (*g)[4].z * v4 + (*g)[5].z * v5 + (*g)[6].z * v6 + (*g)[7].z * v7;
    (*t)[3] += (*g)[0].w * v0 + (*g)[1].w * v1 + (*g)[2].w * v2 + (*g)[3].w * v3
             + (*g)[4].w * v4 + (*g)[5].w * v5 + (*g)[6].w * v6 + (*g)[7].w * v7;
}

// Reduces over the lanes; lane i < 4 stores row i. of_five: this weight column, counted in a kernel of 5.
fn put_column(at: u32, chunk: u32, of_five: u32, t: mat4x4<f32>, lane: u32) {
    let column = of_five + SIZE / 2u - 2u;
    let s0 = subgroupAdd(t[0]);
    let s1 = subgroupAdd(t[1]);
    let s2 = subgroupAdd(t[2]);
    let s3 = subgroupAdd(t[3]);
    let s = select(select(s2, s3, lane == 3u), select(s0, s1, lane == 1u), lane < 2u);
    if lane < 4u { put_partial(at, chunk, column, s); }
}

// One chunk and four output channels for each workgroup.
fn weight_columns(id: vec3<u32>, group: u32, lane: u32) {
    let depth = chunks();
    let chunk = group % depth;
    let panel = group / depth;
    if 4u * panel >= p.n { return; } // beyond the end of a folded grid
    let replica = id.z / p.slices;
    let slice = id.z % p.slices;
    let rows = p.m / p.width;
    let runs = runs_of_row();
    let tiles = (rows * runs + LANES - 1u) / LANES;
    let start = tiles * slice / p.slices;
    let end = tiles * (slice + 1u) / p.slices;
    let first = start * LANES + lane;
    var image_row = Line(first / runs, first / runs % p.height);
    var run = first % runs;
    var t0: mat4x4<f32>;
    var t1: mat4x4<f32>;
    var t2: mat4x4<f32>;
    var t3: mat4x4<f32>;
    var t4: mat4x4<f32>;
    for (var tile = start; tile < end; tile++) {
        // Rows past the end repeat the last one, times zero.
        let live = image_row.row < rows;
        let known = Line(min(image_row.row, rows - 1u), image_row.h);
        let column = run * RUN;
        let e = ends(known, column, lane);
        var v = load_window(chunk, replica, known, column, e, lane);
        let at = (replica * p.m + known.row * p.width) * (p.n / 4u) + panel;
        var g: Pixels;
        g[0] = gradient(at, column, live);
        g[1] = gradient(at, column + 1u, live);
        g[2] = gradient(at, column + 2u, live);
        g[3] = gradient(at, column + 3u, live);
        g[4] = gradient(at, column + 4u, live);
        g[5] = gradient(at, column + 5u, live);
        g[6] = gradient(at, column + 6u, live);
        g[7] = gradient(at, column + 7u, live);
        if SIZE > 3u {
            outer(&t0, &g, v.left2, v.left1, v.own[0], v.own[1], v.own[2], v.own[3], v.own[4], v.own[5]);
            outer(&t4, &g, v.own[2], v.own[3], v.own[4], v.own[5], v.own[6], v.own[7], v.right1, v.right2);
        }
        if SIZE > 1u {
            outer(&t1, &g, v.left1, v.own[0], v.own[1], v.own[2], v.own[3], v.own[4], v.own[5], v.own[6]);
            outer(&t3, &g, v.own[1], v.own[2], v.own[3], v.own[4], v.own[5], v.own[6], v.own[7], v.right1);
        }
        outer(&t2, &g, v.own[0], v.own[1], v.own[2], v.own[3], v.own[4], v.own[5], v.own[6], v.own[7]);
        run += LANES;
        while run >= runs {
            run -= runs;
            image_row.row += 1u;
            image_row.h += 1u;
            if image_row.h == p.height { image_row.h = 0u; }
        }
    }
    let at = (id.z * p.n + 4u * panel + lane) * p.depth;
    if SIZE > 3u {
        put_column(at, chunk, 0u, t0, lane);
        put_column(at, chunk, 4u, t4, lane);
    }
    if SIZE > 1u {
        put_column(at, chunk, 1u, t1, lane);
        put_column(at, chunk, 3u, t3, lane);
    }
    put_column(at, chunk, 2u, t2, lane);
}

// Sources of the positions of a chunk. `pick`: the four elements for a column of the image, 0 outside the image.
// `put_partial` stores four elements of the weight gradient; at: of the slice's row.
#ifdef SCALAR_INPUT
struct Source {
    at: vec4<u32>, // of the row's first pixel
    live: vec4<bool>,
}

// Positions past the kernel's end are outside the image.
fn source(chunk: u32, replica: u32, image_row: Line) -> Source {
    let i = kernel_rows(chunk);
    let shift = i - vec4(SIZE / 2u);
    let live = (vec4(image_row.h) + shift < vec4(p.height)) & (i < vec4(SIZE));
    let row = vec4(image_row.row) + select(vec4(0u), shift, live);
    let channel = vec4(4u * chunk) + vec4(0u, 1u, 2u, 3u) - i * p.c;
    return Source(replica * p.x_stride + row * p.width * p.c + channel, live);
}

fn pick(s: Source, column: u32) -> vec4<f32> {
    let live = s.live & vec4(column < p.width);
    let at = s.at + select(0u, column * p.c, column < p.width);
    return select(vec4(0.0), vec4(x[at.x], x[at.y], x[at.z], x[at.w]), live);
}

fn put_partial(at: u32, chunk: u32, column: u32, sums: vec4<f32>) {
    let i = kernel_rows(chunk);
    let k = vec4(at) + (i * (SIZE - 1u) + column) * p.c + vec4(4u * chunk) + vec4(0u, 1u, 2u, 3u);
    partial[k.x] = sums.x;
    if i.y < SIZE { partial[k.y] = sums.y; }
    if i.z < SIZE { partial[k.z] = sums.z; }
    if i.w < SIZE { partial[k.w] = sums.w; }
}
#else
struct Source {
    at: u32, // of the row's first pixel, in vec4
    live: bool,
}

fn source(chunk: u32, replica: u32, image_row: Line) -> Source {
    let i = kernel_rows(chunk).x;
    let shift = i - SIZE / 2u;
    let live = image_row.h + shift < p.height;
    let row = image_row.row + select(0u, shift, live);
    return Source((replica * p.x_stride + row * p.width * p.c) / 4u + chunk - i * (p.c / 4u), live);
}

fn pick(s: Source, column: u32) -> vec4<f32> {
    let live = s.live && column < p.width;
    return select(vec4(0.0), texel(x, s.at + select(0u, column * (p.c / 4u), live)), live);
}

fn put_partial(at: u32, chunk: u32, column: u32, sums: vec4<f32>) {
    let i = kernel_rows(chunk).x;
    partial[(at + (i * SIZE + column) * p.c) / 4u + chunk - i * (p.c / 4u)] = sums;
}
#endif

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
    weight_columns(id, group_index(id, count), lane);
}
