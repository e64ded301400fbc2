// 2D relative self-attention in the flash style: an invocation keeps a query (or, for the gradients of keys and values,
// a key) and its sums in registers, and loops over the others in tiles, column by column. The logit term of a column's
// position is computed once per column; those of the positions of ROWS rows are in workgroup memory.
#import grid
#import relative_attention

const LANES = 32u;
const MOST_VEC4 = 16u;
override KEY_VEC4: u32 = (KEY_DEPTH + 3u) / 4u;
override VALUE_VEC4: u32 = (VALUE_DEPTH + 3u) / 4u;
override ROWS: u32 = 1u; // rows of keys at a time
override TILE: u32 = 1u; // positions in workgroup memory at a time
override KEY_TILE: u32 = TILE * KEY_VEC4;
override VALUE_TILE: u32 = TILE * VALUE_VEC4;
override ROW_TILE: u32 = ROWS * LANES;
override RING: u32 = LANES * KEY_VEC4;

// A head's channels of one position, padded with zeros.
alias Channels = array<vec4<f32>, MOST_VEC4>;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;                 // (R, B, H, W, 2 dk + dv)
@group(0) @binding(2) var<storage, read> rel_h: array<f32>;               // (2H - 1, dk / N) every h_stride
@group(0) @binding(3) var<storage, read> rel_w: array<f32>;               // (2W - 1, dk / N) every w_stride
@group(0) @binding(4) var<storage, read_write> y: array<f32>;             // (R, B, H, W, dv)
@group(0) @binding(5) var<storage, read_write> saved_lse: array<f32>;     // (R, B, N, H W)
@group(0) @binding(6) var<storage, read> grad_y: array<f32>;              // (R, B, H, W, dv)
@group(0) @binding(7) var<storage, read_write> delta: array<f32>;         // (R, B, N, H W)
@group(0) @binding(8) var<storage, read_write> grad_qkv: array<f32>;      // (R, B, H, W, 2 dk + dv)
@group(0) @binding(9) var<storage, read_write> partial: array<vec4<f32>>; // (R, B, N, groups, table rows, KEY_VEC4)

var<workgroup> keys: array<vec4<f32>, KEY_TILE>;     // or queries
var<workgroup> values: array<vec4<f32>, VALUE_TILE>; // or gradients
var<workgroup> terms: array<vec2<f32>, TILE>;        // of queries
var<workgroup> row_terms: array<f32, ROW_TILE>;      // q' rel_h for the rows of keys
var<workgroup> row_sums: array<f32, ROW_TILE>;       // ds, summed over the columns of keys
var<workgroup> ring: array<vec4<f32>, RING>;         // sums for LANES neighbouring rows of rel_w

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

fn put_grad_x(at: u32, i: u32, count: u32, v: vec4<f32>) {
    for (var c = 4u * i; c < min(4u * i + 4u, count); c++) {
        if p.accumulate == 1u { grad_qkv[at + c] += v[c - 4u * i]; } else { grad_qkv[at + c] = v[c - 4u * i]; }
    }
}

// Fills `row_terms` of this invocation for the rows from `top`.
fn fill_row_terms(q: ptr<function, Channels>, replica: u32, qy: u32, top: u32, rows: u32, lane: u32) {
    for (var row = 0u; row < rows; row++) {
        var sum = 0.0;
        for (var i = 0u; i < KEY_VEC4; i++) { sum += dot((*q)[i], h_part(replica, top + row + p.height - 1u - qy, i)); }
        row_terms[row * LANES + lane] = sum;
    }
}

// Keys and values of positions first, first + 1, ... of the columns of `rows` rows from `top`.
fn load_tile(image: u32, head: u32, top: u32, rows: u32, first: u32, lane: u32) {
    workgroupBarrier();
    let last = rows * p.width - 1u;
    for (var i = lane; i < KEY_TILE; i += LANES) {
        let index = min(first + i / KEY_VEC4, last);
        let position = (top + index % rows) * p.width + index / rows;
        keys[i] = x_part(k_at(image, head, position), i % KEY_VEC4, KEY_DEPTH);
    }
    for (var i = lane; i < VALUE_TILE; i += LANES) {
        let index = min(first + i / VALUE_VEC4, last);
        let position = (top + index % rows) * p.width + index / rows;
        values[i] = x_part(v_at(image, head, position), i % VALUE_VEC4, VALUE_DEPTH);
    }
    workgroupBarrier();
}

