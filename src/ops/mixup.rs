//! Mixup: each clip of a batch becomes a weighted sum of itself and a partner (Zhang, Cisse, Dauphin, Lopez-Paz:
//! "mixup: Beyond empirical risk minimization", 2018; for partial labels Anhari: "Learning multi-instrument
//! classification with partial labels", 2020, Eq. 3).
//!
//! clock u32 (4) = (seed low, seed high, step, done); of the clips and of their partners x (B, T, F), lengths u32 (B):
//! valid instances times positions, target (B, K), observed (B, K). Outputs: x, lengths, target and observed of the
//! mix, lambda (B). lambda is drawn from Beta(alpha, alpha) for each pair and is the weight of the clip, 1 - lambda
//! that of its partner; a clip of length 0 has weight 0. Instances beyond a clip's length count as 0, and a mix is as
//! long as the longer clip. A class that is known in both has the target lambda t + (1 - lambda) t2; known in one, it
//! has that one's if its weight is above 1/2; else it is unknown. No gradients.
//!
//! The draw is exact and needs no rejection: t = sqrt(2 alpha (u^(-1/alpha) - 1)) cos(2 pi v) has Student's t
//! distribution with 2 alpha degrees of freedom for uniform u and v (Bailey: "Polar generation of random variates with
//! the t-distribution", Mathematics of Computation 62, 1994), and (1 + t / sqrt(2 alpha + t^2)) / 2 is then Beta(alpha,
//! alpha) (Devroye: "Random variate generation in one line of code", Winter Simulation Conference 1996).

use super::gather::Batch;
use super::{Entry, variants};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::{PHILOX_ROUNDS, philox};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("mixup.wgsl");
static VEC4: Shader = SHADER.with(&["VEC4"]);

params! {
    struct Params { b: u32, t: u32, f: u32, classes: u32, positions: u32, clock_stride: u32, alpha: f32 }
}

/// Domain separation of the random stream of lambda, as in the shader.
const STREAM: u32 = 0x313F;
/// Angles in a full turn.
const TURN: u32 = 1 << 19;
/// Safe bound of exponents in f32: beyond it lambda rounds to 0 or 1.
const LARGEST: f64 = 80.0;

/// The op of [`mixup`]. Inputs: clock; x, lengths, target, observed of the clips; those of their partners.
#[derive(Clone, Copy, Debug)]
pub struct Mixup {
    /// Of Beta(alpha, alpha), above 0.
    pub alpha: f64,
    /// Factor of the lengths.
    pub positions: usize,
}

/// Adds the mix of each clip of `batch` with the clip of `partners` with the same index, by `clock`, u32 (4).
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn mixup(g: &mut Graph, clock: Tensor, batch: Batch, partners: Batch, how: Mixup) -> Result<Batch> {
    Batch::of_two(g, how, clock, batch, partners)
}

/// lambda of batch entry `b`. `clock` = [seed low, seed high, step, done].
fn lambda(b: usize, clock: [u32; 4], alpha: f64) -> f64 {
    let [first, second, ..] = philox([b as u32, 0, clock[2], STREAM], [clock[0], clock[1]]);
    let v = (f64::from(first >> 9) + 0.5) / 8_388_608.0;
    let w = (-(1.0 - v).ln() / alpha).min(LARGEST).exp_m1();
    let cos = (std::f64::consts::TAU * f64::from(second % TURN) / f64::from(TURN)).cos();
    let q = w * cos * cos;
    // (1 - sqrt(q / (1 + q))) / 2, the distance from the nearer end.
    let near = 0.5 / (1.0 + q) / (1.0 + (q / (1.0 + q)).sqrt());
    if cos >= 0.0 { 1.0 - near } else { near }
}

/// The kernel variant for F and its vector width.
fn kernels(f: usize) -> (&'static Shader, usize) {
    variants::by_row(f, &SHADER, &VEC4)
}

