// The time loop of recurrent.wgsl for adapters with subgroups of 8 invocations, such as software Vulkan on AVX2 (see
// linear.wgsl): a subgroup loops over the steps of 32 clips, its products are tiles of 32 clips x 32 columns, and a
// Value is four neighbouring units. An invocation always works on the same columns, so only the products read values of
// other invocations. H is a multiple of 4; offsets are in vec4 here.
enable subgroups;
#import software8/product
alias Value = vec4<f32>;
#import recurrent

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;             // (R, B, T, D G H)
@group(0) @binding(3) var<storage, read> packed_weights: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> mask: array<vec4<f32>>;          // (R, B, D H)
@group(0) @binding(5) var<storage, read_write> activations: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;       // (R, B, T, D H), 0 beyond a clip's length
@group(0) @binding(7) var<storage, read_write> state_h: array<vec4<f32>>; // (R, B, D H)
@group(0) @binding(8) var<storage, read_write> state_c: array<vec4<f32>>;
@group(0) @binding(9) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(10) var<storage, read> saved_activations: array<vec4<f32>>; // the activations, in the backward pass
@group(0) @binding(11) var<storage, read> grad_y: array<vec4<f32>>;       // (R, B, T, D H)
@group(0) @binding(12) var<storage, read> grad_h: array<vec4<f32>>;       // (R, B, D H), of the final h
@group(0) @binding(13) var<storage, read_write> grad_x: array<vec4<f32>>; // (R, B, T, D G H)
@group(0) @binding(14) var<storage, read_write> grad_activations: array<vec4<f32>>;

struct Block {
    direction: u32,
    replica: u32,
    first: u32,
}

fn block(id: vec3<u32>, group: u32) -> Block {
    return Block(id.z % p.directions, id.z / p.directions, group * TILE);
}

fn row_of_x(b: Block, clip: u32, t: u32) -> u32 { return x_at(b.direction, b.replica, clip, t) / 4u; }

fn state_of(b: Block, clip: u32) -> u32 { return state_at(b.direction, b.replica, clip) / 4u; }

fn row_of_section(b: Block, section: u32, slice: u32, width: u32, clip: u32, t: u32) -> u32 {
    return section_at(section, slice, width, b.direction, b.replica, clip, t) / 4u;
}

fn row_of_states(b: Block, section: u32, clip: u32, t: u32) -> u32 {
    return row_of_section(b, section, p.h_slice, p.hidden, clip, t);
}

// Offset of the first saved value; the others follow every B H.
fn gates_row(b: Block, clip: u32, t: u32) -> u32 { return gates_at(b.direction, b.replica, clip, t) / 4u; }

fn masked(b: Block, clip: u32, unit: u32, v: vec4<f32>) -> vec4<f32> {
    if p.has_mask == 0u { return v; }
    return v * mask[state_of(b, clip) + unit];
}

// The clips that an invocation loads for a product. Those past the end repeat the last; their results are not stored.
fn loaded(b: Block, lane: u32) -> vec4<u32> {
    return min(vec4(b.first + lane) + vec4(0u, 8u, 16u, 24u), vec4(p.batch - 1u));
}

fn put_gate(b: Block, row: u32, into: u32, v: vec4<f32>) {
    if b.first + row < p.batch { activations[into + row * (p.hidden / 4u)] = v; }
}

fn put_gates(b: Block, row: u32, into: u32, bias: vec4<f32>, r: Rows) {
    put_gate(b, row, into, r[0] + bias);
    put_gate(b, row + 1u, into, r[1] + bias);
    put_gate(b, row + 2u, into, r[2] + bias);
    put_gate(b, row + 3u, into, r[3] + bias);
    put_gate(b, row + 4u, into, r[4] + bias);
    put_gate(b, row + 5u, into, r[5] + bias);
    put_gate(b, row + 6u, into, r[6] + bias);
    put_gate(b, row + 7u, into, r[7] + bias);
}

// Index of a gate's product among the saved values; GRU's last one is stored in its final position.
fn slot(gate: u32) -> u32 { return select(gate, 3u, CELL == GRU && gate == 2u); }

// W_hh h + b_hh of all gates. `depth`: units in vec4, or 0 where h is known to be 0.
fn multiply_gates(b: Block, lane: u32, t: u32, depth: u32) {
    let units = p.hidden / 4u;
    let weights = packed_at(b.direction, b.replica) / 4u;
    let clips = loaded(b, lane);
    let rows = vec4(row_of_states(b, p.masked_at, 0u, t)) + clips * units;
    for (var gate = 0u; gate < GATES; gate++) {
        for (var first = 0u; first < units; first += 8u) {
            let unit = first + lane;
            let column = gate * units + min(unit, units - 1u);
            let into = gates_row(b, b.first, t) + slot(gate) * p.batch * units + unit;
            var a = rows;
            var step = weights + column;
            var t0: Rows;
            var t1: Rows;
            var t2: Rows;
            var t3: Rows;
            for (var d = 0u; d < depth; d++) {
                let next = GATES * units;
                let four = mat4x4(packed_weights[step], packed_weights[step + next],
                                  packed_weights[step + 2u * next], packed_weights[step + 3u * next]);
                update(&t0, activations[a.x], four);
                update(&t1, activations[a.y], four);
                update(&t2, activations[a.z], four);
                update(&t3, activations[a.w], four);
                a += 1u;
                step += 4u * next;
            }
            if unit < units {
                let bias = packed_weights[weights + GATES * p.hidden * units + column];
                put_gates(b, 0u, into, bias, t0);
                put_gates(b, 8u, into, bias, t1);
                put_gates(b, 16u, into, bias, t2);
                put_gates(b, 24u, into, bias, t3);
            }
        }
    }
}

