//! A single step of a recurrent cell, for models that choose the next input in each step (recurrent attention).
//!
//! input (B, G H) = W_ih x + b_ih and hidden (B, G H) = W_hh h + b_hh come from [`linear`](super::linear), h (B, H)
//! and, for LSTM, c (B, H) are the state before the step; the outputs are the state after it. Formulas at [`Cell`].

use super::{Entry, variants};
use crate::check::{Case, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Launch, Recorder, Shader, View, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("recurrent_cell.wgsl", "shared/cell.wgsl");
static VEC4: Shader = SHADER.with(&["VEC4"]);

params! {
    struct Params { items: u32, hidden: u32, has_dh: u32, has_dc: u32, second: u32, accumulate: u32 }
}

/// A recurrent cell, with gates in PyTorch's order. x = W_ih input + b_ih, g = W_hh h + b_hh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// h' = tanh(x + g).
    Tanh,
    /// r, z = sigmoid(x + g); n = tanh(x + r g); h' = (1 - z) n + z h (Cho et al. 2014, the reset gate after the
    /// product).
    Gru,
    /// i, f, o = sigmoid(x + g); n = tanh(x + g), third in order; c' = f c + i n; h' = o tanh(c') (Hochreiter and
    /// Schmidhuber 1997).
    Lstm,
}

impl Cell {
    /// G: gates.
    pub fn gates(self) -> usize {
        match self {
            Cell::Tanh => 1,
            Cell::Gru => 3,
            Cell::Lstm => 4,
        }
    }

    /// Values per unit that a step saves for backward.
    pub(super) fn saved_gates(self) -> usize {
        if self == Cell::Tanh { 1 } else { 4 }
    }

    /// Tensors of a state: h, and for LSTM c.
    pub fn states(self) -> usize {
        if self == Cell::Lstm { 2 } else { 1 }
    }

    /// Values of the `override` constants of `shaders/shared/cell.wgsl`.
    pub(super) fn constants(self) -> [(&'static str, f64); 3] {
        [("CELL", f64::from(self as u8)), ("GATES", self.gates() as f64), ("SAVED_GATES", self.saved_gates() as f64)]
    }

    /// A unit's step: (h', c') from the contributions to its G gates and its state.
    pub(super) fn step(self, x: &[f64], g: &[f64], h: f64, c: f64) -> (f64, f64) {
        let sigmoid = |i: usize| 1.0 / (1.0 + (-x[i] - g[i]).exp());
        match self {
            Cell::Tanh => ((x[0] + g[0]).tanh(), 0.0),
            Cell::Gru => {
                let (r, z) = (sigmoid(0), sigmoid(1));
                ((1.0 - z) * (x[2] + r * g[2]).tanh() + z * h, 0.0)
            }
            Cell::Lstm => {
                let next = sigmoid(1) * c + sigmoid(0) * (x[2] + g[2]).tanh();
                (sigmoid(3) * next.tanh(), next)
            }
        }
    }
}

/// The state of a cell, (B, H) each.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub h: Tensor,
    /// LSTM only.
    pub c: Option<Tensor>,
}

/// Inputs: input, hidden, h and, for LSTM, c.
#[derive(Clone, Copy, Debug)]
struct RecurrentCell(Cell);

/// Adds a step. `input` and `hidden` (B, G H), `state` (B, H).
///
/// # Errors
/// `Shape` for tensors that do not fit together, and for an LSTM without c.
pub fn recurrent_cell(g: &mut Graph, cell: Cell, input: Tensor, hidden: Tensor, state: State) -> Result<State> {
    let inputs: Vec<Tensor> = [input, hidden, state.h].into_iter().chain(state.c).collect();
    let y = g.push(RecurrentCell(cell), &inputs)?;
    Ok(State { h: y[0], c: y.get(1).copied() })
}

/// The kernel variant for H units and its vector width.
fn kernels(hidden: usize) -> (&'static Shader, usize) {
    variants::by_row(hidden, &SHADER, &VEC4)
}

impl RecurrentCell {
    fn params(io: &Io) -> (&'static Shader, Params, Launch) {
        let shape = &io.x(2).shape;
        let (shader, width) = kernels(shape.last());
        let items = io.replicas * shape.len() / width;
        let hidden = (shape.last() / width) as u32;
        let p = Params { items: items as u32, hidden, has_dh: 0, has_dc: 0, second: 0, accumulate: 0 };
        (shader, p, Grid::items(items, 64, 1).iterations(8))
    }

    /// c, or if there is none any read-only tensor.
    fn c(io: &Io) -> View {
        io.x(io.inputs() - 1).view
    }
}

