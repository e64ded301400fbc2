// Sums over the slices of a fully connected layer's gradients, and over the rows of its bias gradient where no
// workgroup of the weight gradient sums that. Lengths and indices of invocations count Values.
#import grid
#import linear
#import value

@group(0) @binding(5) var<storage, read> grad_y: array<Value>;       // (R, M, N)
@group(0) @binding(7) var<storage, read_write> grad_w: array<Value>; // as in linear.wgsl
@group(0) @binding(8) var<storage, read> saved_y: array<Value>;      // (R, M, N)
@group(0) @binding(9) var<storage, read> partial: array<Value>;      // (R, slices, m + n)

const WORKGROUP_SIZE = 64u;
fn slice_start(slice: u32) -> u32 { return p.m * slice / p.slices; }

#ifdef VEC4
const WIDTH = 4u; // elements of a Value
#else
const WIDTH = 1u;
#endif

// grad_b alone, in slices.
@compute @workgroup_size(WORKGROUP_SIZE)
fn linear_backward_bias(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let c = group_index(id, count) * WORKGROUP_SIZE + local_index;
    let replica = id.z / p.slices;
    let slice = id.z % p.slices;
    if c >= p.n { return; }
    var sum = Value(0.0);
    for (var m = slice_start(slice); m < slice_start(slice + 1u); m++) {
        let at = (replica * p.m + m) * p.n + c;
        let g = grad_y[at];
        sum += select(g, select(Value(0.0), g, saved_y[at] > Value(0.0)), p.relu == 1u);
    }
    grad_w[id.z * p.n + c] = sum;
}

fn finish(at: u32, sum: Value, accumulate: u32) {
    if accumulate != 0u { grad_w[at] += sum; } else { grad_w[at] = sum; }
}

// Sums slices, in order: of m weights and n biases.
@compute @workgroup_size(WORKGROUP_SIZE)
fn linear_backward_slices(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    let len = p.m + p.n;
    if i >= len { return; }
    var sum = Value(0.0);
    for (var s = 0u; s < p.slices; s++) { sum += partial[(id.z * p.slices + s) * len + i]; }
    if i < p.m {
        finish((p.w_at + id.z * p.grad_stride) / WIDTH + i, sum, p.accumulate & 1u);
    } else {
        finish((p.b_at + id.z * p.b_stride) / WIDTH + i - p.m, sum, p.accumulate & 2u);
    }
}
