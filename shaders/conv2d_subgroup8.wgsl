// Convolution for adapters with subgroups of 8 invocations, such as software Vulkan on AVX2 (see linear_subgroup8.wgsl): a subgroup
// keeps 32 x 32 results, in registers. Shapes and the other kernels as in conv2d.wgsl; C and N are multiples of 4.
#import conv2d_subgroup8

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (B, H, W, C) every x_stride; g for the backward input

struct Spot {
    tap: Tap,
    at: u32, // of the replica's first pixel, in vec4
}

fn spot(k: u32, replica: u32) -> Spot {
    let tap = kernel_tap(k);
    return Spot(tap, (replica * p.x_stride + tap.channel) / 4u);
}

fn pick(s: Spot, m: u32, place: vec2<u32>) -> vec4<f32> {
    let live = inside(place, s.tap.shift);
    return at_tap(s.at + (m + select(0u, u32(s.tap.pixels), live)) * (p.c / 4u), live);
}

fn at_tap(at: u32, live: bool) -> vec4<f32> { return select(vec4(0.0), x[at], live); }

fn convolve(id: vec3<u32>, group: u32, lane: u32) {
    // Neighbouring workgroups share their weights.
    let tiles = (p.m + TILE - 1u) / TILE;
    let row = group % tiles * TILE;
    let panel = group / tiles * TILE;
    if panel >= p.n { return; } // of a folded grid
    let col = panel + 4u * lane;
    let width = min(TILE, p.n - panel) / 4u;
    let depth = p.c / 4u;
    // Loads past the edge repeat the last pixel; their results are not stored.
    let m = min(vec4(row + lane) + vec4(0u, 8u, 16u, 24u), vec4(p.m - 1u));
    let place0 = image_place(m.x);
    let place1 = image_place(m.y);
    let place2 = image_place(m.z);
    let place3 = image_place(m.w);
    let x0 = id.z * p.x_stride / 4u;
    var step = (id.z * p.depth * p.n + packed_at(0u, min(col, p.n - 4u))) / 4u;
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
    put_tile(id.z, row, col, t0, t1, t2, t3);
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

@compute @workgroup_size(8)
fn conv2d_backward_weight_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                    @builtin(local_invocation_index) lane: u32) {
    weight_tile(id, group_index(id, count), lane);
}
