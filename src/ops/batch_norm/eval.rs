//! The op for evaluation.

use super::layer::{BatchNorm, Slices, infer, per_part};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::Recorder;
use crate::graph::onnx::operators::{Operators, Value};
use crate::graph::{Cost, Io, Op, Outputs, Spec};

/// Batch norm with its running statistics. Inputs as of [`Train`] without the clock; output: y.
#[derive(Clone, Copy, Debug)]
pub struct Eval {
    pub config: BatchNorm,
}

impl Op for Eval {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        Ok(Outputs::one(infer(self.name(), x)?))
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let slices = Slices::elementwise(io, r.target);
        let shader = slices.shader(io);
        let (running, p) = BatchNorm::running(io, io.x(4).view, io.x(5).view, self.config.params(io, &slices))?;
        let bindings = [
            ("x", io.x(0).view),
            ("lengths", io.x(1).view),
            ("gamma", io.x(2).view),
            ("beta", io.x(3).view),
            ("running", running),
            ("y", io.y(0).view),
        ];
        let launch = per_part(&slices, p, p.rows as usize, io.replicas);
        r.dispatch_with(shader, "batch_norm_forward_eval", &[self.config.relu()], &bindings, p, launch);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        vec![self.config.reference(x, x[4].data(), x[5].data())]
    }

    fn onnx(&self, x: &[Value], to: &mut Operators) -> Result<Vec<String>> {
        if x[0].dims().len() == 2 {
            return Err(Error::NoOnnx { op: "batch_norm of (B, F)" });
        }
        // In f64, as the sums of scale and shift are not those of the kernel.
        let [gamma, beta, mean, var] = [2, 3, 4, 5].map(|i| x[i].known());
        let (gamma, beta, mean, var) = (gamma?, beta?, mean?, var?);
        let f = gamma.shape().len();
        let scale = |c: usize| f64::from(gamma[c]) / (f64::from(var[c]) + self.config.eps).sqrt();
        let shift = |c: usize| f64::from(beta[c]) - f64::from(mean[c]) * scale(c);
        let scales: Vec<f32> = (0..f).map(|c| scale(c) as f32).collect();
        let shifts: Vec<f32> = (0..f).map(|c| shift(c) as f32).collect();
        let (input, scale, shift) = (to.of(&x[0]), to.floats(&[f], &scales), to.floats(&[f], &shifts));
        let y = to.apply("Mul", &[&input, &scale], &[]);
        let mut y = to.apply("Add", &[&y, &shift], &[]);
        if self.config.relu_dropout.is_some() {
            y = to.apply("Relu", &[&y], &[]);
        }
        let mut mask = to.mask(&x[1], x[0].dims()[1]);
        if x[0].dims().len() == 4 {
            mask = to.unsqueeze(&mask, &[3]);
        }
        Ok(vec![to.apply("Mul", &[&y, &mask], &[])])
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let len = x[0].shape.len() as f64;
        Cost { flops: 4.0 * len, bytes: 4.0 * 2.0 * len }
    }
}
