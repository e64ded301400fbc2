// Convolution of images with channels last, stride 1 or 2, zeros around ('same' padding), on any GPU.
//
//   forward          y (M, N) = f(patches(x) (M, K) packed_weights (K, N) + b), f nothing or ReLU
//   backward relu    g (M, N) = grad_y where y > 0, else 0
//   backward input   grad_x = the same product of g with the weights rotated by 180 degrees and their channels
//   exchanged
//   backward weight  grad_w (N, K) = g (M, N)^T patches(x) (M, K)
//   backward bias    grad_b (N) = sum over M of g
//
// M pixels of y, K = size^2 C kernel positions and channels, the channel innermost. patches(x) is never stored: a
// tile loads its elements from x.
#import grid
#import tile_product
#import conv2d
#import conv2d_strided
#import value
#import nan

@group(0) @binding(0) var<uniform> p: Params;
// (B, H, W, C) every x_stride; g for the backward input
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;                    // (N, C, size, size) every w_stride
@group(0) @binding(3) var<storage, read> b: array<f32>;                    // (N) every b_stride
// (R, depth, N) in panels, rows from K on are 0
@group(0) @binding(4) var<storage, read_write> packed_weights: array<f32>;
@group(0) @binding(5) var<storage, read> weights: array<f32>;              // the same, to read
// (R, B, H', W', N); grad_x for the backward input
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<storage, read> grad_y: array<f32>;               // (R, M, N)
// (R, slices, N, depth) or (R, slices, pixels_at_once, N)
@group(0) @binding(10) var<storage, read_write> partial: array<f32>;
@group(0) @binding(11) var<storage, read_write> grad_w: array<f32>;        // (N, C, size, size) every w_stride
@group(0) @binding(12) var<storage, read_write> grad_b: array<f32>;        // (N) every b_stride

// Of a tile's lines; far outside for lines past the end.
var<workgroup> centres: array<Centre, 32>;

fn locate(pixel: u32, end: u32) -> Centre {
    if pixel >= end { return Centre(vec2(-0x10000000), 0u); }
    return centre(pixel_position(pixel), image_of(pixel));
}

// Packs the weights for the product. One invocation per pair of channels.
@compute @workgroup_size(64)
fn conv2d_pack(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.c * p.n { return; }
    let c = i / p.n;
    let n = i % p.n;
    let taps = p.size * p.size;
    let first = id.z * p.depth * p.n;
    for (var tap = 0u; tap < taps; tap++) {
        var source = (n * p.c + c) * taps + tap;
        if p.transposed == 1u { source = i * taps + taps - 1u - tap; }
        packed_weights[first + packed_at(tap * p.c + c, n)] = w[id.z * p.w_stride + source];
    }
    if c == 0u {
        for (var k = taps * p.c; k < p.depth; k++) { packed_weights[first + packed_at(k, n)] = 0.0; }
    }
}

// The same for the kernels that work on runs of pixels: (R, N / 4, chunks, size, 4) of four output channels each, where
// a chunk is four neighbouring positions (row, channel) of a kernel column; positions past the end are 0.
@compute @workgroup_size(64)
fn conv2d_runs_pack(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                    @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.c * p.n { return; }
    let c = i / p.n;
    let n = i % p.n;
    let positions = (p.size * p.c + 3u) / 4u * 4u;
    let first = (id.z * p.n + n / 4u * 4u) * positions * p.size + n % 4u;
    for (var column = 0u; column < p.size; column++) {
        for (var row = 0u; row < p.size; row++) {
            let tap = row * p.size + column;
            var source = (n * p.c + c) * p.size * p.size + tap;
            if p.transposed == 1u { source = (i + 1u) * p.size * p.size - 1u - tap; }
            packed_weights[first + run_at(row * p.c + c, column)] = w[id.z * p.w_stride + source];
        }
        if c == 0u {
            for (var position = p.size * p.c; position < positions; position++) {
                packed_weights[first + run_at(position, column)] = 0.0;
            }
        }
    }
}

fn run_at(position: u32, column: u32) -> u32 { return (position / 4u * p.size + column) * 16u + position % 4u * 4u; }

