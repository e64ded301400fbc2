// The kernels of relative_attention.wgsl for adapters with subgroups of 8 invocations, such as software Vulkan on AVX2
// (see linear.wgsl), and heads of up to 8 channels: no barriers, and an element loaded by one invocation reaches the
// others by a broadcast. Lanes are 8 neighbouring columns; a vec4 is four adjacent rows, which share the terms of
// rel_w. The loop over the others goes in chunks of 8 columns, row after row: rel_w is loaded once per chunk, and one
// new line of rel_h per row. Constant indices only: an array indexed by a loop variable would be in memory.
enable subgroups;
#import grid
#import relative_attention

override ROWS: u32 = 1u;
override ROW_SUMS: u32 = 8u * ROWS;

// A head's channels of four vertically adjacent positions.
alias Rows = array<vec4<f32>, 8>;
// A head's channels of one position.
alias Channels = array<f32, 8>;
// A head's channels of 8 neighbours.
alias Chunk = array<Channels, 8>;
// A logit for each of 8 neighbours and four rows.
alias Logits = array<vec4<f32>, 8>;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;             // (R, B, H, W, 2 dk + dv)
@group(0) @binding(2) var<storage, read> rel_h: array<f32>;           // (2H - 1, dk / N) every h_stride
@group(0) @binding(3) var<storage, read> rel_w: array<f32>;           // (2W - 1, dk / N) every w_stride
@group(0) @binding(4) var<storage, read_write> y: array<f32>;         // (R, B, H, W, dv)
@group(0) @binding(5) var<storage, read_write> saved_lse: array<f32>; // (R, B, N, H W)
@group(0) @binding(6) var<storage, read> grad_y: array<f32>;          // (R, B, H, W, dv)
@group(0) @binding(7) var<storage, read> delta: array<f32>;           // (R, B, N, H W)
@group(0) @binding(8) var<storage, read_write> grad_qkv: array<f32>;  // (R, B, H, W, 2 dk + dv)
@group(0) @binding(9) var<storage, read_write> partial: array<f32>;   // (R, B, N, groups, table rows, dk / N, 8)

var<workgroup> row_sums: array<vec4<f32>, ROW_SUMS>; // ds, summed over the columns of keys; each invocation has its own

fn x_channels(at: u32, depth: u32) -> Channels {
    var v: Channels;
    v[0] = qkv[at];
    if depth > 1u { v[1] = qkv[at + 1u]; }
    if depth > 2u { v[2] = qkv[at + 2u]; }
    if depth > 3u { v[3] = qkv[at + 3u]; }
    if depth > 4u { v[4] = qkv[at + 4u]; }
    if depth > 5u { v[5] = qkv[at + 5u]; }
    if depth > 6u { v[6] = qkv[at + 6u]; }
    if depth > 7u { v[7] = qkv[at + 7u]; }
    return v;
}

fn grad_y_channels(at: u32) -> Channels {
    let depth = VALUE_DEPTH;
    var v: Channels;
    v[0] = grad_y[at];
    if depth > 1u { v[1] = grad_y[at + 1u]; }
    if depth > 2u { v[2] = grad_y[at + 2u]; }
    if depth > 3u { v[3] = grad_y[at + 3u]; }
    if depth > 4u { v[4] = grad_y[at + 4u]; }
    if depth > 5u { v[5] = grad_y[at + 5u]; }
    if depth > 6u { v[6] = grad_y[at + 6u]; }
    if depth > 7u { v[7] = grad_y[at + 7u]; }
    return v;
}

fn w_channels(at: u32) -> Channels {
    let depth = KEY_DEPTH;
    var v: Channels;
    v[0] = rel_w[at];
    if depth > 1u { v[1] = rel_w[at + 1u]; }
    if depth > 2u { v[2] = rel_w[at + 2u]; }
    if depth > 3u { v[3] = rel_w[at + 3u]; }
    if depth > 4u { v[4] = rel_w[at + 4u]; }
    if depth > 5u { v[5] = rel_w[at + 5u]; }
    if depth > 6u { v[6] = rel_w[at + 6u]; }
    if depth > 7u { v[7] = rel_w[at + 7u]; }
    return v;
}

fn x_rows(at: vec4<u32>, depth: u32, factor: f32) -> Rows {
    var v: Rows;
    v[0] = vec4(qkv[at.x], qkv[at.y], qkv[at.z], qkv[at.w]) * factor;
    if depth > 1u { v[1] = vec4(qkv[at.x + 1u], qkv[at.y + 1u], qkv[at.z + 1u], qkv[at.w + 1u]) * factor; }
    if depth > 2u { v[2] = vec4(qkv[at.x + 2u], qkv[at.y + 2u], qkv[at.z + 2u], qkv[at.w + 2u]) * factor; }
    if depth > 3u { v[3] = vec4(qkv[at.x + 3u], qkv[at.y + 3u], qkv[at.z + 3u], qkv[at.w + 3u]) * factor; }
    if depth > 4u { v[4] = vec4(qkv[at.x + 4u], qkv[at.y + 4u], qkv[at.z + 4u], qkv[at.w + 4u]) * factor; }
    if depth > 5u { v[5] = vec4(qkv[at.x + 5u], qkv[at.y + 5u], qkv[at.z + 5u], qkv[at.w + 5u]) * factor; }
    if depth > 6u { v[6] = vec4(qkv[at.x + 6u], qkv[at.y + 6u], qkv[at.z + 6u], qkv[at.w + 6u]) * factor; }
    if depth > 7u { v[7] = vec4(qkv[at.x + 7u], qkv[at.y + 7u], qkv[at.z + 7u], qkv[at.w + 7u]) * factor; }
    return v;
}

