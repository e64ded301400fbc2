// Batch norm over the valid rows (b, t), t < each lengths[b], of x (B, T, F):
//
//   forward    y = f(gamma (x - mean) rstd + beta), f nothing, or dropout of ReLU; 0 in padding
//   backward   g = grad_y f'; grad_beta = sum g; grad_gamma = sum g xhat; grad_x = gamma rstd (g - (grad_beta + xhat
//   grad_gamma) / n); 0 in padding
//
// Sums are made of slices of rows, one Value (one or four columns) of a slice by an invocation. The kernel that needs
// the whole sums reduces the slices first, every workgroup those of its columns, in a fixed order; with ALONE every
// invocation, without a barrier. With WHOLE, for few rows, a workgroup works on all rows of its columns, and there are
// no slices. With SKIP another tensor is added to y, which is saved for the backward pass before.
#ifdef SUBGROUPS
enable subgroups;
#endif
#import place
#import grid
#import relu
#import dropout
#import stored

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
    columns: u32,    // Values of a row that a workgroup of an element-wise kernel works on, a power of 2
    lane_rows: u32,  // rows that an invocation of it works on
    // From one replica to the next, in Values and in lengths. 0 for a tensor that all replicas share.
    x_stride: u32,
    skip_stride: u32,
    lengths_stride: u32,
    eps: f32,
    momentum: f32,
    threshold: u32,  // of dropout
    scale: f32,      // 1 / (1 - p)
    stream: u32,
    input_wanted: u32, // grad_x is computed
}

// Constants, because a CPU goes through both sides of a branch unless the compiler knows which.
override RELU: bool = false;  // ReLU follows,
override DROPS: bool = false; //   and then dropout
override ADDS: bool = false;  // grad_x is added to what is there

#ifdef SUBGROUPS
// A constant, because loops with barriers must not depend on what is measured (a sum of ones may differ by subgroup).
override SUBGROUP_SIZE: u32 = 4u;

// Neighbouring invocations that are reduced within a subgroup, all columns of their lanes.
fn neighbours() -> u32 { return min(max(SUBGROUP_SIZE, p.columns), WORKGROUP_SIZE); }
#endif

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Stored>;                   // (B, T, F) every x_stride
@group(0) @binding(2) var<storage, read> lengths: array<u32>;                // (B) every lengths_stride
#ifdef SKIP
@group(0) @binding(3) var<storage, read> affine: array<Value>;               // gamma and beta, (F) each
@group(0) @binding(4) var<storage, read> skip: array<Stored>;                // (B, T, F) every skip_stride
#else
@group(0) @binding(3) var<storage, read> gamma: array<Value>;                // (F)
@group(0) @binding(4) var<storage, read> beta: array<Value>;                 // (F)
#endif
// mean and variance, (F) each
@group(0) @binding(5) var<storage, read_write> running: array<Value>;
@group(0) @binding(7) var<storage, read> clock: array<vec4<u32>>;            // (R): seed low, seed high, step, done
@group(0) @binding(8) var<storage, read_write> y: array<Stored>;             // (R, B, T, F)
@group(0) @binding(9) var<storage, read> grad_y: array<Stored>;              // (R, B, T, F)
@group(0) @binding(10) var<storage, read_write> grad_x: array<Stored>;       // (R, B, T, F)
// of gamma and beta, (F) each
@group(0) @binding(11) var<storage, read_write> grad_affine: array<Value>;
// of each replica: mean, rstd, 1 / n, gamma rstd, (F) each; of each slice mean and squared deviations, (F) each, and
// its number of rows; with SKIP y before the sum, (B, T, F)
@group(0) @binding(13) var<storage, read_write> moments: array<Stored>;
@group(0) @binding(14) var<storage, read_write> partial: array<Value>;       // (R, slices, 2, F): sum g, sum g xhat

#ifdef WHOLE
const WORKGROUP_SIZE = 256u;
#else
#ifdef ALONE
const WORKGROUP_SIZE = 16u;
#else
const WORKGROUP_SIZE = 64u;
#endif
#endif