fn convolve(id: vec3<u32>, group: u32, local_index: u32) {
    let tiles = (p.n + TILE - 1u) / TILE;
    let row0 = group / tiles * TILE;
    let col0 = group % tiles * TILE;
    let row = local_index / 8u * 4u;
    let col = local_index % 8u * 4u;
    let d = local_index % DEPTH;
    let end = p.size * p.size * p.c;
    if local_index < TILE { centres[local_index] = locate(row0 + local_index, p.m); }
    workgroupBarrier();
    var acc: array<vec4<f32>, 4>;
    for (var d0 = 0u; d0 < p.depth; d0 += DEPTH) {
        let tap = kernel_tap(d0 + d);
        for (var tile_row = local_index / DEPTH; tile_row < TILE; tile_row += WORKGROUP_SIZE / DEPTH) {
            var a = 0.0;
            if d0 + d < end { a = element(id.z * p.x_stride, centres[tile_row], tap); }
            a_tile[d * TILE + tile_row] = a;
        }
        for (var i = local_index; i < TILE * DEPTH; i += WORKGROUP_SIZE) {
            let step = d0 + i / TILE;
            let c = col0 + i % TILE;
            var bb = 0.0;
            if step < p.depth && c < p.n { bb = weights[id.z * p.depth * p.n + packed_at(step, c)]; }
            b_tile[i] = bb;
        }
        workgroupBarrier();
        multiply(&acc, row, col);
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let r = row0 + row + i;
            let c = col0 + col + j;
            if r < p.m && c < p.n {
                let at = (id.z * p.m + r) * p.n + c;
                var v = acc[i][j];
                if p.has_bias == 1u { v += b[id.z * p.b_stride + c]; }
                if p.relu == 1u { v = keep_nan(v, max(v, 0.0)); }
                if p.accumulate == 1u { v += y[at]; }
                y[at] = v;
            }
        }
    }
}

@compute @workgroup_size(64)
fn conv2d_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) local_index: u32) {
    convolve(id, group_index(id, count), local_index);
}

// Four elements per invocation.
@compute @workgroup_size(64)
fn conv2d_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) local_index: u32) {
    convolve(id, group_index(id, count), local_index);
}

@compute @workgroup_size(64)
fn conv2d_backward_weight(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let depth = p.size * p.size * p.c;
    let tiles = (depth + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let replica = id.z / p.slices;
    let slice = id.z % p.slices;
    let row0 = group / tiles * TILE;
    let col0 = group % tiles * TILE;
    let row = local_index / 8u * 4u;
    let col = local_index % 8u * 4u;
    let tile_row = local_index % TILE;
    let tap = kernel_tap(col0 + tile_row);
    let end = slice_start(slice + 1u) * p.width;
    var acc: array<vec4<f32>, 4>;
    var m0 = slice_start(slice) * p.width;
    if local_index < DEPTH { centres[local_index] = locate(m0 + local_index, end); }
    workgroupBarrier();
    for (; m0 < end; m0 += DEPTH) {
        for (var d = local_index / TILE; d < DEPTH; d += WORKGROUP_SIZE / TILE) {
            let m = m0 + d;
            var a = 0.0;
            var bb = 0.0;
            if m < end && row0 + tile_row < p.n { a = grad_y[(replica * p.m + m) * p.n + row0 + tile_row]; }
            if col0 + tile_row < depth { bb = element(replica * p.x_stride, centres[d], tap); }
            a_tile[d * TILE + tile_row] = a;
            b_tile[d * TILE + tile_row] = bb;
        }
        workgroupBarrier();
        if local_index < DEPTH { centres[local_index] = locate(m0 + DEPTH + local_index, end); }
        multiply(&acc, row, col);
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let r = row0 + row + i;
            let c = col0 + col + j;
            if r < p.n && c < depth { partial[(id.z * p.n + r) * p.depth + c] = acc[i][j]; }
        }
    }
}

// Reduces the slices, in order, and restores the weights' axes. One invocation per pair of channels.
@compute @workgroup_size(64)
fn conv2d_backward_slices(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.n * p.c { return; }
    let n = i / p.c;
    let c = i - n * p.c;
    let taps = p.size * p.size;
    for (var tap = 0u; tap < taps; tap++) {
        var sum = 0.0;
        for (var s = 0u; s < p.slices; s++) {
            sum += partial[((id.z * p.slices + s) * p.n + n) * p.depth + tap * p.c + c];
        }
        let at = id.z * p.w_stride + i * taps + tap;
        if p.accumulate == 1u { grad_w[at] += sum; } else { grad_w[at] = sum; }
    }
}

// With few channels, several invocations share a channel and take different pixels.
fn pixels_at_once() -> u32 { return clamp(WORKGROUP_SIZE / p.n, 1u, 16u); }

@compute @workgroup_size(64)
fn conv2d_backward_bias(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let part = local_index / min(p.n, WORKGROUP_SIZE);
    let parts = pixels_at_once();
    let c = group_index(id, count) * WORKGROUP_SIZE + local_index - part * min(p.n, WORKGROUP_SIZE);
    if c >= p.n || part >= parts { return; }
    let replica = id.z / p.slices;
    let slice = id.z % p.slices;
    var sum = 0.0;
    for (var m = slice_start(slice) * p.width + part; m < slice_start(slice + 1u) * p.width; m += parts) {
        sum += grad_y[(replica * p.m + m) * p.n + c];
    }
    partial[(id.z * parts + part) * p.n + c] = sum;
}

@compute @workgroup_size(64)
fn conv2d_backward_bias_slices(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                               @builtin(local_invocation_index) local_index: u32) {
    let c = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if c >= p.n { return; }
    var sum = 0.0;
    for (var s = 0u; s < p.slices; s++) { sum += partial[(id.z * p.slices + s) * p.n + c]; }
    let at = id.z * p.b_stride + c;
    if p.accumulate == 1u { grad_b[at] += sum; } else { grad_b[at] = sum; }
}
