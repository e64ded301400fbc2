//! A recurrent layer fused over time: plain, GRU or LSTM, unidirectional or bidirectional, with one pass over time forward and one back.
//!
//! The input's contribution to the gates is a matrix product over all steps, computed before: inputs (B, T, G H) = W_ih x + b_ih per
//! direction. The time loop adds W_hh h + b_hh and steps the cell ([`Cell`], PyTorch's gate orders). The reverse direction starts at
//! the last step. A step beyond a clip's length keeps the state and outputs 0, as PyTorch's packed sequences do. Outputs:
//! y (B, T, D H), both directions concatenated; the final state, h (B, D H) and for LSTM c (B, D H).
//!
//! With a mask (B, D H) of factors h is multiplied by the mask before the product, the same in all steps (Gal and Ghahramani, "A theoretically
//! grounded application of dropout in recurrent neural networks", 2016; Keras' `recurrent_dropout`). It gets no gradient.

use super::arena::PART;
use super::linear::{self, parameter_gradients};
use super::recurrent_cell::State;
use super::{Entry, variants};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, MAX_ROUNDS, Recorder, Shader, View, params, shader};
use crate::graph::{Cost, Graph, Io, Mode, Op, Outputs, Spec, Tensor};
use variants::MatrixProduct;

pub use super::recurrent_cell::Cell;

static SHADER: Shader = shader!("recurrent.wgsl");
static SUBGROUP8: Shader = shader!("software8/recurrent.wgsl");
static STATES: Shader = shader!("recurrent_states.wgsl");

params! {
    struct Params {
        replicas: u32, batch: u32, steps: u32, hidden: u32, directions: u32, lengths_stride: u32,
        has_mask: u32, has_state: u32, has_dy: u32, wants_start: u32,
        state_slice: u32, h_at: u32, h_slice: u32, masked_at: u32, kept_at: u32, c_at: u32, g_at: u32, g_slice: u32,
        accumulate: u32, first: u32, end: u32, tape_steps: u32,
    }
}

params! {
    struct StatesParams {
        len: u32, hidden: u32, directions: u32, direction: u32,
        w_stride: u32, b_stride: u32, transposed: u32, accumulate: u32,
    }
}

/// Most units of a direction: their state is in workgroup memory.
pub const MAX_HIDDEN: usize = 256;
/// Clips of a workgroup.
const CLIPS: usize = 4;
const CLIPS_SUBGROUP8: usize = 32;
/// Columns of the weights that a workgroup packs, as in the shader.
const COLUMNS: usize = 16;
/// Most steps of a dispatch.
const MAX_STEPS: usize = 1024;
/// Alignment of the sections of a tape, as of bindings.
const ALIGN: usize = 64;

/// One direction's part of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Direction {
    /// (B, T, G H): W_ih x + b_ih.
    pub input: Tensor,
    /// W_hh (G H, H).
    pub weight: Tensor,
    /// b_hh (G H).
    pub bias: Tensor,
}

/// Outputs of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    /// (B, T, D H), 0 beyond a clip's length.
    pub y: Tensor,
    /// (B, D H): after each clip's last step (the first, in reverse).
    pub state: State,
}

/// Inputs: per direction input; per direction weight; per direction bias; lengths; the mask; h and c.
#[derive(Clone, Copy, Debug)]
struct Recurrent {
    cell: Cell,
    directions: usize,
    masked: bool,
    /// Starts from a given state instead of zeros.
    started: bool,
    /// Most loop iterations of a dispatch; a longer time loop is split into several.
    rounds: usize,
    /// There is no backward pass: the tape holds the steps of one dispatch only.
    forward_only: bool,
}

