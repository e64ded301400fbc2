// Copies a batch out of the dataset: features, numbers of instances, targets and which of them are known.
// A row outside the dataset (padding of a partial batch) gives 0 everywhere. With WINDOWED only some of the clips'
// features are there, and labels have a kernel of their own; else the first invocations copy them, too. With DRAWN the
// rows are drawn here, else they are given.
#import grid
#ifdef DRAWN
#import sample
#else
// As large as the other, without an attribute for its size: GLSL has none, and naga drops it there.
struct Draw {
    unused: array<vec4<u32>, 2>,
}

@group(0) @binding(1) var<storage, read> rows: array<u32>;            // (B) every rows_stride
#endif

struct Params {
    draw: Draw,
    batch: u32,       // B
    words: u32,       // of a clip's features: packed bytes, vec4 or scalars
    classes: u32,     // K
    clips: u32,       // N
    instances: u32,   // T
    positions: u32,   // factor of the lengths
    slots: u32,       // clips in the features
    rows_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// (slots, words), four uint8 each, the first lowest
@group(0) @binding(2) var<storage, read> bytes: array<u32>;
@group(0) @binding(3) var<storage, read> values4: array<vec4<f32>>;   // (slots, words)
@group(0) @binding(4) var<storage, read> values: array<f32>;          // (slots, words)
@group(0) @binding(5) var<storage, read_write> x4: array<vec4<f32>>;  // (R, B, words)
@group(0) @binding(6) var<storage, read_write> x: array<f32>;         // (R, B, words)
// lengths (N), then labels (N, K), 0 unknown, 1 absent, 2 present
@group(0) @binding(7) var<storage, read> labels: array<u32>;
@group(0) @binding(9) var<storage, read_write> y_lengths: array<u32>; // (R, B)
@group(0) @binding(10) var<storage, read_write> targets: array<f32>;  // (R, B, K)
@group(0) @binding(11) var<storage, read_write> observed: array<f32>; // (R, B, K)
@group(0) @binding(12) var<storage, read> halves: array<vec2<u32>>;   // (slots, words), four f16 each
#ifdef WINDOWED
@group(0) @binding(13) var<storage, read> clip_slots: array<u32>;     // (N): where the features of a clip are
#endif

fn row_of(replica: u32, b: u32) -> u32 {
#ifdef DRAWN
    return drawn_row(replica, b);
#else
    return rows[replica * p.rows_stride + b];
#endif
}

// Slot of the features of the clip for batch entry b; p.slots or beyond for none.
fn slot_of(replica: u32, b: u32) -> u32 {
    let row = row_of(replica, b);
    if row >= p.clips { return p.slots; }
#ifdef WINDOWED
    return clip_slots[row];
#else
    return row;
#endif
}

// Label `item` of the batch, and with the first of a clip its length.
fn copy_label(replica: u32, item: u32) {
#ifdef DRAWN
    if item == 0u { begin_step(replica); }
#endif
    if item >= p.batch * p.classes { return; }
    let b = item / p.classes;
    let k = item % p.classes;
    let row = row_of(replica, b);
    var label = 0u;
    var length = 0u;
    if row < p.clips {
        label = labels[p.clips + row * p.classes + k];
        length = min(labels[row], p.instances) * p.positions;
    }
    let at = replica * p.batch * p.classes + item;
    targets[at] = f32(label == 2u);
    observed[at] = f32(label != 0u);
    if k == 0u { y_lengths[replica * p.batch + b] = length; }
}

#ifdef WINDOWED
fn copy_label_beside(replica: u32, item: u32) {}

@compute @workgroup_size(64)
fn gather_forward_labels(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) local_index: u32) {
    copy_label(id.z, group_index(id, count) * 64u + local_index);
}
#else
fn copy_label_beside(replica: u32, item: u32) { copy_label(replica, item); }
#endif

@compute @workgroup_size(64)
fn gather_forward_bytes(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                        @builtin(local_invocation_index) local_index: u32) {
    let item = group_index(id, count) * 64u + local_index;
    copy_label_beside(id.z, item);
    if item >= p.batch * p.words { return; }
    let slot = slot_of(id.z, item / p.words);
    var v = vec4(0.0);
    if slot < p.slots {
        let four = bytes[slot * p.words + item % p.words];
        v = vec4<f32>((vec4(four) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u)) / 255.0;
    }
    x4[id.z * p.batch * p.words + item] = v;
}

@compute @workgroup_size(64)
fn gather_forward_halves(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) local_index: u32) {
    let item = group_index(id, count) * 64u + local_index;
    copy_label_beside(id.z, item);
    if item >= p.batch * p.words { return; }
    let slot = slot_of(id.z, item / p.words);
    var v = vec4(0.0);
    if slot < p.slots {
        let four = halves[slot * p.words + item % p.words];
        v = vec4(unpack2x16float(four.x), unpack2x16float(four.y));
    }
    x4[id.z * p.batch * p.words + item] = v;
}

@compute @workgroup_size(64)
fn gather_forward_vec4(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                       @builtin(local_invocation_index) local_index: u32) {
    let item = group_index(id, count) * 64u + local_index;
    copy_label_beside(id.z, item);
    if item >= p.batch * p.words { return; }
    let slot = slot_of(id.z, item / p.words);
    var v = vec4(0.0);
    if slot < p.slots { v = values4[slot * p.words + item % p.words]; }
    x4[id.z * p.batch * p.words + item] = v;
}

@compute @workgroup_size(64)
fn gather_forward_scalar(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                         @builtin(local_invocation_index) local_index: u32) {
    let item = group_index(id, count) * 64u + local_index;
    copy_label_beside(id.z, item);
    if item >= p.batch * p.words { return; }
    let slot = slot_of(id.z, item / p.words);
    var v = 0.0;
    if slot < p.slots { v = values[slot * p.words + item % p.words]; }
    x[id.z * p.batch * p.words + item] = v;
}
