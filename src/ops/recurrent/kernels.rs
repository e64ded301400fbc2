//! The kernels of a recurrent layer, their parameters and the layout of the activations saved for the backward pass.

use crate::gpu::{Grid, Recorder, Shader, View, params, shader};
use crate::graph::Io;
use crate::ops::recurrent_cell::Cell;
use crate::ops::variants::{self, Variant};

pub(super) static SHADER: Shader = shader!("recurrent.wgsl", "shared/recurrent.wgsl", "shared/cell.wgsl");
pub(super) static SUBGROUP8: Shader =
    shader!("software8/recurrent.wgsl", "shared/recurrent.wgsl", "shared/cell.wgsl", "software8/product.wgsl");
pub(super) static STATES: Shader = shader!("recurrent_states.wgsl");

/// Most units of a direction: their state is in workgroup memory.
pub(crate) const MAX_HIDDEN: usize = 256;

params! {
    pub(super) struct Params {
        replicas: u32, batch: u32, steps: u32, hidden: u32, directions: u32, lengths_stride: u32,
        has_mask: u32, has_state: u32, has_dy: u32, wants_start: u32,
        state_slice: u32, h_at: u32, h_slice: u32, masked_at: u32, gates_at: u32, c_at: u32, g_at: u32, g_slice: u32,
        accumulate: u32, first: u32, end: u32, saved_steps: u32,
    }
}

params! {
    struct StatesParams {
        len: u32, hidden: u32, directions: u32,
        w_stride: u32, b_stride: u32, w_reverse_stride: u32, b_reverse_stride: u32, plain_at: u32, accumulate: u32,
    }
}

impl Params {
    /// The same for the backward pass. `accumulate`: a bit per direction; `has_state`: a bit for each gradient of the
    /// final state.
    pub(crate) fn of_backward(self, accumulate: u32, has_state: u32, has_dy: bool) -> Params {
        Params { accumulate, has_state, has_dy: has_dy.into(), ..self }
    }
}

/// Clips of a workgroup.
const CLIPS: usize = 4;
const CLIPS_SUBGROUP8: usize = 32;
/// Columns of the weights that a workgroup packs, as in the shader.
const COLUMNS: usize = 16;
/// Most steps of a dispatch.
const MAX_STEPS: usize = 1024;
/// Alignment of the sections of the saved activations, as of bindings.
const ALIGN: usize = 64;

pub(super) struct Dims {
    pub b: usize,
    pub t: usize,
    pub h: usize,
    /// G H
    pub gates: usize,
}

/// Offsets of the sections of the saved activations, over all replicas (see `shaders/shared/recurrent.wgsl`).
pub(super) struct SavedLayout {
    state_slice: usize,
    pub h_at: usize,
    pub h_slice: usize,
    pub masked_at: usize,
    gates_at: usize,
    c_at: usize,
    pub len: usize,
    pub g_slice: usize,
    pub back_len: usize,
}

/// Inputs: per direction input; per direction weight; per direction bias; lengths; the mask; h and c.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recurrent {
    pub cell: Cell,
    pub directions: usize,
    pub masked: bool,
    /// Starts from a given state instead of zeros.
    pub started: bool,
    /// Most loop iterations of a dispatch; a longer time loop is split into several.
    pub rounds: usize,
    /// There is no backward pass: the activations hold the steps of one dispatch only.
    pub forward_only: bool,
}

impl Recurrent {
    pub fn dims(&self, input: &[usize]) -> Dims {
        let gates = input[2];
        Dims { b: input[0], t: input[1], h: gates / self.cell.gates(), gates }
    }

    /// Indices of the inputs after the parameters.
    pub(crate) fn lengths_at(&self) -> usize {
        3 * self.directions
    }

    pub(crate) fn state_at(&self) -> usize {
        self.lengths_at() + 1 + usize::from(self.masked)
    }

    fn saved_steps(&self, d: &Dims) -> usize {
        if self.forward_only { d.t.min(MAX_STEPS) } else { d.t }
    }

    pub(crate) fn saved_layout(&self, d: &Dims, replicas: usize) -> SavedLayout {
        let aligned = |len: usize| len.next_multiple_of(ALIGN);
        let rows = replicas * d.b * self.saved_steps(d);
        let state_slice = aligned(replicas * d.b * self.directions * d.h);
        let h_slice = aligned(rows * d.h);
        let g_slice = aligned(rows * d.gates);
        let h_at = self.cell.states() * state_slice;
        let masked_at = if self.masked { h_at + self.directions * h_slice } else { h_at };
        let gates_at = masked_at + self.directions * h_slice;
        let c_at = gates_at + aligned(self.directions * rows * self.cell.saved_gates() * d.h);
        let len = c_at + (self.cell.states() - 1) * self.directions * h_slice;
        SavedLayout {
            state_slice,
            h_at,
            h_slice,
            masked_at,
            gates_at,
            c_at,
            len,
            g_slice,
            back_len: h_at + self.directions * g_slice,
        }
    }

