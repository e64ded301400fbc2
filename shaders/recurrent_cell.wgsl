// A single step of a recurrent cell, given the input's and the state's contributions to the gates.
#import value
#import grid
#import cell

struct Params {
    items: u32,      // R B H, in Values
    hidden: u32,     // H, in Values
    has_dh: u32,     // which gradients reach the step
    has_dc: u32,
    second: u32,     // of a pair of gradients, which one: of hidden rather than input, of c rather than h
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Value>;                 // (R, B, G, H), from the input
@group(0) @binding(2) var<storage, read> g: array<Value>;                 // (R, B, G, H), from the state
@group(0) @binding(3) var<storage, read> h: array<Value>;                 // (R, B, H)
@group(0) @binding(4) var<storage, read> c: array<Value>;                 // (R, B, H), LSTM only
@group(0) @binding(5) var<storage, read_write> y: array<Value>;           // (R, B, H)
@group(0) @binding(6) var<storage, read_write> y_c: array<Value>;         // (R, B, H), LSTM only
@group(0) @binding(7) var<storage, read_write> gates: array<Value>;        // (R, B, SAVED_GATES, H)
@group(0) @binding(8) var<storage, read> saved_gates: array<Value>;        // the same
@group(0) @binding(9) var<storage, read> grad_y: array<Value>;            // (R, B, H)
@group(0) @binding(10) var<storage, read> grad_y_c: array<Value>;         // (R, B, H), LSTM only
@group(0) @binding(11) var<storage, read_write> grad_gates: array<Value>; // (R, B, G, H), of x or g
@group(0) @binding(12) var<storage, read_write> grad_state: array<Value>; // (R, B, H), of h or c

fn item(id: vec3<u32>, count: vec3<u32>, local_index: u32) -> u32 {
    return group_index(id, count) * 64u + local_index;
}

@compute @workgroup_size(64)
fn recurrent_cell_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                          @builtin(local_invocation_index) local_index: u32) {
    let i = item(id, count, local_index);
    if i >= p.items { return; }
    let row = i / p.hidden;
    let unit = i % p.hidden;
    var from_x: Gates;
    var from_h: Gates;
    for (var gate = 0u; gate < GATES; gate++) {
        let at = (row * GATES + gate) * p.hidden + unit;
        from_x[gate] = x[at];
        from_h[gate] = g[at];
    }
    var before = Value(0.0);
    if CELL == LSTM { before = c[i]; }
    let step = cell_forward(from_x, from_h, h[i], before);
    y[i] = step.h;
    if CELL == LSTM { y_c[i] = step.c; }
    for (var k = 0u; k < SAVED_GATES; k++) { gates[(row * SAVED_GATES + k) * p.hidden + unit] = step.gates[k]; }
}

fn slopes(i: u32) -> Slopes {
    let row = i / p.hidden;
    let unit = i % p.hidden;
    var values: Gates;
    for (var k = 0u; k < SAVED_GATES; k++) { values[k] = saved_gates[(row * SAVED_GATES + k) * p.hidden + unit]; }
    var before = Value(0.0);
    var dh = Value(0.0);
    var dc = Value(0.0);
    if CELL == LSTM { before = c[i]; }
    if p.has_dh == 1u { dh = grad_y[i]; }
    if p.has_dc == 1u { dc = grad_y_c[i]; }
    return cell_backward(values, h[i], before, dh, dc);
}

@compute @workgroup_size(64)
fn recurrent_cell_backward_gates(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                 @builtin(local_invocation_index) local_index: u32) {
    let i = item(id, count, local_index);
    if i >= p.items { return; }
    var d = slopes(i);
    if p.second == 1u { d.x = d.g; }
    for (var gate = 0u; gate < GATES; gate++) {
        let at = ((i / p.hidden) * GATES + gate) * p.hidden + i % p.hidden;
        if p.accumulate == 1u { grad_gates[at] += d.x[gate]; } else { grad_gates[at] = d.x[gate]; }
    }
}

@compute @workgroup_size(64)
fn recurrent_cell_backward_state(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                 @builtin(local_invocation_index) local_index: u32) {
    let i = item(id, count, local_index);
    if i >= p.items { return; }
    let d = slopes(i);
    var v = d.h;
    if p.second == 1u { v = d.c; }
    if p.accumulate == 1u { v += grad_state[i]; }
    grad_state[i] = v;
}
