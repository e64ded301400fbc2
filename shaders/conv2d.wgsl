// Convolution of images with channels last, stride 1 or 2, zeros around ('same' padding), on any GPU.
//
//   forward          y (M, N) = f(patches(x) (M, K) packed_weights (K, N) + b), f nothing or ReLU
//   backward input   grad_x = the same product of g with the weights rotated by 180 degrees and their channels
//   exchanged; with ReLU g is grad_y where y > 0
//   backward weight  grad_w (N, K) = g (M, N)^T patches(x) (M, K), and grad_b (N) = sum over M of g
//
// M pixels of y, K = size^2 C kernel positions and channels, the channel innermost. patches(x) is never stored: a
// tile loads its elements from x. With VEC4, C and N are multiples of 4, and four neighbours in K are of one pixel.
#import product
#import conv2d
#import conv2d_strided
#import value
#import nan

@group(0) @binding(0) var<uniform> p: Params;
// (B, H, W, C) every x_stride; g for the backward input
@group(0) @binding(1) var<storage, read> x: array<Value>;
@group(0) @binding(3) var<storage, read> b: array<Value>;             // (N) every b_stride
@group(0) @binding(5) var<storage, read> weights: array<Value>;       // (R, depth, N) in panels
// (R, B, H', W', N); grad_x for the backward input
@group(0) @binding(6) var<storage, read_write> y: array<Value>;
@group(0) @binding(8) var<storage, read> grad_y: array<Value>;        // (R, M, N)
@group(0) @binding(10) var<storage, read_write> partial: array<Value>; // (R, slices, N, depth)
@group(0) @binding(11) var<storage, read_write> sums: array<Value>;   // (R, slices, N), of grad_b

// The element of x at a tap of the kernel with this centre, or the four from there on; `first` is the replica's first.
fn element(first: u32, c: Centre, tap: Tap) -> Value {
    let s = source(c, tap);
    return select(Value(0.0), x[(first + s.pixel * p.c + tap.channel) / WIDTH], s.live);
}

#ifdef VEC4
const WIDTH = 4u; // elements of a Value

// Four elements of x from position k of the kernel on.
fn four_of_patch(first: u32, centre: Centre, k: u32) -> vec4<f32> { return element(first, centre, kernel_tap(k)); }

// Four values from the `at`-th on, of which the first `left` are there.
fn four_of_weights(at: u32, left: u32) -> vec4<f32> { return weights[at / 4u]; }

fn four_of_b(at: u32, left: u32) -> vec4<f32> { return b[at / 4u]; }

fn four_of_grad_y(at: u32, left: u32) -> vec4<f32> { return grad_y[at / 4u]; }

fn store_y(at: u32, left: u32, v: vec4<f32>) { finish_y(at / 4u, v); }

fn store_partial(at: u32, left: u32, v: vec4<f32>) { partial[at / 4u] = v; }

fn store_sums(at: u32, left: u32, v: vec4<f32>) { sums[at / 4u] = v; }
#else
const WIDTH = 1u;

fn four_of_patch(first: u32, centre: Centre, k: u32) -> vec4<f32> {
    var v: vec4<f32>;
    let terms = p.size * p.size * p.c;
    for (var i = 0u; i < 4u; i++) { if k + i < terms { v[i] = element(first, centre, kernel_tap(k + i)); } }
    return v;
}

fn four_of_weights(at: u32, left: u32) -> vec4<f32> {
    var v: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { if i < left { v[i] = weights[at + i]; } }
    return v;
}

fn four_of_b(at: u32, left: u32) -> vec4<f32> {
    var v: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { if i < left { v[i] = b[at + i]; } }
    return v;
}

fn four_of_grad_y(at: u32, left: u32) -> vec4<f32> {
    var v: vec4<f32>;
    for (var i = 0u; i < 4u; i++) { if i < left { v[i] = grad_y[at + i]; } }
    return v;
}

fn store_y(at: u32, left: u32, v: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) { if i < left { finish_y(at + i, v[i]); } }
}

fn store_partial(at: u32, left: u32, v: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) { if i < left { partial[at + i] = v[i]; } }
}

fn store_sums(at: u32, left: u32, v: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) { if i < left { sums[at + i] = v[i]; } }
}
#endif

fn finish_y(at: u32, sum: Value) {
    var v = sum;
    if p.relu == 1u { v = keep_nan(v, max(v, Value(0.0))); }
    if p.accumulate == 1u { v += y[at]; }
    y[at] = v;
}

fn locate(pixel: u32, end: u32) -> Centre {
    if pixel >= end { return Centre(vec2(-0x10000000), 0u); }
    return centre(pixel_position(pixel), image_of(pixel));
}

