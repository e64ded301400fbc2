// Sums over the 64 invocations of a workgroup.
const LANES = 64u;

var<workgroup> lane_sums: array<vec2<f32>, 64>;

// The sum over the lanes, in all of them. All lanes must call it.
fn sum_of_lanes(lane: u32, v: vec2<f32>) -> vec2<f32> {
    lane_sums[lane] = v;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step /= 2u) {
        if lane < step { lane_sums[lane] += lane_sums[lane + step]; }
        workgroupBarrier();
    }
    let sum = lane_sums[0];
    workgroupBarrier();
    return sum;
}
