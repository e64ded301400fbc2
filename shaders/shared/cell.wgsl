// One step of a recurrent cell, forward and backward. `Value` is f32 or a vector of them: several units, or several
// clips.
//
// x and g are the contributions to the gates of the input (W_ih x + b_ih) and of the previous state (W_hh h + b_hh), in
// PyTorch's order.
//   tanh   h' = tanh(x + g)
//   GRU    r, z = sigmoid(x + g); n = tanh(x + r g); h' = (1 - z) n + z h
//   LSTM   i, f, o = sigmoid(x + g); n = tanh(x + g) (the third gate); c' = f c + i n; h' = o tanh(c')
#import tanh
override CELL: u32 = 1u;  // TANH, GRU or LSTM
override GATES: u32 = 3u; // 1, 3 or 4
override SAVED_GATES: u32 = 4u;  // values saved for backward: tanh h'; GRU r z n g; LSTM i f n o

const TANH = 0u;
const GRU = 1u;
const LSTM = 2u;

alias Gates = array<Value, 4>;

struct Step {
    h: Value,
    c: Value,
    gates: Gates,
}

// Gradients of a step for each of the cell's inputs.
struct Slopes {
    x: Gates,
    g: Gates,
    h: Value, // without the path through g
    c: Value,
}

fn sigmoid(v: Value) -> Value { return 1.0 / (1.0 + exp(-v)); }

fn cell_forward(x: Gates, g: Gates, h: Value, c: Value) -> Step {
    if CELL == TANH {
        let y = safe_tanh(x[0] + g[0]);
        return Step(y, Value(0.0), Gates(y, Value(0.0), Value(0.0), Value(0.0)));
    }
    if CELL == GRU {
        let r = sigmoid(x[0] + g[0]);
        let z = sigmoid(x[1] + g[1]);
        let n = safe_tanh(x[2] + r * g[2]);
        return Step((1.0 - z) * n + z * h, Value(0.0), Gates(r, z, n, g[2]));
    }
    let i = sigmoid(x[0] + g[0]);
    let f = sigmoid(x[1] + g[1]);
    let n = safe_tanh(x[2] + g[2]);
    let o = sigmoid(x[3] + g[3]);
    let next = f * c + i * n;
    return Step(o * safe_tanh(next), next, Gates(i, f, n, o));
}

// dh and dc: gradients of h' and c'. h and c: the state before the step.
fn cell_backward(gates: Gates, h: Value, c: Value, dh: Value, dc: Value) -> Slopes {
    if CELL == TANH {
        let d = dh * (1.0 - gates[0] * gates[0]);
        let all = Gates(d, Value(0.0), Value(0.0), Value(0.0));
        return Slopes(all, all, Value(0.0), Value(0.0));
    }
    if CELL == GRU {
        let r = gates[0];
        let z = gates[1];
        let n = gates[2];
        let dn = dh * (1.0 - z) * (1.0 - n * n);
        let dr = dn * gates[3] * r * (1.0 - r);
        let dz = dh * (h - n) * z * (1.0 - z);
        return Slopes(Gates(dr, dz, dn, Value(0.0)), Gates(dr, dz, dn * r, Value(0.0)), dh * z, Value(0.0));
    }
    let i = gates[0];
    let f = gates[1];
    let n = gates[2];
    let o = gates[3];
    let squashed = safe_tanh(f * c + i * n);
    let inner = dc + dh * o * (1.0 - squashed * squashed);
    let all = Gates(inner * n * i * (1.0 - i), inner * c * f * (1.0 - f), inner * i * (1.0 - n * n),
                    dh * squashed * o * (1.0 - o));
    return Slopes(all, all, Value(0.0), inner * f);
}
