// Group norm of each clip over its valid instances and the columns of a group, see src/ops/group_norm.rs.
#ifdef SUBGROUPS
enable subgroups;
#endif
#import grid
#import lanes
#import value
#import place

const LANES = 64u;

struct Params {
    // For a gradient of gamma or beta its place, else theirs.
    gamma: Place,
    beta: Place,
    clips: u32,
    t: u32,
    f: u32,       // Values of a row
    groups: u32,
    columns: u32, // Values of a row in a group
    x_stride: u32,
    lengths_stride: u32,
    eps: f32,
    accumulate: u32,
    first: u32,   // backward sums and affine: a sum over the instances, or the clips, from first to stop;
    stop: u32,    //   a longer one is a sum of several
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Value>;                        // (B, T, F) every x_stride
@group(0) @binding(2) var<storage, read> lengths: array<u32>;                    // (B) every lengths_stride
@group(0) @binding(3) var<storage, read> gamma: array<Value>;                    // (F)
@group(0) @binding(4) var<storage, read> beta: array<Value>;                     // (F)
@group(0) @binding(5) var<storage, read_write> y: array<Value>;                  // (R, B, T, F)
@group(0) @binding(6) var<storage, read_write> saved_moments: array<vec2<f32>>;  // (R, B, G): mean, rstd
@group(0) @binding(7) var<storage, read> grad_y: array<Value>;                   // (R, B, T, F)
@group(0) @binding(8) var<storage, read_write> grad_x: array<Value>;             // (R, B, T, F)
// (R, B, 2, F): sums over t of grad_y, of grad_y xhat
@group(0) @binding(9) var<storage, read_write> partial: array<Value>;
// of gamma and beta, (F) each
@group(0) @binding(10) var<storage, read_write> grad_affine: array<Value>;

// The sum of a Value's elements, and their number.
#ifdef VEC4
fn total(v: Value) -> f32 { return (v.x + v.y) + (v.z + v.w); }
const SIZE = 4.0;
#else
fn total(v: Value) -> f32 { return v; }
const SIZE = 1.0;
#endif

// A group of columns of a clip.
struct Group {
    clip: u32,
    column: u32, // its first
    x_at: u32,   // where the clip begins in x,
    to: u32,     //   and in tensors with an axis of replicas
    values: u32, // Values of its valid instances
}

fn clip_group(replica: u32, index: u32) -> Group {
    let clip = index / p.groups;
    let size = p.t * p.f;
    let valid = min(lengths[replica * p.lengths_stride + clip], p.t);
    let column = index % p.groups * p.columns;
    let to = (replica * p.clips + clip) * size;
    return Group(clip, column, replica * p.x_stride + clip * size, to, valid * p.columns);
}

// Position in a clip of Value `i` of a group.
fn place(g: Group, i: u32) -> u32 { return i / p.columns * p.f + g.column + i % p.columns; }

// A workgroup per clip and group: mean, then deviation, then y.
@compute @workgroup_size(64)
fn group_norm_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                      @builtin(local_invocation_index) lane: u32) {
    let index = group_index(id, count);
    if index >= p.clips * p.groups { return; }
    let g = clip_group(id.z, index);
    let inverse_n = 1.0 / max(f32(g.values) * SIZE, 1.0);
    // Shifted by the first value, so that a mean far from zero is not rounded again and again.
    var pivot = 0.0;
    if g.values > 0u { pivot = total(x[g.x_at + place(g, 0u)]) / SIZE; }
    var sum = 0.0;
    for (var i = lane; i < g.values; i += LANES) { sum += total(x[g.x_at + place(g, i)] - pivot); }
    let mean = pivot + sum_of_lanes(lane, vec2(sum, 0.0)).x * inverse_n;
    var square = 0.0;
    for (var i = lane; i < g.values; i += LANES) {
        let d = x[g.x_at + place(g, i)] - mean;
        square += total(d * d);
    }
    let rstd = 1.0 / sqrt(sum_of_lanes(lane, vec2(square, 0.0)).x * inverse_n + p.eps);
    if lane == 0u { saved_moments[id.z * p.clips * p.groups + index] = vec2(mean, rstd); }
    for (var i = lane; i < p.t * p.columns; i += LANES) {
        let at = place(g, i);
        var v = Value(0.0);
        if i < g.values {
            let c = g.column + i % p.columns;
            v = (x[g.x_at + at] - mean) * rstd * gamma[at_place(p.gamma, id.z, c)] + beta[at_place(p.beta, id.z, c)];
        }
        y[g.to + at] = v;
    }
}

