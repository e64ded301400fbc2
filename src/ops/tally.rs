//! Confusion counts of known labels per class, over the batches of a validation epoch.
//!
//! p (B, K) probabilities, target (B, K), observed (B, K) 0 or 1, clock u32 (4); counts u32 (K, 4) in place: true and
//! false positives, false and true negatives, where [`Decision`] gives the predicted positives, and a clip is positive
//! at target >= 0.5. In the first batch of an epoch (step % batches = 0) counts are set, later they are added to.

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("tally.wgsl");

/// Invocations of a workgroup, as in the shader.
const WORKGROUP_SIZE: usize = 256;

params! {
    struct Params { batch: u32, classes: u32, batches: u32, clock_stride: u32 }
}

/// Predicted classes of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Every class with p >= 0.5.
    Threshold,
    /// The class of the largest probability, the first of equals: for single-label models.
    Largest,
}

#[derive(Clone, Copy, Debug)]
pub struct Tally {
    pub decision: Decision,
    /// Steps of an epoch.
    pub batches: usize,
}

/// Adds the count of one batch's decisions to `counts`, u32 (K, 4) in place. `p`, `target`, `observed` (B, K); `clock`
/// u32 (4) is read, so this comes before the clock is advanced.
///
/// # Errors
/// `Shape` for tensors that do not fit together and for an epoch without batches.
pub fn tally(
    g: &mut Graph,
    p: Tensor,
    target: Tensor,
    observed: Tensor,
    clock: Tensor,
    counts: Tensor,
    config: Tally,
) -> Result<()> {
    g.push(config, &[p, target, observed, clock, counts]).map(drop)
}

impl Op for Tally {
    fn name(&self) -> &'static str {
        "tally"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let shape = &x[0].shape;
        let fits = shape.rank() == 2
            && x[..3].iter().all(|s| *s == Spec::f32(shape.clone()))
            && x[3] == Spec::u32([4])
            && x[4] == Spec::u32([shape.last(), 4]);
        if !fits || self.batches == 0 {
            let mut got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            got.push(format!("{} batches", self.batches));
            let expected = "p, target, observed (B, K), clock u32 (4), counts u32 (K, 4), at least 1 batch";
            return Err(Error::shape("tally", expected, got.join(", ")));
        }
        Ok(Outputs { y: vec![x[4].clone()], in_place: vec![(0, 4)], ..Default::default() })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let shape = &io.x(0).shape;
        let p = Params {
            batch: shape.rows() as u32,
            classes: shape.last() as u32,
            batches: self.batches as u32,
            clock_stride: io.x(3).stride as u32 / 4,
        };
        let bindings = [
            ("x", io.x(0).view),
            ("targets", io.x(1).view),
            ("observed", io.x(2).view),
            ("clock", io.x(3).view),
            ("counts", io.y(0).view),
        ];
        let constants = [("LARGEST", f64::from(self.decision == Decision::Largest))];
        let clips = shape.rows().div_ceil(WORKGROUP_SIZE);
        let rounds = clips * if self.decision == Decision::Largest { 1 + shape.last() } else { 1 };
        let launch = Grid::folded(shape.last(), io.replicas).iterations(rounds);
        r.dispatch_with(&SHADER, "tally_forward", &constants, &bindings, p, launch);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [p, target, observed, clock, counts] = x else { unreachable!("tally takes five tensors") };
        let first = (clock[2] as usize).is_multiple_of(self.batches);
        let mut counts = if first { Array::zeros(counts.shape().clone()) } else { counts.clone() };
        for i in (0..p.shape().len()).filter(|&i| observed[i] != 0.0) {
            let (row, k) = (p.row(i / p.shape().last()), i % p.shape().last());
            let said = match self.decision {
                Decision::Threshold => row[k] >= 0.5,
                Decision::Largest => {
                    row[..k].iter().all(|other| row[k] > *other) && row[k..].iter().all(|other| row[k] >= *other)
                }
            };
            let kind = match (said, target[i] >= 0.5) {
                (true, true) => 0,
                (true, false) => 1,
                (false, true) => 2,
                (false, false) => 3,
            };
            counts.row_mut(k)[kind] += 1.0;
        }
        vec![counts]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = x[0].shape.len() as f64;
        Cost { flops: 0.0, bytes: 12.0 * n }
    }
}

fn case(name: &str, decision: Decision, shape: [usize; 2], p: Fill, step: u32) -> Case {
    let inputs = vec![
        Input::data(shape).filled(p),
        Input::data(shape).filled(Fill::Bernoulli(0.4)),
        Input::data(shape).filled(Fill::Bernoulli(0.5)),
        Input::u32([4], Fill::Given(vec![1.0, 2.0, f64::from(step), 0.0])),
        Input::u32([shape[1], 4], Fill::Below(100)),
    ];
    Case::new(name, Tally { decision, batches: 3 }, inputs).forward_tolerance(0.0, 0.0)
}

fn cases() -> Vec<Case> {
    use Decision::{Largest, Threshold};
    let some = || Fill::Uniform(0.0, 1.0);
    vec![
        case("one", Threshold, [1, 1], some(), 0),
        case("first batch", Threshold, [63, 5], some(), 6),
        case("later batch", Threshold, [65, 7], some(), 7),
        case("on the threshold", Threshold, [64, 3], Fill::Given(vec![0.5; 192]), 2),
        case("largest, one", Largest, [1, 1], Fill::Given(vec![0.0]), 0),
        case("largest", Largest, [65, 7], some(), 7),
        // 0, 1 and 2 among seven classes: most clips have several largest values.
        case("largest of equals", Largest, [63, 7], Fill::Below(3), 6),
        case("largest, all equal", Largest, [5, 4], Fill::Given(vec![0.25; 20]), 2),
        case("real", Threshold, [128, 20], some(), 1).bench(),
        case("real, largest", Largest, [128, 19], some(), 1).bench(),
    ]
}

pub(crate) const OP: Entry = Entry { name: "tally", about: "confusion counts", shaders: &[&SHADER], cases };