fn x_at(replica: u32, at: u32) -> Value { return value(x[replica * p.x_stride + at]); }

fn moment(at: u32) -> Value { return value(moments[at]); }

fn put_moment(at: u32, v: Value) { moments[at] = stored(v); }

// The end of the valid rows of the clip that `row` belongs to, and of the clip itself.
fn clip_ends(replica: u32, row: u32) -> vec2<u32> {
    let b = row / p.t;
    return vec2(b * p.t + min(lengths[replica * p.lengths_stride + b] * p.each, p.t), (b + 1u) * p.t);
}

#ifdef VEC4
fn first_of(v: Value) -> f32 { return v.x; }
#else
fn first_of(v: Value) -> f32 { return v; }
#endif

// Where the moments of a replica begin, and those of a slice of it.
fn moments_of(replica: u32) -> u32 {
#ifdef SKIP
    return replica * (4u * p.f + p.slices * (2u * p.f + 1u) + p.rows * p.f);
#else
    return replica * (4u * p.f + p.slices * (2u * p.f + 1u));
#endif
}

fn slice_moments_of(replica: u32, slice: u32) -> u32 {
    return moments_of(replica) + 4u * p.f + slice * (2u * p.f + 1u);
}

#ifdef SKIP
fn gamma_of(replica: u32, column: u32) -> Value { return affine[at_place(p.gamma, replica, column)]; }

fn beta_of(replica: u32, column: u32) -> Value { return affine[at_place(p.beta, replica, column)]; }

// At the end of the moments.
fn saved_y(replica: u32, at: u32) -> u32 { return moments_of(replica + 1u) - p.rows * p.f + at; }

fn put_y(replica: u32, at: u32, v: Value) {
    put_moment(saved_y(replica, at), v);
    y[replica * p.rows * p.f + at] = stored(v + value(skip[replica * p.skip_stride + at]));
}

fn y_before_sum(replica: u32, at: u32) -> Value { return moment(saved_y(replica, at)); }
#else
fn gamma_of(replica: u32, column: u32) -> Value { return gamma[at_place(p.gamma, replica, column)]; }

fn beta_of(replica: u32, column: u32) -> Value { return beta[at_place(p.beta, replica, column)]; }

fn put_y(replica: u32, at: u32, v: Value) { y[replica * p.rows * p.f + at] = stored(v); }

fn y_before_sum(replica: u32, at: u32) -> Value { return value(y[replica * p.rows * p.f + at]); }
#endif

// What an invocation of an element-wise kernel works on: a column, and neighbouring rows.
struct Part {
    column: u32,
    row: u32,
    end: u32,
    lane: u32,  // among the invocations of its workgroup with the same column,
    lanes: u32, //   of which there are so many
}