// An invocation per clip and Value of a row: sums over its valid instances.
@compute @workgroup_size(64)
fn group_norm_backward_sums(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) lane: u32) {
    let i = group_index(id, count) * LANES + lane;
    if i >= p.clips * p.f { return; }
    let b = i / p.f;
    let c = i % p.f;
    let moments = saved_moments[(id.z * p.clips + b) * p.groups + c / p.columns];
    let end = min(lengths[id.z * p.lengths_stride + b], p.stop);
    let at_sums = (id.z * p.clips + b) * 2u * p.f + c;
    var sum = Value(0.0);
    var sum_x = Value(0.0);
    if p.first > 0u {
        sum = partial[at_sums];
        sum_x = partial[at_sums + p.f];
    }
    for (var t = p.first; t < end; t++) {
        let at = (b * p.t + t) * p.f + c;
        let g = grad_y[id.z * p.clips * p.t * p.f + at];
        sum += g;
        sum_x += g * (x[id.z * p.x_stride + at] - moments.x) * moments.y;
    }
    partial[at_sums] = sum;
    partial[at_sums + p.f] = sum_x;
}

// An invocation per Value of a row: sums over the clips.
@compute @workgroup_size(64)
fn group_norm_backward_affine(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                              @builtin(local_invocation_index) lane: u32) {
    let c = group_index(id, count) * LANES + lane;
    if c >= p.f { return; }
    var sum = Value(0.0);
    var sum_x = Value(0.0);
    for (var b = p.first; b < p.stop; b++) {
        let at = (id.z * p.clips + b) * 2u * p.f + c;
        sum += partial[at];
        sum_x += partial[at + p.f];
    }
    let gamma_at = at_place(p.gamma, id.z, c);
    let beta_at = at_place(p.beta, id.z, c);
    if p.beta.wanted == 1u {
        let add = p.beta.accumulate == 1u || p.first > 0u;
        if add { grad_affine[beta_at] += sum; } else { grad_affine[beta_at] = sum; }
    }
    if p.gamma.wanted == 1u {
        let add = p.gamma.accumulate == 1u || p.first > 0u;
        if add { grad_affine[gamma_at] += sum_x; } else { grad_affine[gamma_at] = sum_x; }
    }
}

// A workgroup per clip and group.
@compute @workgroup_size(64)
fn group_norm_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) lane: u32) {
    let index = group_index(id, count);
    if index >= p.clips * p.groups { return; }
    let g = clip_group(id.z, index);
    let moments = saved_moments[id.z * p.clips * p.groups + index];
    var sums = vec2(0.0);
    for (var i = lane; i < p.columns; i += LANES) {
        let c = g.column + i;
        let at = (id.z * p.clips + g.clip) * 2u * p.f + c;
        let scale = gamma[at_place(p.gamma, id.z, c)];
        sums += vec2(total(partial[at] * scale), total(partial[at + p.f] * scale));
    }
    let means = sum_of_lanes(lane, sums) / max(f32(g.values) * SIZE, 1.0);
    for (var i = lane; i < p.t * p.columns; i += LANES) {
        let at = place(g, i);
        var v = Value(0.0);
        if i < g.values {
            let slope = grad_y[g.to + at] * gamma[at_place(p.gamma, id.z, g.column + i % p.columns)];
            v = (slope - means.x - (x[g.x_at + at] - moments.x) * (moments.y * means.y)) * moments.y;
        }
        if p.accumulate == 1u { grad_x[g.to + at] += v; } else { grad_x[g.to + at] = v; }
    }
}
