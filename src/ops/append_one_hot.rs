//! Appends to each row the one-hot index within its group of n: y (..., W + n) = (x, e(row mod n)), e(i) the i-th unit
//! vector.
//!
//! The frequency identifier of Watcharasupat, Gururani and Lerch ("Visual attention for musical instrument
//! recognition", 2020). x (..., n, W) has n rows per group. dx is the first W columns of dy.

use super::Entry;
use crate::check::{Case, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("append_one_hot.wgsl");

params! {
    struct Params { rows: u32, width: u32, n: u32, accumulate: u32 }
}

/// Inputs: x.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppendOneHot {
    pub n: usize,
}

/// Adds it to `x` (..., W), whose rows are a multiple of `n`; gives (..., W + n).
pub fn append_one_hot(g: &mut Graph, x: Tensor, n: usize) -> Result<Tensor> {
    Ok(g.push(AppendOneHot { n }, &[x])?[0])
}

impl AppendOneHot {
    fn params(&self, io: &Io) -> Params {
        let x = &io.x(0).shape;
        let rows = (io.replicas * x.rows()) as u32;
        Params { rows, width: x.last() as u32, n: self.n as u32, accumulate: 0 }
    }
}

impl Op for AppendOneHot {
    fn name(&self) -> &'static str {
        "append_one_hot"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let shape = &x[0].shape;
        if self.n == 0 || shape.is_empty() || !shape.rows().is_multiple_of(self.n) {
            return Err(Error::shape(
                self.name(),
                format!("x (..., W) in groups of {} rows", self.n),
                shape.to_string(),
            ));
        }
        Ok(Outputs::one(Spec::f32(shape.with_last(shape.last() + self.n))))
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let p = self.params(io);
        let grid = Grid::items((p.rows * (p.width + p.n)) as usize, 64, 1).no_loops();
        r.dispatch(&SHADER, "append_one_hot_forward", &[("x", io.x(0).view), ("y", io.y(0).view)], p, grid);
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let dy = io.dy(0).expect("backward runs only with a gradient");
        if let Some(dx) = io.dx(0) {
            let p = Params { accumulate: dx.accumulate.into(), ..self.params(io) };
            let grid = Grid::items((p.rows * p.width) as usize, 64, 1).no_loops();
            r.dispatch(&SHADER, "append_one_hot_backward", &[("grad_y", dy), ("grad_x", dx.view)], p, grid);
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let width = x[0].shape().last();
        let mut y = Array::zeros(x[0].shape().with_last(width + self.n));
        for row in 0..x[0].shape().rows() {
            y.row_mut(row)[..width].copy_from_slice(x[0].row(row));
            y.row_mut(row)[width + row % self.n] = 1.0;
        }
        vec![y]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let rows = x[0].shape.rows() as f64;
        Cost { flops: 0.0, bytes: 4.0 * rows * (2 * x[0].shape.last() + self.n) as f64 }
    }
}

fn case(name: &str, x: &[usize], n: usize) -> Case {
    Case::new(name, AppendOneHot { n }, vec![Input::gradient(x)])
}

fn cases() -> Vec<Case> {
    vec![
        case("one", &[1, 1], 1),
        case("groups", &[2, 3, 5], 3),
        case("bands", &[7, 4, 36], 4),
        case("att-tf-id", &[32, 240, 128], 4).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "append_one_hot", about: "one-hot frequency band appended", shaders: &[&SHADER], cases };
