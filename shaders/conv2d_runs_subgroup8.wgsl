// Convolution to few channels for adapters with subgroups of 8 invocations. Shapes and the other kernels as in conv2d.wgsl; C and N are
// multiples of 4.
#import conv2d_runs_subgroup8

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;             // (B, H, W, C) every x_stride; g for the backward input
@group(0) @binding(6) var<storage, read_write> partial: array<vec4<f32>>; // (R, slices, N, depth)

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
    return select(vec4(0.0), x[s.at + select(0u, column * (p.c / 4u), live)], live);
}

fn put_partial(at: u32, chunk: u32, column: u32, sums: vec4<f32>) {
    let i = kernel_rows(chunk).x;
    partial[(at + (i * SIZE + column) * p.c) / 4u + chunk - i * (p.c / 4u)] = sums;
}

@compute @workgroup_size(8)
fn conv2d_forward_runs_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                 @builtin(local_invocation_index) lane: u32) {
    convolve(id, group_index(id, count), lane);
}

@compute @workgroup_size(8)
fn conv2d_backward_input_runs_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                        @builtin(local_invocation_index) lane: u32) {
    convolve(id, group_index(id, count), lane);
}

@compute @workgroup_size(8)
fn conv2d_backward_weight_runs_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                         @builtin(local_invocation_index) lane: u32) {
    weight_columns(id, group_index(id, count), lane);
}