    pub fn params(&self, io: &Io, d: &Dims) -> Params {
        let saved = self.saved_layout(d, io.replicas);
        Params {
            replicas: io.replicas as u32,
            batch: d.b as u32,
            steps: d.t as u32,
            hidden: d.h as u32,
            directions: self.directions as u32,
            lengths_stride: io.x(self.lengths_at()).stride as u32,
            has_mask: self.masked.into(),
            has_state: if self.started { u32::MAX } else { 0 },
            has_dy: 0,
            wants_start: self.started.into(),
            state_slice: saved.state_slice as u32,
            h_at: saved.h_at as u32,
            h_slice: saved.h_slice as u32,
            masked_at: saved.masked_at as u32,
            gates_at: saved.gates_at as u32,
            c_at: saved.c_at as u32,
            g_at: saved.h_at as u32,
            g_slice: saved.g_slice as u32,
            accumulate: 0,
            first: 0,
            end: d.t as u32,
            saved_steps: self.saved_steps(d) as u32,
        }
    }

    /// Records the time loop, forward or backward: as many dispatches as keep each invocation's loops short enough, one
    /// for all ordinary lengths. Each but the first resumes from the state that the one before has saved.
    pub(crate) fn time_loop(
        &self,
        r: &mut Recorder,
        io: &Io,
        d: &Dims,
        p: Params,
        back: bool,
        bindings: &[(&'static str, View)],
    ) {
        let (h, gates) = (d.h, self.cell.gates());
        let mut constants = self.cell.constants().to_vec();
        // Iterations before the first step, and of a step.
        let (shader, clips, [start, step]) = match variants::matrix_product(r.target, h, h) {
            Variant::Tile => {
                constants.push(("HIDDEN", h as f64));
                let units = h.div_ceil(64);
                let rounds = if back { 64 + gates * h } else { 40 + (1 + gates) * h };
                (&SHADER, CLIPS, [10 * units, 1 + units * rounds])
            }
            Variant::Subgroup8 => {
                let units = (h / 4).div_ceil(8);
                let clips = CLIPS_SUBGROUP8 * (1 + units);
                let product = if back { units * (1 + gates * h / 4) } else { gates * units * (1 + h / 4) };
                (&SUBGROUP8, CLIPS_SUBGROUP8, [clips, 1 + clips + product])
            }
        };
        let entry = if back { "recurrent_backward_input" } else { "recurrent_forward" };
        let grid = Grid::folded(d.b.div_ceil(clips), io.replicas * self.directions);
        let steps = (self.rounds.saturating_sub(start) / step).clamp(1, MAX_STEPS);
        for first in (0..d.t).step_by(steps) {
            let end = d.t.min(first + steps);
            let has_state = if first == 0 { p.has_state } else { u32::MAX };
            let p = Params { first: first as u32, end: end as u32, has_state, ..p };
            let launch = grid.iterations(start + step * (end - first));
            r.dispatch_with(shader, entry, &constants, bindings, p, launch);
        }
    }

    /// Packs the parameters of all directions into the saved `packed`, for both passes.
    pub fn pack(&self, r: &mut Recorder, io: &Io, d: &Dims, packed: View) {
        let n = self.directions;
        let [w, b, w_reverse, b_reverse] = [n, 2 * n, 2 * n - 1, 3 * n - 1].map(|i| io.x(i));
        let p = StatesParams {
            len: d.gates as u32,
            hidden: d.h as u32,
            directions: n as u32,
            w_stride: w.stride as u32,
            b_stride: b.stride as u32,
            w_reverse_stride: w_reverse.stride as u32,
            b_reverse_stride: b_reverse.stride as u32,
            plain_at: if self.forward_only { 0 } else { self.packed_len(d, io.replicas) as u32 },
            accumulate: 0,
        };
        let bindings = [
            ("w", w.view),
            ("b", b.view),
            ("w_reverse", w_reverse.view),
            ("b_reverse", b_reverse.view),
            ("packed_weights", packed),
        ];
        let groups = d.gates.div_ceil(64) * (d.h + 1).div_ceil(COLUMNS);
        r.dispatch(&STATES, "recurrent_pack", &bindings, p, Grid::folded(groups, io.replicas * n).iterations(COLUMNS));
    }

    /// Elements of the packed parameters of a pass.
    pub fn packed_len(&self, d: &Dims, replicas: usize) -> usize {
        (replicas * self.directions * d.gates * (d.h + 1)).next_multiple_of(ALIGN)
    }

    /// The part of the saved activations that holds tensor `i` of the state.
    pub(crate) fn state_view(&self, saved: View, d: &Dims, replicas: usize, i: usize) -> View {
        let offset = saved.offset + i * self.saved_layout(d, replicas).state_slice;
        View { offset, len: replicas * d.b * self.directions * d.h, ..saved }
    }
}

pub(super) fn move_state(r: &mut Recorder, from: View, to: View, accumulate: bool) {
    let p = StatesParams { len: from.len as u32, accumulate: accumulate.into(), ..bytemuck::Zeroable::zeroed() };
    r.dispatch(&STATES, "recurrent_move", &[("out_of", from), ("to", to)], p, Grid::items(from.len, 64, 1).no_loops());
}
