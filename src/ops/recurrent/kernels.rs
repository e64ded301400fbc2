//! The kernels of a recurrent layer, their parameters and the layout of the activations saved for the backward pass.

use std::ops::Range;

use crate::core::error::Result;
use crate::gpu::{Grid, Recorder, Shader, View, params, shader};
use crate::graph::Io;
use crate::ops::arena::PART;
use crate::ops::linear::{self, span};
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
        state_slice: u32, h_slice: u32, masked_at: u32, gates_at: u32, c_at: u32,
        w_stride: u32, w_direction: u32, g_at: u32, g_slice: u32,
        accumulate: u32, first: u32, end: u32, saved_steps: u32,
    }
}

params! {
    struct StatesParams {
        len: u32, hidden: u32, directions: u32,
        w_stride: u32, w_direction: u32, b_stride: u32, b_direction: u32, accumulate: u32,
    }
}

impl Params {
    /// The same for the backward pass. `has_state`: a bit for each gradient of the final state; `w`: elements from one
    /// replica's weights to the next, and from one direction's to the other's.
    pub(crate) fn of_backward(self, accumulate: bool, has_state: u32, has_dy: bool, w: [u32; 2]) -> Params {
        let [w_stride, w_direction] = w;
        Params { accumulate: accumulate.into(), has_state, has_dy: has_dy.into(), w_stride, w_direction, ..self }
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
    pub h_slice: usize,
    pub masked_at: usize,
    gates_at: usize,
    c_at: usize,
    pub len: usize,
    state_slice: usize,
    pub g_at: usize,
    pub g_slice: usize,
    pub back_len: usize,
}

/// Inputs: input; per direction weight; per direction bias; lengths; the mask; h and c.
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
        let gates = input[2] / self.directions;
        Dims { b: input[0], t: input[1], h: gates / self.cell.gates(), gates }
    }

    /// Indices of the weights among the inputs.
    pub(super) fn weights(&self) -> Range<usize> {
        1..1 + self.directions
    }

    /// And of the biases.
    pub(super) fn biases(&self) -> Range<usize> {
        1 + self.directions..1 + 2 * self.directions
    }

    /// Indices of the inputs after the parameters.
    pub(crate) fn lengths_at(&self) -> usize {
        1 + 2 * self.directions
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
        let masked_at = if self.masked { self.directions * h_slice } else { 0 };
        let gates_at = masked_at + self.directions * h_slice;
        let c_at = gates_at + aligned(self.directions * rows * self.cell.saved_gates() * d.h);
        let len = c_at + (self.cell.states() - 1) * self.directions * h_slice;
        let g_at = self.cell.states() * state_slice;
        SavedLayout {
            state_slice,
            h_slice,
            masked_at,
            gates_at,
            c_at,
            len,
            g_at,
            g_slice,
            back_len: g_at + self.directions * g_slice,
        }
    }

    /// The products whose gradients are those of the weights: dg^T h of each direction.
    pub fn product(&self, d: &Dims, replicas: usize) -> linear::Dims {
        let SavedLayout { h_slice, g_slice, .. } = self.saved_layout(d, replicas);
        let layers = linear::Layers { count: self.directions, x: h_slice, y: g_slice, columns: d.gates };
        linear::Dims { m: d.b * d.t, n: d.gates, k: d.h, segments: 1, layers, part: PART, halves: false }
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
            has_state: self.started.into(),
            has_dy: 0,
            wants_start: self.started.into(),
            state_slice: saved.state_slice as u32,
            h_slice: saved.h_slice as u32,
            masked_at: saved.masked_at as u32,
            gates_at: saved.gates_at as u32,
            c_at: saved.c_at as u32,
            w_stride: 0,
            w_direction: 0,
            g_at: saved.g_at as u32,
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

    /// The weights or biases of all directions as a range, and elements from one replica to the next, and from one
    /// direction to the other.
    ///
    /// # Errors
    /// `Usage` for those that are not parameters.
    pub fn parameters(&self, io: &Io, which: Range<usize>) -> Result<(View, [u32; 2])> {
        let stride = io.x(which.start).stride as u32;
        let (view, apart) = span(which.map(|i| io.x(i).view))?;
        Ok((view, [stride, apart as u32]))
    }

    /// Packs the parameters of all directions for the forward pass.
    ///
    /// # Errors
    /// As [`Recurrent::parameters`].
    pub fn pack(&self, r: &mut Recorder, io: &Io, d: &Dims, packed: View) -> Result<()> {
        let (w, [w_stride, w_direction]) = self.parameters(io, self.weights())?;
        let (b, [b_stride, b_direction]) = self.parameters(io, self.biases())?;
        let p = StatesParams {
            len: d.gates as u32,
            hidden: d.h as u32,
            directions: self.directions as u32,
            w_stride,
            w_direction,
            b_stride,
            b_direction,
            accumulate: 0,
        };
        let groups = d.gates.div_ceil(64) * (d.h + 1).div_ceil(COLUMNS);
        let launch = Grid::folded(groups, io.replicas * self.directions).iterations(COLUMNS);
        r.dispatch(&STATES, "recurrent_pack", &[("w", w), ("b", b), ("packed_weights", packed)], p, launch);
        Ok(())
    }

    /// The part of the working memory of the backward pass that holds the gradient of tensor `i` of the state.
    pub(crate) fn state_view(&self, back: View, d: &Dims, replicas: usize, i: usize) -> View {
        let offset = back.offset + i * self.saved_layout(d, replicas).state_slice;
        View { offset, len: replicas * d.b * self.directions * d.h, ..back }
    }
}

pub(super) fn move_state(r: &mut Recorder, from: View, to: View, accumulate: bool) {
    let p = StatesParams { len: from.len as u32, accumulate: accumulate.into(), ..bytemuck::Zeroable::zeroed() };
    r.dispatch(&STATES, "recurrent_move", &[("out_of", from), ("to", to)], p, Grid::items(from.len, 64, 1).no_loops());
}
