// Sums over the invocations of a workgroup, LANES of them: a constant of the file that imports this one.
var<workgroup> lane_sums: array<vec2<f32>, LANES>;

// The sum over the lanes, in all of them. All lanes must call it.
#ifdef SUBGROUPS
// First over subgroups, whose invocations are neighbours. The first barrier brings together those that had more to do
// than others: only what runs at once is summed.
fn sum_of_lanes(lane: u32, v: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();
    let of_subgroup = subgroupAdd(v);
    let size = subgroupAdd(1u);
    if lane % size == 0u { lane_sums[lane / size] = of_subgroup; }
    workgroupBarrier();
    var sum = lane_sums[0];
    for (var i = 1u; i < LANES / size; i++) { sum += lane_sums[i]; }
    workgroupBarrier();
    return sum;
}
#else
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
#endif