impl Op for Mixup {
    fn name(&self) -> &'static str {
        "mixup"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let fits = Batch::fits(&x[1..5]) && x[5..] == x[1..5] && x[0] == Spec::u32([4]);
        if !fits {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = "clock u32 (4), and twice x (B, T, F), lengths u32 (B), target (B, K), observed (B, K)";
            return Err(Error::shape("mixup", expected, got.join(", ")));
        }
        let batch = x[2].shape.len();
        Ok(Outputs { y: [&x[1..5], &[Spec::f32([batch])]].concat(), ..Default::default() })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let [b, t, f] = *io.x(1).shape.dims() else { unreachable!("x has three axes") };
        let (shader, width) = kernels(f);
        let p = Params {
            b: b as u32,
            t: t as u32,
            f: (f / width) as u32,
            classes: io.x(3).shape.last() as u32,
            positions: self.positions as u32,
            clock_stride: io.x(0).stride as u32 / 4,
            alpha: self.alpha as f32,
        };
        let lengths = [("lengths", io.x(2).view), ("lengths2", io.x(6).view)];
        let drawn = [("clock", io.x(0).view), ("y_lengths", io.y(1).view), ("y_lambda", io.y(4).view)];
        let grid = |items: usize| Grid::items(items, 64, io.replicas).iterations(PHILOX_ROUNDS);
        r.dispatch(shader, "mixup_forward_draw", &[lengths.as_slice(), &drawn].concat(), p, grid(b));
        let features = [("lambda", io.y(4).view), ("x", io.x(1).view), ("x2", io.x(5).view), ("y", io.y(0).view)];
        let items = b * t * f / width;
        r.dispatch(shader, "mixup_forward_features", &[lengths.as_slice(), &features].concat(), p, grid(items));
        let labels = [
            ("lambda", io.y(4).view),
            ("targets", io.x(3).view),
            ("observed", io.x(4).view),
            ("targets2", io.x(7).view),
            ("observed2", io.x(8).view),
            ("y_targets", io.y(2).view),
            ("y_observed", io.y(3).view),
        ];
        r.dispatch(shader, "mixup_forward_labels", &labels, p, grid(io.x(3).shape.len()));
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [clock, xs, lengths, target, observed, xs2, lengths2, target2, observed2] = x else {
            unreachable!("mixup takes nine tensors")
        };
        let [batch, t, f] = *xs.dims() else { unreachable!("x has three axes") };
        let classes = target.shape().last();
        let now = [0, 1, 2, 3].map(|i| clock[i] as u32);
        let weights = Array::from_fn([batch], |b| match (lengths[b] > 0.0, lengths2[b] > 0.0) {
            (false, _) => 0.0,
            (true, false) => 1.0,
            (true, true) => lambda(b, now, self.alpha),
        });
        let mixed = |i: usize| {
            let (clip, place) = (i / (t * f), (i / f % t * self.positions) as f64);
            let of = |x: &Array<f64>, lengths: &Array<f64>| if place < lengths[clip] { x[i] } else { 0.0 };
            weights[clip] * of(xs, lengths) + (1.0 - weights[clip]) * of(xs2, lengths2)
        };
        let label = |i: usize| {
            let weight = weights[i / classes];
            match (observed[i] != 0.0, observed2[i] != 0.0) {
                (true, true) => Some(weight * target[i] + (1.0 - weight) * target2[i]),
                (true, false) if weight > 0.5 => Some(target[i]),
                (false, true) if weight < 0.5 => Some(target2[i]),
                _ => None,
            }
        };
        vec![
            Array::from_fn([batch, t, f], mixed),
            Array::from_fn([batch], |b| lengths[b].max(lengths2[b])),
            Array::from_fn([batch, classes], |i| label(i).unwrap_or(0.0)),
            Array::from_fn([batch, classes], |i| f64::from(label(i).is_some())),
            weights,
        ]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[1].shape.len() as f64;
        Cost { flops: 3.0 * n, bytes: 12.0 * n }
    }
}

