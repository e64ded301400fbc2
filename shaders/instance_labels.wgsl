// The labels of the instances of a batch of clips, and how many positions of each are valid.
// A row outside the dataset (padding of a partial batch) gives 0 everywhere.
#import grid

struct Params {
    batch: u32,     // B
    instances: u32, // T
    classes: u32,   // K
    words: u32,     // of a clip's codes
    clips: u32,     // N
    positions: u32, // of an instance
    rows_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rows: array<u32>;            // (B) every rows_stride
@group(0) @binding(2) var<storage, read> labels: array<u32>;          // lengths (N), then others
// (N, words), 16 of two bits each, the first lowest
@group(0) @binding(3) var<storage, read> codes: array<u32>;
@group(0) @binding(4) var<storage, read_write> targets: array<f32>;   // (R, B T, K)
@group(0) @binding(5) var<storage, read_write> observed: array<f32>;  // (R, B T, K)
@group(0) @binding(6) var<storage, read_write> y_lengths: array<u32>; // (R, B T)

@compute @workgroup_size(64)
fn instance_labels_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                           @builtin(local_invocation_index) local_index: u32) {
    let item = group_index(id, count) * 64u + local_index;
    let each = p.instances * p.classes;
    if item >= p.batch * each { return; }
    let row = rows[id.z * p.rows_stride + item / each];
    let label = item % each;
    let instance = label / p.classes;
    var code = 0u;
    var valid = false;
    if row < p.clips {
        valid = instance < labels[row];
        if valid { code = (codes[row * p.words + label / 16u] >> (label % 16u * 2u)) & 3u; }
    }
    let at = id.z * p.batch * each + item;
    targets[at] = f32(code == 2u);
    observed[at] = f32((code == 1u) || (code == 2u));
    if item % p.classes == 0u {
        y_lengths[(id.z * p.batch * each + item) / p.classes] = select(0u, p.positions, valid);
    }
}