fn start_from(b: Block, clip: u32, unit: u32, t: u32, h: vec4<f32>, c: vec4<f32>) {
    activations[row_of_states(b, H_AT, clip, t) + unit] = h;
    if p.has_mask == 1u { activations[row_of_states(b, p.masked_at, clip, t) + unit] = masked(b, clip, unit, h); }
    if CELL == LSTM { activations[row_of_states(b, p.c_at, clip, t) + unit] = c; }
}

@compute @workgroup_size(8)
fn recurrent_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                     @builtin(local_invocation_index) lane: u32) {
    let b = block(id, group_index(id, count));
    if b.first >= p.batch { return; } // beyond the end of a folded grid
    let units = p.hidden / 4u;
    let apart = p.batch * units;
    let end = min(b.first + TILE, p.batch);
    for (var clip = b.first; clip < end; clip++) {
        for (var unit = lane; unit < units; unit += 8u) {
            var h = vec4(0.0);
            var c = vec4(0.0);
            let state = state_of(b, clip) + unit;
            if p.has_state != 0u {
                h = state_h[state];
                if CELL == LSTM { c = state_c[state]; }
            }
            start_from(b, clip, unit, step_of(p.first, b.direction), h, c);
        }
    }
    for (var s = p.first; s < p.end; s++) {
        let t = step_of(s, b.direction);
        storageBarrier();
        multiply_gates(b, lane, t, select(units, 0u, s == p.first && p.has_state == 0u));
        for (var clip = b.first; clip < end; clip++) {
            let live = t < lengths[b.replica * p.lengths_stride + clip];
            let from_x = row_of_x(b, clip, t);
            let gates = gates_row(b, clip, t);
            let before = row_of_states(b, H_AT, clip, t);
            let to_y = y_at(b.direction, b.replica, clip, t) / 4u;
            for (var unit = lane; unit < units; unit += 8u) {
                var xs = Gates(x[from_x + unit], vec4(0.0), vec4(0.0), vec4(0.0));
                var gs = Gates(activations[gates + unit], vec4(0.0), vec4(0.0), vec4(0.0));
                if GATES > 1u {
                    xs[1] = x[from_x + units + unit];
                    xs[2] = x[from_x + 2u * units + unit];
                    gs[1] = activations[gates + apart + unit];
                    gs[2] = activations[gates + slot(2u) * apart + unit];
                }
                if GATES > 3u {
                    xs[3] = x[from_x + 3u * units + unit];
                    gs[3] = activations[gates + 3u * apart + unit];
                }
                let h = activations[before + unit];
                var c = vec4(0.0);
                if CELL == LSTM { c = activations[row_of_states(b, p.c_at, clip, t) + unit]; }
                let step = cell_forward(xs, gs, h, c);
                activations[gates + unit] = step.gates[0];
                if SAVED_GATES > 1u {
                    activations[gates + apart + unit] = step.gates[1];
                    activations[gates + 2u * apart + unit] = step.gates[2];
                    if CELL != GRU { activations[gates + 3u * apart + unit] = step.gates[3]; }
                }
                let next_h = select(h, step.h, live);
                let next_c = select(c, step.c, live);
                y[to_y + unit] = select(vec4(0.0), step.h, live);
                if s + 1u < p.end {
                    start_from(b, clip, unit, step_of(s + 1u, b.direction), next_h, next_c);
                } else {
                    state_h[state_of(b, clip) + unit] = next_h;
                    if CELL == LSTM { state_c[state_of(b, clip) + unit] = next_c; }
                }
            }
        }
    }
}

fn add_state(b: Block, row: u32, unit: u32, v: vec4<f32>) {
    let clip = b.first + row;
    if clip < p.batch { grad_activations[state_of(b, clip) + unit] += masked(b, clip, unit, v); }
}

fn add_states(b: Block, row: u32, unit: u32, r: Rows) {
    add_state(b, row, unit, r[0]);
    add_state(b, row + 1u, unit, r[1]);
    add_state(b, row + 2u, unit, r[2]);
    add_state(b, row + 3u, unit, r[3]);
    add_state(b, row + 4u, unit, r[4]);
    add_state(b, row + 5u, unit, r[5]);
    add_state(b, row + 6u, unit, r[6]);
    add_state(b, row + 7u, unit, r[7]);
}

