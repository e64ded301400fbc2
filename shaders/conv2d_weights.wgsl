// What happens to a convolution's weights before its products, and to their gradients after them, on any adapter.
#import grid
#import conv2d

const WORKGROUP_SIZE = 64u;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> w: array<f32>;                    // (N, C, size, size) every w_stride
// (R, depth, N) in panels, rows from K on are 0
@group(0) @binding(4) var<storage, read_write> packed_weights: array<f32>;
@group(0) @binding(8) var<storage, read> grad_y: array<f32>;               // (R, M, N)
// (R, slices, N, depth) or (R, slices, pixels_at_once, N)
@group(0) @binding(10) var<storage, read_write> partial: array<f32>;
@group(0) @binding(11) var<storage, read_write> grad_w: array<f32>;        // (N, C, size, size) every w_stride

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
