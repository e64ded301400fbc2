// Tiles of positions in workgroup memory for the portable kernels of 2D relative self-attention, and the channels of a
// position in parts. The kernels declare the buffers.
override LANES: u32 = 32u; // positions of a workgroup
override PARTS: u32 = 1u;  // invocations of each, so that a part has at most MOST_VEC4
override KEY_PART: u32 = (KEY_DEPTH + 4u * PARTS - 1u) / (4u * PARTS);
override VALUE_PART: u32 = (VALUE_DEPTH + 4u * PARTS - 1u) / (4u * PARTS);
override KEY_VEC4: u32 = KEY_PART * PARTS;
override VALUE_VEC4: u32 = VALUE_PART * PARTS;
override ROWS: u32 = 1u;    // of a tile
override COLUMNS: u32 = 1u; // of a tile, 1 unless it has all rows
override KEY_TILE: u32 = ROWS * COLUMNS * KEY_VEC4;
override VALUE_TILE: u32 = ROWS * COLUMNS * VALUE_VEC4;
override TERM_TILE: u32 = ROWS * COLUMNS * PARTS;
override SUM_TILE: u32 = max(TERM_TILE * LANES * min(PARTS - 1u, 1u), 1u); // a single part needs none

const MOST_VEC4 = 4u;

// A part of a head's channels of one position, padded with zeros.
alias Channels = array<vec4<f32>, MOST_VEC4>;

var<workgroup> keys: array<vec4<f32>, KEY_TILE>;      // or queries
var<workgroup> values: array<vec4<f32>, VALUE_TILE>;  // or gradients
var<workgroup> part_sums: array<vec2<f32>, SUM_TILE>; // of a logit and of a weight's gradient

// Four channels of `count`; those past the last repeat it, times 0.
fn channel_indices(i: u32, count: u32) -> vec4<u32> {
    return min(vec4(4u * i) + vec4(0u, 1u, 2u, 3u), vec4(count - 1u));
}

fn live(i: u32, count: u32) -> vec4<f32> {
    return vec4<f32>(vec4(4u * i) + vec4(0u, 1u, 2u, 3u) < vec4(count));
}

fn x_part(at: u32, i: u32, count: u32) -> vec4<f32> {
    let s = vec4(at) + channel_indices(i, count);
    return vec4(qkv[s.x], qkv[s.y], qkv[s.z], qkv[s.w]) * live(i, count);
}

fn grad_y_part(at: u32, i: u32) -> vec4<f32> {
    let s = vec4(at) + channel_indices(i, VALUE_DEPTH);
    return vec4(grad_y[s.x], grad_y[s.y], grad_y[s.z], grad_y[s.w]) * live(i, VALUE_DEPTH);
}

fn h_part(replica: u32, row: u32, i: u32) -> vec4<f32> {
    let s = vec4(replica * p.h_stride + row * KEY_DEPTH) + channel_indices(i, KEY_DEPTH);
    return vec4(rel_h[s.x], rel_h[s.y], rel_h[s.z], rel_h[s.w]) * live(i, KEY_DEPTH);
}

fn w_part(replica: u32, row: u32, i: u32) -> vec4<f32> {
    let s = vec4(replica * p.w_stride + row * KEY_DEPTH) + channel_indices(i, KEY_DEPTH);
    return vec4(rel_w[s.x], rel_w[s.y], rel_w[s.z], rel_w[s.w]) * live(i, KEY_DEPTH);
}

// Positions of some rows and columns, column by column.
struct Tile {
    top: u32,
    rows: u32,
    first: u32,
    columns: u32,
}

fn tile(top: u32, first: u32) -> Tile {
    return Tile(top, min(ROWS, p.height - top), first, min(COLUMNS, p.width - first));
}

fn position_of(t: Tile, at: u32) -> u32 { return (t.top + at % t.rows) * p.width + t.first + at / t.rows; }

fn load_keys(image: u32, head: u32, t: Tile, index: u32) {
    for (var i = index; i < t.rows * t.columns * KEY_VEC4; i += LANES * PARTS) {
        keys[i] = x_part(k_at(image, head, position_of(t, i / KEY_VEC4)), i % KEY_VEC4, KEY_DEPTH);
    }
}

// With the rows of rel_h for queries of row qy.
fn load_relative_keys(replica: u32, image: u32, head: u32, qy: u32, t: Tile, index: u32) {
    for (var i = index; i < t.rows * t.columns * KEY_VEC4; i += LANES * PARTS) {
        let row = t.top + i / KEY_VEC4 % t.rows + p.height - 1u - qy;
        let key = x_part(k_at(image, head, position_of(t, i / KEY_VEC4)), i % KEY_VEC4, KEY_DEPTH);
        keys[i] = key + h_part(replica, row, i % KEY_VEC4);
    }
}

fn load_values(image: u32, head: u32, t: Tile, index: u32) {
    for (var i = index; i < t.rows * t.columns * VALUE_VEC4; i += LANES * PARTS) {
        values[i] = x_part(v_at(image, head, position_of(t, i / VALUE_VEC4)), i % VALUE_VEC4, VALUE_DEPTH);
    }
}

// The part of a logit of an invocation's query for key j of the tile, or the other way round.
fn logit(q: ptr<function, Channels>, start: f32, j: u32, part: u32) -> f32 {
    var s = start;
    for (var i = 0u; i < KEY_PART; i++) { s += dot((*q)[i], keys[j * KEY_VEC4 + part * KEY_PART + i]); }
    return s;
}

// The same, and the part of the weight's gradient.
fn logit_and_slope(q: ptr<function, Channels>, g: ptr<function, Channels>, start: vec2<f32>, j: u32,
                   part: u32) -> vec2<f32> {
    var slope = start.y;
    for (var i = 0u; i < VALUE_PART; i++) { slope += dot((*g)[i], values[j * VALUE_VEC4 + part * VALUE_PART + i]); }
    return vec2(logit(q, start.x, j, part), slope);
}

// The part of a query's logits for a column of keys.
fn column_term(q: ptr<function, Channels>, replica: u32, kx: u32, qx: u32, part: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < KEY_PART; i++) {
        sum += dot((*q)[i], w_part(replica, kx + p.width - 1u - qx, part * KEY_PART + i));
    }
    return sum;
}

// Of all parts, for position j of the tile.
fn total(j: u32, lane: u32) -> vec2<f32> {
    var sum = part_sums[j * PARTS * LANES + lane];
    for (var part = 1u; part < PARTS; part++) { sum += part_sums[(j * PARTS + part) * LANES + lane]; }
    return sum;
}
