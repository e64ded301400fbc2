//! Group norm of each clip, over its valid instances and the columns of a group (Wu and He: "Group normalization", ECCV
//! 2018).
//!
//! y = gamma (x - mean) / sqrt(var + eps) + beta, with mean and biased variance of each clip and group: columns are
//! split into G groups of F / G neighbours. As PyTorch's `GroupNorm` of (B, F, T).
//! x (B, T, F), lengths (B) u32: instances `t < lengths[b]` are valid, the rest is padding, where y and dx are 0.
//! gamma, beta (F); y as x. The same in training and evaluation.

use super::affine::{self, Place};
use super::variants::{self, Lanes, lane_rounds};
use super::{Entry, joined};
use crate::check::{Case, Fill, Input, InputRole};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Launch, Recorder, Shader, Target, View, params, shader};
use crate::graph::onnx::operators::{Operators, Value};
use crate::graph::{Bound, Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const SHADER: Shader = shader!("group_norm.wgsl", "shared/place.wgsl");
/// For groups whose columns are no multiples of 4, and for those that are.
static SCALAR: Lanes = [SHADER, SHADER.with(&["SUBGROUPS"])];
static VEC4: Lanes = [SHADER.with(&["VEC4"]), SHADER.with(&["VEC4", "SUBGROUPS"])];

params! {
    struct Params {
        gamma: Place, beta: Place,
        clips: u32, t: u32, f: u32, groups: u32, columns: u32, x_stride: u32, lengths_stride: u32,
        eps: f32, accumulate: u32, first: u32, stop: u32,
    }
}

const LANES: usize = 64;

/// Most terms of a sum in one dispatch (see `MAX_ITERATIONS`).
const PIECE: u32 = 1 << 14;

/// Sums of `terms` terms, in pieces.
fn pieces(p: Params, terms: u32) -> impl Iterator<Item = Params> {
    (0..terms).step_by(PIECE as usize).map(move |first| Params { first, stop: terms.min(first + PIECE), ..p })
}

/// Inputs: x, lengths, gamma, beta. Output: y.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// G, a divisor of F.
    pub groups: usize,
    /// Added to the variance. 1e-5 in PyTorch.
    pub eps: f64,
}

/// Adds group norm. `x` (B, T, F), `lengths` u32 (B), `gamma` and `beta` (F).
///
/// # Errors
/// `Shape` for tensors that do not fit together, and for a number of groups that does not divide F.
pub fn group_norm(
    g: &mut Graph,
    x: Tensor,
    lengths: Tensor,
    gamma: Tensor,
    beta: Tensor,
    config: GroupNorm,
) -> Result<Tensor> {
    Ok(g.push(config, &[x, lengths, gamma, beta])?[0])
}

/// B, T and F of x.
fn dims(x: &Bound) -> [usize; 3] {
    x.shape.dims().try_into().expect("infer lets only three axes pass")
}

impl GroupNorm {
    /// Of the kernels for F columns.
    fn width(&self, f: usize) -> usize {
        variants::row_width(f / self.groups)
    }

    fn shader(&self, target: Target, f: usize) -> &'static Shader {
        variants::lanes(target, if self.width(f) == 4 { &VEC4 } else { &SCALAR })
    }

    fn params(&self, io: &Io) -> Params {
        let [b, t, f] = dims(io.x(0));
        let width = self.width(f);
        let place = |i: usize| Place::new(0, io.x(i).stride / width);
        Params {
            gamma: place(2),
            beta: place(3),
            clips: b as u32,
            t: t as u32,
            f: (f / width) as u32,
            groups: self.groups as u32,
            columns: (f / self.groups / width) as u32,
            x_stride: (io.x(0).stride / width) as u32,
            lengths_stride: io.x(1).stride as u32,
            eps: self.eps as f32,
            accumulate: 0,
            first: 0,
            stop: 0,
        }
    }

    /// A workgroup per clip and group, which goes over the group `times` times.
    fn per_group(p: Params, replicas: usize, times: usize) -> Launch {
        let values = (p.t * p.columns) as usize;
        let rounds = times * values.div_ceil(LANES) + 2 * lane_rounds(LANES) + (p.columns as usize).div_ceil(LANES);
        Grid::folded((p.clips * p.groups) as usize, replicas).iterations(rounds)
    }

    /// The gradients of gamma and beta from each clip's sums, if they are trained.
    fn backward_affine(&self, io: &Io, r: &mut Recorder, partial: View) -> Result<()> {
        let f = io.x(0).shape.last();
        let (shader, width) = (self.shader(r.target, f), self.width(f));
        let op = "group_norm with gamma and beta that are not parameters";
        let (Some(gradients), [gamma, beta]) = affine::gradients(io, width, op)? else { return Ok(()) };
        let p = Params { gamma, beta, ..self.params(io) };
        let bindings = [("partial", partial), ("grad_affine", gradients)];
        for p in pieces(p, p.clips) {
            let launch = Grid::items(p.f as usize, LANES, io.replicas).iterations(PIECE as usize);
            r.dispatch(shader, "group_norm_backward_affine", &bindings, p, launch);
        }
        Ok(())
    }
}

