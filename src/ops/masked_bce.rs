//! Binary cross-entropy over the labels that are known (Gururani, Sharma, Lerch, ISMIR 2019, Eq. 4).
//!
//! p (B, K) probabilities, target (B, K), observed (B, K) 0 or 1, lengths u32 (B); a clip of length 0 is padding and counts nowhere.
//! bce(p, t) = -(t log p + (1 - t) log(1 - p)), logarithms clamped at -100, and
//! slope (p - t) / max(p (1 - p), 1e-12), both as PyTorch's BCELoss.
//! Outputs: loss (1), which is 0 when nothing is known, and its parts (2): numerator and denominator. The sums of both over the
//! batches of an epoch give the loss of the epoch.

use super::Room;
use crate::array::Array;
use crate::check::{Case, Fill, Input};
use crate::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = Shader::portable("masked_bce.wgsl", include_str!("../../shaders/masked_bce.wgsl"));

params! {
    struct Params { batch: u32, classes: u32, per_clip: u32, alpha: f32, beta: f32, gamma: f32, accumulate: u32 }
}

/// What the sum over known labels is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Normalisation {
    /// Mean over all known labels of the batch.
    Observed,
    /// Eq. 4: mean over the clips of g(q) / K times a clip's sum, where q is the share of its labels that are known and
    /// g(q) = alpha q^gamma + beta. A clip without any adds 0 to the numerator and 1 to the denominator.
    Partial { alpha: f64, beta: f64, gamma: f64 },
}

/// The op of [`masked_bce`].
#[derive(Debug)]
pub struct MaskedBce(pub Normalisation);

/// Adds the loss (1) and its parts (2) of probabilities `p` (B, K); see the module. Only `p` gets a gradient, and only
/// from the loss.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn masked_bce(
    g: &mut Graph,
    p: Tensor,
    target: Tensor,
    observed: Tensor,
    lengths: Tensor,
    norm: Normalisation,
) -> Result<(Tensor, Tensor)> {
    let y = g.push(MaskedBce(norm), &[p, target, observed, lengths])?;
    Ok((y[0], y[1]))
}

impl MaskedBce {
    fn params(&self, io: &Io) -> Params {
        let shape = &io.x(0).shape;
        let (per_clip, [alpha, beta, gamma]) = match self.0 {
            Normalisation::Observed => (0, [0.0; 3]),
            Normalisation::Partial { alpha, beta, gamma } => (1, [alpha, beta, gamma].map(|v| v as f32)),
        };
        let (batch, classes) = (shape.rows() as u32, shape.last() as u32);
        Params { batch, classes, per_clip, alpha, beta, gamma, accumulate: 0 }
    }
}

