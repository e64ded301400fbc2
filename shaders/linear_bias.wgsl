// The bias gradient of a fully connected layer, where no workgroup of the weight gradient sums it, in slices: grad_w is
// (R, slices, N). N, columns and first count Values.
#import grid
#import linear

@group(0) @binding(5) var<storage, read> grad_y: array<Value>;       // (R, M, columns)
@group(0) @binding(7) var<storage, read_write> grad_w: array<Value>; // (R, slices, N)
@group(0) @binding(8) var<storage, read> saved_y: array<Value>;      // (R, M, columns)

const WORKGROUP_SIZE = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn linear_backward_bias(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let c = group_index(id, count) * WORKGROUP_SIZE + local_index;
    let replica = id.z / p.slices;
    let slice = id.z % p.slices;
    if c >= p.n { return; }
    var sum = Value(0.0);
    for (var m = slice_start(slice); m < slice_start(slice + 1u); m++) {
        let at = y_at(0u, replica * p.m + m) + c;
        let g = grad_y[at];
        if p.curve == 0u { sum += g; } else { sum += before_curve(g, saved_y[at]); }
    }
    grad_w[id.z * p.n + c] = sum;
}