/// Adds a layer. `directions`: forward, or forward and reverse. `lengths` u32 (B): valid steps. `mask` (B, D H): recurrent dropout's
/// factors. `state` (B, D H): initial state, else zeros.
///
/// # Errors
/// `Shape` for tensors that do not fit together and for more than [`MAX_HIDDEN`] units.
pub fn recurrent(
    g: &mut Graph,
    cell: Cell,
    directions: &[Direction],
    lengths: Tensor,
    mask: Option<Tensor>,
    state: Option<State>,
) -> Result<Sequence> {
    let (masked, started, forward_only) = (mask.is_some(), state.is_some(), g.mode() == Mode::Eval);
    let op = Recurrent { cell, directions: directions.len(), masked, started, rounds: MAX_ROUNDS, forward_only };
    let mut inputs: Vec<Tensor> = directions.iter().map(|d| d.input).collect();
    inputs.extend(directions.iter().map(|d| d.weight));
    inputs.extend(directions.iter().map(|d| d.bias));
    inputs.push(lengths);
    inputs.extend(mask);
    inputs.extend(state.into_iter().flat_map(|s| [Some(s.h), s.c]).flatten());
    let y = g.push(op, &inputs)?;
    Ok(Sequence { y: y[0], state: State { h: y[1], c: y.get(2).copied() } })
}

struct Dims {
    b: usize,
    t: usize,
    h: usize,
    /// G H
    gates: usize,
}

/// Offsets of the sections of the tapes, over all replicas (see `shaders/shared/recurrent.wgsl`).
struct Tape {
    state_slice: usize,
    h_at: usize,
    h_slice: usize,
    masked_at: usize,
    kept_at: usize,
    c_at: usize,
    len: usize,
    g_slice: usize,
    back_len: usize,
}

impl Recurrent {
    fn dims(&self, input: &[usize]) -> Dims {
        let gates = input[2];
        Dims { b: input[0], t: input[1], h: gates / self.cell.gates(), gates }
    }

    /// Indices of the inputs after the parameters.
    fn lengths_at(&self) -> usize {
        3 * self.directions
    }

    fn state_at(&self) -> usize {
        self.lengths_at() + 1 + usize::from(self.masked)
    }

    fn tape_steps(&self, d: &Dims) -> usize {
        if self.forward_only { d.t.min(MAX_STEPS) } else { d.t }
    }

    fn tape(&self, d: &Dims, replicas: usize) -> Tape {
        let aligned = |len: usize| len.next_multiple_of(ALIGN);
        let rows = replicas * d.b * self.tape_steps(d);
        let state_slice = aligned(replicas * d.b * self.directions * d.h);
        let h_slice = aligned(rows * d.h);
        let g_slice = aligned(rows * d.gates);
        let h_at = self.cell.states() * state_slice;
        let masked_at = if self.masked { h_at + self.directions * h_slice } else { h_at };
        let kept_at = masked_at + self.directions * h_slice;
        let c_at = kept_at + aligned(self.directions * rows * self.cell.kept() * d.h);
        let len = c_at + (self.cell.states() - 1) * self.directions * h_slice;
        Tape {
            state_slice,
            h_at,
            h_slice,
            masked_at,
            kept_at,
            c_at,
            len,
            g_slice,
            back_len: h_at + self.directions * g_slice,
        }
    }

