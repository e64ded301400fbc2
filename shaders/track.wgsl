// Running loss of an epoch and first step with a loss that is not finite; advances the step counter.
#import grid

struct Params {
    replicas: u32, // R
    batches: u32,  // of an epoch
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> parts: array<vec2<f32>>;        // (R), numerator and denominator of the loss
@group(0) @binding(2) var<storage, read_write> clock: array<vec4<u32>>;  // (R), (seed low, seed high, step, 0)
@group(0) @binding(3) var<storage, read_write> totals: array<vec2<f32>>; // (R)
@group(0) @binding(4) var<storage, read_write> diverged: array<u32>;     // (R), a step or NEVER

const NEVER = 0xffffffffu;
const EXPONENT = 0x7f800000u;

@compute @workgroup_size(64)
fn track_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                 @builtin(local_invocation_index) local_index: u32) {
    let r = group_index(id, count) * 64u + local_index;
    if r >= p.replicas { return; }
    let step = clock[r].z;
    let part = parts[r];
    var total = part;
    if step % p.batches != 0u { total += totals[r]; }
    totals[r] = total;
    // Tested on the bits: shader compilers may assume that nothing is infinite or NaN.
    if diverged[r] == NEVER && any((bitcast<vec2<u32>>(part) & vec2(EXPONENT)) == vec2(EXPONENT)) {
        diverged[r] = step;
    }
    clock[r].z = step + 1u;
}