/// Inputs of a batch of [B, T, F] clips with K classes, of 0 to T valid instances each, half of the labels known.
pub(super) fn clips([b, t, f]: [usize; 3], classes: usize, positions: usize, salt: usize) -> [Input; 4] {
    let lengths = (0..b).map(|b| ((b * 7 + salt) % (t + 1) * positions) as f64).collect();
    [
        Input::data([b, t, f]),
        Input::u32([b], Fill::Given(lengths)),
        Input::data([b, classes]).filled(Fill::Bernoulli(0.5)),
        Input::data([b, classes]).filled(Fill::Bernoulli(0.5)),
    ]
}

fn case(name: &str, shape: [usize; 3], classes: usize, alpha: f64, positions: usize) -> Case {
    let clock = Input::u32([4], Fill::Below(u32::MAX));
    let [clips, partners] = [1, 3].map(|salt| clips(shape, classes, positions, salt));
    Case::new(name, Mixup { alpha, positions }, [clock].into_iter().chain(clips).chain(partners).collect())
}

fn cases() -> Vec<Case> {
    vec![
        case("one", [1, 1, 1], 1, 0.2, 1),
        case("ragged", [13, 5, 7], 3, 0.2, 1),
        case("ragged, vec4", [67, 5, 8], 5, 0.2, 1),
        case("positions", [9, 3, 8], 5, 0.2, 24),
        case("uniform", [257, 2, 4], 3, 1.0, 1),
        case("alpha near 0", [257, 2, 4], 3, 1e-3, 1),
        case("real", [128, 10, 128], 20, 0.2, 1).bench(),
    ]
}

pub(crate) const OP: Entry = Entry { name: "mixup", about: "mixup (augmentation)", shaders: &[&SHADER, &VEC4], cases };

#[cfg(test)]
mod tests {
    use super::*;

    /// (x, P(lambda < x)) of Beta(0.2, 0.2), by `scipy.stats.beta.cdf`.
    const CDF: [(f64, f64); 7] = [
        (1e-12, 0.002_094_969_806_4),
        (1e-6, 0.033_203_038_273_5),
        (1e-3, 0.132_201_291_729_3),
        (0.01, 0.209_777_690_067_8),
        (0.1, 0.336_689_778_430_1),
        (0.3, 0.433_204_376_184_6),
        (0.5, 0.5),
    ];

    fn draws(alpha: f64) -> Vec<f64> {
        (0..200_000).map(|i| lambda(i % 1000, [5, 6, (i / 1000) as u32, 0], alpha)).collect()
    }

    #[test]
    fn lambda_has_the_moments_of_beta() {
        for alpha in [0.05, 0.2, 0.5, 1.0] {
            let draws = draws(alpha);
            let n = draws.len() as f64;
            let moment = |k: i32| draws.iter().map(|v| (v - 0.5).powi(k)).sum::<f64>() / n;
            // Of Beta(a, a): variance 1 / (4 (2a + 1)), fourth central moment 3 / (16 (2a + 1) (2a + 3)).
            let variance = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            let fourth = 3.0 / (16.0 * (2.0 * alpha + 1.0) * (2.0 * alpha + 3.0));
            // Four standard errors.
            assert!(moment(1).abs() < 4.0 * (variance / n).sqrt(), "alpha {alpha}: mean {}", 0.5 + moment(1));
            let error = 4.0 * ((fourth - variance * variance) / n).sqrt();
            assert!((moment(2) - variance).abs() < error, "alpha {alpha}: variance {}, not {variance}", moment(2));
            assert!((moment(4) / fourth - 1.0).abs() < 0.01, "alpha {alpha}: fourth moment {}", moment(4));
        }
    }

    #[test]
    fn lambda_has_the_tails_of_beta() {
        let draws = draws(0.2);
        let n = draws.len() as f64;
        for (at, probability) in CDF {
            for fraction in [
                draws.iter().filter(|v| **v < at).count() as f64 / n,
                draws.iter().filter(|v| **v > 1.0 - at).count() as f64 / n,
            ] {
                let error = 4.0 * (probability * (1.0 - probability) / n).sqrt();
                assert!(
                    (fraction - probability).abs() < error,
                    "{fraction} are within {at} of an end, not {probability}"
                );
            }
        }
    }
}