fn part_of(group: u32, local_index: u32) -> Part {
    let across = (p.f + p.columns - 1u) / p.columns;
    let lanes = WORKGROUP_SIZE / p.columns;
    let lane = local_index / p.columns;
    let row = (group / across * lanes + lane) * p.lane_rows;
    let column = group % across * p.columns + local_index % p.columns;
    return Part(column, row, min(row + p.lane_rows, p.rows), lane, lanes);
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

// The first valid row from `first` to `end`, or 0 if there is none.
fn pivot_of(replica: u32, column: u32, first: u32, end: u32) -> Value {
    var row = first;
    while row < end {
        let ends = clip_ends(replica, row);
        if row < ends.x { return x_at(replica, row * p.f + column); }
        row = ends.y;
    }
    return Value(0.0);
}

// Of the valid rows from `first` to `end` in one pass, less a pivot so that nothing cancels.
fn moments_of_rows(replica: u32, column: u32, first: u32, end: u32, pivot: Value) -> Moments {
    var row = first;
    var n = 0.0;
    var sum = Value(0.0);
    var square = Value(0.0);
    while row < end {
        let ends = clip_ends(replica, row);
        let stop = min(ends.x, end);
        for (; row < stop; row++) {
            let d = x_at(replica, row * p.f + column) - pivot;
            sum += d;
            square += d * d;
            n += 1.0;
        }
        row = ends.y;
    }
    let shift = sum / max(n, 1.0);
    let deviation = square - sum * shift;
    return Moments(n, shift, keep_nan(deviation, max(deviation, Value(0.0))));
}

#ifndef WHOLE
// End of the slice that starts at row `first`.
fn slice_end(first: u32) -> u32 { return min(first + p.slice_rows, p.rows); }

@compute @workgroup_size(WORKGROUP_SIZE)
fn batch_norm_forward_slices(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                             @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.slices * p.f { return; }
    let c = i % p.f;
    let slice = i / p.f;
    let first = slice * p.slice_rows;
    let pivot = pivot_of(id.z, c, first, slice_end(first));
    let m = moments_of_rows(id.z, c, first, slice_end(first), pivot);
    let at = slice_moments_of(id.z, slice);
    put_moment(at + c, pivot + m.mean);
    put_moment(at + p.f + c, m.square);
    if c == 0u { put_moment(at + 2u * p.f, Value(m.n)); }
}

// Of every `step`-th slice from `first` on.
fn joined(replica: u32, column: u32, first: u32, step: u32) -> Moments {
    var m = Moments(0.0, Value(0.0), Value(0.0));
    for (var s = first; s < p.slices; s += step) {
        let at = slice_moments_of(replica, s);
        m = join(m, Moments(first_of(moment(at + 2u * p.f)), moment(at + column), moment(at + p.f + column)));
    }
    return m;
}
#endif

// Writes y for the rows of an invocation.
fn normalise(replica: u32, part: Part, mean: Value, scale: Value, shift: Value, now: vec4<u32>) {
    var row = part.row;
    while row < part.end {
        let ends = min(clip_ends(replica, row), vec2(part.end));
        for (; row < ends.x; row++) {
            let at = row * p.f + part.column;
            var v = (x_at(replica, at) - mean) * scale + shift;
            if RELU { v = relu(v, 0.0); }
            if DROPS { v *= dropout_factor(at, p.stream, now, p.threshold, p.scale); }
            put_y(replica, at, v);
        }
        for (; row < ends.y; row++) { put_y(replica, row * p.f + part.column, Value(0.0)); }
    }
}

#ifndef ALONE
var<workgroup> lane_moments: array<Moments, WORKGROUP_SIZE>; // (lanes, columns)

// The moments of all lanes of a column, in all of them. With SUBGROUPS first within subgroups, whose invocations are
// neighbours: the lowest lane of each column then has the right ones. The first barrier brings all together.
fn join_lanes(local_index: u32, own: Moments) -> Moments {
#ifdef SUBGROUPS
    workgroupBarrier();
    var m = own;
    let neighbours = neighbours();
    for (var step = neighbours / 2u; step >= p.columns; step /= 2u) {
        m = join(m, Moments(subgroupShuffleDown(m.n, step), subgroupShuffleDown(m.mean, step),
                            subgroupShuffleDown(m.square, step)));
    }
    let i = local_index % neighbours;
    if i < p.columns { lane_moments[local_index / neighbours * p.columns + i] = m; }
    let entries = WORKGROUP_SIZE / neighbours * p.columns;
#else
    lane_moments[local_index] = own;
    let entries = WORKGROUP_SIZE;
#endif
    for (var step = entries / 2u; step >= p.columns; step /= 2u) {
        workgroupBarrier();
        if local_index < step {
            lane_moments[local_index] = join(lane_moments[local_index], lane_moments[local_index + step]);
        }
    }
    workgroupBarrier();
    return lane_moments[local_index % p.columns];
}

#ifdef WHOLE
fn moments_of_lane(replica: u32, part: Part) -> Moments {
    return moments_of_rows(replica, part.column, part.row, part.end, pivot_of(replica, part.column, 0u, p.rows));
}
#else
fn moments_of_lane(replica: u32, part: Part) -> Moments { return joined(replica, part.column, part.lane, part.lanes); }
#endif
#endif

@compute @workgroup_size(WORKGROUP_SIZE)
fn batch_norm_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                      @builtin(local_invocation_index) local_index: u32) {
    let part = part_of(group_index(id, count), local_index);
    let c = part.column;
#ifdef ALONE
    if c >= p.f { return; }
    let m = joined(id.z, c, 0u, 1u);
#else
    var own = Moments(0.0, Value(0.0), Value(0.0));
    if c < p.f { own = moments_of_lane(id.z, part); }
    var m = join_lanes(local_index, own);
    if c >= p.f { return; }
#ifdef WHOLE
    m.mean += pivot_of(id.z, c, 0u, p.rows);
#endif
#endif
    let inverse_n = 1.0 / max(m.n, 1.0);
    let rstd = 1.0 / sqrt(m.square * inverse_n + p.eps);
    let scale = gamma_of(id.z, c) * rstd;
    if part.row == 0u {
        let at = moments_of(id.z) + c;
        put_moment(at, m.mean);
        put_moment(at + p.f, rstd);
        put_moment(at + 2u * p.f, Value(inverse_n));
        put_moment(at + 3u * p.f, scale);
        if m.n > 0.0 {
            let mean_at = at_place(p.mean, id.z, c);
            let var_at = at_place(p.variance, id.z, c);
            running[mean_at] = (1.0 - p.momentum) * running[mean_at] + p.momentum * m.mean;
            running[var_at] = (1.0 - p.momentum) * running[var_at] + p.momentum * m.square / max(m.n - 1.0, 1.0);
        }
    }
    normalise(id.z, part, m.mean, scale, beta_of(id.z, c), clock[id.z]);
}