fn grad_y_rows(at: vec4<u32>) -> Rows {
    let depth = VALUE_DEPTH;
    var v: Rows;
    v[0] = vec4(grad_y[at.x], grad_y[at.y], grad_y[at.z], grad_y[at.w]);
    if depth > 1u { v[1] = vec4(grad_y[at.x + 1u], grad_y[at.y + 1u], grad_y[at.z + 1u], grad_y[at.w + 1u]); }
    if depth > 2u { v[2] = vec4(grad_y[at.x + 2u], grad_y[at.y + 2u], grad_y[at.z + 2u], grad_y[at.w + 2u]); }
    if depth > 3u { v[3] = vec4(grad_y[at.x + 3u], grad_y[at.y + 3u], grad_y[at.z + 3u], grad_y[at.w + 3u]); }
    if depth > 4u { v[4] = vec4(grad_y[at.x + 4u], grad_y[at.y + 4u], grad_y[at.z + 4u], grad_y[at.w + 4u]); }
    if depth > 5u { v[5] = vec4(grad_y[at.x + 5u], grad_y[at.y + 5u], grad_y[at.z + 5u], grad_y[at.w + 5u]); }
    if depth > 6u { v[6] = vec4(grad_y[at.x + 6u], grad_y[at.y + 6u], grad_y[at.z + 6u], grad_y[at.w + 6u]); }
    if depth > 7u { v[7] = vec4(grad_y[at.x + 7u], grad_y[at.y + 7u], grad_y[at.z + 7u], grad_y[at.w + 7u]); }
    return v;
}

fn h_rows(at: vec4<u32>) -> Rows {
    let depth = KEY_DEPTH;
    var v: Rows;
    v[0] = vec4(rel_h[at.x], rel_h[at.y], rel_h[at.z], rel_h[at.w]);
    if depth > 1u { v[1] = vec4(rel_h[at.x + 1u], rel_h[at.y + 1u], rel_h[at.z + 1u], rel_h[at.w + 1u]); }
    if depth > 2u { v[2] = vec4(rel_h[at.x + 2u], rel_h[at.y + 2u], rel_h[at.z + 2u], rel_h[at.w + 2u]); }
    if depth > 3u { v[3] = vec4(rel_h[at.x + 3u], rel_h[at.y + 3u], rel_h[at.z + 3u], rel_h[at.w + 3u]); }
    if depth > 4u { v[4] = vec4(rel_h[at.x + 4u], rel_h[at.y + 4u], rel_h[at.z + 4u], rel_h[at.w + 4u]); }
    if depth > 5u { v[5] = vec4(rel_h[at.x + 5u], rel_h[at.y + 5u], rel_h[at.z + 5u], rel_h[at.w + 5u]); }
    if depth > 6u { v[6] = vec4(rel_h[at.x + 6u], rel_h[at.y + 6u], rel_h[at.z + 6u], rel_h[at.w + 6u]); }
    if depth > 7u { v[7] = vec4(rel_h[at.x + 7u], rel_h[at.y + 7u], rel_h[at.z + 7u], rel_h[at.w + 7u]); }
    return v;
}

// Advances the window of rel_h by one: `at` is the new first row.
fn slide(v: ptr<function, Rows>, at: u32) {
    let depth = KEY_DEPTH;
    (*v)[0] = vec4(rel_h[at], (*v)[0].xyz);
    if depth > 1u { (*v)[1] = vec4(rel_h[at + 1u], (*v)[1].xyz); }
    if depth > 2u { (*v)[2] = vec4(rel_h[at + 2u], (*v)[2].xyz); }
    if depth > 3u { (*v)[3] = vec4(rel_h[at + 3u], (*v)[3].xyz); }
    if depth > 4u { (*v)[4] = vec4(rel_h[at + 4u], (*v)[4].xyz); }
    if depth > 5u { (*v)[5] = vec4(rel_h[at + 5u], (*v)[5].xyz); }
    if depth > 6u { (*v)[6] = vec4(rel_h[at + 6u], (*v)[6].xyz); }
    if depth > 7u { (*v)[7] = vec4(rel_h[at + 7u], (*v)[7].xyz); }
}

fn put_grad_x(at: u32, v: f32) {
    if p.accumulate == 1u { grad_qkv[at] += v; } else { grad_qkv[at] = v; }
}

// Stores a row of positions, if it exists.
fn put_channels(at: u32, depth: u32, v: Rows, row: u32, factor: f32) {
    put_grad_x(at, v[0][row] * factor);
    if depth > 1u { put_grad_x(at + 1u, v[1][row] * factor); }
    if depth > 2u { put_grad_x(at + 2u, v[2][row] * factor); }
    if depth > 3u { put_grad_x(at + 3u, v[3][row] * factor); }
    if depth > 4u { put_grad_x(at + 4u, v[4][row] * factor); }
    if depth > 5u { put_grad_x(at + 5u, v[5][row] * factor); }
    if depth > 6u { put_grad_x(at + 6u, v[6][row] * factor); }
    if depth > 7u { put_grad_x(at + 7u, v[7][row] * factor); }
}