@compute @workgroup_size(LANES)
fn relative_attention_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                              @builtin(local_invocation_index) lane: u32) {
    let group = group_index(id, count);
    let blocks = (positions() + LANES - 1u) / LANES;
    if group >= p.batch * p.heads * blocks { return; }
    let head = group / blocks % p.heads;
    let image = id.z * p.batch + group / blocks / p.heads;
    // Invocations past the end repeat the last position; it is not stored again.
    let query = min(group % blocks * LANES + lane, positions() - 1u);
    let qy = query / p.width;
    let qx = query % p.width;
    var q: Channels;
    var o: Channels;
    for (var i = 0u; i < KEY_VEC4; i++) { q[i] = x_part(q_at(image, head, query), i, KEY_DEPTH) * p.scale; }
    for (var i = 0u; i < VALUE_VEC4; i++) { o[i] = vec4(0.0); }
    var most = LOWEST;
    var total = 0.0;
    for (var top = 0u; top < p.height; top += ROWS) {
        let rows = min(ROWS, p.height - top);
        fill_row_terms(&q, id.z, qy, top, rows, lane);
        var row = 0u;
        var column = 0u;
        var column_term = 0.0;
        for (var first = 0u; first < rows * p.width; first += TILE) {
            load_tile(image, head, top, rows, first, lane);
            for (var j = 0u; j < min(TILE, rows * p.width - first); j++) {
                if row == 0u {
                    column_term = 0.0;
                    for (var i = 0u; i < KEY_VEC4; i++) {
                        column_term += dot(q[i], w_part(id.z, column + p.width - 1u - qx, i));
                    }
                }
                var s = column_term + row_terms[row * LANES + lane];
                for (var i = 0u; i < KEY_VEC4; i++) { s += dot(q[i], keys[j * KEY_VEC4 + i]); }
                // Rare: there are about log(H W) new maxima.
                if s > most {
                    let factor = exp2(most - s);
                    total *= factor;
                    for (var i = 0u; i < VALUE_VEC4; i++) { o[i] *= factor; }
                    most = s;
                }
                let weight = exp2(s - most);
                total += weight;
                for (var i = 0u; i < VALUE_VEC4; i++) { o[i] += weight * values[j * VALUE_VEC4 + i]; }
                row += 1u;
                if row == rows {
                    row = 0u;
                    column += 1u;
                }
            }
        }
    }
    if group % blocks * LANES + lane >= positions() { return; }
    saved_lse[saved_at(image, head, query)] = most + log2(total);
    let at = y_at(image, head, query);
    for (var c = 0u; c < VALUE_DEPTH; c++) { y[at + c] = o[c / 4u][c % 4u] / total; }
}

// delta = sum of grad_y y over a head's channels, which is the mean of grad_y v under the weights.
@compute @workgroup_size(64)
fn relative_attention_backward_delta(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                     @builtin(local_invocation_index) lane: u32) {
    let i = group_index(id, count) * 64u + lane;
    if i >= p.batch * p.heads * positions() { return; }
    let image = id.z * p.batch + i / positions() / p.heads;
    let head = i / positions() % p.heads;
    let at = y_at(image, head, i % positions());
    var sum = 0.0;
    for (var c = 0u; c < VALUE_DEPTH; c++) { sum += grad_y[at + c] * y[at + c]; }
    delta[saved_at(image, head, i % positions())] = sum;
}

// Adds the ring's sums of one invocation to the sums of rel_w, and clears them. A channel is always added by the same
// invocation.
fn flush(part: u32, column: u32, x: u32, other: u32, lane: u32) {
    let row = i32(column + p.width - 1u) - i32(x + other);
    let slot = (column + p.width + LANES - 1u - x - other) % LANES;
    for (var i = lane; i < KEY_VEC4; i += LANES) {
        if row >= 0 { partial[part + (2u * p.height - 1u + u32(row)) * KEY_VEC4 + i] += ring[slot * KEY_VEC4 + i]; }
        ring[slot * KEY_VEC4 + i] = vec4(0.0);
    }
}

