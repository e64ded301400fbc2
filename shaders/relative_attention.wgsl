// 2D relative self-attention in the flash style: an invocation keeps a query (or, for the gradients of keys and values,
// a key) and its sums in registers, and loops over the others in tiles of a few rows and columns. The channels of deep
// heads are shared out: PARTS invocations of a position each add their part of a logit (and of the weight's gradient),
// and all of them take the total. The logit term of a column's position is computed once per column.
#import grid
#import relative_attention
#import attention_tile

override ROW_TILE: u32 = ROWS * LANES;
override ROW_TERM_TILE: u32 = ROW_TILE * PARTS;
override RING: u32 = LANES * KEY_VEC4;

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

var<workgroup> terms: array<vec2<f32>, TERM_TILE>;   // of queries, by part
var<workgroup> row_terms: array<f32, ROW_TERM_TILE>; // q' rel_h for the rows of keys, by part
var<workgroup> row_sums: array<f32, ROW_TILE>;       // ds, summed over the columns of keys
var<workgroup> ring: array<vec4<f32>, RING>;         // sums for LANES neighbouring rows of rel_w

@compute @workgroup_size(LANES, PARTS)
fn relative_attention_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                              @builtin(local_invocation_id) local: vec3<u32>,
                              @builtin(local_invocation_index) index: u32) {
    let group = group_index(id, count);
    let blocks = (positions() + LANES - 1u) / LANES;
    if group >= p.batch * p.heads * blocks { return; }
    let lane = local.x;
    let part = local.y;
    let head = group / blocks % p.heads;
    let image = id.z * p.batch + group / blocks / p.heads;
    // Invocations past the end repeat the last position; it is not stored again.
    let query = min(group % blocks * LANES + lane, positions() - 1u);
    let qy = query / p.width;
    let qx = query % p.width;
    var q: Channels;
    var o: Channels;
    for (var i = 0u; i < KEY_PART; i++) {
        q[i] = x_part(q_at(image, head, query), part * KEY_PART + i, KEY_DEPTH) * p.scale;
    }
    for (var i = 0u; i < VALUE_PART; i++) { o[i] = vec4(0.0); }
    var most = LOWEST;
    var weights = 0.0;
    for (var top = 0u; top < p.height; top += ROWS) {
        for (var row = 0u; row < min(ROWS, p.height - top); row++) {
            var sum = 0.0;
            for (var i = 0u; i < KEY_PART; i++) {
                sum += dot(q[i], h_part(id.z, top + row + p.height - 1u - qy, part * KEY_PART + i));
            }
            row_terms[(row * PARTS + part) * LANES + lane] = sum;
        }
        for (var first = 0u; first < p.width; first += COLUMNS) {
            let t = tile(top, first);
            workgroupBarrier();
            load_keys(image, head, t, index);
            load_values(image, head, t, index);
            workgroupBarrier();
            if PARTS > 1u {
                for (var column = 0u; column < t.columns; column++) {
                    let start = column_term(&q, id.z, first + column, qx, part);
                    for (var row = 0u; row < t.rows; row++) {
                        let j = column * t.rows + row;
                        let s = logit(&q, start + row_terms[(row * PARTS + part) * LANES + lane], j, part);
                        part_sums[(j * PARTS + part) * LANES + lane] = vec2(s, 0.0);
                    }
                }
                workgroupBarrier();
            }
            var start = 0.0;
            for (var j = 0u; j < t.rows * t.columns; j++) {
                var s = 0.0;
                if PARTS > 1u {
                    s = total(j, lane).x;
                } else {
                    let row = j % t.rows;
                    if row == 0u { start = column_term(&q, id.z, first + j / t.rows, qx, part); }
                    s = logit(&q, start + row_terms[row * LANES + lane], j, part);
                }
                // Rare: there are about log(H W) new maxima.
                if s > most {
                    let factor = exp2(most - s);
                    weights *= factor;
                    for (var i = 0u; i < VALUE_PART; i++) { o[i] *= factor; }
                    most = s;
                }
                let weight = exp2(s - most);
                weights += weight;
                for (var i = 0u; i < VALUE_PART; i++) {
                    o[i] += weight * values[j * VALUE_VEC4 + part * VALUE_PART + i];
                }
            }
        }
    }
    if group % blocks * LANES + lane >= positions() { return; }
    if part == 0u { saved_lse[saved_at(image, head, query)] = most + log2(weights); }
    let at = y_at(image, head, query);
    for (var i = 0u; i < VALUE_PART; i++) {
        let first = 4u * (part * VALUE_PART + i);
        for (var c = first; c < min(first + 4u, VALUE_DEPTH); c++) { y[at + c] = o[i][c - first] / weights; }
    }
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

fn put_grad_x(at: u32, i: u32, count: u32, v: vec4<f32>) {
    for (var c = 4u * i; c < min(4u * i + 4u, count); c++) {
        if p.accumulate == 1u { grad_qkv[at + c] += v[c - 4u * i]; } else { grad_qkv[at + c] = v[c - 4u * i]; }
    }
}

// Adds the ring's sums of one invocation to the sums of rel_w, four channels of them, and clears them.
fn flush(sums_at: u32, column: u32, x: u32, other: u32, i: u32) {
    let row = i32(column + p.width - 1u) - i32(x + other);
    let slot = (column + p.width + LANES - 1u - x - other) % LANES;
    if row >= 0 { partial[sums_at + (2u * p.height - 1u + u32(row)) * KEY_VEC4 + i] += ring[slot * KEY_VEC4 + i]; }
    ring[slot * KEY_VEC4 + i] = vec4(0.0);
}

// dq, and sums for the gradients of the tables. A workgroup takes a group of queries, LANES neighbours of a row at a
// time. At a column of keys each of them adds to another row of rel_w, and such a row passes from neighbour to
// neighbour as the columns advance.
@compute @workgroup_size(LANES, PARTS)
fn relative_attention_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                     @builtin(local_invocation_id) local: vec3<u32>,
                                     @builtin(local_invocation_index) index: u32) {
    let group = group_index(id, count);
    if group >= p.batch * p.heads * p.groups { return; }
    let lane = local.x;
    let part = local.y;
    let head = group / p.groups % p.heads;
    let image = id.z * p.batch + group / p.groups / p.heads;
    let sums_at = (id.z * p.batch * p.heads * p.groups + group) * table_rows() * KEY_VEC4;
    for (var i = index; i < table_rows() * KEY_VEC4; i += LANES * PARTS) { partial[sums_at + i] = vec4(0.0); }
    for (var i = index; i < RING; i += LANES * PARTS) { ring[i] = vec4(0.0); }
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
        // One part has what is added once.
        var start = vec2(0.0);
        if part == 0u { start = -vec2(saved_lse[saved_at(image, head, query)], delta[saved_at(image, head, query)]); }
        var q: Channels;
        var g: Channels;
        var dq: Channels;
        for (var i = 0u; i < KEY_PART; i++) {
            q[i] = x_part(q_at(image, head, query), part * KEY_PART + i, KEY_DEPTH) * p.scale;
            dq[i] = vec4(0.0);
        }
        for (var i = 0u; i < VALUE_PART; i++) { g[i] = grad_y_part(y_at(image, head, query), part * VALUE_PART + i); }
        for (var top = 0u; top < p.height; top += ROWS) {
            let rows = min(ROWS, p.height - top);
            for (var i = index; i < rows * LANES; i += LANES * PARTS) { row_sums[i] = 0.0; }
            for (var first = 0u; first < p.width; first += COLUMNS) {
                let t = tile(top, first);
                workgroupBarrier();
                load_relative_keys(id.z, image, head, qy, t, index);
                load_values(image, head, t, index);
                workgroupBarrier();
                if PARTS > 1u {
                    for (var column = 0u; column < t.columns; column++) {
                        let of_column = start + vec2(column_term(&q, id.z, first + column, qx, part), 0.0);
                        for (var row = 0u; row < rows; row++) {
                            let j = column * rows + row;
                            part_sums[(j * PARTS + part) * LANES + lane] = logit_and_slope(&q, &g, of_column, j, part);
                        }
                    }
                    workgroupBarrier();
                }
                for (var column = 0u; column < t.columns; column++) {
                    let kx = first + column;
                    var of_column = start;
                    if PARTS == 1u { of_column.x += column_term(&q, id.z, kx, qx, part); }
                    var column_sum = 0.0;
                    for (var row = 0u; row < rows; row++) {
                        let j = column * rows + row;
                        var sums = vec2(0.0);
                        if PARTS > 1u {
                            sums = total(j, lane);
                        } else {
                            sums = logit_and_slope(&q, &g, of_column, j, part);
                        }
                        let ds = select(0.0, exp2(sums.x) * sums.y, lane < here);
                        column_sum += ds;
                        if part == 0u { row_sums[row * LANES + lane] += ds; }
                        for (var i = 0u; i < KEY_PART; i++) {
                            dq[i] += ds * keys[j * KEY_VEC4 + part * KEY_PART + i];
                        }
                    }
                    let slot = (kx + p.width + LANES - 1u - x - lane) % LANES;
                    workgroupBarrier();
                    for (var i = 0u; i < KEY_PART; i++) {
                        dq[i] += column_sum * w_part(id.z, kx + p.width - 1u - qx, part * KEY_PART + i);
                        ring[slot * KEY_VEC4 + part * KEY_PART + i] += column_sum * q[i];
                    }
                    workgroupBarrier();
                    if index < KEY_VEC4 { flush(sums_at, kx, x, LANES - 1u, index); }
                }
            }
            workgroupBarrier();
            for (var i = index; i < (LANES - 1u) * KEY_VEC4; i += LANES * PARTS) {
                flush(sums_at, p.width - 1u, x, i / KEY_VEC4, i % KEY_VEC4);
            }
            for (var i = index; i < rows * KEY_VEC4; i += LANES * PARTS) {
                let row = i / KEY_VEC4;
                var sum = vec4(0.0);
                for (var other = 0u; other < here; other++) {
                    let at = q_at(image, head, qy * p.width + x + other);
                    sum += row_sums[row * LANES + other] * x_part(at, i % KEY_VEC4, KEY_DEPTH);
                }
                partial[sums_at + (top + row + p.height - 1u - qy) * KEY_VEC4 + i % KEY_VEC4] += sum * p.scale;
            }
            storageBarrier();
            workgroupBarrier();
        }
        if lane < here {
            for (var i = 0u; i < KEY_PART; i++) {
                put_grad_x(q_at(image, head, query), part * KEY_PART + i, KEY_DEPTH, dq[i] * (p.scale * LN_2));
            }
        }
    }
}