// The gradient of the state through W_hh.
fn multiply_state(b: Block, lane: u32, t: u32) {
    let units = p.hidden / 4u;
    let width = GATES * units;
    let weights = weights_at(b.direction, b.replica) / 4u;
    let rows = vec4(row_of_section(b, p.g_at, p.g_slice, GATES * p.hidden, 0u, t)) + loaded(b, lane) * width;
    for (var first = 0u; first < units; first += 8u) {
        let unit = first + lane;
        var a = rows;
        var step = weights + min(unit, units - 1u);
        var t0: Rows;
        var t1: Rows;
        var t2: Rows;
        var t3: Rows;
        for (var d = 0u; d < width; d++) {
            let four = mat4x4(w[step], w[step + units], w[step + 2u * units], w[step + 3u * units]);
            update(&t0, grad_activations[a.x], four);
            update(&t1, grad_activations[a.y], four);
            update(&t2, grad_activations[a.z], four);
            update(&t3, grad_activations[a.w], four);
            a += 1u;
            step += 4u * units;
        }
        if unit < units {
            add_states(b, 0u, unit, t0);
            add_states(b, 8u, unit, t1);
            add_states(b, 16u, unit, t2);
            add_states(b, 24u, unit, t3);
        }
    }
}

fn put_grad_x(at: u32, v: vec4<f32>) {
    if p.accumulate == 1u { grad_x[at] += v; } else { grad_x[at] = v; }
}

@compute @workgroup_size(8)
fn recurrent_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) lane: u32) {
    let b = block(id, group_index(id, count));
    if b.first >= p.batch { return; } // beyond the end of a folded grid
    let units = p.hidden / 4u;
    let apart = p.batch * units;
    let end = min(b.first + TILE, p.batch);
    for (var clip = b.first; clip < end; clip++) {
        for (var unit = lane; unit < units; unit += 8u) {
            let state = state_of(b, clip) + unit;
            if p.first == 0u {
                var dh = vec4(0.0);
                if (p.has_state & 1u) != 0u { dh = grad_h[state]; }
                grad_activations[state] = dh;
            }
            if CELL == LSTM && (p.has_state & 2u) == 0u { grad_activations[p.state_slice / 4u + state] = vec4(0.0); }
        }
    }
    for (var s = p.first; s < p.end; s++) {
        let t = step_of(p.steps - 1u - s, b.direction);
        for (var clip = b.first; clip < end; clip++) {
            let live = t < lengths[b.replica * p.lengths_stride + clip];
            let gates = gates_row(b, clip, t);
            let before = row_of_states(b, H_AT, clip, t);
            let from_y = y_at(b.direction, b.replica, clip, t) / 4u;
            let own = row_of_section(b, p.g_at, p.g_slice, GATES * p.hidden, clip, t);
            let from_x = row_of_x(b, clip, t);
            for (var unit = lane; unit < units; unit += 8u) {
                var values = Gates(saved_activations[gates + unit], vec4(0.0), vec4(0.0), vec4(0.0));
                if SAVED_GATES > 1u {
                    values[1] = saved_activations[gates + apart + unit];
                    values[2] = saved_activations[gates + 2u * apart + unit];
                    values[3] = saved_activations[gates + 3u * apart + unit];
                }
                let state = state_of(b, clip) + unit;
                var dh = grad_activations[state];
                if p.has_dy == 1u && live { dh += grad_y[from_y + unit]; }
                var c = vec4(0.0);
                var dc = vec4(0.0);
                if CELL == LSTM {
                    c = saved_activations[row_of_states(b, p.c_at, clip, t) + unit];
                    dc = grad_activations[p.state_slice / 4u + state];
                }
                let d = cell_backward(values, saved_activations[before + unit], c, dh, dc);
                grad_activations[own + unit] = select(vec4(0.0), d.g[0], live);
                put_grad_x(from_x + unit, select(vec4(0.0), d.x[0], live));
                if GATES > 1u {
                    grad_activations[own + units + unit] = select(vec4(0.0), d.g[1], live);
                    grad_activations[own + 2u * units + unit] = select(vec4(0.0), d.g[2], live);
                    put_grad_x(from_x + units + unit, select(vec4(0.0), d.x[1], live));
                    put_grad_x(from_x + 2u * units + unit, select(vec4(0.0), d.x[2], live));
                }
                if GATES > 3u {
                    grad_activations[own + 3u * units + unit] = select(vec4(0.0), d.g[3], live);
                    put_grad_x(from_x + 3u * units + unit, select(vec4(0.0), d.x[3], live));
                }
                grad_activations[state] = select(dh, d.h, live);
                if CELL == LSTM { grad_activations[p.state_slice / 4u + state] = select(dc, d.c, live); }
            }
        }
        if s + 1u == p.steps && p.wants_start == 0u { break; }
        storageBarrier();
        multiply_state(b, lane, t);
        storageBarrier();
    }
}
