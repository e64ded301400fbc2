//! Binary cross-entropy over the labels that are known (Gururani, Sharma, Lerch, ISMIR 2019, Eq. 4).
//!
//! p (B, K) probabilities, target (B, K), observed (B, K) 0 or 1, lengths u32 (B); a clip of length 0 is padding and
//! ignored. bce(p, t) = -(t log p + (1 - t) log(1 - p)), logarithms clamped at -100, and
//! slope (p - t) / max(p (1 - p), 1e-12), both as PyTorch's BCELoss. Targets may be between 0 and 1 (mixed clips).
//! Focal (Lin, Goyal, Girshick, He, Dollar: "Focal loss for dense object detection", 2017, Eq. 5; Anhari: "Learning
//! multi-instrument classification with partial labels", 2020, Eq. 1), for alpha (K) in \[0, 1\] and gamma >= 0:
//! focal(p, t) = -(t alpha_k (1 - p)^gamma log p + (1 - t) (1 - alpha_k) p^gamma log(1 - p)), with the same clamps, 0^0
//! = 1, and in its slope 1 / p and 1 / (1 - p) as (1 - p) / max(p (1 - p), 1e-12) and p / max(p (1 - p), 1e-12).
//! Outputs: loss (1), which is 0 when nothing is known, and its parts (2): numerator and denominator. The sums of both
//! over the batches of an epoch give the loss of the epoch.

use std::rc::Rc;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::variants::{self, Lanes, lane_rounds};
use super::{Entry, joined};
use crate::check::{Case, Fill, Input, InputRole};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Launch, Recorder, Shader, Target, View, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const SHADER: Shader = shader!("masked_bce.wgsl", "shared/masked_bce.wgsl");
pub(super) static PLAIN: Lanes = [SHADER, SHADER.with(&["SUBGROUPS"])];
static FOCAL: Lanes = [SHADER.with(&["FOCAL"]), SHADER.with(&["FOCAL", "SUBGROUPS"])];

/// Invocations of the workgroup that sums a replica's loss: the loss of a batch is small.
const WORKGROUP: usize = 256;

params! {
    /// How a batch is averaged.
    pub(super) struct Mean { norm: u32, alpha: f32, beta: f32, gamma: f32 }
}

params! {
    struct Params { mean: Mean, batch: u32, classes: u32, accumulate: u32, focusing: f32, balance_stride: u32 }
}

/// Which loss is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Binary cross-entropy, as a [`LossMean`].
    Bce,
    /// ISMIR 2019, Eq. 4: weighted per clip by the fraction of observed labels.
    PartialBce,
    /// Focal loss, which down-weights well-classified labels, as a [`LossMean`].
    Focal,
    /// Softmax cross-entropy, for single-label models.
    CrossEntropy,
}

/// What the cross-entropy or focal loss of a batch is averaged over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossMean {
    /// All known labels of the batch.
    #[default]
    Batch,
    /// The known labels of each clip, then the clips.
    Clip,
}

impl From<LossMean> for Normalisation {
    fn from(mean: LossMean) -> Normalisation {
        match mean {
            LossMean::Batch => Normalisation::Observed,
            LossMean::Clip => Normalisation::Clips,
        }
    }
}

/// Weight alpha of the positive labels of a class in the focal loss; the negative ones have 1 - alpha.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    expecting = "focal_alpha must be a number, \"inverse-frequency\" or \"inverse-class-frequency\""
)]
pub enum FocalAlpha {
    /// [`inverse_frequency`] of the training clips.
    InverseFrequency,
    /// [`inverse_class_frequencies`] of the training clips.
    InverseClassFrequency,
    /// The same for every class.
    #[serde(untagged)]
    Same(f64),
}

impl FocalAlpha {
    /// Of Anhari's experiments.
    pub const PUBLISHED: FocalAlpha = FocalAlpha::Same(0.75);
}

impl Default for FocalAlpha {
    fn default() -> Self {
        FocalAlpha::PUBLISHED
    }
}