// Queries, their gradients of the output, and their terms for keys of row ky.
fn load_queries(replica: u32, image: u32, head: u32, ky: u32, t: Tile, index: u32) {
    let count = t.rows * t.columns;
    for (var i = index; i < count * KEY_VEC4; i += LANES * PARTS) {
        let at = q_at(image, head, position_of(t, i / KEY_VEC4));
        keys[i] = x_part(at, i % KEY_VEC4, KEY_DEPTH) * p.scale;
    }
    for (var i = index; i < count * VALUE_VEC4; i += LANES * PARTS) {
        values[i] = grad_y_part(y_at(image, head, position_of(t, i / VALUE_VEC4)), i % VALUE_VEC4);
    }
    for (var i = index; i < count * PARTS; i += LANES * PARTS) {
        let query = position_of(t, i / PARTS);
        let row = ky + p.height - 1u - query / p.width;
        var sum = 0.0;
        for (var c = 0u; c < KEY_PART; c++) {
            let at = i % PARTS * KEY_PART + c;
            sum += dot(x_part(q_at(image, head, query), at, KEY_DEPTH), h_part(replica, row, at));
        }
        terms[i] = vec2(sum * p.scale, 0.0);
        if i % PARTS == 0u {
            terms[i] -= vec2(saved_lse[saved_at(image, head, query)], delta[saved_at(image, head, query)]);
        }
    }
}

