// Batch norm over the valid rows (b, t), t < each lengths[b], of x (B, T, F):
//
//   forward    y = f(gamma (x - mean) rstd + beta), f nothing, or dropout of ReLU; 0 in padding
//   backward   g = grad_y f'; grad_beta = sum g; grad_gamma = sum g xhat; grad_x = gamma rstd (g - (grad_beta + xhat
//   grad_gamma) / n); 0 in padding
//
// An invocation owns one Value (one or four columns) of a slice of rows. Slices are reduced in a fixed order.
#import value
#import place
#import grid
#import nan
#import dropout

struct Params {
    // For a gradient of gamma or beta its place, else theirs.
    gamma: Place,
    beta: Place,
    // Running statistics.
    mean: Place,
    variance: Place,
    rows: u32,       // B T
    t: u32,          // T, rows of a clip
    each: u32,       // rows of an instance
    f: u32,          // F in Values
    slice_rows: u32, // rows of a slice
    slices: u32,     // slices that cover all rows
    // From one replica to the next, in Values and in lengths. 0 for a tensor that all replicas share.
    x_stride: u32,
    lengths_stride: u32,
    eps: f32,
    momentum: f32,
    relu: u32,       // 1: ReLU, then dropout
    threshold: u32,  // of dropout; 0: none
    scale: f32,      // 1 / (1 - p)
    stream: u32,
    accumulate: u32, // add to grad_x
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Value>;                    // (B, T, F) every x_stride
@group(0) @binding(2) var<storage, read> lengths: array<u32>;                // (B) every lengths_stride
@group(0) @binding(3) var<storage, read> gamma: array<Value>;                // (F)
@group(0) @binding(4) var<storage, read> beta: array<Value>;                 // (F)
// mean and variance, (F) each
@group(0) @binding(5) var<storage, read_write> running: array<Value>;
@group(0) @binding(7) var<storage, read> clock: array<vec4<u32>>;            // (R): seed low, seed high, step, 0
@group(0) @binding(8) var<storage, read_write> y: array<Value>;              // (R, B, T, F)
@group(0) @binding(9) var<storage, read> grad_y: array<Value>;               // (R, B, T, F)
@group(0) @binding(10) var<storage, read_write> grad_x: array<Value>;        // (R, B, T, F)
// of gamma and beta, (F) each
@group(0) @binding(11) var<storage, read_write> grad_affine: array<Value>;
@group(0) @binding(13) var<storage, read_write> saved_moments: array<Value>; // (R, 3, F): mean, rstd, 1 / n
@group(0) @binding(14) var<storage, read_write> partial: array<Value>;       // (R, slices, 2, F)
@group(0) @binding(15) var<storage, read_write> counts: array<f32>;          // (R, slices): valid rows
@group(0) @binding(16) var<storage, read_write> sums: array<Value>;          // (R, 2, F): sum g, sum g xhat

const WORKGROUP_SIZE = 64u;
const LANES = 8u; // invocations that reduce the slices of one Value

// End of the slice that starts at row `first`.
fn slice_end(first: u32) -> u32 { return min(first + p.slice_rows, p.rows); }

// The end of the valid rows of the clip that `row` belongs to, and of the clip itself.
fn clip_ends(replica: u32, row: u32) -> vec2<u32> {
    let b = row / p.t;
    return vec2(b * p.t + min(lengths[replica * p.lengths_stride + b] * p.each, p.t), (b + 1u) * p.t);
}

// Count, mean and sum of squared deviations of some rows.
struct Moments {
    n: f32,
    mean: Value,
    square: Value,
}

// Of two disjoint sets of rows (Chan, Golub, LeVeque 1983).
fn join(a: Moments, b: Moments) -> Moments {
    let n = a.n + b.n;
    let fraction = b.n / max(n, 1.0);
    let delta = b.mean - a.mean;
    return Moments(n, a.mean + delta * fraction, a.square + b.square + delta * delta * (a.n * fraction));
}

// Mean and squared deviations of each slice in one pass, shifted by the slice's first valid row so that nothing
// cancels.
@compute @workgroup_size(64)
fn batch_norm_forward_slices(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.slices * p.f { return; }
    let c = i % p.f;
    let slice = i / p.f;
    var row = slice * p.slice_rows;
    let end = slice_end(row);
    var n = 0.0;
    var pivot = Value(0.0);
    var sum = Value(0.0);
    var square = Value(0.0);
    while row < end {
        let ends = clip_ends(id.z, row);
        let stop = min(ends.x, end);
        if n == 0.0 && row < stop { pivot = x[id.z * p.x_stride + row * p.f + c]; }
        for (; row < stop; row++) {
            let d = x[id.z * p.x_stride + row * p.f + c] - pivot;
            sum += d;
            square += d * d;
            n += 1.0;
        }
        row = ends.y;
    }
    let shift = sum / max(n, 1.0);
    let at = (id.z * p.slices + slice) * 2u * p.f + c;
    partial[at] = pivot + shift;
    let deviation = square - sum * shift;
    partial[at + p.f] = keep_nan(deviation, max(deviation, Value(0.0)));
    if c == 0u { counts[id.z * p.slices + slice] = n; }
}

var<workgroup> lane_moments: array<Moments, 8>;

// Reduces the slices; one workgroup per Value.
@compute @workgroup_size(8)
fn batch_norm_forward_moments(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                              @builtin(local_invocation_index) lane: u32) {
    let c = group_index(id, count);
    if c >= p.f { return; }
    var m = Moments(0.0, Value(0.0), Value(0.0));
    for (var s = lane; s < p.slices; s += LANES) {
        let slice = id.z * p.slices + s;
        let at = slice * 2u * p.f + c;
        m = join(m, Moments(counts[slice], partial[at], partial[at + p.f]));
    }
    lane_moments[lane] = m;
    workgroupBarrier();
    if lane > 0u { return; }
    for (var l = 1u; l < min(LANES, p.slices); l++) { m = join(m, lane_moments[l]); }
    let inverse_n = 1.0 / max(m.n, 1.0);
    let at = id.z * 3u * p.f + c;
    saved_moments[at] = m.mean;
    saved_moments[at + p.f] = 1.0 / sqrt(m.square * inverse_n + p.eps);
    saved_moments[at + 2u * p.f] = Value(inverse_n);
    if m.n > 0.0 {
        let mean_at = at_place(p.mean, id.z, c);
        let var_at = at_place(p.variance, id.z, c);
        running[mean_at] = (1.0 - p.momentum) * running[mean_at] + p.momentum * m.mean;
        running[var_at] = (1.0 - p.momentum) * running[var_at] + p.momentum * m.square / max(m.n - 1.0, 1.0);
    }
}

// Writes y for Value and slice `i`.
fn normalise(replica: u32, i: u32, mean: Value, scale: Value, shift: Value, now: vec4<u32>) {
    var row = i / p.f * p.slice_rows;
    let end = slice_end(row);
    while row < end {
        let ends = min(clip_ends(replica, row), vec2(end));
        for (; row < ends.x; row++) {
            let at = row * p.f + i % p.f;
            var v = (x[replica * p.x_stride + at] - mean) * scale + shift;
            if p.relu == 1u { v = keep_nan(v, max(v, Value(0.0))); }
            if p.threshold > 0u { v *= dropout_factor(at, p.stream, now, p.threshold, p.scale); }
            y[replica * p.rows * p.f + at] = v;
        }
        for (; row < ends.y; row++) { y[(replica * p.rows + row) * p.f + i % p.f] = Value(0.0); }
    }
}

@compute @workgroup_size(64)
fn batch_norm_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                      @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.slices * p.f { return; }
    let c = i % p.f;
    let at = id.z * 3u * p.f + c;
    let scale = gamma[at_place(p.gamma, id.z, c)] * saved_moments[at + p.f];
    normalise(id.z, i, saved_moments[at], scale, beta[at_place(p.beta, id.z, c)], clock[id.z]);
}