fn put_rows(at: vec4<u32>, depth: u32, v: Rows, rows: u32, factor: f32) {
    put_channels(at.x, depth, v, 0u, factor);
    if rows > 1u { put_channels(at.y, depth, v, 1u, factor); }
    if rows > 2u { put_channels(at.z, depth, v, 2u, factor); }
    if rows > 3u { put_channels(at.w, depth, v, 3u, factor); }
}

fn broadcast(chunk: ptr<function, Chunk>, c: u32, v: f32) {
    (*chunk)[0][c] = subgroupBroadcast(v, 0u);
    (*chunk)[1][c] = subgroupBroadcast(v, 1u);
    (*chunk)[2][c] = subgroupBroadcast(v, 2u);
    (*chunk)[3][c] = subgroupBroadcast(v, 3u);
    (*chunk)[4][c] = subgroupBroadcast(v, 4u);
    (*chunk)[5][c] = subgroupBroadcast(v, 5u);
    (*chunk)[6][c] = subgroupBroadcast(v, 6u);
    (*chunk)[7][c] = subgroupBroadcast(v, 7u);
}

// The channels of all invocations.
fn broadcast_all(v: Channels, depth: u32) -> Chunk {
    var chunk: Chunk;
    broadcast(&chunk, 0u, v[0]);
    if depth > 1u { broadcast(&chunk, 1u, v[1]); }
    if depth > 2u { broadcast(&chunk, 2u, v[2]); }
    if depth > 3u { broadcast(&chunk, 3u, v[3]); }
    if depth > 4u { broadcast(&chunk, 4u, v[4]); }
    if depth > 5u { broadcast(&chunk, 5u, v[5]); }
    if depth > 6u { broadcast(&chunk, 6u, v[6]); }
    if depth > 7u { broadcast(&chunk, 7u, v[7]); }
    return chunk;
}

fn broadcast_one(v: f32) -> Channels {
    return Channels(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u), subgroupBroadcast(v, 2u),
                    subgroupBroadcast(v, 3u), subgroupBroadcast(v, 4u), subgroupBroadcast(v, 5u),
                    subgroupBroadcast(v, 6u), subgroupBroadcast(v, 7u));
}

// Products over a head's channels.
fn product(a: ptr<function, Rows>, b: ptr<function, Chunk>, j: u32, depth: u32) -> vec4<f32> {
    var sum = (*a)[0] * (*b)[j][0];
    if depth > 1u { sum += (*a)[1] * (*b)[j][1]; }
    if depth > 2u { sum += (*a)[2] * (*b)[j][2]; }
    if depth > 3u { sum += (*a)[3] * (*b)[j][3]; }
    if depth > 4u { sum += (*a)[4] * (*b)[j][4]; }
    if depth > 5u { sum += (*a)[5] * (*b)[j][5]; }
    if depth > 6u { sum += (*a)[6] * (*b)[j][6]; }
    if depth > 7u { sum += (*a)[7] * (*b)[j][7]; }
    return sum;
}

fn product_rows(a: ptr<function, Rows>, b: ptr<function, Rows>) -> vec4<f32> {
    let depth = KEY_DEPTH;
    var sum = (*a)[0] * (*b)[0];
    if depth > 1u { sum += (*a)[1] * (*b)[1]; }
    if depth > 2u { sum += (*a)[2] * (*b)[2]; }
    if depth > 3u { sum += (*a)[3] * (*b)[3]; }
    if depth > 4u { sum += (*a)[4] * (*b)[4]; }
    if depth > 5u { sum += (*a)[5] * (*b)[5]; }
    if depth > 6u { sum += (*a)[6] * (*b)[6]; }
    if depth > 7u { sum += (*a)[7] * (*b)[7]; }
    return sum;
}

fn product_one(a: ptr<function, Chunk>, b: ptr<function, Chunk>, j: u32) -> f32 {
    let depth = KEY_DEPTH;
    var sum = (*a)[j][0] * (*b)[j][0];
    if depth > 1u { sum += (*a)[j][1] * (*b)[j][1]; }
    if depth > 2u { sum += (*a)[j][2] * (*b)[j][2]; }
    if depth > 3u { sum += (*a)[j][3] * (*b)[j][3]; }
    if depth > 4u { sum += (*a)[j][4] * (*b)[j][4]; }
    if depth > 5u { sum += (*a)[j][5] * (*b)[j][5]; }
    if depth > 6u { sum += (*a)[j][6] * (*b)[j][6]; }
    if depth > 7u { sum += (*a)[j][7] * (*b)[j][7]; }
    return sum;
}

fn add(to: ptr<function, Rows>, a: vec4<f32>, b: ptr<function, Chunk>, j: u32, depth: u32) {
    (*to)[0] += a * (*b)[j][0];
    if depth > 1u { (*to)[1] += a * (*b)[j][1]; }
    if depth > 2u { (*to)[2] += a * (*b)[j][2]; }
    if depth > 3u { (*to)[3] += a * (*b)[j][3]; }
    if depth > 4u { (*to)[4] += a * (*b)[j][4]; }
    if depth > 5u { (*to)[5] += a * (*b)[j][5]; }
    if depth > 6u { (*to)[6] += a * (*b)[j][6]; }
    if depth > 7u { (*to)[7] += a * (*b)[j][7]; }
}