// The part of a key, with its row of rel_w for a column of queries.
fn fill_key(k: ptr<function, Channels>, replica: u32, key_at: u32, kx: u32, qx: u32, part: u32) {
    for (var i = 0u; i < KEY_PART; i++) {
        let at = part * KEY_PART + i;
        (*k)[i] = x_part(key_at, at, KEY_DEPTH) + w_part(replica, kx + p.width - 1u - qx, at);
    }
}

// dk and dv. A workgroup takes neighbours of one row of keys, so that the row's logit terms are per-query constants.
@compute @workgroup_size(LANES, PARTS)
fn relative_attention_backward_key(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                   @builtin(local_invocation_id) local: vec3<u32>,
                                   @builtin(local_invocation_index) index: u32) {
    let group = group_index(id, count);
    let blocks = (p.width + LANES - 1u) / LANES;
    if group >= p.batch * p.heads * p.height * blocks { return; }
    let lane = local.x;
    let part = local.y;
    let block = (p.width + blocks - 1u) / blocks;
    let x = group % blocks * block;
    let ky = group / blocks % p.height;
    let head = group / blocks / p.height % p.heads;
    let image = id.z * p.batch + group / blocks / p.height / p.heads;
    let kx = min(x + lane, p.width - 1u);
    let key = ky * p.width + kx;
    var k_rel: Channels;
    var v: Channels;
    var dk: Channels;
    var dv: Channels;
    for (var i = 0u; i < KEY_PART; i++) { dk[i] = vec4(0.0); }
    for (var i = 0u; i < VALUE_PART; i++) {
        v[i] = x_part(v_at(image, head, key), part * VALUE_PART + i, VALUE_DEPTH);
        dv[i] = vec4(0.0);
    }
    for (var first = 0u; first < p.width; first += COLUMNS) {
        for (var top = 0u; top < p.height; top += ROWS) {
            let t = tile(top, first);
            workgroupBarrier();
            load_queries(id.z, image, head, ky, t, index);
            workgroupBarrier();
            if PARTS > 1u {
                for (var j = 0u; j < t.rows * t.columns; j++) {
                    if top == 0u && j % t.rows == 0u {
                        fill_key(&k_rel, id.z, k_at(image, head, key), kx, first + j / t.rows, part);
                    }
                    let sums = logit_and_slope(&k_rel, &v, terms[j * PARTS + part], j, part);
                    part_sums[(j * PARTS + part) * LANES + lane] = sums;
                }
                workgroupBarrier();
            }
            for (var j = 0u; j < t.rows * t.columns; j++) {
                var sums = vec2(0.0);
                if PARTS > 1u {
                    sums = total(j, lane);
                } else {
                    if top == 0u && j % t.rows == 0u {
                        fill_key(&k_rel, id.z, k_at(image, head, key), kx, first + j / t.rows, part);
                    }
                    sums = logit_and_slope(&k_rel, &v, terms[j], j, part);
                }
                let weight = exp2(sums.x);
                for (var i = 0u; i < KEY_PART; i++) {
                    dk[i] += (weight * sums.y) * keys[j * KEY_VEC4 + part * KEY_PART + i];
                }
                for (var i = 0u; i < VALUE_PART; i++) {
                    dv[i] += weight * values[j * VALUE_VEC4 + part * VALUE_PART + i];
                }
            }
        }
    }
    if lane >= block || x + lane >= p.width { return; }
    for (var i = 0u; i < KEY_PART; i++) {
        put_grad_x(k_at(image, head, key), part * KEY_PART + i, KEY_DEPTH, dk[i] * LN_2);
    }
    for (var i = 0u; i < VALUE_PART; i++) {
        put_grad_x(v_at(image, head, key), part * VALUE_PART + i, VALUE_DEPTH, dv[i]);
    }
}
