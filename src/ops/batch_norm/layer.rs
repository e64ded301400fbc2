//! The op in training, and what it shares with that for evaluation.

use std::ops::RangeInclusive;

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::{PHILOX_ROUNDS, dropout_factor, dropout_threshold};
use crate::core::shape::Shape;
use crate::gpu::{Grid, Launch, MAX_ITERATIONS, Recorder, Shader, Target, View, params, shader};
use crate::graph::{Bound, Cost, Io, Op, Outputs, Spec, Tensor};
use crate::ops::add::add_gradient;
use crate::ops::affine::{self, Place};
use crate::ops::variants::{self, Lanes, Reduction};

const SHADER: Shader = shader!("batch_norm.wgsl", "shared/place.wgsl", "shared/stored.wgsl");
/// By whether something is added, whether whole columns are reduced or slices, and whether rows are multiples of 4.
pub(super) static LANES: [[[Lanes; 2]; 2]; 2] = [
    [
        [[SHADER, SHADER.with(&["SUBGROUPS"])], [SHADER.with(&["VEC4"]), SHADER.with(&["VEC4", "SUBGROUPS"])]],
        [
            [SHADER.with(&["WHOLE"]), SHADER.with(&["WHOLE", "SUBGROUPS"])],
            [SHADER.with(&["WHOLE", "VEC4"]), SHADER.with(&["WHOLE", "VEC4", "SUBGROUPS"])],
        ],
    ],
    [
        [
            [SHADER.with(&["SKIP"]), SHADER.with(&["SKIP", "SUBGROUPS"])],
            [SHADER.with(&["SKIP", "VEC4"]), SHADER.with(&["SKIP", "VEC4", "SUBGROUPS"])],
        ],
        [
            [SHADER.with(&["SKIP", "WHOLE"]), SHADER.with(&["SKIP", "WHOLE", "SUBGROUPS"])],
            [SHADER.with(&["SKIP", "WHOLE", "VEC4"]), SHADER.with(&["SKIP", "WHOLE", "VEC4", "SUBGROUPS"])],
        ],
    ],
];
/// Where each invocation reduces alone: by whether something is added; for any rows, and for multiples of 4, these also
/// stored wide.
pub(super) static ALONE: [[Shader; 3]; 2] = [
    [SHADER.with(&["ALONE"]), SHADER.with(&["ALONE", "VEC4"]), SHADER.with(&["ALONE", "VEC4", "WIDE"])],
    [
        SHADER.with(&["SKIP", "ALONE"]),
        SHADER.with(&["SKIP", "ALONE", "VEC4"]),
        SHADER.with(&["SKIP", "ALONE", "VEC4", "WIDE"]),
    ],
];

params! {
    pub(super) struct Params {
        gamma: Place, beta: Place, mean: Place, variance: Place,
        rows: u32, t: u32, each: u32, f: u32, slice_rows: u32, slices: u32, columns: u32, lane_rows: u32,
        x_stride: u32, skip_stride: u32, lengths_stride: u32, eps: f32, momentum: f32,
        threshold: u32, scale: f32, stream: u32, input_wanted: u32,
    }
}

/// Reductions split the rows into slices of at least this many rows, at most `MAX_SLICES` slices.
const SLICE: usize = 32;
const MAX_SLICES: usize = 1024;
/// Fewer where each invocation reduces them alone, but enough for so many invocations.
const FEW_SLICES: RangeInclusive<usize> = 8..=128;
const INVOCATIONS: usize = 512;
/// Invocations of a workgroup.
const WORKGROUP: usize = 64;
const ALONE_WORKGROUP: usize = 16;
const WHOLE_WORKGROUP: usize = 256;
/// Elements of the columns of such a workgroup: what a GPU reads at least of a row.
const WHOLE_COLUMNS: usize = 8;
/// Least number of rows that an invocation of an element-wise kernel works on, for each slice that it reduces.
const LANE_ROWS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance. 1e-5 in PyTorch.
    pub eps: f64,
    /// Weight of the new statistics in the running ones, 0 to 1. 0.1 in PyTorch.
    pub momentum: f64,
    /// Followed by ReLU, and in training by dropout of this probability (0 <= p < 1).
    pub relu_dropout: Option<f64>,
}

