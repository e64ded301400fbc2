// As conv2d_runs_subgroup8.wgsl where C is no multiple of 4, as in a first layer: the elements of x are loaded one by one.
#import conv2d_runs_subgroup8

@group(0) @binding(1) var<storage, read> x: array<f32>;             // (B, H, W, C) every x_stride
@group(0) @binding(6) var<storage, read_write> partial: array<f32>; // (R, slices, N, depth)

struct Source {
    at: vec4<u32>, // of the row's first pixel
    live: vec4<bool>,
}

// Places past the kernel's end are outside the image.
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

@compute @workgroup_size(8)
fn conv2d_forward_runs_narrow_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                        @builtin(local_invocation_index) lane: u32) {
    convolve(id, group_index(id, count), lane);
}

@compute @workgroup_size(8)
fn conv2d_backward_weight_runs_narrow_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                                @builtin(local_invocation_index) lane: u32) {
    weight_columns(id, group_index(id, count), lane);
}
