//! Fully connected layer: y = x w^T + b over the innermost axis.
//!
//! x (..., K), w (N, K) as PyTorch stores it, b (N) or none, y (..., N). The outer axes fold into M rows.
//! Gradients: dx = dy w; dw = dy^T x; db = sum of dy over the rows.

use super::{Room, variants};
use crate::array::Array;
use crate::check::{Case, Input};
use crate::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, View, params};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};
use variants::MatrixProduct;

static SHADER: Shader = Shader::portable("linear.wgsl", include_str!("../../shaders/linear.wgsl"));
static SUBGROUP8: Shader =
    Shader::with_subgroups("linear_subgroup8.wgsl", include_str!("../../shaders/linear_subgroup8.wgsl"));

params! {
    struct Params {
        m: u32, n: u32, k: u32,
        w_stride: u32, b_stride: u32,
        has_bias: u32, accumulate: u32, slices: u32,
    }
}

/// Rows and columns of the results that a workgroup computes (see the shaders).
const TILE: usize = 32;
/// The tile kernel sums dw over M in slices of about this many rows, so that a big GPU has enough workgroups.
const SLICE: usize = 128;
const MAX_SLICES: usize = 16;

#[derive(Debug)]
struct Linear;

/// Adds y = x w^T (+ b). `w` (N, K), `b` (N).
pub fn linear(g: &mut Graph, x: Tensor, w: Tensor, b: Option<Tensor>) -> Result<Tensor> {
    let inputs: Vec<Tensor> = [x, w].into_iter().chain(b).collect();
    Ok(g.push(Linear, &inputs)?[0])
}

struct Dims {
    m: usize,
    n: usize,
    k: usize,
}

impl Dims {
    fn of(io: &Io) -> Dims {
        let (x, w) = (&io.x(0).shape, &io.x(1).shape);
        Dims { m: x.rows(), n: w.rows(), k: x.last() }
    }

    fn slices(&self) -> usize {
        self.m.div_ceil(SLICE).min(MAX_SLICES)
    }

    fn params(&self, io: &Io) -> Params {
        let bias = io.inputs() == 3;
        Params {
            m: self.m as u32,
            n: self.n as u32,
            k: self.k as u32,
            w_stride: io.x(1).stride as u32,
            b_stride: if bias { io.x(2).stride as u32 } else { 0 },
            has_bias: bias.into(),
            accumulate: 0,
            slices: 1,
        }
    }
}