/// The tensors of a batch norm, (F) each; the running statistics come from `Graph::statistic`.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    pub gamma: Tensor,
    pub beta: Tensor,
    pub running_mean: Tensor,
    pub running_var: Tensor,
    /// As x: added to the result (a skip connection).
    pub skip: Option<Tensor>,
}

/// Batch norm in training. Inputs: x, lengths, gamma, beta, running mean, running variance, clock and maybe skip.
/// Outputs: y and, in place, the two running statistics.
#[derive(Clone, Copy, Debug)]
pub struct Train {
    pub config: BatchNorm,
    /// Distinguishes dropout layers.
    pub stream: u32,
}

/// B, T, S and F of x.
fn dims(x: &Shape) -> [usize; 4] {
    match *x.dims() {
        [b, t, s, f] => [b, t, s, f],
        [b, t, f] => [b, t, 1, f],
        [b, f] => [b, 1, 1, f],
        _ => unreachable!("infer lets only these pass"),
    }
}

pub(super) fn infer(op: &'static str, x: &[Spec]) -> Result<Spec> {
    let (input, f) = (&x[0].shape, x[0].shape.last());
    let fits = matches!(input.rank(), 2..=4)
        && !input.is_empty()
        && x[1] == Spec::u32([input.dims()[0]])
        && x[2..6].iter().all(|s| *s == Spec::f32([f]))
        && x.get(6).is_none_or(|clock| *clock == Spec::u32([4]))
        && x.get(7).is_none_or(|skip| *skip == x[0]);
    if !fits {
        let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
        let expected = "x (B, T, F), (B, T, S, F) or (B, F), u32 lengths (B), four times (F), u32 clock (4), skip as x";
        return Err(Error::shape(op, expected, got.join(", ")));
    }
    Ok(x[0].clone())
}

/// How the rows of F columns are reduced.
pub(super) struct Slices {
    how: Reduction,
    /// Of a slice.
    rows: usize,
    target: Target,
}

impl Slices {
    fn of(io: &Io, target: Target) -> Slices {
        let (rows, f) = (io.x(0).shape.rows(), io.x(0).shape.last());
        let how = variants::reduction(target, rows);
        let few = (INVOCATIONS * variants::row_width(f) / f).clamp(*FEW_SLICES.start(), *FEW_SLICES.end());
        let most = match how {
            Reduction::Alone => few.max(rows.div_ceil(MAX_ITERATIONS / 3)).min(MAX_SLICES),
            _ => MAX_SLICES,
        };
        Slices { how, rows: SLICE.max(rows.div_ceil(most)), target }
    }

    /// Without a reduction.
    pub(super) fn elementwise(io: &Io, target: Target) -> Slices {
        let slices = Slices::of(io, target);
        let how = if slices.how == Reduction::Whole { Reduction::Slices } else { slices.how };
        Slices { how, ..slices }
    }