fn add_rows(to: ptr<function, Rows>, a: vec4<f32>, b: ptr<function, Rows>) {
    let depth = KEY_DEPTH;
    (*to)[0] += a * (*b)[0];
    if depth > 1u { (*to)[1] += a * (*b)[1]; }
    if depth > 2u { (*to)[2] += a * (*b)[2]; }
    if depth > 3u { (*to)[3] += a * (*b)[3]; }
    if depth > 4u { (*to)[4] += a * (*b)[4]; }
    if depth > 5u { (*to)[5] += a * (*b)[5]; }
    if depth > 6u { (*to)[6] += a * (*b)[6]; }
    if depth > 7u { (*to)[7] += a * (*b)[7]; }
}

fn scale_rows(to: ptr<function, Rows>, a: vec4<f32>) {
    let depth = VALUE_DEPTH;
    (*to)[0] *= a;
    if depth > 1u { (*to)[1] *= a; }
    if depth > 2u { (*to)[2] *= a; }
    if depth > 3u { (*to)[3] *= a; }
    if depth > 4u { (*to)[4] *= a; }
    if depth > 5u { (*to)[5] *= a; }
    if depth > 6u { (*to)[6] *= a; }
    if depth > 7u { (*to)[7] *= a; }
}

// Adds to a row of this invocation's sums for a table.
fn add_partial(at: u32, a: vec4<f32>, q: ptr<function, Rows>) {
    let depth = KEY_DEPTH;
    partial[at] += dot(a, (*q)[0]);
    if depth > 1u { partial[at + 8u] += dot(a, (*q)[1]); }
    if depth > 2u { partial[at + 16u] += dot(a, (*q)[2]); }
    if depth > 3u { partial[at + 24u] += dot(a, (*q)[3]); }
    if depth > 4u { partial[at + 32u] += dot(a, (*q)[4]); }
    if depth > 5u { partial[at + 40u] += dot(a, (*q)[5]); }
    if depth > 6u { partial[at + 48u] += dot(a, (*q)[6]); }
    if depth > 7u { partial[at + 56u] += dot(a, (*q)[7]); }
}

// The same with one of four rows.
fn add_partial_row(at: u32, a: f32, q: ptr<function, Rows>, row: u32) {
    let depth = KEY_DEPTH;
    partial[at] += a * (*q)[0][row];
    if depth > 1u { partial[at + 8u] += a * (*q)[1][row]; }
    if depth > 2u { partial[at + 16u] += a * (*q)[2][row]; }
    if depth > 3u { partial[at + 24u] += a * (*q)[3][row]; }
    if depth > 4u { partial[at + 32u] += a * (*q)[4][row]; }
    if depth > 5u { partial[at + 40u] += a * (*q)[5][row]; }
    if depth > 6u { partial[at + 48u] += a * (*q)[6][row]; }
    if depth > 7u { partial[at + 56u] += a * (*q)[7][row]; }
}

// Offset of the sums of a row of rel_w.
fn table(row: i32) -> u32 { return (2u * p.height - 1u + u32(row)) * KEY_DEPTH; }

// rel_w for this invocation and 8 neighbours: rows from `start` (for the first) in steps of `step`.
fn w_window(replica: u32, start: i32, step: i32) -> Chunk {
    let last = i32(2u * p.width - 2u);
    var chunk: Chunk;
    chunk[0] = w_channels(replica * p.w_stride + u32(clamp(start + 0 * step, 0, last)) * KEY_DEPTH);
    chunk[1] = w_channels(replica * p.w_stride + u32(clamp(start + 1 * step, 0, last)) * KEY_DEPTH);
    chunk[2] = w_channels(replica * p.w_stride + u32(clamp(start + 2 * step, 0, last)) * KEY_DEPTH);
    chunk[3] = w_channels(replica * p.w_stride + u32(clamp(start + 3 * step, 0, last)) * KEY_DEPTH);
    chunk[4] = w_channels(replica * p.w_stride + u32(clamp(start + 4 * step, 0, last)) * KEY_DEPTH);
    chunk[5] = w_channels(replica * p.w_stride + u32(clamp(start + 5 * step, 0, last)) * KEY_DEPTH);
    chunk[6] = w_channels(replica * p.w_stride + u32(clamp(start + 6 * step, 0, last)) * KEY_DEPTH);
    chunk[7] = w_channels(replica * p.w_stride + u32(clamp(start + 7 * step, 0, last)) * KEY_DEPTH);
    return chunk;
}

