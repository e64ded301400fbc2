// A recurrent layer: a workgroup loops over the steps of four clips of a replica and direction. An invocation computes
// units `lane`, `lane` + 64 and so on, with the four clips of a unit in a vec4; the state stays in workgroup memory.
alias Value = vec4<f32>;
#import recurrent

@group(0) @binding(2) var<storage, read> x: array<f32>;             // (R, B, T, D G H)
@group(0) @binding(3) var<storage, read> packed_weights: array<f32>;
@group(0) @binding(4) var<storage, read> mask: array<f32>;          // (R, B, D H)
@group(0) @binding(5) var<storage, read_write> activations: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;       // (R, B, T, D H), 0 beyond a clip's length
@group(0) @binding(7) var<storage, read_write> state_h: array<f32>; // (R, B, D H)
@group(0) @binding(8) var<storage, read_write> state_c: array<f32>;
@group(0) @binding(9) var<storage, read> w: array<f32>;
@group(0) @binding(10) var<storage, read> saved_activations: array<f32>; // the activations, in the backward pass
@group(0) @binding(11) var<storage, read> grad_y: array<f32>;       // (R, B, T, D H)
@group(0) @binding(12) var<storage, read> grad_h: array<f32>;       // (R, B, D H), of the final h
@group(0) @binding(13) var<storage, read_write> grad_x: array<f32>; // (R, B, T, D G H)
@group(0) @binding(14) var<storage, read_write> grad_activations: array<f32>;

const LANES = 64u;
const CLIPS = 4u;
override HIDDEN: u32 = 256u; // H
override STATES: u32 = 2u * HIDDEN;
override GATE_UNITS: u32 = GATES * HIDDEN;

var<workgroup> masked_h: array<vec4<f32>, STATES>; // the masked state before a step and after it
var<workgroup> h: array<vec4<f32>, HIDDEN>;
var<workgroup> c: array<vec4<f32>, HIDDEN>;
var<workgroup> dg: array<vec4<f32>, GATE_UNITS>;   // (G, H)

// Four clips of the batch. Those past its end repeat the last one, and are not stored.
struct Block {
    direction: u32,
    replica: u32,
    clips: vec4<u32>,
    count: u32,
    lengths: vec4<u32>,
}

fn block(id: vec3<u32>, group: u32) -> Block {
    let replica = id.z / p.directions;
    let first = group * CLIPS;
    let clips = min(vec4(first) + vec4(0u, 1u, 2u, 3u), vec4(p.batch - 1u));
    let at = replica * p.lengths_stride;
    let valid = vec4(lengths[at + clips.x], lengths[at + clips.y], lengths[at + clips.z], lengths[at + clips.w]);
    return Block(id.z % p.directions, replica, clips, min(CLIPS, p.batch - first), valid);
}

fn from_saved(at: vec4<u32>) -> vec4<f32> {
    return vec4(saved_activations[at.x], saved_activations[at.y], saved_activations[at.z], saved_activations[at.w]);
}
fn from_gradients(at: vec4<u32>) -> vec4<f32> {
    return vec4(grad_activations[at.x], grad_activations[at.y], grad_activations[at.z], grad_activations[at.w]);
}
fn from_grad_y(at: vec4<u32>) -> vec4<f32> { return vec4(grad_y[at.x], grad_y[at.y], grad_y[at.z], grad_y[at.w]); }

fn from_x(at: vec4<u32>) -> vec4<f32> { return vec4(x[at.x], x[at.y], x[at.z], x[at.w]); }

fn masks(at: vec4<u32>) -> vec4<f32> {
    if p.has_mask == 0u { return vec4(1.0); }
    return vec4(mask[at.x], mask[at.y], mask[at.z], mask[at.w]);
}

fn to_activations(b: Block, at: vec4<u32>, v: vec4<f32>) {
    for (var i = 0u; i < b.count; i++) { activations[at[i]] = v[i]; }
}

fn to_gradients(b: Block, at: vec4<u32>, v: vec4<f32>) {
    for (var i = 0u; i < b.count; i++) { grad_activations[at[i]] = v[i]; }
}

fn to_grad_x(b: Block, at: vec4<u32>, v: vec4<f32>) {
    for (var i = 0u; i < b.count; i++) {
        if p.accumulate == 1u { grad_x[at[i]] += v[i]; } else { grad_x[at[i]] = v[i]; }
    }
}

// Offsets of the four clips' rows, all for unit 0.
fn rows_of_section(b: Block, section: u32, slice: u32, width: u32, t: u32) -> vec4<u32> {
    return vec4(section_at(section, slice, width, b.direction, b.replica, 0u, t)) + b.clips * width;
}

fn rows_of_states(b: Block, section: u32, t: u32) -> vec4<u32> {
    return rows_of_section(b, section, p.h_slice, p.hidden, t);
}

fn rows_of_gates(b: Block, k: u32, t: u32) -> vec4<u32> {
    return vec4(gates_at(b.direction, b.replica, 0u, t) + k * p.batch * p.hidden) + b.clips * p.hidden;
}

fn rows_of_y(b: Block, t: u32) -> vec4<u32> {
    return vec4(y_at(b.direction, b.replica, 0u, t)) + b.clips * (p.steps * p.directions * p.hidden);
}

fn rows_of_state(b: Block) -> vec4<u32> {
    return vec4(state_at(b.direction, b.replica, 0u)) + b.clips * (p.directions * p.hidden);
}

fn rows_of_x(b: Block, t: u32) -> vec4<u32> {
    return vec4(x_at(b.direction, b.replica, 0u, t)) + b.clips * (p.steps * p.directions * GATES * p.hidden);
}