impl Op for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let (input, f) = (&x[0].shape, x[0].shape.last());
        let fits = input.rank() == 3
            && !input.is_empty()
            && self.groups > 0
            && f.is_multiple_of(self.groups)
            && x[1] == Spec::u32([input.dims()[0]])
            && x[2..].iter().all(|s| *s == Spec::f32([f]));
        if !fits {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected =
                format!("x (B, T, F) with F a multiple of {} groups, u32 lengths (B), gamma and beta (F)", self.groups);
            return Err(Error::shape("group_norm", expected, got.join(", ")));
        }
        let b = input.dims()[0];
        Ok(Outputs {
            saved: vec![Spec::f32([b, self.groups, 2])],
            scratch: vec![Spec::f32([b, 2, f])],
            ..Outputs::one(x[0].clone())
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let shader = self.shader(r.target, io.x(0).shape.last());
        let p = self.params(io);
        let bindings = [
            ("x", io.x(0).view),
            ("lengths", io.x(1).view),
            ("gamma", io.x(2).view),
            ("beta", io.x(3).view),
            ("y", io.y(0).view),
            ("saved_moments", io.saved(0).view),
        ];
        r.dispatch(shader, "group_norm_forward", &bindings, p, GroupNorm::per_group(p, io.replicas, 3));
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let shader = self.shader(r.target, io.x(0).shape.last());
        let Some(dy) = io.dy(0) else { return Ok(()) };
        let (p, partial) = (self.params(io), io.scratch(0).view);
        let inputs = [
            ("x", io.x(0).view),
            ("lengths", io.x(1).view),
            ("saved_moments", io.saved(0).view),
            ("grad_y", dy),
            ("partial", partial),
        ];
        for p in pieces(p, p.t) {
            let launch = Grid::items((p.clips * p.f) as usize, LANES, io.replicas).iterations(PIECE as usize);
            r.dispatch(shader, "group_norm_backward_sums", &inputs, p, launch);
        }
        self.backward_affine(io, r, partial)?;
        if let Some(dx) = io.dx(0) {
            let p = Params { accumulate: dx.accumulate.into(), ..p };
            let bindings = [&inputs[..], &[("gamma", io.x(2).view), ("grad_x", dx.view)]].concat();
            let launch = GroupNorm::per_group(p, io.replicas, 1);
            r.dispatch(shader, "group_norm_backward_input", &bindings, p, launch);
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [x, lengths, gamma, beta] = x else { unreachable!("group_norm takes four tensors") };
        let [b, t, f] = *x.shape().dims() else { unreachable!("x has three axes") };
        let columns = f / self.groups;
        let mut y = Array::zeros(x.shape().clone());
        for clip in 0..b {
            let valid = (lengths[clip] as usize).min(t);
            for group in 0..self.groups {
                let places: Vec<usize> = (0..valid)
                    .flat_map(|i| (0..columns).map(move |c| (clip * t + i) * f + group * columns + c))
                    .collect();
                let n = places.len().max(1) as f64;
                let mean = places.iter().map(|&at| x[at]).sum::<f64>() / n;
                let var = places.iter().map(|&at| (x[at] - mean).powi(2)).sum::<f64>() / n;
                for &at in &places {
                    y[at] = gamma[at % f] * (x[at] - mean) / (var + self.eps).sqrt() + beta[at % f];
                }
            }
        }
        vec![y]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        let &[_, t, f] = x[0].dims() else { unreachable!("inferred before") };
        let columns = f / self.groups;
        let (input, mask, lengths) = (to.of(&x[0]), to.mask(&x[1], t), to.lengths(&x[1], t));
        let (mask, each) = (to.unsqueeze(&mask, &[3]), to.scalar(columns as f32));
        let n = to.apply("Mul", &[&lengths, &each], &[]);
        let (n, one) = (to.unsqueeze(&n, &[1, 2, 3]), to.scalar(1.0));
        let n = to.apply("Max", &[&n, &one], &[]);
        let mean = |x: &str, to: &mut Operators| {
            let valid = to.apply("Mul", &[x, &mask], &[]);
            let sum = to.sum(&valid, &[1, 3], true);
            to.apply("Div", &[&sum, &n], &[])
        };
        let grouped = to.reshape(&input, &[-1, t as i64, self.groups as i64, columns as i64]);
        let centre = mean(&grouped, to);
        let centred = to.apply("Sub", &[&grouped, &centre], &[]);
        let squared = to.apply("Mul", &[&centred, &centred], &[]);
        let (var, eps) = (mean(&squared, to), to.scalar(self.eps as f32));
        let var = to.apply("Add", &[&var, &eps], &[]);
        let deviation = to.apply("Sqrt", &[&var], &[]);
        let y = to.apply("Div", &[&centred, &deviation], &[]);
        let y = to.reshape(&y, &[-1, t as i64, f as i64]);
        let (gamma, beta) = (to.of(&x[2]), to.of(&x[3]));
        let y = to.apply("Mul", &[&y, &gamma], &[]);
        let y = to.apply("Add", &[&y, &beta], &[]);
        let mask = to.mask(&x[1], t);
        Ok(vec![to.apply("Mul", &[&y, &mask], &[])])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let len = x[0].shape.len() as f64;
        Cost { flops: 8.0 * len, bytes: 4.0 * 2.0 * len }
    }
}

fn case(name: &str, shape: [usize; 3], groups: usize, lengths: &[u32]) -> Case {
    let f = [shape[2]];
    let lengths = Input::u32([lengths.len()], Fill::Given(lengths.iter().map(|&n| n.into()).collect()));
    let gamma = Input::param(f).filled(Fill::AwayFromZero(0.5));
    Case::new(name, GroupNorm { groups, eps: 1e-5 }, vec![Input::gradient(shape), lengths, gamma, Input::param(f)])
}

/// With another `x`.
fn on(mut case: Case, x: Input) -> Case {
    case.inputs[0] = x;
    case
}

fn cases() -> Vec<Case> {
    let mut frozen = case("gamma and beta without gradient", [3, 4, 8], 2, &[4, 1, 3]);
    (frozen.inputs[2].kind, frozen.inputs[3].kind) = (InputRole::Data, InputRole::Data);
    // Means are rounded to multiples of 8e-6; observed errors: 1.1e-5 forward, 4.6e-5 gradient.
    let far = Input::gradient([4, 5, 8]).filled(Fill::Uniform(100.0, 101.0));
    vec![
        case("one group", [3, 5, 7], 1, &[5, 2, 4]),
        case("a group per column", [3, 5, 7], 7, &[5, 2, 4]),
        case("one instance", [3, 1, 12], 3, &[1, 1, 1]),
        case("padding, and a clip without instances", [4, 5, 6], 2, &[5, 0, 3, 1]),
        case("padding, vec4", [4, 5, 16], 2, &[5, 0, 3, 1]),
        case("groups of more values than lanes", [2, 67, 12], 2, &[67, 33]),
        case("more instances than a dispatch sums", [1, 16_400, 2], 1, &[16_400]),
        case("more clips than a dispatch sums", [16_400, 1, 2], 1, &[1; 16_400]),
        case("groups of more columns than lanes", [2, 3, 520], 2, &[3, 2]),
        on(case("far from zero", [4, 5, 8], 2, &[5, 4, 3, 2]), far)
            .forward_tolerance(2e-5, 1e-5)
            .gradient_tolerance(4e-5, 4e-5),
        on(case("shared by the replicas", [3, 2, 8], 4, &[2, 1, 2]), Input::data([3, 2, 8]).shared()),
        on(case("input without gradient", [3, 4, 6], 3, &[4, 2, 1]), Input::data([3, 4, 6])),
        frozen,
        case("att-gn", [128, 10, 128], 32, &[10; 128]).bench(),
        case("att-gn on frames", [4, 960, 128], 32, &[960, 960, 480, 960]).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "group_norm",
    about: "group norm of each clip's valid instances",
    shaders: &joined::<4>(&[&SCALAR, &VEC4]),
    cases,
};