impl FromStr for FocalAlpha {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match (text, text.parse()) {
            ("inverse-frequency", _) => Ok(FocalAlpha::InverseFrequency),
            ("inverse-class-frequency", _) => Ok(FocalAlpha::InverseClassFrequency),
            (_, Ok(alpha)) => Ok(FocalAlpha::Same(alpha)),
            _ => Err("neither a number nor inverse-frequency or inverse-class-frequency".into()),
        }
    }
}

/// Alpha of a class with so many known labels: (absent + 1) / (present + absent + 2). Without the smoothing, which
/// keeps it within (0, 1), this is the inverse frequency 1 / f of the positive labels, normalised to sum 1 with that of
/// the negative ones, 1 / (1 - f): alpha and 1 - alpha then give both the same total weight.
pub fn inverse_frequency(present: u32, absent: u32) -> f64 {
    let [present, absent] = [present, absent].map(|n| f64::from(n) + 1.0);
    absent / (present + absent)
}

/// Alpha of each class, from its present and absent labels: 1 / f, normalised to sum 1 over the classes, with f the
/// fraction of positives among its known labels, (present + 1) / (present + absent + 2).
pub fn inverse_class_frequencies(labels: &[[u32; 2]]) -> Vec<f64> {
    let inverse = |&[present, absent]: &[u32; 2]| 1.0 / (1.0 - inverse_frequency(present, absent));
    let total: f64 = labels.iter().map(inverse).sum();
    labels.iter().map(|labels| inverse(labels) / total).collect()
}

/// Normalisation of the sum over known labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Normalisation {
    /// Mean over all known labels of the batch.
    Observed,
    /// Mean over a clip's own known labels, then over the clips that have any (Watcharasupat, Gururani, Lerch, 2020,
    /// Eq. 8).
    Clips,
    /// Eq. 4: mean over the clips of g(q) / K times a clip's sum, where q is the fraction of its labels that are known
    /// and g(q) = alpha q^gamma + beta. A clip without known labels adds 0 to the numerator and 1 to the denominator.
    Partial { alpha: f64, beta: f64, gamma: f64 },
}

/// The op of [`masked_bce`] and [`focal_loss`].
#[derive(Debug)]
pub struct MaskedBce {
    pub norm: Normalisation,
    /// gamma of the focal loss; alpha (K) is then a fifth input.
    pub focusing: Option<f64>,
}

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
    let y = g.push(MaskedBce { norm, focusing: None }, &[p, target, observed, lengths])?;
    Ok((y[0], y[1]))
}

/// Parameters of the focal loss.
#[derive(Clone, Copy, Debug)]
pub struct Focal {
    /// (K): weight of positive labels.
    pub alpha: Tensor,
    /// Focusing parameter gamma.
    pub gamma: f64,
}

/// As [`masked_bce`], for the focal loss.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn focal_loss(
    g: &mut Graph,
    p: Tensor,
    target: Tensor,
    observed: Tensor,
    lengths: Tensor,
    norm: Normalisation,
    Focal { alpha, gamma }: Focal,
) -> Result<(Tensor, Tensor)> {
    let op = MaskedBce { norm, focusing: Some(gamma) };
    let y = g.push(op, &[p, target, observed, lengths, alpha])?;
    Ok((y[0], y[1]))
}

impl From<Normalisation> for Mean {
    fn from(norm: Normalisation) -> Mean {
        let (norm, [alpha, beta, gamma]) = match norm {
            Normalisation::Observed => (0, [0.0; 3]),
            Normalisation::Clips => (1, [0.0; 3]),
            Normalisation::Partial { alpha, beta, gamma } => (2, [alpha, beta, gamma].map(|v| v as f32)),
        };
        Mean { norm, alpha, beta, gamma }
    }
}

impl MaskedBce {
    fn params(&self, io: &Io) -> Params {
        let shape = &io.x(0).shape;
        let (batch, classes) = (shape.rows() as u32, shape.last() as u32);
        let (focusing, balance_stride) = match self.focusing {
            Some(focusing) => (focusing as f32, io.x(4).stride as u32),
            None => (0.0, 0),
        };
        Params { mean: self.norm.into(), batch, classes, accumulate: 0, focusing, balance_stride }
    }