// As above with the running statistics.
@compute @workgroup_size(64)
fn batch_norm_forward_eval(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                           @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.slices * p.f { return; }
    let c = i % p.f;
    let rstd = 1.0 / sqrt(running[at_place(p.variance, id.z, c)] + p.eps);
    let scale = gamma[at_place(p.gamma, id.z, c)] * rstd;
    normalise(id.z, i, running[at_place(p.mean, id.z, c)], scale, beta[at_place(p.beta, id.z, c)], vec4(0u));
}

// The gradient before ReLU and dropout. Where y > 0 a value was neither clipped nor dropped.
fn before_relu(at: u32) -> Value {
    let g = grad_y[at];
    if p.relu == 0u { return g; }
    return select(Value(0.0), g * p.scale, y[at] > Value(0.0));
}

// Sum of g and of g xhat of each slice.
@compute @workgroup_size(64)
fn batch_norm_backward_slices(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                              @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.slices * p.f { return; }
    let c = i % p.f;
    let slice = i / p.f;
    let mean = saved_moments[id.z * 3u * p.f + c];
    var row = slice * p.slice_rows;
    let end = slice_end(row);
    var sum = Value(0.0);
    var sum_x = Value(0.0);
    while row < end {
        let ends = clip_ends(id.z, row);
        for (; row < min(ends.x, end); row++) {
            let at = row * p.f + c;
            let g = before_relu(id.z * p.rows * p.f + at);
            sum += g;
            sum_x += g * (x[id.z * p.x_stride + at] - mean);
        }
        row = ends.y;
    }
    let at = (id.z * p.slices + slice) * 2u * p.f + c;
    partial[at] = sum;
    partial[at + p.f] = sum_x * saved_moments[(id.z * 3u + 1u) * p.f + c];
}

