// The dataset rows of a step's batch.
#import grid
#import sample

struct Params {
    draw: Draw,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<u32>; // (R, B)

@compute @workgroup_size(64)
fn sample_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) local_index: u32) {
    let b = group_index(id, count) * 64u + local_index;
    if b >= p.draw.batch { return; }
    if b == 0u { begin_step(id.z); }
    y[id.z * p.draw.batch + b] = drawn_row(id.z, b);
}