    fn shader(&self, target: Target) -> &'static Shader {
        variants::lanes(target, if self.focusing.is_some() { &FOCAL } else { &PLAIN })
    }

    /// What every kernel reads.
    fn inputs(&self, io: &Io) -> Vec<(&'static str, View)> {
        let alpha = self.focusing.map(|_| ("balance", io.x(4).view));
        let inputs = [("x", io.x(0).view), ("targets", io.x(1).view), ("observed", io.x(2).view)];
        inputs.into_iter().chain(alpha).collect()
    }

    /// One workgroup for each replica, in a fixed order.
    fn launch(p: &Params, replicas: usize) -> Launch {
        let rounds = p.batch.div_ceil(WORKGROUP as u32) * (1 + p.classes);
        Grid::folded(1, replicas).iterations(rounds as usize + lane_rounds(WORKGROUP))
    }
}

impl Op for MaskedBce {
    fn name(&self) -> &'static str {
        "masked_bce"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let shape = &x[0].shape;
        let f32s = x[..3].iter().all(|s| *s == Spec::f32(shape.clone()));
        let alpha = self.focusing.is_none() || x[4] == Spec::f32([shape.last()]);
        if shape.rank() != 2 || !f32s || x[3] != Spec::u32([shape.rows()]) || !alpha {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = "p (B, K), target (B, K), observed (B, K), lengths u32 (B), of the focal loss alpha (K)";
            return Err(Error::shape("masked_bce", expected, got.join(", ")));
        }
        Ok(Outputs {
            y: vec![Spec::f32([1]), Spec::f32([2])],
            saved: vec![Spec::f32([shape.rows()])],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let mut bindings = self.inputs(io);
        bindings.extend([("lengths", io.x(3).view), ("y", io.y(0).view), ("parts", io.y(1).view)]);
        bindings.push(("saved_weight", io.saved(0).view));
        let p = self.params(io);
        r.dispatch(self.shader(r.target), "masked_bce_forward", &bindings, p, MaskedBce::launch(&p, io.replicas));
        Ok(())
    }

    fn backward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let dx = match io.dx(0) {
            Some(dx) if (1..io.inputs()).all(|i| io.dx(i).is_none()) => dx,
            _ => return Err(Error::NoGradient { op: "masked_bce" }),
        };
        let dy = io.dy(0).ok_or(Error::NoGradient { op: "masked_bce" })?;
        let mut bindings = self.inputs(io);
        bindings.extend([("parts", io.y(1).view), ("grad_y", dy), ("grad_x", dx.view)]);
        let (p, len) = (Params { accumulate: dx.accumulate.into(), ..self.params(io) }, io.x(0).shape.len());
        if io.with_forward() {
            bindings.extend([("lengths", io.x(3).view), ("y", io.y(0).view)]);
            let launch = MaskedBce::launch(&p, io.replicas).and(len.div_ceil(WORKGROUP));
            r.dispatch(self.shader(r.target), "masked_bce_forward_backward", &bindings, p, launch);
        } else {
            bindings.push(("saved_weight", io.saved(0).view));
            let launch = Grid::items(len, 64, io.replicas).no_loops();
            r.dispatch(self.shader(r.target), "masked_bce_backward_input", &bindings, p, launch);
        }
        Ok(())
    }

