// Shared by the kernels of a recurrent layer: the loop over time, the parameters, states in and out.
//
// The state is (R, B, D H): before the first step the initial one, later that after the last step so far. Forward it is
// in the outputs, state_h and state_c; backward, as a gradient, in the activations.
//
// The activations are the values saved for the backward pass, in sections that begin at H_AT and p.*_at (all offsets in
// f32):
//   h       (D, R, T, B, H)  the state before each step; a direction every h_slice
//   masked  (D, R, T, B, H)  the same times the recurrent mask, where there is one
//   gates   (D, R, T, SAVED_GATES, B, H)
//   c       (D, R, T, B, H)  LSTM only
// and of the backward pass:
//   state   (S, R, B, D H)   gradients of h and, S = 2, c: of the final state, then of the initial one; a section
//                            every state_slice
//   dg      (D, R, T, B, G, H), of W_hh h + b_hh; a direction every g_slice
// packed_weights (R, D, (H + 1) G H): for the forward pass, W_hh transposed and then b_hh. w (G H, H): W_hh of the
// first direction every w_stride, of the other w_direction further.
#import grid
#import cell

struct Params {
    replicas: u32,      // R
    batch: u32,         // B
    steps: u32,         // T
    hidden: u32,        // H
    directions: u32,    // D
    lengths_stride: u32,
    has_mask: u32,
    has_state: u32,     // forward: the state is not 0 at first; backward, bits: which gradients are there
    has_dy: u32,
    wants_start: u32,   // the gradient of the initial state is needed
    state_slice: u32,
    h_slice: u32,
    masked_at: u32,     // that of h where there is no mask
    gates_at: u32,
    c_at: u32,
    w_stride: u32,
    w_direction: u32,
    g_at: u32,
    g_slice: u32,
    accumulate: u32,    // add to the gradient of x
    // the steps of this dispatch, in order of time; a later one goes on with the state that the one before has left
    first: u32,
    end: u32,
    // of the activations: T, or fewer without a backward pass, where later steps overwrite earlier ones
    saved_steps: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> lengths: array<u32>; // (R, B) or (B): valid steps

const H_AT = 0u;

fn step_of(s: u32, direction: u32) -> u32 {
    return select(s, p.steps - 1u - s, direction == 1u);
}

// Offset of a clip's step in a section with rows of `width`. The clips of a step are adjacent: the time loop processes
// them together, and at large strides they would compete for the same cache lines.
fn section_at(section: u32, slice: u32, width: u32, direction: u32, replica: u32, clip: u32, t: u32) -> u32 {
    return section + direction * slice + ((replica * p.saved_steps + t % p.saved_steps) * p.batch + clip) * width;
}

fn gates_at(direction: u32, replica: u32, clip: u32, t: u32) -> u32 {
    let step = (direction * p.replicas + replica) * p.saved_steps + t % p.saved_steps;
    return p.gates_at + (step * SAVED_GATES * p.batch + clip) * p.hidden;
}

// Also the offset of a clip's first unit in the mask.
fn state_at(direction: u32, replica: u32, clip: u32) -> u32 {
    return ((replica * p.batch + clip) * p.directions + direction) * p.hidden;
}

fn y_at(direction: u32, replica: u32, clip: u32, t: u32) -> u32 {
    return (((replica * p.batch + clip) * p.steps + t) * p.directions + direction) * p.hidden;
}

fn x_at(direction: u32, replica: u32, clip: u32, t: u32) -> u32 {
    return (((replica * p.batch + clip) * p.steps + t) * p.directions + direction) * GATES * p.hidden;
}

fn packed_at(direction: u32, replica: u32) -> u32 {
    return (replica * p.directions + direction) * GATES * p.hidden * (p.hidden + 1u);
}

fn weights_at(direction: u32, replica: u32) -> u32 { return replica * p.w_stride + direction * p.w_direction; }