impl Op for MaskedBce {
    fn name(&self) -> &'static str {
        "masked_bce"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let shape = &x[0].shape;
        let f32s = x[..3].iter().all(|s| *s == Spec::f32(shape.clone()));
        if shape.rank() != 2 || !f32s || x[3] != Spec::u32([shape.rows()]) {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = "p (B, K), target (B, K), observed (B, K), lengths u32 (B)";
            return Err(Error::shape("masked_bce", expected, got.join(", ")));
        }
        Ok(Outputs {
            y: vec![Spec::f32([1]), Spec::f32([2])],
            saved: vec![Spec::f32([shape.rows()])],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let bindings = [
            ("x", io.x(0).view),
            ("targets", io.x(1).view),
            ("observed", io.x(2).view),
            ("lengths", io.x(3).view),
            ("y", io.y(0).view),
            ("parts", io.y(1).view),
            ("saved_weight", io.saved(0).view),
        ];
        // A replica's loss is small: one workgroup adds it up, in one order.
        r.dispatch(&SHADER, "masked_bce_forward", &bindings, self.params(io), Grid([1, 1, io.replicas as u32]));
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let dx = match io.dx(0) {
            Some(dx) if (1..4).all(|i| io.dx(i).is_none()) => dx,
            _ => return Err(Error::NoGradient { op: "masked_bce" }),
        };
        let dy = io.dy(0).ok_or(Error::NoGradient { op: "masked_bce" })?;
        let bindings = [
            ("x", io.x(0).view),
            ("targets", io.x(1).view),
            ("observed", io.x(2).view),
            ("parts", io.y(1).view),
            ("saved_weight", io.saved(0).view),
            ("dy", dy),
            ("dx", dx.view),
        ];
        let p = Params { accumulate: dx.accumulate.into(), ..self.params(io) };
        let groups = io.x(0).shape.len().div_ceil(64);
        r.dispatch(&SHADER, "masked_bce_backward_input", &bindings, p, Grid([groups as u32, 1, io.replicas as u32]));
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [p, target, observed, lengths] = x else { unreachable!("masked_bce takes four tensors") };
        let classes = p.shape().last() as f64;
        let log = |v: f64| v.ln().max(-100.0);
        let mut parts = [0.0, 0.0];
        for b in (0..p.shape().rows()).filter(|&b| lengths[b] > 0.0) {
            let (mut sum, mut known) = (0.0, 0.0);
            for ((p, t), observed) in p.row(b).iter().zip(target.row(b)).zip(observed.row(b)) {
                if *observed != 0.0 {
                    sum -= t * log(*p) + (1.0 - t) * log(1.0 - p);
                    known += 1.0;
                }
            }
            let (weight, share) = match self.0 {
                Normalisation::Observed => (1.0, known),
                Normalisation::Partial { .. } if known == 0.0 => (0.0, 1.0),
                Normalisation::Partial { alpha, beta, gamma } => {
                    ((alpha * (known / classes).powf(gamma) + beta) / classes, 1.0)
                }
            };
            parts[0] += weight * sum;
            parts[1] += share;
        }
        let loss = if parts[1] > 0.0 { parts[0] / parts[1] } else { 0.0 };
        vec![Array::new([1], vec![loss]), Array::new([2], parts.to_vec())]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 8.0 * n, bytes: 12.0 * n }
    }
}

/// ISMIR19's choice, which makes each clip's loss the mean over its known labels.
const MEAN_OF_CLIPS: Normalisation = Normalisation::Partial { alpha: 1.0, beta: 0.0, gamma: -1.0 };
const LINEAR: Normalisation = Normalisation::Partial { alpha: -4.45, beta: 5.45, gamma: 1.0 };

/// Probabilities in [0.1, 0.9], a share `known` of labels.
fn case(name: &str, norm: Normalisation, shape: [usize; 2], known: f64, lengths: Fill) -> Case {
    let inputs = vec![
        Input::gradient(shape).filled(Fill::Uniform(0.1, 0.9)),
        Input::data(shape).filled(Fill::Chance(0.4)),
        Input::data(shape).filled(Fill::Chance(known)),
        Input::u32([shape[0]], lengths),
    ];
    Case::new(name, MaskedBce(norm), inputs).seeded(&[0])
}

fn cases() -> Vec<Case> {
    let whole = || Fill::Given(vec![10.0; 2000]);
    vec![
        case("one", Normalisation::Observed, [1, 1], 1.0, whole()),
        case("padding", Normalisation::Observed, [7, 5], 0.4, Fill::Below(2)),
        case("padding, by clips", MEAN_OF_CLIPS, [7, 5], 0.3, Fill::Below(2)),
        case("linear g, by clips", LINEAR, [7, 5], 0.3, whole()),
        case("more clips than workers", Normalisation::Observed, [259, 3], 0.3, Fill::Below(3)),
        case("more clips than workers, by clips", MEAN_OF_CLIPS, [512, 3], 0.3, Fill::Below(3)),
        case("nothing known", Normalisation::Observed, [5, 4], 0.0, whole()),
        case("nothing known, by clips", MEAN_OF_CLIPS, [5, 4], 0.0, whole()),
        case("nothing but padding", MEAN_OF_CLIPS, [5, 4], 0.5, Fill::Below(1)),
        case("real", Normalisation::Observed, [128, 20], 0.1, whole()).bench(),
        case("real, by clips", MEAN_OF_CLIPS, [128, 20], 0.1, whole()).bench(),
    ]
}

pub const ROOM: Room =
    Room { name: "masked_bce", about: "binary cross-entropy of known labels", shaders: &[&SHADER], cases };