    /// For a clip to each invocation; the focal loss binds one buffer too many.
    fn joins_passes(&self, x: &[Spec]) -> bool {
        x[0].shape.rows() <= WORKGROUP && self.focusing.is_none()
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (p, target, observed, lengths) = (&x[0], &x[1], &x[2], &x[3]);
        let classes = p.shape().last() as f64;
        let log = |v: f64| v.ln().max(-100.0);
        let entry = |k: usize, p: f64, t: f64| match self.focusing {
            None => t * log(p) + (1.0 - t) * log(1.0 - p),
            Some(gamma) => {
                let alpha = x[4][k];
                t * alpha * (1.0 - p).powf(gamma) * log(p) + (1.0 - t) * (1.0 - alpha) * p.powf(gamma) * log(1.0 - p)
            }
        };
        let mut parts = [0.0, 0.0];
        for b in (0..p.shape().rows()).filter(|&b| lengths[b] > 0.0) {
            let (mut sum, mut known) = (0.0, 0.0);
            for k in (0..p.shape().last()).filter(|&k| observed.row(b)[k] != 0.0) {
                sum -= entry(k, p.row(b)[k], target.row(b)[k]);
                known += 1.0;
            }
            let (weight, share) = match self.norm {
                Normalisation::Observed => (1.0, known),
                Normalisation::Clips if known == 0.0 => (0.0, 0.0),
                Normalisation::Clips => (1.0 / known, 1.0),
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

/// ISMIR19's choice: each clip's loss is the mean over its known labels.
const MEAN_OF_CLIPS: Normalisation = Normalisation::Partial { alpha: 1.0, beta: 0.0, gamma: -1.0 };
const LINEAR: Normalisation = Normalisation::Partial { alpha: -4.45, beta: 5.45, gamma: 1.0 };

/// Probabilities in [0.1, 0.9], a fraction `known` of the labels known.
fn case(name: &str, norm: Normalisation, shape: [usize; 2], known: f64, lengths: Fill) -> Case {
    let inputs = vec![
        Input::gradient(shape).filled(Fill::Uniform(0.1, 0.9)),
        Input::data(shape).filled(Fill::Bernoulli(0.4)),
        Input::data(shape).filled(Fill::Bernoulli(known)),
        Input::u32([shape[0]], lengths),
    ];
    Case::new(name, MaskedBce { norm, focusing: None }, inputs).seeded(&[0])
}

/// Without a gradient, as in validation.
fn forward_alone(mut case: Case) -> Case {
    case.inputs[0].kind = InputRole::Data;
    case
}

/// The same for the focal loss, with soft targets.
fn focal(name: &str, gamma: f64, shape: [usize; 2], known: f64, lengths: Fill) -> Case {
    let Case { mut inputs, .. } = case(name, Normalisation::Observed, shape, known, lengths);
    inputs[1] = Input::data(shape).filled(Fill::Uniform(0.0, 1.0));
    inputs.push(Input::data([shape[1]]).filled(Fill::Uniform(0.1, 0.9)));
    Case::new(name, MaskedBce { norm: Normalisation::Observed, focusing: Some(gamma) }, inputs).seeded(&[0])
}

/// The same as a mean over clips.
fn by_clips(case: Case, gamma: f64) -> Case {
    Case { op: Rc::new(MaskedBce { norm: Normalisation::Clips, focusing: Some(gamma) }), ..case }
}

/// Probabilities of exactly 0 and 1 against targets that agree and that do not. Without a gradient: the slope there is
/// a convention that no finite difference of the reference can show.
fn saturated(name: &str, gamma: f64) -> Case {
    let Case { mut inputs, .. } = focal(name, gamma, [3, 4], 1.0, Fill::Given(vec![1.0; 3]));
    inputs[0] = Input::data([3, 4]).filled(Fill::Given([0.0, 0.0, 1.0, 1.0].repeat(3)));
    inputs[1] =
        Input::data([3, 4]).filled(Fill::Given(vec![0.0, 1.0, 0.0, 1.0, 0.3, 0.0, 1.0, 0.6, 1.0, 0.5, 0.5, 0.0]));
    Case::new(name, MaskedBce { norm: Normalisation::Observed, focusing: Some(gamma) }, inputs)
}

fn cases() -> Vec<Case> {
    let whole = || Fill::Given(vec![10.0; 2000]);
    vec![
        case("one", Normalisation::Observed, [1, 1], 1.0, whole()),
        forward_alone(case("forward alone", Normalisation::Observed, [7, 5], 0.4, Fill::Below(2))),
        forward_alone(case("forward alone, by clips", MEAN_OF_CLIPS, [7, 5], 0.3, Fill::Below(2))),
        forward_alone(case("forward alone, nothing known", Normalisation::Clips, [5, 4], 0.0, whole())),
        case("padding", Normalisation::Observed, [7, 5], 0.4, Fill::Below(2)),
        case("padding, by clips", MEAN_OF_CLIPS, [7, 5], 0.3, Fill::Below(2)),
        case("linear g, by clips", LINEAR, [7, 5], 0.3, whole()),
        case("more clips than invocations", Normalisation::Observed, [259, 3], 0.3, Fill::Below(3)),
        case("more clips than invocations, by clips", MEAN_OF_CLIPS, [512, 3], 0.3, Fill::Below(3)),
        case("nothing known", Normalisation::Observed, [5, 4], 0.0, whole()),
        case("nothing known, by clips", MEAN_OF_CLIPS, [5, 4], 0.0, whole()),
        case("padding only", MEAN_OF_CLIPS, [5, 4], 0.5, Fill::Below(1)),
        focal("focal, one", 2.0, [1, 1], 1.0, whole()),
        focal("focal, gamma 0, padding", 0.0, [7, 5], 0.4, Fill::Below(2)),
        focal("focal, gamma 0.5, padding", 0.5, [7, 5], 0.4, Fill::Below(2)),
        focal("focal, gamma 2, padding", 2.0, [7, 5], 0.4, Fill::Below(2)),
        focal("focal, more clips than invocations", 2.0, [259, 3], 0.3, Fill::Below(3)),
        focal("focal, nothing known", 2.0, [5, 4], 0.0, whole()),
        focal("focal, padding only", 2.0, [5, 4], 0.5, Fill::Below(1)),
        saturated("focal, gamma 0, saturated", 0.0),
        saturated("focal, gamma 0.5, saturated", 0.5),
        saturated("focal, gamma 2, saturated", 2.0),
        case("real", Normalisation::Observed, [128, 20], 0.1, whole()).bench(),
        case("real, by clips", MEAN_OF_CLIPS, [128, 20], 0.1, whole()).bench(),
        case("by clips", Normalisation::Clips, [7, 5], 0.3, Fill::Below(2)),
        case("by clips, more clips than invocations", Normalisation::Clips, [259, 3], 0.3, Fill::Below(3)),
        case("by clips, nothing known", Normalisation::Clips, [5, 4], 0.0, whole()),
        by_clips(focal("focal by clips", 2.0, [7, 5], 0.4, Fill::Below(2)), 2.0),
        by_clips(focal("focal by clips, more clips than invocations", 0.5, [259, 3], 0.3, Fill::Below(3)), 0.5),
        focal("real, focal", 2.0, [128, 20], 0.1, whole()).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "masked_bce",
    about: "binary cross-entropy of known labels, plain or focal",
    shaders: &joined::<4>(&[&PLAIN, &FOCAL]),
    cases,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_frequencies_balance_the_labels_of_a_class() {
        for (present, absent) in [(10, 990), (300, 300), (5000, 10)] {
            let alpha = inverse_frequency(present, absent);
            let [positive, negative] = [alpha * f64::from(present), (1.0 - alpha) * f64::from(absent)];
            // Smoothing adds one label to each side, which changes the rarer one more.
            assert!((positive / negative - 1.0).abs() < 0.11, "{present} of {absent}: {positive} against {negative}");
        }
        assert_eq!(inverse_frequency(0, 0), 0.5);
        // A class of half the frequency has twice the weight.
        let alpha = inverse_class_frequencies(&[[9, 89], [19, 79], [19, 79]]);
        assert!(alpha.iter().zip([0.5, 0.25, 0.25]).all(|(a, want)| (a - want).abs() < 1e-12), "{alpha:?}");
        assert!(inverse_frequency(0, u32::MAX) < 1.0 && inverse_frequency(u32::MAX, 0) > 0.0);
    }

    #[test]
    fn an_alpha_is_a_number_or_measured() {
        assert_eq!("0.25".parse(), Ok(FocalAlpha::Same(0.25)));
        assert_eq!("inverse-frequency".parse(), Ok(FocalAlpha::InverseFrequency));
        assert!("inverse".parse::<FocalAlpha>().is_err());
    }
}