/// Workgroups for a (rows, cols) result in tiles.
fn tiles(rows: usize, cols: usize, z: usize) -> Grid {
    Grid::folded(rows.div_ceil(TILE) * cols.div_ceil(TILE), z)
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let (input, w) = (&x[0].shape, &x[1].shape);
        let fits = w.rank() == 2 && input.rank() >= 1 && input.last() == w.last();
        let bias_fits = x.get(2).is_none_or(|b| b.shape.dims() == [w.rows()]);
        if !fits || !bias_fits {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            return Err(Error::shape("linear", "x (..., K), w (N, K), b (N)", got.join(", ")));
        }
        let dims = Dims { m: input.rows(), n: w.rows(), k: input.last() };
        let partial = Spec::f32([dims.slices(), dims.n, dims.k]);
        let partial_bias = Spec::f32([dims.slices(), dims.n]);
        Ok(Outputs {
            y: vec![Spec::f32(input.with_last(w.rows()))],
            scratch: vec![partial, partial_bias],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = Dims::of(io);
        let bias = if io.inputs() == 3 { io.x(2).view } else { io.x(1).view };
        let bindings = [("x", io.x(0).view), ("w", io.x(1).view), ("b", bias), ("y", io.y(0).view)];
        let (shader, entry) = match variants::matrix_product(r.target, d.n, d.k) {
            MatrixProduct::Tile => (&SHADER, "linear_forward"),
            MatrixProduct::Subgroup8 => (&SUBGROUP8, "linear_forward_subgroup8"),
        };
        r.dispatch(shader, entry, &bindings, d.params(io), tiles(d.m, d.n, io.replicas));
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let d = Dims::of(io);
        let dy = io.dy(0).expect("backward runs only with a gradient");
        let variant = variants::matrix_product(r.target, d.n, d.k);
        if let Some(dx) = io.dx(0) {
            let bindings = [("dy", dy), ("w", io.x(1).view), ("dx", dx.view)];
            let p = Params { accumulate: dx.accumulate.into(), ..d.params(io) };
            let (shader, entry) = match variant {
                MatrixProduct::Tile => (&SHADER, "linear_backward_input"),
                MatrixProduct::Subgroup8 => (&SUBGROUP8, "linear_backward_input_subgroup8"),
            };
            r.dispatch(shader, entry, &bindings, p, tiles(d.m, d.k, io.replicas));
        }
        if let Some(dw) = io.dx(1) {
            let p = Params { accumulate: dw.accumulate.into(), w_stride: dw.stride as u32, ..d.params(io) };
            let bindings = |name, view: View| [("dy", dy), ("x", io.x(0).view), (name, view)];
            match variant {
                MatrixProduct::Tile => {
                    let p = Params { slices: d.slices() as u32, ..p };
                    let grid = tiles(d.n, d.k, io.replicas * d.slices());
                    let partial = io.scratch(0).view;
                    r.dispatch(&SHADER, "linear_backward_weight", &bindings("partial", partial), p, grid);
                    add_slices(r, partial, dw.view, p, d.n * d.k, io.replicas);
                }
                MatrixProduct::Subgroup8 => {
                    let grid = tiles(d.n, d.k, io.replicas);
                    r.dispatch(&SUBGROUP8, "linear_backward_weight_subgroup8", &bindings("dw", dw.view), p, grid);
                }
            }
        }
        if let Some(db) = io.dx(2) {
            let p = Params { slices: d.slices() as u32, ..d.params(io) };
            let partial = io.scratch(1).view;
            let grid = Grid::items(d.n, 64, io.replicas * d.slices());
            r.dispatch(&SHADER, "linear_backward_bias", &[("dy", dy), ("partial", partial)], p, grid);
            let p = Params { k: 1, accumulate: db.accumulate.into(), w_stride: db.stride as u32, ..p };
            add_slices(r, partial, db.view, p, d.n, io.replicas);
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (input, w) = (&x[0], &x[1]);
        let mut y = Array::zeros(input.shape().with_last(w.shape().rows()));
        for m in 0..input.shape().rows() {
            for n in 0..w.shape().rows() {
                let dot: f64 = input.row(m).iter().zip(w.row(n)).map(|(a, b)| a * b).sum();
                y.row_mut(m)[n] = dot + x.get(2).map_or(0.0, |b| b[n]);
            }
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let (m, n, k) = (x[0].shape.rows() as f64, x[1].shape.rows() as f64, x[0].shape.last() as f64);
        Cost { flops: 2.0 * m * n * k, bytes: 4.0 * (m * k + n * k + m * n) }
    }
}

/// Sums the slices of `partial` into `total`, in order.
fn add_slices(r: &mut Recorder, partial: View, total: View, p: Params, len: usize, replicas: usize) {
    let grid = Grid::items(len, 64, replicas);
    r.dispatch(&SHADER, "linear_backward_slices", &[("partial", partial), ("total", total)], p, grid);
}

fn case(name: &str, x: &[usize], n: usize, bias: bool) -> Case {
    let k = *x.last().expect("x has axes");
    let mut inputs = vec![Input::gradient(x), Input::param([n, k].as_slice())];
    if bias {
        inputs.push(Input::param([n].as_slice()));
    }
    Case::new(name, Linear, inputs)
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("one", &[1, 1], 1, true),
        case("ragged tiles", &[3, 11, 31], 33, true),
        case("no bias", &[33, 17], 31, false),
        case("whole vec4, ragged rows", &[17, 36], 20, true),
        case("narrow vec4", &[5, 4], 4, true),
        case("several slices", &[300, 8], 12, true),
        case("primes", &[131, 67], 37, true),
    ];
    for (name, x, n) in [("att layer", [1280, 128], 128), ("att head", [1280, 128], 20), ("fc first", [128, 1280], 512)]
    {
        // Sums of up to 1280 terms: 1.3e-5 was observed.
        cases.push(case(name, &x, n, true).bench().forward_tolerance(3e-5, 1e-5));
    }
    cases
}

pub const ROOM: Room = Room { name: "linear", about: "fully connected layer", shaders: &[&SHADER, &SUBGROUP8], cases };
