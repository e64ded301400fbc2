// The last valid instance of each clip.
#import value
#import grid

struct Params {
    batch: u32,          // B
    instances: u32,      // T
    width: u32,          // F, in Values
    lengths_stride: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Value>;            // (R, B, T, F)
@group(0) @binding(2) var<storage, read> lengths: array<u32>;        // (B) every lengths_stride
@group(0) @binding(3) var<storage, read_write> y: array<Value>;      // (R, B, F)
@group(0) @binding(4) var<storage, read> grad_y: array<Value>;       // (R, B, F)
@group(0) @binding(5) var<storage, read_write> grad_x: array<Value>; // (R, B, T, F)

// Number of valid instances of clip b.
fn valid(replica: u32, b: u32) -> u32 { return min(lengths[replica * p.lengths_stride + b], p.instances); }

@compute @workgroup_size(64)
fn last_instance_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.batch * p.width { return; }
    let clip = i / p.width;
    let length = valid(id.z, clip);
    var v = Value(0.0);
    if length > 0u { v = x[((id.z * p.batch + clip) * p.instances + length - 1u) * p.width + i % p.width]; }
    y[id.z * p.batch * p.width + i] = v;
}

@compute @workgroup_size(64)
fn last_instance_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.batch * p.instances * p.width { return; }
    let row = i / p.width;
    let clip = row / p.instances;
    let last = row % p.instances + 1u == valid(id.z, clip);
    if p.accumulate == 1u && !last { return; }
    var v = Value(0.0);
    if last { v = grad_y[(id.z * p.batch + clip) * p.width + i % p.width]; }
    let at = id.z * p.batch * p.instances * p.width + i;
    if p.accumulate == 1u { grad_x[at] += v; } else { grad_x[at] = v; }
}