impl Op for RecurrentCell {
    fn name(&self) -> &'static str {
        "recurrent_cell"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let state = &x[2];
        let fits = state.shape.rank() == 2 && !state.shape.is_empty() && x.len() == 2 + self.0.states();
        let gates = Spec::f32(state.shape.with_last(self.0.gates() * state.shape.last()));
        if !fits || x[..2].iter().any(|g| *g != gates) || x[2..].iter().any(|s| *s != Spec::f32(state.shape.clone())) {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = format!("{:?}: gates twice (B, {} H), state (B, H)", self.0, self.0.gates());
            return Err(Error::shape("recurrent_cell", expected, got.join(", ")));
        }
        Ok(Outputs {
            y: vec![state.clone(); self.0.states()],
            saved: vec![Spec::f32([state.shape.rows(), self.0.saved_gates(), state.shape.last()])],
            scratch: vec![Spec::f32([4])],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (shader, p, grid) = Self::params(io);
        let y_c = if self.0 == Cell::Lstm { io.y(1).view } else { io.scratch(0).view };
        let bindings = [
            ("x", io.x(0).view),
            ("g", io.x(1).view),
            ("h", io.x(2).view),
            ("c", Self::c(io)),
            ("y", io.y(0).view),
            ("y_c", y_c),
            ("gates", io.saved(0).view),
        ];
        r.dispatch_with(shader, "recurrent_cell_forward", &self.0.constants(), &bindings, p, grid);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (shader, p, grid) = Self::params(io);
        let gates = io.saved(0).view;
        let dy_c = if self.0 == Cell::Lstm { io.dy(1) } else { None };
        let p = Params { has_dh: io.dy(0).is_some().into(), has_dc: dy_c.is_some().into(), ..p };
        for i in 0..io.inputs() {
            let Some(dx) = io.dx(i) else { continue };
            let (entry, sink) = match i {
                0 | 1 => ("recurrent_cell_backward_gates", "grad_gates"),
                _ => ("recurrent_cell_backward_state", "grad_state"),
            };
            let bindings = [
                ("h", io.x(2).view),
                ("c", Self::c(io)),
                ("saved_gates", gates),
                ("grad_y", io.dy(0).unwrap_or(gates)),
                ("grad_y_c", dy_c.unwrap_or(gates)),
                (sink, dx.view),
            ];
            let p = Params { second: i as u32 % 2, accumulate: dx.accumulate.into(), ..p };
            r.dispatch_with(shader, entry, &self.0.constants(), &bindings, p, grid);
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (hidden, gates) = (x[2].shape().last(), self.0.gates());
        let mut y = vec![Array::zeros(x[2].shape().clone()); self.0.states()];
        for row in 0..x[2].shape().rows() {
            for unit in 0..hidden {
                let of = |from: &Array<f64>| (0..gates).map(|g| from.row(row)[g * hidden + unit]).collect::<Vec<_>>();
                let c = x.get(3).map_or(0.0, |c| c.row(row)[unit]);
                let (h, c) = self.0.step(&of(&x[0]), &of(&x[1]), x[2].row(row)[unit], c);
                y.iter_mut().zip([h, c]).for_each(|(y, v)| y.row_mut(row)[unit] = v);
            }
        }
        y
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let (gates, state) = (x[0].shape.len() as f64, x[2].shape.len() as f64);
        Cost { flops: 8.0 * gates, bytes: 4.0 * (2.0 * gates + 2.0 * state * self.0.states() as f64) }
    }
}

fn cases() -> Vec<Case> {
    let case = |name: &str, cell: Cell, b: usize, hidden: usize| {
        let gates = || Input::gradient([b, cell.gates() * hidden]);
        let state = (0..cell.states()).map(|_| Input::gradient([b, hidden]));
        Case::new(name, RecurrentCell(cell), [gates(), gates()].into_iter().chain(state).collect())
    };
    vec![
        case("tanh, one", Cell::Tanh, 1, 1),
        case("GRU, one", Cell::Gru, 1, 1),
        case("LSTM, one", Cell::Lstm, 1, 1),
        case("tanh, vec4", Cell::Tanh, 3, 8),
        case("GRU, vec4", Cell::Gru, 3, 4),
        case("LSTM, vec4", Cell::Lstm, 2, 4),
        case("GRU, ragged", Cell::Gru, 5, 67),
        case("LSTM, gradient of h only", Cell::Lstm, 3, 5).seeded(&[0]),
        case("LSTM, gradient of c only", Cell::Lstm, 3, 4).seeded(&[1]),
        case("Sightreader's core", Cell::Gru, 32, 256).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "recurrent_cell", about: "a single step of a recurrent cell", shaders: &[&SHADER, &VEC4], cases };