var<workgroup> lane_sum: array<Value, 8>;
var<workgroup> lane_sum_x: array<Value, 8>;

// Reduces the slices; one workgroup per Value.
@compute @workgroup_size(8)
fn batch_norm_backward_sums(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) lane: u32) {
    let c = group_index(id, count);
    if c >= p.f { return; }
    var sum = Value(0.0);
    var sum_x = Value(0.0);
    for (var s = lane; s < p.slices; s += LANES) {
        let at = (id.z * p.slices + s) * 2u * p.f + c;
        sum += partial[at];
        sum_x += partial[at + p.f];
    }
    lane_sum[lane] = sum;
    lane_sum_x[lane] = sum_x;
    workgroupBarrier();
    if lane > 0u { return; }
    for (var l = 1u; l < min(LANES, p.slices); l++) {
        sum += lane_sum[l];
        sum_x += lane_sum_x[l];
    }
    sums[id.z * 2u * p.f + c] = sum;
    sums[(id.z * 2u + 1u) * p.f + c] = sum_x;
    let gamma_at = at_place(p.gamma, id.z, c);
    let beta_at = at_place(p.beta, id.z, c);
    if p.beta.wanted == 1u {
        if p.beta.accumulate == 1u { grad_affine[beta_at] += sum; } else { grad_affine[beta_at] = sum; }
    }
    if p.gamma.wanted == 1u {
        if p.gamma.accumulate == 1u { grad_affine[gamma_at] += sum_x; } else { grad_affine[gamma_at] = sum_x; }
    }
}

@compute @workgroup_size(64)
fn batch_norm_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.slices * p.f { return; }
    let c = i % p.f;
    let moments = id.z * 3u * p.f + c;
    let mean = saved_moments[moments];
    let rstd = saved_moments[moments + p.f];
    let inverse_n = saved_moments[moments + 2u * p.f];
    let scale = gamma[at_place(p.gamma, id.z, c)] * rstd;
    let offset = sums[id.z * 2u * p.f + c] * inverse_n;
    let slope = sums[(id.z * 2u + 1u) * p.f + c] * inverse_n * rstd;
    var row = i / p.f * p.slice_rows;
    let end = slice_end(row);
    while row < end {
        let ends = min(clip_ends(id.z, row), vec2(end));
        for (; row < ends.x; row++) {
            let at = row * p.f + c;
            let to = id.z * p.rows * p.f + at;
            let v = scale * (before_relu(to) - offset - (x[id.z * p.x_stride + at] - mean) * slope);
            if p.accumulate == 1u { grad_x[to] += v; } else { grad_x[to] = v; }
        }
        if p.accumulate == 0u {
            for (; row < ends.y; row++) { grad_x[(id.z * p.rows + row) * p.f + c] = Value(0.0); }
        }
        row = ends.y;
    }
}