// dq, and sums for the gradients of the tables. A workgroup takes a group of queries, LANES neighbours of a row at a
// time. At a column of keys each of them adds to another row of rel_w, and such a row passes from neighbour to
// neighbour as the columns advance.
@compute @workgroup_size(LANES)
fn relative_attention_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                     @builtin(local_invocation_index) lane: u32) {
    let group = group_index(id, count);
    if group >= p.batch * p.heads * p.groups { return; }
    let head = group / p.groups % p.heads;
    let image = id.z * p.batch + group / p.groups / p.heads;
    let part = (id.z * p.batch * p.heads * p.groups + group) * table_rows() * KEY_VEC4;
    for (var i = lane; i < table_rows() * KEY_VEC4; i += LANES) { partial[part + i] = vec4(0.0); }
    for (var i = lane; i < RING; i += LANES) { ring[i] = vec4(0.0); }
    storageBarrier();
    // Neighbours in blocks of about the same size.
    let blocks = (p.width + LANES - 1u) / LANES;
    let block = (p.width + blocks - 1u) / blocks;
    let units = p.height * blocks;
    for (var unit = group % p.groups * units / p.groups; unit < (group % p.groups + 1u) * units / p.groups; unit++) {
        let qy = unit / blocks;
        let x = unit % blocks * block;
        if x >= p.width { continue; }
        let here = min(block, p.width - x);
        let qx = min(x + lane, p.width - 1u);
        let query = qy * p.width + qx;
        let lse = saved_lse[saved_at(image, head, query)];
        let mean = delta[saved_at(image, head, query)];
        var q: Channels;
        var g: Channels;
        var dq: Channels;
        for (var i = 0u; i < KEY_VEC4; i++) {
            q[i] = x_part(q_at(image, head, query), i, KEY_DEPTH) * p.scale;
            dq[i] = vec4(0.0);
        }
        for (var i = 0u; i < VALUE_VEC4; i++) { g[i] = grad_y_part(y_at(image, head, query), i); }
        for (var top = 0u; top < p.height; top += ROWS) {
            let rows = min(ROWS, p.height - top);
            fill_row_terms(&q, id.z, qy, top, rows, lane);
            for (var row = 0u; row < rows; row++) { row_sums[row * LANES + lane] = 0.0; }
            var row = 0u;
            var column = 0u;
            var column_term = 0.0;
            var column_sum = 0.0;
            for (var first = 0u; first < rows * p.width; first += TILE) {
                load_tile(image, head, top, rows, first, lane);
                for (var j = 0u; j < min(TILE, rows * p.width - first); j++) {
                    if row == 0u {
                        column_term = 0.0;
                        column_sum = 0.0;
                        for (var i = 0u; i < KEY_VEC4; i++) {
                            column_term += dot(q[i], w_part(id.z, column + p.width - 1u - qx, i));
                        }
                    }
                    var s = column_term + row_terms[row * LANES + lane] - lse;
                    for (var i = 0u; i < KEY_VEC4; i++) { s += dot(q[i], keys[j * KEY_VEC4 + i]); }
                    var slope = -mean;
                    for (var i = 0u; i < VALUE_VEC4; i++) { slope += dot(g[i], values[j * VALUE_VEC4 + i]); }
                    let ds = select(0.0, exp2(s) * slope, lane < here);
                    column_sum += ds;
                    row_sums[row * LANES + lane] += ds;
                    for (var i = 0u; i < KEY_VEC4; i++) { dq[i] += ds * keys[j * KEY_VEC4 + i]; }
                    row += 1u;
                    if row == rows {
                        workgroupBarrier();
                        let slot = (column + p.width + LANES - 1u - x - lane) % LANES;
                        for (var i = 0u; i < KEY_VEC4; i++) {
                            dq[i] += column_sum * w_part(id.z, column + p.width - 1u - qx, i);
                            ring[slot * KEY_VEC4 + i] += column_sum * q[i];
                        }
                        workgroupBarrier();
                        flush(part, column, x, LANES - 1u, lane);
                        row = 0u;
                        column += 1u;
                    }
                }
            }
            for (var other = 0u; other < LANES - 1u; other++) { flush(part, p.width - 1u, x, other, lane); }
            for (var row = 0u; row < rows; row++) {
                for (var i = 0u; i < KEY_VEC4; i++) {
                    dq[i] += row_sums[row * LANES + lane] * h_part(id.z, top + row + p.height - 1u - qy, i);
                }
            }
            workgroupBarrier();
            for (var i = lane; i < rows * KEY_VEC4; i += LANES) {
                let row = i / KEY_VEC4;
                var sum = vec4(0.0);
                for (var other = 0u; other < here; other++) {
                    let at = q_at(image, head, qy * p.width + x + other);
                    sum += row_sums[row * LANES + other] * x_part(at, i % KEY_VEC4, KEY_DEPTH);
                }
                partial[part + (top + row + p.height - 1u - qy) * KEY_VEC4 + i % KEY_VEC4] += sum * p.scale;
            }
            storageBarrier();
            workgroupBarrier();
        }
        if lane < here {
            for (var i = 0u; i < KEY_VEC4; i++) {
                put_grad_x(q_at(image, head, query), i, KEY_DEPTH, dq[i] * (p.scale * LN_2));
            }
        }
    }
}

