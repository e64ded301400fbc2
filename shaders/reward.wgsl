// The accuracy on each clip's known labels, added to the previous rewards.
#import grid

struct Params {
    batch: u32,     // B
    classes: u32,   // K
    follows: u32,   // 1: there are previous rewards
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;            // (R, B, K), probabilities
@group(0) @binding(2) var<storage, read> targets: array<f32>;      // (R, B, K)
@group(0) @binding(3) var<storage, read> observed: array<f32>;     // (R, B, K)
@group(0) @binding(4) var<storage, read> before: array<f32>;       // (R, B)
@group(0) @binding(5) var<storage, read_write> y: array<f32>;      // (R, B)
@group(0) @binding(6) var<storage, read_write> counts: array<f32>; // (R, B), 1 where any label is known

@compute @workgroup_size(64)
fn reward_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) local_index: u32) {
    let b = group_index(id, count) * 64u + local_index;
    if b >= p.batch { return; }
    let clip = id.z * p.batch + b;
    var known = 0.0;
    var right = 0.0;
    for (var at = clip * p.classes; at < (clip + 1u) * p.classes; at++) {
        if observed[at] != 0.0 {
            known += 1.0;
            right += f32((x[at] >= 0.5) == (targets[at] >= 0.5));
        }
    }
    var sum = right / max(known, 1.0);
    if p.follows == 1u { sum += before[clip]; }
    y[clip] = sum;
    counts[clip] = f32(known > 0.0);
}