#ifndef WHOLE
#ifndef SKIP
// As above with the running statistics.
@compute @workgroup_size(WORKGROUP_SIZE)
fn batch_norm_forward_eval(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                           @builtin(local_invocation_index) local_index: u32) {
    let part = part_of(group_index(id, count), local_index);
    let c = part.column;
    if c >= p.f { return; }
    let rstd = 1.0 / sqrt(running[at_place(p.variance, id.z, c)] + p.eps);
    let scale = gamma_of(id.z, c) * rstd;
    normalise(id.z, part, running[at_place(p.mean, id.z, c)], scale, beta_of(id.z, c), vec4(0u));
}
#endif
#endif

fn gradient(replica: u32, at: u32) -> Value {
    let g = value(grad_y[replica * p.rows * p.f + at]);
    if !RELU { return g; }
    return before_relu(g, y_before_sum(replica, at), 0.0, p.scale, true);
}

// Sums over rows.
struct Sums {
    g: Value,
    g_xhat: Value,
}

fn add_sums(a: Sums, b: Sums) -> Sums { return Sums(a.g + b.g, a.g_xhat + b.g_xhat); }

// Over the valid rows from `first` to `end`.
fn sums_of_rows(replica: u32, column: u32, first: u32, end: u32) -> Sums {
    let mean = moment(moments_of(replica) + column);
    var row = first;
    var sum = Value(0.0);
    var sum_x = Value(0.0);
    while row < end {
        let ends = clip_ends(replica, row);
        for (; row < min(ends.x, end); row++) {
            let at = row * p.f + column;
            let g = gradient(replica, at);
            sum += g;
            sum_x += g * (x_at(replica, at) - mean);
        }
        row = ends.y;
    }
    return Sums(sum, sum_x * moment(moments_of(replica) + p.f + column));
}

#ifndef WHOLE
@compute @workgroup_size(WORKGROUP_SIZE)
fn batch_norm_backward_slices(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                              @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * WORKGROUP_SIZE + local_index;
    if i >= p.slices * p.f { return; }
    let c = i % p.f;
    let slice = i / p.f;
    let first = slice * p.slice_rows;
    let sums = sums_of_rows(id.z, c, first, slice_end(first));
    let at = (id.z * p.slices + slice) * 2u * p.f + c;
    partial[at] = sums.g;
    partial[at + p.f] = sums.g_xhat;
}