    fn params(&self, io: &Io, d: &Dims) -> Params {
        let tape = self.tape(d, io.replicas);
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
            state_slice: tape.state_slice as u32,
            h_at: tape.h_at as u32,
            h_slice: tape.h_slice as u32,
            masked_at: tape.masked_at as u32,
            kept_at: tape.kept_at as u32,
            c_at: tape.c_at as u32,
            g_at: tape.h_at as u32,
            g_slice: tape.g_slice as u32,
            accumulate: 0,
            first: 0,
            end: d.t as u32,
            tape_steps: self.tape_steps(d) as u32,
        }
    }

    /// Records the time loop, forward or backward: as many dispatches as keep each invocation's loops short enough, one for all ordinary
    /// lengths. Each but the first resumes from the state that the one before has left in the tape.
    fn time_loop(&self, r: &mut Recorder, io: &Io, d: &Dims, p: Params, back: bool, bindings: &[(&'static str, View)]) {
        let (h, gates) = (d.h, self.cell.gates());
        // Iterations before the first step, and of a step.
        let (shader, entries, clips, [start, step]) = match variants::matrix_product(r.target, h, h) {
            MatrixProduct::Tile => {
                let units = h.div_ceil(64);
                let rounds = if back { 64 + gates * h } else { 40 + (1 + gates) * h };
                let entries = ["recurrent_forward", "recurrent_backward_input"];
                (&SHADER, entries, CLIPS, [10 * units, 1 + units * rounds])
            }
            MatrixProduct::Subgroup8 => {
                let units = (h / 4).div_ceil(8);
                let clips = CLIPS_SUBGROUP8 * (1 + units);
                let product = if back { units * (1 + gates * h / 4) } else { gates * units * (1 + h / 4) };
                let entries = ["recurrent_forward", "recurrent_backward_input"];
                (&SUBGROUP8, entries, CLIPS_SUBGROUP8, [clips, 1 + clips + product])
            }
        };
        let grid = Grid::folded(d.b.div_ceil(clips), io.replicas * self.directions);
        let steps = (self.rounds.saturating_sub(start) / step).clamp(1, MAX_STEPS);
        for first in (0..d.t).step_by(steps) {
            let end = d.t.min(first + steps);
            let has_state = if first == 0 { p.has_state } else { u32::MAX };
            let p = Params { first: first as u32, end: end as u32, has_state, ..p };
            let launch = grid.rounds(start + step * (end - first));
            r.dispatch_with(shader, entries[usize::from(back)], &self.cell.constants(), bindings, p, launch);
        }
    }

    fn pack(&self, r: &mut Recorder, io: &Io, d: &Dims, transposed: bool) {
        for direction in 0..self.directions {
            let (w, b) = (io.x(self.directions + direction), io.x(2 * self.directions + direction));
            let p = StatesParams {
                len: d.gates as u32,
                hidden: d.h as u32,
                directions: self.directions as u32,
                direction: direction as u32,
                w_stride: w.stride as u32,
                b_stride: b.stride as u32,
                transposed: transposed.into(),
                accumulate: 0,
            };
            let bindings = [("w", w.view), ("b", b.view), ("packed_weights", io.scratch(0).view)];
            let launch = Grid::folded(d.gates.div_ceil(64) * (d.h + 1).div_ceil(COLUMNS), io.replicas).rounds(COLUMNS);
            r.dispatch(&STATES, "recurrent_pack", &bindings, p, launch);
        }
    }

    /// The part of a tape that holds tensor `i` of the state.
    fn state_view(&self, tape: View, d: &Dims, replicas: usize, i: usize) -> View {
        let offset = tape.offset + i * self.tape(d, replicas).state_slice;
        View { offset, len: replicas * d.b * self.directions * d.h, ..tape }
    }
}

fn move_state(r: &mut Recorder, from: View, to: View, accumulate: bool) {
    let p = StatesParams { len: from.len as u32, accumulate: accumulate.into(), ..bytemuck::Zeroable::zeroed() };
    r.dispatch(&STATES, "recurrent_move", &[("out_of", from), ("to", to)], p, Grid::items(from.len, 64, 1).no_loops());
}

impl Op for Recurrent {
    fn name(&self) -> &'static str {
        "recurrent"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let wrong = |what: &str| {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let gates = self.cell.gates();
            let expected = format!(
                "per direction (1 or 2) input (B, T, {gates} H), weight ({gates} H, H), bias ({gates} H); u32 lengths (B); mask and state \
                 (B, D H); {what}"
            );
            Err(Error::shape("recurrent", expected, got.join(", ")))
        };
        let input = x[0].shape.dims();
        if !(1..=2).contains(&self.directions) || input.len() != 3 || x[0].shape.is_empty() {
            return wrong("no empty tensor");
        }
        let d = self.dims(input);
        if d.h == 0 || d.h > MAX_HIDDEN {
            return wrong(&format!("H from 1 to {MAX_HIDDEN}"));
        }
        let n = self.directions;
        let state = Spec::f32([d.b, n * d.h]);
        let mut expected = vec![Spec::f32([d.b, d.t, self.cell.gates() * d.h]); n];
        expected.extend(vec![Spec::f32([self.cell.gates() * d.h, d.h]); n]);
        expected.extend(vec![Spec::f32([self.cell.gates() * d.h]); n]);
        expected.push(Spec::u32([d.b]));
        let more = usize::from(self.masked) + if self.started { self.cell.states() } else { 0 };
        expected.extend(vec![state.clone(); more]);
        if x != expected {
            return wrong("of one B, T and H");
        }
        // The part of one replica.
        let tape = self.tape(&d, 1);
        let product = linear::Dims { m: d.b * d.t, n: d.gates, k: d.h, segments: 1, part: PART };
        let [partial, partial_bias] = product.gradient_scratch();
        let mut y = vec![Spec::f32([d.b, d.t, n * d.h])];
        y.extend(vec![state; self.cell.states()]);
        Ok(Outputs {
            y,
            saved: vec![Spec::f32([tape.len])],
            scratch: vec![
                Spec::f32([n * d.gates * (d.h + 1)]),
                Spec::f32([tape.back_len]),
                partial,
                partial_bias,
                Spec::f32([4]),
            ],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = self.dims(io.x(0).shape.dims());
        self.pack(r, io, &d, true);
        let tape = io.saved(0).view;
        for i in 0..self.cell.states() * usize::from(self.started) {
            let into = self.state_view(tape, &d, io.replicas, i);
            move_state(r, io.x(self.state_at() + i).view, into, false);
        }
        let lengths = io.x(self.lengths_at()).view;
        let bindings = [
            ("lengths", lengths),
            ("x", io.x(0).view),
            ("x_reverse", io.x(self.directions - 1).view),
            ("packed_weights", io.scratch(0).view),
            ("mask", if self.masked { io.x(self.lengths_at() + 1).view } else { io.x(0).view }),
            ("tape", tape),
            ("y", io.y(0).view),
        ];
        self.time_loop(r, io, &d, self.params(io, &d), false, &bindings);
        for i in 0..self.cell.states() {
            move_state(r, self.state_view(tape, &d, io.replicas, i), io.y(1 + i).view, false);
        }
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = self.dims(io.x(0).shape.dims());
        let n = self.directions;
        let sinks: Option<Vec<_>> = (0..n).map(|i| io.dx(i)).collect();
        let (Some(dx), false) = (sinks, self.forward_only || self.masked && io.dx(self.lengths_at() + 1).is_some())
        else {
            return Err(Error::NoGradient { op: "recurrent" });
        };
        self.pack(r, io, &d, false);
        let (tape, back) = (io.saved(0).view, io.scratch(1).view);
        let mut has_state = 0;
        for (i, given) in (0..self.cell.states()).filter_map(|i| Some((i, io.dy(1 + i)?))) {
            has_state |= 1 << i;
            move_state(r, given, self.state_view(back, &d, io.replicas, i), false);
        }
        let dx_reverse = if n == 2 { dx[1].view } else { io.scratch(4).view };
        let bindings = [
            ("lengths", io.x(self.lengths_at()).view),
            ("packed_weights", io.scratch(0).view),
            ("mask", if self.masked { io.x(self.lengths_at() + 1).view } else { tape }),
            ("saved_tape", tape),
            ("grad_y", io.dy(0).unwrap_or(tape)),
            ("grad_x", dx[0].view),
            ("grad_x_reverse", dx_reverse),
            ("grad_tape", back),
        ];
        let accumulate = dx.iter().enumerate().map(|(i, dx)| u32::from(dx.accumulate) << i).sum();
        let p = Params { accumulate, has_state, has_dy: io.dy(0).is_some().into(), ..self.params(io, &d) };
        self.time_loop(r, io, &d, p, true, &bindings);

        let sections = self.tape(&d, io.replicas);
        let product = linear::Dims { m: d.b * d.t, n: d.gates, k: d.h, segments: 1, part: PART };
        for i in 0..n {
            let rows = io.replicas * d.b * d.t;
            let part = |tape: View, at: usize, len: usize| View { offset: tape.offset + at, len, ..tape };
            let dg = part(back, sections.h_at + i * sections.g_slice, rows * d.gates);
            let seen = part(tape, sections.masked_at + i * sections.h_slice, rows * d.h);
            let partial = [io.scratch(2).view, io.scratch(3).view];
            parameter_gradients(r, &product, io.replicas, [dg, seen], [io.dx(n + i), io.dx(2 * n + i)], partial);
        }
        for i in 0..self.cell.states() * usize::from(self.started) {
            if let Some(dx) = io.dx(self.state_at() + i) {
                move_state(r, self.state_view(back, &d, io.replicas, i), dx.view, dx.accumulate);
            }
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let d = self.dims(x[0].dims());
        let (n, gates) = (self.directions, self.cell.gates());
        let lengths = &x[self.lengths_at()];
        let mut y = Array::zeros([d.b, d.t, n * d.h]);
        let mut states = vec![Array::zeros([d.b, n * d.h]); self.cell.states()];
        for b in 0..d.b {
            for direction in 0..n {
                let [input, w, bias] = [0, 1, 2].map(|i| &x[i * n + direction]);
                let own = direction * d.h..(direction + 1) * d.h;
                let start = |i: usize| match self.started {
                    true => x[self.state_at() + i].row(b)[own.clone()].to_vec(),
                    false => vec![0.0; d.h],
                };
                let mut h = start(0);
                let mut c = if self.cell.states() == 2 { start(1) } else { vec![0.0; d.h] };
                let valid = 0..(lengths[b] as usize).min(d.t);
                let steps: Vec<usize> = if direction == 0 { valid.collect() } else { valid.rev().collect() };
                for t in steps {
                    let seen: Vec<f64> = match self.masked {
                        true => {
                            let mask = &x[self.lengths_at() + 1].row(b)[own.clone()];
                            h.iter().zip(mask).map(|(h, m)| h * m).collect()
                        }
                        false => h.clone(),
                    };
                    let share = |row: usize| -> f64 {
                        bias[row] + w.row(row).iter().zip(&seen).map(|(w, h)| w * h).sum::<f64>()
                    };
                    let next: Vec<(f64, f64)> = (0..d.h)
                        .map(|u| {
                            let from_x: Vec<f64> = (0..gates).map(|g| input.row(b * d.t + t)[g * d.h + u]).collect();
                            let from_h: Vec<f64> = (0..gates).map(|g| share(g * d.h + u)).collect();
                            self.cell.step(&from_x, &from_h, h[u], c[u])
                        })
                        .collect();
                    (h, c) = next.into_iter().unzip();
                    y.row_mut(b * d.t + t)[own.clone()].copy_from_slice(&h);
                }
                for (state, values) in states.iter_mut().zip([&h, &c]) {
                    state.row_mut(b)[own.clone()].copy_from_slice(values);
                }
            }
        }
        [y].into_iter().chain(states).collect()
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let d = self.dims(x[0].shape.dims());
        let rows = (self.directions * d.b * d.t) as f64;
        let (gates, h) = (d.gates as f64, d.h as f64);
        Cost { flops: rows * gates * (2.0 * h + 8.0), bytes: 4.0 * (rows * (gates + h) + gates * h) }
    }
}

/// Steps beyond what a software adapter loops through in one dispatch.
const LONG: usize = 100_000;

/// Options of a case.
#[derive(Clone, Copy, Default)]
struct Options {
    masked: bool,
    started: bool,
    rounds: Option<usize>,
    forward_only: bool,
}

fn case(name: &str, cell: Cell, directions: usize, [b, t, h]: [usize; 3], lengths: Fill, options: Options) -> Case {
    let Options { masked, started, .. } = options;
    let gates = cell.gates() * h;
    let mut inputs = vec![Input::gradient([b, t, gates]); directions];
    // PyTorch's initialisation; much larger values make the recurrence chaotic.
    let bound = 1.0 / (h as f64).sqrt();
    inputs.extend(vec![Input::param([gates, h]).filled(Fill::Uniform(-bound, bound)); directions]);
    inputs.extend(vec![Input::param([gates]); directions]);
    inputs.push(Input::u32([b], lengths));
    if masked {
        let half = Fill::Given((0..b * directions * h).map(|i| f64::from(i as u32 % 3 % 2 * 2)).collect());
        inputs.push(Input::data([b, directions * h]).filled(half));
    }
    if started {
        inputs.extend(vec![Input::gradient([b, directions * h]); cell.states()]);
    }
    let rounds = options.rounds.unwrap_or(MAX_ROUNDS);
    Case::new(name, Recurrent { cell, directions, masked, started, rounds, forward_only: options.forward_only }, inputs)
}

fn cases() -> Vec<Case> {
    let whole = |b: usize, t: usize| Fill::Given(vec![t as f64; b]);
    let ragged = |b: usize, t: usize| Fill::Given((0..b).map(|i| ((i * 3 + 1) % (t + 1)) as f64).collect());
    let plain = Options::default();
    let started = Options { started: true, ..plain };
    let masked = Options { masked: true, ..plain };
    let both = Options { masked: true, ..started };
    let long = Options { forward_only: true, ..both };
    let stepwise = Options { rounds: Some(1), ..both };
    vec![
        case("tanh, one", Cell::Tanh, 1, [1, 1, 1], whole(1, 1), plain),
        case("GRU, one", Cell::Gru, 1, [1, 1, 1], whole(1, 1), plain),
        case("LSTM, one", Cell::Lstm, 2, [1, 1, 1], whole(1, 1), plain),
        case("tanh, bidirectional, ragged", Cell::Tanh, 2, [5, 4, 3], ragged(5, 4), started),
        case("GRU, bidirectional, ragged", Cell::Gru, 2, [3, 5, 4], ragged(3, 5), started),
        case("LSTM, bidirectional, ragged", Cell::Lstm, 2, [3, 4, 4], ragged(3, 4), started),
        case("GRU, mask", Cell::Gru, 2, [3, 3, 5], ragged(3, 3), both),
        case("LSTM, mask", Cell::Lstm, 2, [3, 3, 4], ragged(3, 3), both),
        case("LSTM, mask, ragged units", Cell::Lstm, 2, [3, 3, 5], ragged(3, 3), masked),
        case("GRU, gradient of the state only", Cell::Gru, 1, [3, 3, 4], ragged(3, 3), started).seeded(&[1]),
        case("GRU, gradient of y only", Cell::Gru, 2, [3, 3, 4], ragged(3, 3), plain).seeded(&[0]),
        case("LSTM, gradient of y only", Cell::Lstm, 2, [3, 3, 5], ragged(3, 3), started).seeded(&[0]),
        case("GRU, more clips than a workgroup", Cell::Gru, 2, [37, 3, 36], ragged(37, 3), plain),
        case("GRU, more units than invocations", Cell::Gru, 1, [3, 2, 67], whole(3, 2), plain),
        case("LSTM, maximum units", Cell::Lstm, 1, [2, 2, MAX_HIDDEN], whole(2, 2), plain),
        case(
            "tanh, one step per dispatch",
            Cell::Tanh,
            2,
            [5, 4, 3],
            ragged(5, 4),
            Options { rounds: Some(1), ..plain },
        ),
        case("GRU, one step per dispatch", Cell::Gru, 2, [3, 5, 4], ragged(3, 5), stepwise),
        case("LSTM, one step per dispatch", Cell::Lstm, 2, [3, 4, 4], ragged(3, 4), stepwise),
        case("LSTM, one step per dispatch, ragged units", Cell::Lstm, 2, [3, 3, 5], ragged(3, 3), stepwise),
        case("LSTM, long", Cell::Lstm, 2, [1, LONG, 4], whole(1, LONG), long).seeded(&[]),
        case("rnn's first layer", Cell::Gru, 2, [128, 10, 64], whole(128, 10), plain).bench(),
        case("bilstm-att", Cell::Lstm, 2, [32, 10, 64], whole(32, 10), masked).bench(),
    ]
}

pub const OP: Entry = Entry {
    name: "recurrent",
    about: "plain, GRU and LSTM layers, fused over time",
    shaders: &[&SHADER, &SUBGROUP8, &STATES, &linear::SHADER, &linear::SUBGROUP8],
    cases,
};
