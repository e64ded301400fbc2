// Running loss of an epoch and first step with a loss that is not finite; notes in the clock that a step is finished.
#import grid
#import track

struct Params {
    replicas: u32, // R
    batches: u32,  // of an epoch
}

@group(0) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64)
fn track_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                 @builtin(local_invocation_index) local_index: u32) {
    let r = group_index(id, count) * 64u + local_index;
    if r < p.replicas { track(r, p.batches); }
}
