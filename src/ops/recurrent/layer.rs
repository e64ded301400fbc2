//! The layer, forward and backward.

use super::kernels::{MAX_HIDDEN, Recurrent, move_state};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{MAX_ITERATIONS, Recorder, View};
use crate::graph::onnx::operators::{Attribute, Onto, Operators, Value};
use crate::graph::{Cost, Graph, Io, Mode, Op, Outputs, Spec, Tensor};
use crate::ops::linear::{self, Gradients, parameter_gradients};
use crate::ops::recurrent_cell::{Cell, State};

/// The parameters of a direction.
#[derive(Clone, Copy, Debug)]
pub struct Direction {
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

/// Adds a layer. `input` (B, T, D G H): W_ih x + b_ih of the directions. `directions`: forward, or forward and reverse.
/// `lengths` u32 (B): valid steps. `mask` (B, D H): recurrent dropout's factors. `state` (B, D H): initial state, else
/// zeros.
///
/// # Errors
/// `Shape` for tensors that do not fit together and for more than 256 units.
pub fn recurrent(
    g: &mut Graph,
    cell: Cell,
    input: Tensor,
    directions: &[Direction],
    lengths: Tensor,
    mask: Option<Tensor>,
    state: Option<State>,
) -> Result<Sequence> {
    let (masked, started, forward_only) = (mask.is_some(), state.is_some(), g.mode() == Mode::Eval);
    let op = Recurrent { cell, directions: directions.len(), masked, started, rounds: MAX_ITERATIONS, forward_only };
    let mut inputs = vec![input];
    inputs.extend(directions.iter().map(|d| d.weight));
    inputs.extend(directions.iter().map(|d| d.bias));
    inputs.push(lengths);
    inputs.extend(mask);
    inputs.extend(state.into_iter().flat_map(|s| [Some(s.h), s.c]).flatten());
    let y = g.push(op, &inputs)?;
    Ok(Sequence { y: y[0], state: State { h: y[1], c: y.get(2).copied() } })
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
                "input (B, T, D {gates} H); of each direction (D, 1 or 2) weight ({gates} H, H), bias ({gates} H); \
                 u32 lengths (B); mask and state (B, D H); {what}"
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
        let mut expected = vec![Spec::f32([d.b, d.t, n * self.cell.gates() * d.h])];
        expected.extend(vec![Spec::f32([self.cell.gates() * d.h, d.h]); n]);
        expected.extend(vec![Spec::f32([self.cell.gates() * d.h]); n]);
        expected.push(Spec::u32([d.b]));
        let more = usize::from(self.masked) + if self.started { self.cell.states() } else { 0 };
        expected.extend(vec![state.clone(); more]);
        if x != expected {
            return wrong("of one B, T and H");
        }
        // The part of one replica.
        let saved = self.saved_layout(&d, 1);
        let packed = Spec::f32([n, d.h + 1, d.gates]);
        let slices = self.product(&d, 1).gradient_scratch();
        let mut y = vec![Spec::f32([d.b, d.t, n * d.h])];
        y.extend(vec![state; self.cell.states()]);
        Ok(Outputs {
            y,
            saved: vec![Spec::f32([saved.len])],
            scratch: [packed, Spec::f32([4]), Spec::f32([saved.back_len])].into_iter().chain(slices).collect(),
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = self.dims(io.x(0).shape.dims());
        let packed = io.scratch(0).view;
        self.pack(r, io, &d, packed)?;
        for i in 0..self.cell.states() * usize::from(self.started) {
            move_state(r, io.x(self.state_at() + i).view, io.y(1 + i).view, false);
        }
        let bindings = [
            ("lengths", io.x(self.lengths_at()).view),
            ("x", io.x(0).view),
            ("packed_weights", packed),
            ("mask", if self.masked { io.x(self.lengths_at() + 1).view } else { io.x(0).view }),
            ("activations", io.saved(0).view),
            ("y", io.y(0).view),
            ("state_h", io.y(1).view),
            ("state_c", if self.cell.states() == 2 { io.y(2).view } else { io.scratch(1).view }),
        ];
        self.time_loop(r, io, &d, self.params(io, &d), false, &bindings);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = self.dims(io.x(0).shape.dims());
        let (Some(dx), false) = (io.dx(0), self.forward_only || self.masked && io.dx(self.lengths_at() + 1).is_some())
        else {
            return Err(Error::NoGradient { op: "recurrent" });
        };
        let (saved, back) = (io.saved(0).view, io.scratch(2).view);
        let mut has_state = 0;
        for (i, given) in (0..self.cell.states()).filter_map(|i| Some((i, io.dy(1 + i)?))) {
            has_state |= 1 << i;
            // Of h the kernel reads it where it is; there is no binding left for that of c.
            if i > 0 {
                move_state(r, given, self.state_view(back, &d, io.replicas, i), false);
            }
        }
        let (w, strides) = self.parameters(io, self.weights())?;
        let bindings = [
            ("lengths", io.x(self.lengths_at()).view),
            ("w", w),
            ("mask", if self.masked { io.x(self.lengths_at() + 1).view } else { saved }),
            ("saved_activations", saved),
            ("grad_y", io.dy(0).unwrap_or(saved)),
            ("grad_h", io.dy(1).unwrap_or(saved)),
            ("grad_x", dx.view),
            ("grad_activations", back),
        ];
        let p = self.params(io, &d).of_backward(dx.accumulate, has_state, io.dy(0).is_some(), strides);
        self.time_loop(r, io, &d, p, true, &bindings);

        // Of the hidden state's product, of all directions.
        let sections = self.saved_layout(&d, io.replicas);
        let product = self.product(&d, io.replicas);
        let rows = io.replicas * d.b * d.t;
        let part = |of: View, at: usize, slice: usize, width: usize| View {
            offset: of.offset + at,
            len: (self.directions - 1) * slice + rows * width,
            ..of
        };
        let dg = part(back, sections.g_at, sections.g_slice, d.gates);
        let seen = part(saved, sections.masked_at, sections.h_slice, d.h);
        let dg = linear::Gradient { dy: dg, after: None };
        let parameters = [Gradients::of(io, self.weights())?, Gradients::of(io, self.biases())?];
        let partial = [3, 4].map(|i| io.scratch(i).view);
        parameter_gradients(r, &product, io.replicas, (dg, seen), parameters, partial);
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
                let [w, bias] = [self.weights(), self.biases()].map(|which| &x[which.start + direction]);
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
                            let input = &x[0].row(b * d.t + t)[direction * d.gates..];
                            let from_x: Vec<f64> = (0..gates).map(|g| input[g * d.h + u]).collect();
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

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        if self.masked || self.started {
            return Err(Error::NoOnnx { op: "a recurrent layer with dropout or a state" });
        }
        let d = self.dims(x[0].dims());
        let (n, gates) = (self.directions, self.cell.gates());
        // The place of each of ONNX's gates (GRU: z, r, h; LSTM: i, o, f, c) among PyTorch's.
        let (operator, order): (&str, &[usize]) = match self.cell {
            Cell::Tanh => ("RNN", &[0]),
            Cell::Gru => ("GRU", &[1, 0, 2]),
            Cell::Lstm => ("LSTM", &[0, 3, 1, 2]),
        };
        let rows: Vec<usize> = order.iter().flat_map(|gate| gate * d.h..(gate + 1) * d.h).collect();
        let steps = to.lengths(&x[self.lengths_at()], d.t);
        let steps = to.cast(&steps, Onto::Ints32);
        let input = to.of(&x[0]);
        let input = to.transpose(&input, &[1, 0, 2]);
        let (mut outputs, mut states) = (vec![], vec![vec![]; self.cell.states()]);
        for direction in 0..n {
            let [w, bias] = [self.weights(), self.biases()].map(|which| &x[which.start + direction]);
            let (w, bias) = (w.known()?, bias.known()?);
            // The input is the product with the input's weights already: here they only choose and order the gates.
            let (size, first) = (gates * d.h, direction * gates * d.h);
            let one_hot = |row: usize| (0..n * size).map(move |i| f32::from(u8::from(i == first + row)));
            let pick: Vec<f32> = rows.iter().flat_map(|row| one_hot(*row)).collect();
            let hidden: Vec<f32> = rows.iter().flat_map(|row| w.row(*row).to_vec()).collect();
            let biases: Vec<f32> = (0..size).map(|_| 0.0).chain(rows.iter().map(|row| bias[*row])).collect();
            let (pick, hidden) = (to.floats(&[1, size, n * size], &pick), to.floats(&[1, size, d.h], &hidden));
            let biases = to.floats(&[1, 2 * size], &biases);
            let mut attributes = vec![
                ("hidden_size", Attribute::Int(d.h as i64)),
                ("direction", Attribute::Text(if direction == 0 { "forward" } else { "reverse" })),
            ];
            attributes.extend((self.cell == Cell::Gru).then_some(("linear_before_reset", Attribute::Int(1))));
            let inputs = [&input, &pick, &hidden, &biases, &steps].map(String::as_str);
            let y = to.apply_to_many(operator, &inputs, &attributes, 1 + self.cell.states());
            // (T, 1, B, H) and (1, B, H).
            let sequence = to.transpose(&y[0], &[2, 0, 1, 3]);
            outputs.push(to.reshape(&sequence, &[-1, d.t as i64, d.h as i64]));
            for (states, state) in states.iter_mut().zip(&y[1..]) {
                states.push(to.reshape(state, &[-1, d.h as i64]));
            }
        }
        let mut joined = |parts: Vec<String>| match &parts[..] {
            [only] => only.clone(),
            [a, b] => to.apply("Concat", &[a, b], &[("axis", Attribute::Int(-1))]),
            _ => unreachable!("one or two directions"),
        };
        Ok([outputs].into_iter().chain(states).map(&mut joined).collect())
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let d = self.dims(x[0].shape.dims());
        let rows = (self.directions * d.b * d.t) as f64;
        let (gates, h) = (d.gates as f64, d.h as f64);
        Cost { flops: rows * gates * (2.0 * h + 8.0), bytes: 4.0 * (rows * (gates + h) + gates * h) }
    }
}
