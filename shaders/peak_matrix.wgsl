// Peak arithmetic of cooperative matrices, for the benchmarks.
enable f16;
enable subgroups;
enable wgpu_cooperative_matrix;
#import cooperative_matrix

struct Params {
    rounds: u32,
    factor: f32,
    summand: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>; // (items)

var<workgroup> operand: array<f16, ELEMENTS>;
var<workgroup> sums: array<f32, 4u * ELEMENTS>;

// Four independent chains of products in each of four subgroups: 8 MATRIX^3 floating-point operations a round and
// subgroup.
@compute @workgroup_size(WORKGROUP_SIZE)
fn peak_matrix(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local_index: u32) {
    if local_index < ELEMENTS / 2u {
        operand[2u * local_index] = f16(p.factor);
        operand[2u * local_index + 1u] = f16(p.summand);
    }
    workgroupBarrier();
    let left = coopLoad<Left>(&operand[0], MATRIX);
    let right = coopLoadT<Right>(&operand[0], MATRIX);
    // They begin with other values, so that no compiler makes one of them.
    var a: Product;
    var b = coopMultiplyAdd(left, right, a);
    var c = coopMultiplyAdd(left, right, b);
    var d = coopMultiplyAdd(left, right, c);
    for (var round = 0u; round < p.rounds; round++) {
        a = coopMultiplyAdd(left, right, a);
        b = coopMultiplyAdd(left, right, b);
        c = coopMultiplyAdd(left, right, c);
        d = coopMultiplyAdd(left, right, d);
    }
    coopStoreT(a + b + (c + d), &sums[subgroup_of(local_index) * ELEMENTS], MATRIX);
    workgroupBarrier();
    if local_index == 0u { y[id.x] = vec4(sums[0], sums[ELEMENTS], sums[2u * ELEMENTS], sums[3u * ELEMENTS]); }
}
