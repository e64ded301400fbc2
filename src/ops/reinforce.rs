//! REINFORCE with a learned baseline, for a policy that draws locations from N(mu, std^2 I) (Williams, 1992; Mnih,
//! Heess, Graves, Kavukcuoglu: "Recurrent models of visual attention", NIPS 2014, eq. 3 and 4).
//!
//! mu (B, 2), drawn (B, 2), fixed (B), baseline (B), reward (B), counts (B) 0 or 1.
//! loss (1) = mean over the clips that count of -(reward - fixed) log pi(drawn) + (reward - baseline)^2, 0 if there is
//! none, where log pi(d) = -|d - mu|^2 / (2 std^2) - ln(2 pi std^2). `fixed` is the baseline without its gradient: the
//! policy learns from how much better than expected a draw was, and must not improve that by lowering the baseline.
//! Only mu and baseline get gradients.

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};
use crate::ops::reward::Reward;

static SHADER: Shader = shader!("reinforce.wgsl");

params! {
    struct Params { batch: u32, sigma: f32, log_norm: f32, first: u32, columns: u32, accumulate: u32 }
}

/// Inputs: mu, drawn, fixed, baseline, reward, counts.
#[derive(Clone, Copy, Debug)]
struct Reinforce {
    std: f64,
}

/// Adds the loss (1) of a policy that has drawn `drawn` (B, 2) from N(`mu`, std^2 I), and of the `baseline` (B) of its
/// reward.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn reinforce(
    g: &mut Graph,
    mu: Tensor,
    drawn: Tensor,
    std: f64,
    baseline: Tensor,
    reward: Reward,
) -> Result<Tensor> {
    let fixed = g.detach(baseline);
    Ok(g.push(Reinforce { std }, &[mu, drawn, fixed, baseline, reward.sum, reward.counts])?[0])
}

impl Reinforce {
    fn log_norm(&self) -> f64 {
        (std::f64::consts::TAU * self.std * self.std).ln()
    }

    fn params(&self, io: &Io) -> Params {
        let (batch, sigma, log_norm) = (io.x(0).shape.rows() as u32, self.std as f32, self.log_norm() as f32);
        Params { batch, sigma, log_norm, first: 0, columns: 0, accumulate: 0 }
    }
}

impl Op for Reinforce {
    fn name(&self) -> &'static str {
        "reinforce"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let batch = x[0].shape.rows();
        let fits =
            x[..2].iter().all(|s| *s == Spec::f32([batch, 2])) && x[2..].iter().all(|s| *s == Spec::f32([batch]));
        if !fits {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = "mu (B, 2), drawn (B, 2), baselines (B) twice, reward (B), counts (B)";
            return Err(Error::shape(self.name(), expected, got.join(", ")));
        }
        let saved = vec![Spec::f32([batch, 3])];
        Ok(Outputs { y: vec![Spec::f32([1])], saved, ..Default::default() })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let names = ["mu", "drawn", "fixed_baseline", "baseline", "reward", "counts"];
        let inputs = names.iter().enumerate().map(|(i, name)| (*name, io.x(i).view));
        let outputs = [("y", io.y(0).view), ("saved_slopes", io.saved(0).view)];
        let bindings: Vec<_> = inputs.chain(outputs).collect();
        // A replica's loss is small: one workgroup sums it, in a fixed order.
        r.dispatch(
            &SHADER,
            "reinforce_forward",
            &bindings,
            self.params(io),
            Grid::folded(1, io.replicas).iterations(2 * io.x(0).shape.rows().div_ceil(64) + 6),
        );
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        if [1, 2, 4, 5].iter().any(|i| io.dx(*i).is_some()) {
            return Err(Error::NoGradient { op: self.name() });
        }
        let dy = io.dy(0).expect("backward runs only with a gradient");
        for (input, first, columns) in [(0, 0, 2), (3, 2, 1)] {
            let Some(dx) = io.dx(input) else { continue };
            let p = Params { first, columns, accumulate: dx.accumulate.into(), ..self.params(io) };
            let bindings = [("slopes", io.saved(0).view), ("grad_y", dy), ("grad_x", dx.view)];
            r.dispatch(
                &SHADER,
                "reinforce_backward",
                &bindings,
                p,
                Grid::items((p.batch * columns) as usize, 64, io.replicas).no_loops(),
            );
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [mu, drawn, fixed, baseline, reward, counts] = x else { unreachable!("reinforce takes six tensors") };
        let clips: Vec<usize> = (0..reward.shape().len()).filter(|b| counts[*b] != 0.0).collect();
        let term = |b: &usize| {
            let away: f64 = mu.row(*b).iter().zip(drawn.row(*b)).map(|(mu, drawn)| (drawn - mu).powi(2)).sum();
            let log_pi = -away / (2.0 * self.std * self.std) - self.log_norm();
            -(reward[*b] - fixed[*b]) * log_pi + (reward[*b] - baseline[*b]).powi(2)
        };
        vec![Array::new([1], vec![clips.iter().map(term).sum::<f64>() / clips.len().max(1) as f64])]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.rows() as f64;
        Cost { flops: 15.0 * n, bytes: 44.0 * n }
    }
}

fn cases() -> Vec<Case> {
    let case = |name: &str, batch: usize, std: f64, known: f64| {
        let inputs = vec![
            Input::gradient([batch, 2]),
            Input::data([batch, 2]),
            Input::data([batch]).filled(Fill::Uniform(0.0, 4.0)),
            Input::gradient([batch]).filled(Fill::Uniform(0.0, 4.0)),
            Input::data([batch]).filled(Fill::Uniform(0.0, 4.0)),
            Input::data([batch]).filled(Fill::Bernoulli(known)),
        ];
        Case::new(name, Reinforce { std }, inputs)
    };
    vec![
        case("one", 1, 0.5, 1.0),
        case("some clips ignored", 7, 0.5, 0.5),
        case("all clips ignored", 5, 0.5, 0.0),
        case("more clips than invocations", 131, 0.17, 0.7),
        case("sr16", 32, 0.17, 0.9).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "reinforce", about: "policy gradient with a learned baseline", shaders: &[&SHADER], cases };