// The terms of rel_w in the logits, LOWEST for missing columns.
fn position_terms(q: ptr<function, Rows>, w: ptr<function, Chunk>, there: u32) -> Logits {
    var s: Logits;
    s[0] = select(vec4(LOWEST), product(q, w, 0u, KEY_DEPTH), 0u < there);
    s[1] = select(vec4(LOWEST), product(q, w, 1u, KEY_DEPTH), 1u < there);
    s[2] = select(vec4(LOWEST), product(q, w, 2u, KEY_DEPTH), 2u < there);
    s[3] = select(vec4(LOWEST), product(q, w, 3u, KEY_DEPTH), 3u < there);
    s[4] = select(vec4(LOWEST), product(q, w, 4u, KEY_DEPTH), 4u < there);
    s[5] = select(vec4(LOWEST), product(q, w, 5u, KEY_DEPTH), 5u < there);
    s[6] = select(vec4(LOWEST), product(q, w, 6u, KEY_DEPTH), 6u < there);
    s[7] = select(vec4(LOWEST), product(q, w, 7u, KEY_DEPTH), 7u < there);
    return s;
}

struct Block {
    image: u32,
    replica: u32,
    head: u32,
    y: u32,          // first row
    x: u32,          // column, may be beyond the end
    at: vec4<u32>,   // positions; those past the end repeat the last
}

fn block_at(image: u32, replica: u32, head: u32, y: u32, x: u32) -> Block {
    let rows = min(vec4(y) + vec4(0u, 1u, 2u, 3u), vec4(p.height - 1u));
    return Block(image, replica, head, y, x, rows * p.width + min(x, p.width - 1u));
}

fn blocks() -> vec2<u32> { return vec2((p.width + 7u) / 8u, (p.height + 3u) / 4u); }

// The only block of a workgroup.
fn block_of(id: vec3<u32>, group: u32, lane: u32) -> Block {
    let n = blocks();
    let head = group / (n.x * n.y);
    return block_at(id.z * p.batch + head / p.heads, id.z, head % p.heads, group / n.x % n.y * 4u,
                    group % n.x * 8u + lane);
}

fn q_rows(b: Block) -> vec4<u32> {
    return vec4(q_at(b.image, b.head, b.at.x), q_at(b.image, b.head, b.at.y), q_at(b.image, b.head, b.at.z),
                q_at(b.image, b.head, b.at.w));
}

fn y_rows(b: Block) -> vec4<u32> {
    return vec4(y_at(b.image, b.head, b.at.x), y_at(b.image, b.head, b.at.y), y_at(b.image, b.head, b.at.z),
                y_at(b.image, b.head, b.at.w));
}

// rel_h of a block of queries for the first row of keys.
fn first_rows_of_keys(b: Block) -> Rows {
    let row = max(vec4(i32(p.height - 1u - b.y)) - vec4(0, 1, 2, 3), vec4(0));
    return h_rows(vec4(b.replica * p.h_stride) + vec4<u32>(row) * KEY_DEPTH);
}

// rel_h of a block of keys for the first row of queries.
fn first_rows_of_queries(b: Block) -> Rows {
    let row = min(vec4(b.y + p.height - 1u) + vec4(0u, 1u, 2u, 3u), vec4(2u * p.height - 2u));
    return h_rows(vec4(b.replica * p.h_stride) + row * KEY_DEPTH);
}

@compute @workgroup_size(8)
fn relative_attention_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                        @builtin(local_invocation_index) lane: u32) {
    let group = group_index(id, count);
    let n = blocks();
    if group >= p.batch * p.heads * n.x * n.y { return; }
    let b = block_of(id, group, lane);
    var q = x_rows(q_rows(b), KEY_DEPTH, p.scale);
    var o = Rows();
    var most = vec4(LOWEST);
    var total = vec4(0.0);
    for (var x = 0u; x < p.width; x += 8u) {
        var w = w_window(id.z, i32(x + p.width - 1u) - i32(b.x), 1);
        var terms = position_terms(&q, &w, p.width - x);
        var h = first_rows_of_keys(b);
        for (var row = 0u; row < p.height; row++) {
            let key = row * p.width + min(x + lane, p.width - 1u);
            var k = broadcast_all(x_channels(k_at(b.image, b.head, key), KEY_DEPTH), KEY_DEPTH);
            var v = broadcast_all(x_channels(v_at(b.image, b.head, key), VALUE_DEPTH), VALUE_DEPTH);
            let row_term = product_rows(&q, &h);
            let s0 = terms[0] + product(&q, &k, 0u, KEY_DEPTH);
            let s1 = terms[1] + product(&q, &k, 1u, KEY_DEPTH);
            let s2 = terms[2] + product(&q, &k, 2u, KEY_DEPTH);
            let s3 = terms[3] + product(&q, &k, 3u, KEY_DEPTH);
            let s4 = terms[4] + product(&q, &k, 4u, KEY_DEPTH);
            let s5 = terms[5] + product(&q, &k, 5u, KEY_DEPTH);
            let s6 = terms[6] + product(&q, &k, 6u, KEY_DEPTH);
            let s7 = terms[7] + product(&q, &k, 7u, KEY_DEPTH);
            let higher = max(max(max(most, row_term + max(s0, s1)), row_term + max(s2, s3)),
                             row_term + max(max(s4, s5), max(s6, s7)));
            let factor = exp2(most - higher);
            let level = row_term - higher;
            most = higher;
            total *= factor;
            scale_rows(&o, factor);
            let w0 = exp2(s0 + level);
            add(&o, w0, &v, 0u, VALUE_DEPTH);
            let w1 = exp2(s1 + level);
            add(&o, w1, &v, 1u, VALUE_DEPTH);
            let w2 = exp2(s2 + level);
            add(&o, w2, &v, 2u, VALUE_DEPTH);
            let w3 = exp2(s3 + level);
            add(&o, w3, &v, 3u, VALUE_DEPTH);
            let w4 = exp2(s4 + level);
            add(&o, w4, &v, 4u, VALUE_DEPTH);
            let w5 = exp2(s5 + level);
            add(&o, w5, &v, 5u, VALUE_DEPTH);
            let w6 = exp2(s6 + level);
            add(&o, w6, &v, 6u, VALUE_DEPTH);
            let w7 = exp2(s7 + level);
            add(&o, w7, &v, 7u, VALUE_DEPTH);
            total += w0 + w1 + w2 + w3 + w4 + w5 + w6 + w7;
            slide(&h, id.z * p.h_stride + min(row + p.height - b.y, 2u * p.height - 2u) * KEY_DEPTH);
        }
    }
    if b.x >= p.width { return; }
    let lse = most + log2(total);
    let inverse = 1.0 / total;
    scale_rows(&o, inverse);
    let rows = min(p.height - b.y, 4u);
    let to = y_rows(b);
    put_y(to.x, o, 0u);
    saved_lse[saved_at(b.image, b.head, b.at.x)] = lse.x;
    if rows > 1u { put_y(to.y, o, 1u); saved_lse[saved_at(b.image, b.head, b.at.y)] = lse.y; }
    if rows > 2u { put_y(to.z, o, 2u); saved_lse[saved_at(b.image, b.head, b.at.z)] = lse.z; }
    if rows > 3u { put_y(to.w, o, 3u); saved_lse[saved_at(b.image, b.head, b.at.w)] = lse.w; }
}

