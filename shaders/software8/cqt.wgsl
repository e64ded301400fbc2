// cqt for adapters with subgroups of 8 invocations, such as software Vulkan on AVX2: a subgroup works on 32 rows
// (frames of any clips) and one group of filters, each invocation on 4 rows. Of every four taps each invocation loads
// one vec4 and broadcasts it; samples are used by one invocation only. No barriers, no workgroup memory.
enable subgroups;
#import grid
#import cqt

const LANES = 8u;
const ROWS = 32u;

// Four steps of one row.
fn samples(row: vec2<i32>, j: u32) -> vec4<f32> {
    return vec4(sample_at(row, j), sample_at(row, j + 1u), sample_at(row, j + 2u), sample_at(row, j + 3u));
}

fn multiply_add(sum: vec4<f32>, v: vec4<f32>, taps: mat4x4<f32>) -> vec4<f32> {
    return sum + v.x * taps[0] + v.y * taps[1] + v.z * taps[2] + v.w * taps[3];
}

@compute @workgroup_size(8)
fn cqt_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) lane: u32) {
    let tiles = (p.b * p.t + ROWS - 1u) / ROWS;
    let block = group_index(id, count);
    let group = block / tiles;
    // The last row of a folded grid may reach beyond the end.
    if group >= p.groups { return; }
    let row = block % tiles * ROWS + lane;
    let row0 = origin(row, id.z);
    let row1 = origin(row + LANES, id.z);
    let row2 = origin(row + 2u * LANES, id.z);
    let row3 = origin(row + 3u * LANES, id.z);
    let own = groups[group];
    // Constant names only: an array indexed by a loop variable would be in memory.
    var re0 = vec4(0.0);
    var re1 = vec4(0.0);
    var re2 = vec4(0.0);
    var re3 = vec4(0.0);
    var im0 = vec4(0.0);
    var im1 = vec4(0.0);
    var im2 = vec4(0.0);
    var im3 = vec4(0.0);
    for (var d = 0u; d < own.count; d += 4u) {
        let v = h[2u * (own.at + d) + lane];
        let re = mat4x4(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 2u),
                        subgroupBroadcast(v, 4u), subgroupBroadcast(v, 6u));
        let im = mat4x4(subgroupBroadcast(v, 1u), subgroupBroadcast(v, 3u),
                        subgroupBroadcast(v, 5u), subgroupBroadcast(v, 7u));
        let j = own.first + d;
        let x0 = samples(row0, j);
        re0 = multiply_add(re0, x0, re);
        im0 = multiply_add(im0, x0, im);
        let x1 = samples(row1, j);
        re1 = multiply_add(re1, x1, re);
        im1 = multiply_add(im1, x1, im);
        let x2 = samples(row2, j);
        re2 = multiply_add(re2, x2, re);
        im2 = multiply_add(im2, x2, im);
        let x3 = samples(row3, j);
        re3 = multiply_add(re3, x3, re);
        im3 = multiply_add(im3, x3, im);
    }
    put(id.z, row, group, re0, im0);
    put(id.z, row + LANES, group, re1, im1);
    put(id.z, row + 2u * LANES, group, re2, im2);
    put(id.z, row + 3u * LANES, group, re3, im3);
}