// dk and dv. A workgroup takes neighbours of one row of keys, so that the row's logit terms are per-query constants.
@compute @workgroup_size(LANES)
fn relative_attention_backward_key(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                   @builtin(local_invocation_index) lane: u32) {
    let group = group_index(id, count);
    let blocks = (p.width + LANES - 1u) / LANES;
    if group >= p.batch * p.heads * p.height * blocks { return; }
    let block = (p.width + blocks - 1u) / blocks;
    let x = group % blocks * block;
    let ky = group / blocks % p.height;
    let head = group / blocks / p.height % p.heads;
    let image = id.z * p.batch + group / blocks / p.height / p.heads;
    let kx = min(x + lane, p.width - 1u);
    let key = ky * p.width + kx;
    var k: Channels;
    var v: Channels;
    var k_rel: Channels;
    var dk: Channels;
    var dv: Channels;
    for (var i = 0u; i < KEY_VEC4; i++) {
        k[i] = x_part(k_at(image, head, key), i, KEY_DEPTH);
        dk[i] = vec4(0.0);
    }
    for (var i = 0u; i < VALUE_VEC4; i++) {
        v[i] = x_part(v_at(image, head, key), i, VALUE_DEPTH);
        dv[i] = vec4(0.0);
    }
    var row = 0u;
    var column = 0u;
    for (var first = 0u; first < positions(); first += TILE) {
        workgroupBarrier();
        for (var i = lane; i < KEY_TILE; i += LANES) {
            let index = min(first + i / KEY_VEC4, positions() - 1u);
            let query = index % p.height * p.width + index / p.height;
            keys[i] = x_part(q_at(image, head, query), i % KEY_VEC4, KEY_DEPTH) * p.scale;
        }
        for (var i = lane; i < VALUE_TILE; i += LANES) {
            let index = min(first + i / VALUE_VEC4, positions() - 1u);
            let query = index % p.height * p.width + index / p.height;
            values[i] = grad_y_part(y_at(image, head, query), i % VALUE_VEC4);
        }
        for (var j = lane; j < TILE; j += LANES) {
            let index = min(first + j, positions() - 1u);
            let qy = index % p.height;
            let query = qy * p.width + index / p.height;
            var sum = 0.0;
            for (var i = 0u; i < KEY_VEC4; i++) {
                sum += dot(x_part(q_at(image, head, query), i, KEY_DEPTH), h_part(id.z, ky + p.height - 1u - qy, i));
            }
            let at = saved_at(image, head, query);
            terms[j] = vec2(sum * p.scale - saved_lse[at], delta[at]);
        }
        workgroupBarrier();
        for (var j = 0u; j < min(TILE, positions() - first); j++) {
            if row == 0u {
                for (var i = 0u; i < KEY_VEC4; i++) { k_rel[i] = k[i] + w_part(id.z, kx + p.width - 1u - column, i); }
            }
            var s = terms[j].x;
            for (var i = 0u; i < KEY_VEC4; i++) { s += dot(k_rel[i], keys[j * KEY_VEC4 + i]); }
            var slope = -terms[j].y;
            for (var i = 0u; i < VALUE_VEC4; i++) { slope += dot(v[i], values[j * VALUE_VEC4 + i]); }
            let weight = exp2(s);
            for (var i = 0u; i < KEY_VEC4; i++) { dk[i] += weight * slope * keys[j * KEY_VEC4 + i]; }
            for (var i = 0u; i < VALUE_VEC4; i++) { dv[i] += weight * values[j * VALUE_VEC4 + i]; }
            row += 1u;
            if row == p.height {
                row = 0u;
                column += 1u;
            }
        }
    }
    if lane >= block || x + lane >= p.width { return; }
    for (var i = 0u; i < KEY_VEC4; i++) { put_grad_x(k_at(image, head, key), i, KEY_DEPTH, dk[i] * LN_2); }
    for (var i = 0u; i < VALUE_VEC4; i++) { put_grad_x(v_at(image, head, key), i, VALUE_DEPTH, dv[i]); }
}