@compute @workgroup_size(64)
fn recurrent_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                     @builtin(local_invocation_index) lane: u32) {
    let group = group_index(id, count);
    if group * CLIPS >= p.batch { return; } // of a folded grid
    let b = block(id, group);
    let states = rows_of_state(b);
    for (var u = lane; u < p.hidden; u += LANES) {
        h[u] = vec4(0.0);
        c[u] = vec4(0.0);
        if p.has_state != 0u {
            let at = states + u;
            h[u] = vec4(state_h[at.x], state_h[at.y], state_h[at.z], state_h[at.w]);
            if CELL == LSTM { c[u] = vec4(state_c[at.x], state_c[at.y], state_c[at.z], state_c[at.w]); }
        }
        masked_h[p.first % 2u * HIDDEN + u] = h[u] * masks(states + u);
    }
    workgroupBarrier();
    let weights = packed_at(b.direction, b.replica);
    let rows = GATES * p.hidden;
    for (var s = p.first; s < p.end; s++) {
        let t = step_of(s, b.direction);
        let live = vec4(t) < b.lengths;
        let now = s % 2u * HIDDEN;
        for (var u = lane; u < p.hidden; u += LANES) {
            var g: Gates;
            var inputs: Gates;
            for (var gate = 0u; gate < GATES; gate++) {
                g[gate] = vec4(packed_weights[weights + rows * p.hidden + gate * p.hidden + u]);
                inputs[gate] = from_x(rows_of_x(b, t) + gate * p.hidden + u);
            }
            var at = weights + u;
            for (var k = 0u; k < p.hidden; k++) {
                let seen = masked_h[now + k];
                for (var gate = 0u; gate < GATES; gate++) {
                    g[gate] += packed_weights[at] * seen;
                    at += p.hidden;
                }
            }
            let step = cell_forward(inputs, g, h[u], c[u]);
            to_activations(b, rows_of_states(b, H_AT, t) + u, h[u]);
            if p.has_mask == 1u {
                to_activations(b, rows_of_states(b, p.masked_at, t) + u, masked_h[now + u]);
            }
            for (var k = 0u; k < SAVED_GATES; k++) {
                to_activations(b, rows_of_gates(b, k, t) + u, step.gates[k]);
            }
            if CELL == LSTM { to_activations(b, rows_of_states(b, p.c_at, t) + u, c[u]); }
            let new_h = select(vec4(0.0), step.h, live);
            let at_y = rows_of_y(b, t) + u;
            for (var i = 0u; i < b.count; i++) { y[at_y[i]] = new_h[i]; }
            h[u] = select(h[u], step.h, live);
            c[u] = select(c[u], step.c, live);
            masked_h[HIDDEN - now + u] = h[u] * masks(states + u);
        }
        workgroupBarrier();
    }
    for (var u = lane; u < p.hidden; u += LANES) {
        let at = states + u;
        for (var i = 0u; i < b.count; i++) {
            state_h[at[i]] = h[u][i];
            if CELL == LSTM { state_c[at[i]] = c[u][i]; }
        }
    }
}

@compute @workgroup_size(64)
fn recurrent_backward_input(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                            @builtin(local_invocation_index) lane: u32) {
    let group = group_index(id, count);
    if group * CLIPS >= p.batch { return; } // of a folded grid
    let b = block(id, group);
    let states = rows_of_state(b);
    for (var u = lane; u < p.hidden; u += LANES) {
        if p.first == 0u {
            let at = states + u;
            var dh = vec4(0.0);
            if (p.has_state & 1u) != 0u { dh = vec4(grad_h[at.x], grad_h[at.y], grad_h[at.z], grad_h[at.w]); }
            to_gradients(b, at, dh);
        }
        if CELL == LSTM && (p.has_state & 2u) == 0u { to_gradients(b, states + p.state_slice + u, vec4(0.0)); }
    }
    let weights = weights_at(b.direction, b.replica);
    let rows = GATES * p.hidden;
    for (var s = p.first; s < p.end; s++) {
        let t = step_of(p.steps - 1u - s, b.direction);
        let live = vec4(t) < b.lengths;
        for (var u = lane; u < p.hidden; u += LANES) {
            var gates: Gates;
            for (var k = 0u; k < SAVED_GATES; k++) {
                gates[k] = from_saved(rows_of_gates(b, k, t) + u);
            }
            let before = from_saved(rows_of_states(b, H_AT, t) + u);
            var dh = from_gradients(states + u);
            if p.has_dy == 1u { dh += select(vec4(0.0), from_grad_y(rows_of_y(b, t) + u), live); }
            var cell = vec4(0.0);
            var dc = vec4(0.0);
            if CELL == LSTM {
                cell = from_saved(rows_of_states(b, p.c_at, t) + u);
                dc = from_gradients(states + p.state_slice + u);
            }
            let d = cell_backward(gates, before, cell, dh, dc);
            for (var gate = 0u; gate < GATES; gate++) {
                let own = select(vec4(0.0), d.g[gate], live);
                dg[gate * p.hidden + u] = own;
                to_gradients(b, rows_of_section(b, p.g_at, p.g_slice, rows, t) + gate * p.hidden + u, own);
                to_grad_x(b, rows_of_x(b, t) + gate * p.hidden + u, select(vec4(0.0), d.x[gate], live));
            }
            to_gradients(b, states + u, select(dh, d.h, live));
            if CELL == LSTM { to_gradients(b, states + p.state_slice + u, select(dc, d.c, live)); }
        }
        workgroupBarrier();
        for (var u = lane; u < p.hidden; u += LANES) {
            var sum = vec4(0.0);
            for (var row = 0u; row < rows; row++) { sum += w[weights + row * p.hidden + u] * dg[row]; }
            to_gradients(b, states + u, from_gradients(states + u) + sum * masks(states + u));
        }
        workgroupBarrier();
    }
}