fn put_y(at: u32, v: Rows, row: u32) {
    let depth = VALUE_DEPTH;
    y[at] = v[0][row];
    if depth > 1u { y[at + 1u] = v[1][row]; }
    if depth > 2u { y[at + 2u] = v[2][row]; }
    if depth > 3u { y[at + 3u] = v[3][row]; }
    if depth > 4u { y[at + 4u] = v[4][row]; }
    if depth > 5u { y[at + 5u] = v[5][row]; }
    if depth > 6u { y[at + 6u] = v[6][row]; }
    if depth > 7u { y[at + 7u] = v[7][row]; }
}

// dq, and sums for the gradients of the tables, separate for each invocation, without synchronisation.
@compute @workgroup_size(8)
fn relative_attention_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                               @builtin(local_invocation_index) lane: u32) {
    let group = group_index(id, count);
    if group >= p.batch * p.heads * p.groups { return; }
    let head = group / p.groups;
    let size = table_rows() * KEY_DEPTH * 8u;
    let part = (id.z * p.batch * p.heads * p.groups + group) * size + lane;
    for (var i = 0u; i < size; i += 8u) { partial[part + i] = 0.0; }
    let n = blocks();
    for (var i = group % p.groups * n.y / p.groups * n.x; i < (group % p.groups + 1u) * n.y / p.groups * n.x; i++) {
        let b = block_at(id.z * p.batch + head / p.heads, id.z, head % p.heads, i / n.x * 4u, i % n.x * 8u + lane);
        var q = x_rows(q_rows(b), KEY_DEPTH, p.scale);
        var g = grad_y_rows(y_rows(b));
        var dq = Rows();
        let at = saved_at(b.image, b.head, 0u) + b.at;
        let lse = vec4(saved_lse[at.x], saved_lse[at.y], saved_lse[at.z], saved_lse[at.w]);
        let mean = vec4(delta[at.x], delta[at.y], delta[at.z], delta[at.w]);
        // Missing rows and columns add nothing to the tables.
        let live = vec4<f32>((vec4(b.y) + vec4(0u, 1u, 2u, 3u) < vec4(p.height)) & vec4(b.x < p.width));
        for (var row = 0u; row < p.height; row++) { row_sums[row * 8u + lane] = vec4(0.0); }
        for (var x = 0u; x < p.width; x += 8u) {
            let start = i32(x + p.width - 1u) - i32(b.x);
            var w = w_window(id.z, start, 1);
            var terms = position_terms(&q, &w, p.width - x);
            var h = first_rows_of_keys(b);
            var columns = Logits();
            for (var row = 0u; row < p.height; row++) {
                let key = row * p.width + min(x + lane, p.width - 1u);
                var k = broadcast_all(x_channels(k_at(b.image, b.head, key), KEY_DEPTH), KEY_DEPTH);
                var v = broadcast_all(x_channels(v_at(b.image, b.head, key), VALUE_DEPTH), VALUE_DEPTH);
                let level = product_rows(&q, &h) - lse;
                var sum = vec4(0.0);
                let d0 = exp2(terms[0] + product(&q, &k, 0u, KEY_DEPTH) + level)
                    * (product(&g, &v, 0u, VALUE_DEPTH) - mean);
                columns[0] += d0;
                add(&dq, d0, &k, 0u, KEY_DEPTH);
                let d1 = exp2(terms[1] + product(&q, &k, 1u, KEY_DEPTH) + level)
                    * (product(&g, &v, 1u, VALUE_DEPTH) - mean);
                columns[1] += d1;
                add(&dq, d1, &k, 1u, KEY_DEPTH);
                let d2 = exp2(terms[2] + product(&q, &k, 2u, KEY_DEPTH) + level)
                    * (product(&g, &v, 2u, VALUE_DEPTH) - mean);
                columns[2] += d2;
                add(&dq, d2, &k, 2u, KEY_DEPTH);
                let d3 = exp2(terms[3] + product(&q, &k, 3u, KEY_DEPTH) + level)
                    * (product(&g, &v, 3u, VALUE_DEPTH) - mean);
                columns[3] += d3;
                add(&dq, d3, &k, 3u, KEY_DEPTH);
                let d4 = exp2(terms[4] + product(&q, &k, 4u, KEY_DEPTH) + level)
                    * (product(&g, &v, 4u, VALUE_DEPTH) - mean);
                columns[4] += d4;
                add(&dq, d4, &k, 4u, KEY_DEPTH);
                let d5 = exp2(terms[5] + product(&q, &k, 5u, KEY_DEPTH) + level)
                    * (product(&g, &v, 5u, VALUE_DEPTH) - mean);
                columns[5] += d5;
                add(&dq, d5, &k, 5u, KEY_DEPTH);
                let d6 = exp2(terms[6] + product(&q, &k, 6u, KEY_DEPTH) + level)
                    * (product(&g, &v, 6u, VALUE_DEPTH) - mean);
                columns[6] += d6;
                add(&dq, d6, &k, 6u, KEY_DEPTH);
                let d7 = exp2(terms[7] + product(&q, &k, 7u, KEY_DEPTH) + level)
                    * (product(&g, &v, 7u, VALUE_DEPTH) - mean);
                columns[7] += d7;
                add(&dq, d7, &k, 7u, KEY_DEPTH);
                sum = d0 + d1 + d2 + d3 + d4 + d5 + d6 + d7;
                sum *= live;
                row_sums[row * 8u + lane] += sum;
                slide(&h, id.z * p.h_stride + min(row + p.height - b.y, 2u * p.height - 2u) * KEY_DEPTH);
            }
            add(&dq, columns[0], &w, 0u, KEY_DEPTH);
            if 0u < p.width - x && b.x < p.width { add_partial(part + table(start + 0) * 8u, columns[0] * live, &q); }
            add(&dq, columns[1], &w, 1u, KEY_DEPTH);
            if 1u < p.width - x && b.x < p.width { add_partial(part + table(start + 1) * 8u, columns[1] * live, &q); }
            add(&dq, columns[2], &w, 2u, KEY_DEPTH);
            if 2u < p.width - x && b.x < p.width { add_partial(part + table(start + 2) * 8u, columns[2] * live, &q); }
            add(&dq, columns[3], &w, 3u, KEY_DEPTH);
            if 3u < p.width - x && b.x < p.width { add_partial(part + table(start + 3) * 8u, columns[3] * live, &q); }
            add(&dq, columns[4], &w, 4u, KEY_DEPTH);
            if 4u < p.width - x && b.x < p.width { add_partial(part + table(start + 4) * 8u, columns[4] * live, &q); }
            add(&dq, columns[5], &w, 5u, KEY_DEPTH);
            if 5u < p.width - x && b.x < p.width { add_partial(part + table(start + 5) * 8u, columns[5] * live, &q); }
            add(&dq, columns[6], &w, 6u, KEY_DEPTH);
            if 6u < p.width - x && b.x < p.width { add_partial(part + table(start + 6) * 8u, columns[6] * live, &q); }
            add(&dq, columns[7], &w, 7u, KEY_DEPTH);
            if 7u < p.width - x && b.x < p.width { add_partial(part + table(start + 7) * 8u, columns[7] * live, &q); }
        }
        var h = first_rows_of_keys(b);
        for (var row = 0u; row < p.height; row++) {
            let sum = row_sums[row * 8u + lane];
            add_rows(&dq, sum, &h);
            let to = row + p.height - 1u - b.y;
            add_partial_row(part + to * KEY_DEPTH * 8u, sum.x, &q, 0u);
            if b.y + 1u < p.height { add_partial_row(part + (to - 1u) * KEY_DEPTH * 8u, sum.y, &q, 1u); }
            if b.y + 2u < p.height { add_partial_row(part + (to - 2u) * KEY_DEPTH * 8u, sum.z, &q, 2u); }
            if b.y + 3u < p.height { add_partial_row(part + (to - 3u) * KEY_DEPTH * 8u, sum.w, &q, 3u); }
            slide(&h, id.z * p.h_stride + min(row + p.height - b.y, 2u * p.height - 2u) * KEY_DEPTH);
        }
        if b.x < p.width { put_rows(q_rows(b), KEY_DEPTH, dq, p.height - b.y, p.scale * LN_2); }
    }
}