fn summed(replica: u32, column: u32, first: u32, step: u32) -> Sums {
    var sums = Sums(Value(0.0), Value(0.0));
    for (var s = first; s < p.slices; s += step) {
        let at = (replica * p.slices + s) * 2u * p.f + column;
        sums = add_sums(sums, Sums(partial[at], partial[at + p.f]));
    }
    return sums;
}
#endif

#ifndef ALONE
var<workgroup> lane_sums: array<Sums, WORKGROUP_SIZE>; // (lanes, columns)

// As join_lanes.
fn sum_lanes(local_index: u32, own: Sums) -> Sums {
#ifdef SUBGROUPS
    workgroupBarrier();
    var sums = own;
    let neighbours = neighbours();
    for (var step = neighbours / 2u; step >= p.columns; step /= 2u) {
        sums = add_sums(sums, Sums(subgroupShuffleDown(sums.g, step), subgroupShuffleDown(sums.g_xhat, step)));
    }
    let i = local_index % neighbours;
    if i < p.columns { lane_sums[local_index / neighbours * p.columns + i] = sums; }
    let entries = WORKGROUP_SIZE / neighbours * p.columns;
#else
    lane_sums[local_index] = own;
    let entries = WORKGROUP_SIZE;
#endif
    for (var step = entries / 2u; step >= p.columns; step /= 2u) {
        workgroupBarrier();
        if local_index < step {
            lane_sums[local_index] = add_sums(lane_sums[local_index], lane_sums[local_index + step]);
        }
    }
    workgroupBarrier();
    return lane_sums[local_index % p.columns];
}

#ifdef WHOLE
fn sums_of_lane(replica: u32, part: Part) -> Sums {
    return sums_of_rows(replica, part.column, part.row, part.end);
}
#else
fn sums_of_lane(replica: u32, part: Part) -> Sums { return summed(replica, part.column, part.lane, part.lanes); }
#endif
#endif

fn add_gradient(place: Place, replica: u32, column: u32, sum: Value) {
    let at = at_place(place, replica, column);
    if place.accumulate == 1u { grad_affine[at] += sum; } else { grad_affine[at] = sum; }
}

// The gradients of gamma and beta, and of x where it is wanted; else one workgroup per columns is enough.
@compute @workgroup_size(WORKGROUP_SIZE)
fn batch_norm_backward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                       @builtin(local_invocation_index) local_index: u32) {
    let part = part_of(group_index(id, count), local_index);
    let c = part.column;
#ifdef ALONE
    if c >= p.f { return; }
    let sums = summed(id.z, c, 0u, 1u);
#else
    var own = Sums(Value(0.0), Value(0.0));
    if c < p.f { own = sums_of_lane(id.z, part); }
    let sums = sum_lanes(local_index, own);
    if c >= p.f { return; }
#endif
    if part.row == 0u {
        if p.beta.wanted == 1u { add_gradient(p.beta, id.z, c, sums.g); }
        if p.gamma.wanted == 1u { add_gradient(p.gamma, id.z, c, sums.g_xhat); }
    }
    if p.input_wanted == 0u { return; }
    let at_moments = moments_of(id.z) + c;
    let mean = moment(at_moments);
    let rstd = moment(at_moments + p.f);
    let inverse_n = moment(at_moments + 2u * p.f);
    let scale = moment(at_moments + 3u * p.f);
    let offset = sums.g * inverse_n;
    let slope = sums.g_xhat * inverse_n * rstd;
    var row = part.row;
    while row < part.end {
        let ends = min(clip_ends(id.z, row), vec2(part.end));
        for (; row < ends.x; row++) {
            let at = row * p.f + c;
            let to = id.z * p.rows * p.f + at;
            let v = scale * (gradient(id.z, at) - offset - (x_at(id.z, at) - mean) * slope);
            if ADDS { grad_x[to] = stored(value(grad_x[to]) + v); } else { grad_x[to] = stored(v); }
        }
        if !ADDS {
            for (; row < ends.y; row++) { grad_x[(id.z * p.rows + row) * p.f + c] = stored(Value(0.0)); }
        }
        row = ends.y;
    }
}