fn convolve(id: vec3<u32>, group: u32, local_index: u32) {
    let tiles = (p.n + TILE - 1u) / TILE;
    let row0 = group / tiles * TILE;
    let col0 = group % tiles * TILE;
    let terms = p.size * p.size * p.c;
    let first = id.z * p.x_stride;
    var centres: array<Centre, 4>;
    for (var j = 0u; j < 4u; j++) { centres[j] = locate(row0 + line_along(local_index) + j, p.m); }
    var products: Sums;
    var block: Block;
    for (var d = 0u; ; d += DEPTH) {
        if d < p.depth {
            for (var j = 0u; j < 4u; j++) {
                block[j] = vec4(0.0);
                if fetches_a(local_index) {
                    let k = d + step_along(local_index);
                    if k < terms { block[j] = four_of_patch(first, centres[j], k); }
                }
                if fetches_b(local_index) {
                    let step = d + step_across(local_index) + j;
                    let c = col0 + line_across(local_index);
                    if step < p.depth && c < p.n {
                        block[j] = four_of_weights(id.z * p.depth * p.n + packed_at(step, c), p.n - c);
                    }
                }
            }
        }
        if d > 0u { multiply(&products, local_index); }
        if d >= p.depth { break; }
        workgroupBarrier();
        if fetches_a(local_index) { put_a(line_along(local_index), step_along(local_index), transposed(block)); }
        if fetches_b(local_index) { put_b(line_across(local_index), step_across(local_index), block); }
        workgroupBarrier();
    }
    finish(&products, local_index);
    for (var h = 0u; h < FOURS; h++) {
        let c = col0 + result_col(local_index, h);
        if c >= p.n { continue; }
        var bias = vec4(0.0);
        if p.has_bias == 1u { bias = four_of_b(id.z * p.b_stride + c, p.n - c); }
        for (var i = 0u; i < ROWS; i++) {
            let r = row0 + result_row(local_index, i);
            if r < p.m { store_y((id.z * p.m + r) * p.n + c, p.n - c, products[i][h] + bias); }
        }
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn conv2d_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) local_index: u32) {
    convolve(id, group_index(id, count), local_index);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn conv2d_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) local_index: u32) {
    convolve(id, group_index(id, count), local_index);
}

// In slices, which conv2d_backward_slices sums. The workgroups of the first columns also sum grad_b.
@compute @workgroup_size(WORKGROUP_SIZE)
fn conv2d_backward_weight(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let terms = p.size * p.size * p.c;
    let tiles = (terms + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let replica = id.z / p.slices;
    let slice = id.z % p.slices;
    let row0 = group / tiles * TILE;
    let col0 = group % tiles * TILE;
    let start = slice_start(slice) * p.width;
    let end = slice_start(slice + 1u) * p.width;
    let with_bias = p.has_bias == 1u && col0 == 0u;
    let line0 = line_across(local_index);
    let step = step_across(local_index);
    var products: Sums;
    var bias: Lines;
    var block: Block;
    for (var m = start; ; m += DEPTH) {
        if m < end {
            let n = row0 + line0;
            for (var j = 0u; j < 4u; j++) {
                let pixel = m + step + j;
                block[j] = vec4(0.0);
                if pixel < end {
                    if fetches_a(local_index) && n < p.n {
                        block[j] = four_of_grad_y((replica * p.m + pixel) * p.n + n, p.n - n);
                    }
                    if fetches_b(local_index) && col0 + line0 < terms {
                        block[j] = four_of_patch(replica * p.x_stride, locate(pixel, end), col0 + line0);
                    }
                }
            }
        }
        if m > start {
            multiply(&products, local_index);
            if with_bias { add_lines(&bias, local_index); }
        }
        if m >= end { break; }
        workgroupBarrier();
        if fetches_a(local_index) { put_a(line0, step, block); }
        if fetches_b(local_index) { put_b(line0, step, block); }
        workgroupBarrier();
    }
    finish(&products, local_index);
    for (var i = 0u; i < ROWS; i++) {
        let r = row0 + result_row(local_index, i);
        if r >= p.n { continue; }
        for (var h = 0u; h < FOURS; h++) {
            let c = col0 + result_col(local_index, h);
            if c < terms { store_partial((id.z * p.n + r) * p.depth + c, terms - c, products[i][h]); }
        }
    }
    if !with_bias || !sums_lines(local_index) { return; }
    for (var h = 0u; h < LINES; h++) {
        let r = row0 + line_of(local_index, h);
        if r < p.n { store_sums(id.z * p.n + r, p.n - r, bias[h]); }
    }
}
