// A recurrent layer walked through time, and what lies around the walk: the parameters side by side, states in and out.
//
// The tape is what a walk leaves behind for the way back, in sections that begin at p.*_at (all offsets in f32):
//   state   (S, R, B, D H)   the state before the walk, then the one after it; S = 1, with c 2; a section every state_slice
//   h       (D, R, T, B, H)  the state that each step starts from; a direction every h_slice
//   masked  (D, R, T, B, H)  the same times the recurrent mask, where there is one
//   kept    (D, R, T, KEPT, B, H)
//   c       (D, R, T, B, H)  LSTM only
// and of the way back:
//   state   as above, gradients: of the state after the walk, then of the one before it
//   dg      (D, R, T, B, G, H), of W_hh h + b_hh; a direction every g_slice
// packed_weights (R, D, G H (H + 1)): W_hh and then b_hh, W_hh transposed for the way forward.
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
    has_state: u32,     // which of h and c (bits) the tape holds to begin with; the others begin with 0
    has_dy: u32,
    wants_start: u32,   // the gradient of the state before the walk is wanted
    state_slice: u32,
    h_at: u32,
    h_slice: u32,
    masked_at: u32,     // h_at where there is no mask
    kept_at: u32,
    c_at: u32,
    g_at: u32,
    g_slice: u32,
    accumulate: u32,    // bit d: into the gradient of direction d
    first: u32,         // the steps of this dispatch, counted as the walk goes; it takes the state up from the tape and leaves it there
    end: u32,
    tape_steps: u32,    // of the tape: T, or fewer where nothing goes back and later steps may take the place of earlier ones
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> lengths: array<u32>; // (R, B) or (B): valid steps

fn step_of(s: u32, direction: u32) -> u32 {
    return select(s, p.steps - 1u - s, direction == 1u);
}

// Where a section with rows of `width` holds a clip's step. The clips of a step lie side by side: a walk goes through all of them
// at a time, and far apart they would compete for the same lines of a cache.
fn tape_at(section: u32, slice: u32, width: u32, direction: u32, replica: u32, clip: u32, t: u32) -> u32 {
    return section + direction * slice + ((replica * p.tape_steps + t % p.tape_steps) * p.batch + clip) * width;
}

fn kept_at(direction: u32, replica: u32, clip: u32, t: u32) -> u32 {
    let step = (direction * p.replicas + replica) * p.tape_steps + t % p.tape_steps;
    return p.kept_at + (step * KEPT * p.batch + clip) * p.hidden;
}

// Also of a clip's first unit in the mask.
fn state_at(direction: u32, replica: u32, clip: u32) -> u32 {
    return ((replica * p.batch + clip) * p.directions + direction) * p.hidden;
}

fn y_at(direction: u32, replica: u32, clip: u32, t: u32) -> u32 {
    return (((replica * p.batch + clip) * p.steps + t) * p.directions + direction) * p.hidden;
}

fn packed_at(direction: u32, replica: u32) -> u32 {
    return (replica * p.directions + direction) * GATES * p.hidden * (p.hidden + 1u);
}
