// As conv2d_subgroup8.wgsl where C is no multiple of 4, as in a first layer: the elements of x are loaded one by one.
#import conv2d_subgroup8

@group(0) @binding(1) var<storage, read> x: array<f32>; // (B, H, W, C) every x_stride

fn element(at: u32, m: u32, place: vec2<u32>, tap: Tap) -> f32 {
    let live = inside(place, tap.shift);
    return select(0.0, x[at + (m + select(0u, u32(tap.pixels), live)) * p.c + tap.channel], live);
}

struct Spot {
    taps: array<Tap, 4>,
    at: u32, // of the replica's first pixel
}

fn spot(k: u32, replica: u32) -> Spot {
    return Spot(array(kernel_tap(k), kernel_tap(k + 1u), kernel_tap(k + 2u), kernel_tap(k + 3u)), replica * p.x_stride);
}

fn pick(s: Spot, m: u32, place: vec2<u32>) -> vec4<f32> {
    return vec4(element(s.at, m, place, s.taps[0]), element(s.at, m, place, s.taps[1]),
                element(s.at, m, place, s.taps[2]), element(s.at, m, place, s.taps[3]));
}

@compute @workgroup_size(8)
fn conv2d_forward_narrow_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                   @builtin(local_invocation_index) lane: u32) {
    // Neighbouring workgroups share their weights.
    let tiles = (p.m + TILE - 1u) / TILE;
    let group = group_index(id, count);
    let row = group % tiles * TILE;
    let panel = group / tiles * TILE;
    if panel >= p.n { return; } // of a folded grid
    let col = panel + 4u * lane;
    let width = min(TILE, p.n - panel) / 4u;
    // Loads past the edge repeat the last pixel; their results are not stored. Taps past the kernel meet weights of 0.
    let m = min(vec4(row + lane) + vec4(0u, 8u, 16u, 24u), vec4(p.m - 1u));
    let place0 = image_place(m.x);
    let place1 = image_place(m.y);
    let place2 = image_place(m.z);
    let place3 = image_place(m.w);
    var step = (id.z * p.depth * p.n + packed_at(0u, min(col, p.n - 4u))) / 4u;
    var t0: Rows;
    var t1: Rows;
    var t2: Rows;
    var t3: Rows;
    for (var k = 0u; k < p.depth; k += 4u) {
        let s = spot(k, id.z);
        let b = mat4x4(weights[step], weights[step + width], weights[step + 2u * width], weights[step + 3u * width]);
        update(&t0, pick(s, m.x, place0), b);
        update(&t1, pick(s, m.y, place1), b);
        update(&t2, pick(s, m.z, place2), b);
        update(&t3, pick(s, m.w, place3), b);
        step += 4u * width;
    }
    put_tile(id.z, row, col, t0, t1, t2, t3);
}

@compute @workgroup_size(8)
fn conv2d_backward_weight_narrow_subgroup8(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                    @builtin(local_invocation_index) lane: u32) {
    weight_tile(id, group_index(id, count), lane);
}