// dk and dv: the lanes are keys, the loop is over queries.
@compute @workgroup_size(8)
fn relative_attention_backward_key(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                             @builtin(local_invocation_index) lane: u32) {
    let group = group_index(id, count);
    let n = blocks();
    if group >= p.batch * p.heads * n.x * n.y { return; }
    let b = block_of(id, group, lane);
    let keys = q_rows(b) + p.heads * KEY_DEPTH;
    let values = vec4(v_at(b.image, b.head, b.at.x), v_at(b.image, b.head, b.at.y), v_at(b.image, b.head, b.at.z),
                      v_at(b.image, b.head, b.at.w));
    var k = x_rows(keys, KEY_DEPTH, 1.0);
    var v = x_rows(values, VALUE_DEPTH, 1.0);
    var dk = Rows();
    var dv = Rows();
    for (var x = 0u; x < p.width; x += 8u) {
        var w = w_window(id.z, i32(min(b.x, p.width - 1u) + p.width - 1u) - i32(x), -1);
        var h = first_rows_of_queries(b);
        for (var row = 0u; row < p.height; row++) {
            let query = row * p.width + min(x + lane, p.width - 1u);
            let at = saved_at(b.image, b.head, query);
            var own = x_channels(q_at(b.image, b.head, query), KEY_DEPTH);
            own[0] *= p.scale;
            own[1] *= p.scale;
            own[2] *= p.scale;
            own[3] *= p.scale;
            own[4] *= p.scale;
            own[5] *= p.scale;
            own[6] *= p.scale;
            own[7] *= p.scale;
            var q = broadcast_all(own, KEY_DEPTH);
            var g = broadcast_all(grad_y_channels(y_at(b.image, b.head, query)), VALUE_DEPTH);
            // Missing columns have weight 0.
            let lse = broadcast_one(select(-LOWEST, saved_lse[at], x + lane < p.width));
            let mean = broadcast_one(delta[at]);
            var k_rel: Rows;
            k_rel[0] = k[0] + h[0];
            k_rel[1] = k[1] + h[1];
            k_rel[2] = k[2] + h[2];
            k_rel[3] = k[3] + h[3];
            k_rel[4] = k[4] + h[4];
            k_rel[5] = k[5] + h[5];
            k_rel[6] = k[6] + h[6];
            k_rel[7] = k[7] + h[7];
            let p0 = exp2(product(&k_rel, &q, 0u, KEY_DEPTH) + (product_one(&q, &w, 0u) - lse[0]));
            let d0 = p0 * (product(&v, &g, 0u, VALUE_DEPTH) - mean[0]);
            add(&dv, p0, &g, 0u, VALUE_DEPTH);
            add(&dk, d0, &q, 0u, KEY_DEPTH);
            let p1 = exp2(product(&k_rel, &q, 1u, KEY_DEPTH) + (product_one(&q, &w, 1u) - lse[1]));
            let d1 = p1 * (product(&v, &g, 1u, VALUE_DEPTH) - mean[1]);
            add(&dv, p1, &g, 1u, VALUE_DEPTH);
            add(&dk, d1, &q, 1u, KEY_DEPTH);
            let p2 = exp2(product(&k_rel, &q, 2u, KEY_DEPTH) + (product_one(&q, &w, 2u) - lse[2]));
            let d2 = p2 * (product(&v, &g, 2u, VALUE_DEPTH) - mean[2]);
            add(&dv, p2, &g, 2u, VALUE_DEPTH);
            add(&dk, d2, &q, 2u, KEY_DEPTH);
            let p3 = exp2(product(&k_rel, &q, 3u, KEY_DEPTH) + (product_one(&q, &w, 3u) - lse[3]));
            let d3 = p3 * (product(&v, &g, 3u, VALUE_DEPTH) - mean[3]);
            add(&dv, p3, &g, 3u, VALUE_DEPTH);
            add(&dk, d3, &q, 3u, KEY_DEPTH);
            let p4 = exp2(product(&k_rel, &q, 4u, KEY_DEPTH) + (product_one(&q, &w, 4u) - lse[4]));
            let d4 = p4 * (product(&v, &g, 4u, VALUE_DEPTH) - mean[4]);
            add(&dv, p4, &g, 4u, VALUE_DEPTH);
            add(&dk, d4, &q, 4u, KEY_DEPTH);
            let p5 = exp2(product(&k_rel, &q, 5u, KEY_DEPTH) + (product_one(&q, &w, 5u) - lse[5]));
            let d5 = p5 * (product(&v, &g, 5u, VALUE_DEPTH) - mean[5]);
            add(&dv, p5, &g, 5u, VALUE_DEPTH);
            add(&dk, d5, &q, 5u, KEY_DEPTH);
            let p6 = exp2(product(&k_rel, &q, 6u, KEY_DEPTH) + (product_one(&q, &w, 6u) - lse[6]));
            let d6 = p6 * (product(&v, &g, 6u, VALUE_DEPTH) - mean[6]);
            add(&dv, p6, &g, 6u, VALUE_DEPTH);
            add(&dk, d6, &q, 6u, KEY_DEPTH);
            let p7 = exp2(product(&k_rel, &q, 7u, KEY_DEPTH) + (product_one(&q, &w, 7u) - lse[7]));
            let d7 = p7 * (product(&v, &g, 7u, VALUE_DEPTH) - mean[7]);
            add(&dv, p7, &g, 7u, VALUE_DEPTH);
            add(&dk, d7, &q, 7u, KEY_DEPTH);
            if row + 1u < p.height { slide(&h, id.z * p.h_stride + (b.y + p.height - 2u - row) * KEY_DEPTH); }
        }
    }
    if b.x >= p.width { return; }
    put_rows(keys, KEY_DEPTH, dk, p.height - b.y, LN_2);
    put_rows(values, VALUE_DEPTH, dv, p.height - b.y, 1.0);
}