    pub(super) fn shader(&self, io: &Io) -> &'static Shader {
        let (vec4, skips) = (variants::row_width(io.x(0).shape.last()) == 4, usize::from(skip(io).is_some()));
        let of_lanes = |whole: usize| variants::lanes(self.target, &LANES[skips][whole][usize::from(vec4)]);
        match self.how {
            Reduction::Slices => of_lanes(0),
            Reduction::Whole => of_lanes(1),
            Reduction::Alone if vec4 && variants::stores_wide(self.target) => &ALONE[skips][2],
            Reduction::Alone => &ALONE[skips][usize::from(vec4)],
        }
    }

    /// The constants of the kernels that reduce, with these of their own.
    fn constants<const N: usize>(&self, own: [(&'static str, f64); N]) -> Vec<(&'static str, f64)> {
        let size = self.target.subgroup.filter(|_| variants::sums_subgroups(self.target));
        let size = size.filter(|_| self.how != Reduction::Alone);
        own.into_iter().chain(size.map(|size| ("SUBGROUP_SIZE", size.into()))).collect()
    }

    fn workgroup(&self) -> usize {
        match self.how {
            Reduction::Slices => WORKGROUP,
            Reduction::Alone => ALONE_WORKGROUP,
            Reduction::Whole => WHOLE_WORKGROUP,
        }
    }

    /// Values of a row that a workgroup works on, and rows of an invocation.
    fn part(&self, rows: usize, slices: usize, f: usize, width: usize) -> [usize; 2] {
        let columns = f.next_power_of_two();
        match self.how {
            Reduction::Whole => {
                let columns = columns.min(WHOLE_COLUMNS / width);
                [columns, rows.div_ceil(WHOLE_WORKGROUP / columns)]
            }
            // About as much work as the reduction before it.
            Reduction::Slices => {
                let columns = columns.clamp(4, 16);
                [columns, LANE_ROWS.max(slices / (WORKGROUP / columns))]
            }
            Reduction::Alone => [columns.min(ALONE_WORKGROUP), LANE_ROWS.max(8 * slices)],
        }
    }
}

/// What is added to the result.
fn skip(io: &Io) -> Option<&Bound> {
    (io.inputs() == 8).then(|| io.x(7))
}

impl BatchNorm {
    /// Whether ReLU follows, as a constant of the kernels.
    pub(super) fn relu(&self) -> (&'static str, f64) {
        ("RELU", self.relu_dropout.is_some().into())
    }

    /// Parameters of all kernels, without dropout.
    pub(super) fn params(&self, io: &Io, slice: &Slices) -> Params {
        let [b, t, each, f] = dims(&io.x(0).shape);
        let t = t * each;
        let width = variants::row_width(f);
        let slices = (b * t).div_ceil(slice.rows);
        let [columns, lane_rows] = slice.part(b * t, slices, f / width, width);
        let place = |x: &Bound| Place::new(0, x.stride / width);
        Params {
            gamma: place(io.x(2)),
            beta: place(io.x(3)),
            mean: place(io.x(4)),
            variance: place(io.x(5)),
            rows: (b * t) as u32,
            t: t as u32,
            each: each as u32,
            f: (f / width) as u32,
            slice_rows: slice.rows as u32,
            slices: slices as u32,
            columns: columns as u32,
            lane_rows: lane_rows as u32,
            x_stride: (io.x(0).stride / width) as u32,
            skip_stride: skip(io).map_or(0, |skip| skip.stride / width) as u32,
            lengths_stride: io.x(1).stride as u32,
            eps: self.eps as f32,
            momentum: self.momentum as f32,
            threshold: 0,
            scale: 1.0,
            stream: 0,
            input_wanted: 0,
        }
    }

    /// The running statistics as one range, and the parameters with their offsets in it.
    pub(super) fn running(io: &Io, mean: View, var: View, p: Params) -> Result<(View, Params)> {
        let reason = "running statistics must come from Graph::statistic".into();
        let all = mean.cover(var).ok_or(Error::Binding { kernel: "batch_norm".into(), reason })?;
        let width = variants::row_width(io.x(0).shape.last());
        let place = |view: View, x: &Bound| Place::new((view.offset - all.offset) / width, x.stride / width);
        Ok((all, Params { mean: place(mean, io.x(4)), variance: place(var, io.x(5)), ..p }))
    }

    /// y for these moments per column.
    pub(super) fn reference(&self, x: &[Array<f64>], mean: &[f64], var: &[f64]) -> Array<f64> {
        let mut y = Array::zeros(x[0].shape().clone());
        for row in valid_rows(&x[0], &x[1]) {
            for c in 0..x[0].shape().last() {
                let v = x[2][c] * (x[0].row(row)[c] - mean[c]) / (var[c] + self.eps).sqrt() + x[3][c];
                y.row_mut(row)[c] = if self.relu_dropout.is_some() { v.max(0.0) } else { v };
            }
        }
        y
    }
}

/// The indices of the valid rows.
fn valid_rows(x: &Array<f64>, lengths: &Array<f64>) -> Vec<usize> {
    let [_, t, each, _] = dims(x.shape());
    let instances = (0..x.shape().rows()).map(|row| (row, row / each));
    instances.filter(|(_, i)| ((i % t) as f64) < lengths[i / t]).map(|(row, _)| row).collect()
}

impl Train {
    fn params(&self, io: &Io, slices: &Slices) -> Params {
        let (threshold, scale) = dropout_threshold(self.config.relu_dropout.unwrap_or(0.0));
        Params { threshold, scale, stream: self.stream, ..self.config.params(io, slices) }
    }
}

/// An invocation per Value and slice, which loops over the slice's rows, and as often again to find their clips, and
/// the first valid one.
fn per_slice(slices: &Slices, p: Params, replicas: usize) -> Launch {
    Grid::items((p.slices * p.f) as usize, slices.workgroup(), replicas).iterations(3 * p.slice_rows as usize)
}

/// A workgroup per `columns` Values of so many rows, which joins their slices, or sums its rows first, and then loops
/// over the rows, with a dropout draw for each.
pub(super) fn per_part(slices: &Slices, p: Params, rows: usize, replicas: usize) -> Launch {
    let lanes = slices.workgroup() / p.columns as usize;
    let draws = if p.threshold > 0 { PHILOX_ROUNDS } else { 0 };
    let lane_rows = p.lane_rows as usize;
    let before = if slices.how == Reduction::Whole { 2 * (lane_rows + rows) } else { p.slices as usize };
    let rounds = before + lanes.ilog2() as usize + lane_rows * (2 + draws);
    let groups = rows.div_ceil(lanes * lane_rows) * p.f.div_ceil(p.columns) as usize;
    Grid::folded(groups, replicas).iterations(rounds)
}

impl Op for Train {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let y = infer(self.name(), x)?;
        let (rows, f) = (y.shape.rows(), y.shape.last());
        // As many as there can be.
        let slices = rows.div_ceil(SLICE).min(MAX_SLICES);
        let width = variants::row_width(f);
        let before_sum = if x.len() == 8 { y.shape.len() } else { 0 };
        Ok(Outputs {
            y: vec![y, x[4].clone(), x[5].clone()],
            saved: vec![Spec::f32([4 * f + slices * (2 * f + width) + before_sum])],
            scratch: vec![Spec::f32([slices, 2, f]), Spec::f32([4])],
            in_place: vec![(1, 4), (2, 5)],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let slices = Slices::of(io, r.target);
        let shader = slices.shader(io);
        let [x, lengths, moments] = [("x", io.x(0).view), ("lengths", io.x(1).view), ("moments", io.saved(0).view)];
        let (running, p) = BatchNorm::running(io, io.y(1).view, io.y(2).view, self.params(io, &slices))?;
        if slices.how != Reduction::Whole {
            let launch = per_slice(&slices, p, io.replicas);
            r.dispatch(shader, "batch_norm_forward_slices", &[x, lengths, moments], p, launch);
        }
        let mut bindings =
            vec![x, lengths, moments, ("running", running), ("clock", io.x(6).view), ("y", io.y(0).view)];
        let [gamma, beta] = [io.x(2), io.x(3)];
        let p = match skip(io) {
            None => {
                bindings.extend([("gamma", gamma.view), ("beta", beta.view)]);
                p
            }
            // There is no room for more bindings.
            Some(skip) => {
                let reason = "with a skip connection gamma and beta must be parameters".into();
                let kernel = "batch_norm".into();
                let affine = gamma.view.cover(beta.view).ok_or(Error::Binding { kernel, reason })?;
                bindings.extend([("affine", affine), ("skip", skip.view)]);
                let width = variants::row_width(io.x(0).shape.last());
                let place = |x: &Bound| Place::new((x.view.offset - affine.offset) / width, x.stride / width);
                Params { gamma: place(gamma), beta: place(beta), ..p }
            }
        };
        let constants = slices.constants([self.config.relu(), ("DROPS", (p.threshold > 0).into())]);
        let launch = per_part(&slices, p, p.rows as usize, io.replicas);
        r.dispatch_with(shader, "batch_norm_forward", &constants, &bindings, p, launch);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let f = io.x(0).shape.last();
        let width = variants::row_width(f);
        let slices = Slices::of(io, r.target);
        let shader = slices.shader(io);
        let dy = io.dy(0).expect("running statistics have no gradient, so y has one");
        let mut inputs =
            vec![("x", io.x(0).view), ("lengths", io.x(1).view), ("moments", io.saved(0).view), ("grad_y", dy)];
        if skip(io).is_none() {
            inputs.push(("y", io.y(0).view));
        }
        let p = self.params(io, &slices);
        if slices.how != Reduction::Whole {
            inputs.push(("partial", io.scratch(0).view));
            let launch = per_slice(&slices, p, io.replicas);
            r.dispatch_with(shader, "batch_norm_backward_slices", &[self.config.relu()], &inputs, p, launch);
        }

        let op = "batch_norm with gamma and beta that are not parameters";
        let (affine, [gamma, beta]) = affine::gradients(io, width, op)?;
        let dx = io.dx(0);
        let p = Params { gamma, beta, input_wanted: dx.is_some().into(), threshold: 0, ..p };
        let unwanted = io.scratch(1).view;
        let gradients = [("grad_x", dx.map_or(unwanted, |dx| dx.view)), ("grad_affine", affine.unwrap_or(unwanted))];
        let rows = if dx.is_some() { p.rows as usize } else { 1 };
        let bindings = [&inputs[..], &gradients].concat();
        let adds = dx.is_some_and(|dx| dx.accumulate);
        let constants = slices.constants([self.config.relu(), ("ADDS", adds.into())]);
        let launch = per_part(&slices, p, rows, io.replicas);
        r.dispatch_with(shader, "batch_norm_backward", &constants, &bindings, p, launch);
        if let Some(dskip) = io.dx(7) {
            add_gradient(r, dy, dskip);
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let f = x[0].shape().last();
        let rows = valid_rows(&x[0], &x[1]);
        let n = rows.len() as f64;
        let mut mean = vec![0.0; f];
        let mut var = vec![0.0; f];
        let (mut running_mean, mut running_var) = (x[4].clone(), x[5].clone());
        for c in 0..f {
            mean[c] = rows.iter().map(|&row| x[0].row(row)[c]).sum::<f64>() / n.max(1.0);
            let square: f64 = rows.iter().map(|&row| (x[0].row(row)[c] - mean[c]).powi(2)).sum();
            var[c] = square / n.max(1.0);
            if n > 0.0 {
                let m = self.config.momentum;
                running_mean[c] = (1.0 - m) * running_mean[c] + m * mean[c];
                running_var[c] = (1.0 - m) * running_var[c] + m * square / (n - 1.0).max(1.0);
            }
        }
        let mut y = self.config.reference(x, &mean, &var);
        if let Some(p) = self.config.relu_dropout.filter(|p| *p > 0.0) {
            let clock = [0, 1, 2, 3].map(|i| x[6][i] as u32);
            for (i, v) in y.data_mut().iter_mut().enumerate() {
                *v *= dropout_factor(i, self.stream, clock, p);
            }
        }
        if let Some(skip) = x.get(7) {
            y.data_mut().iter_mut().zip(skip.data()).for_each(|(y, skip)| *y += skip);
        }
        vec![y, running_mean, running_var]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let len = x[0].shape.len() as f64;
        Cost { flops: 8.0 * len, bytes: 4.0 * 3.0 * len }
    }
}
