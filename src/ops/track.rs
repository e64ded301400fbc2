//! The end of a step: the loss is added to the epoch's totals, and the clock notes that the step is finished. In
//! training the optimiser does it in its own dispatch, the last one of a step.
//!
//! parts (2) = numerator and denominator of the step's loss; in place: clock u32 (4) = (seed low, seed high, step,
//! done), totals (2), diverged u32 (1). In the first batch of an epoch (step % batches = 0) totals = parts, later
//! totals += parts; diverged, while it is [`NEVER`], becomes the step if a part is not finite; done, the number of
//! finished steps, becomes step + 1.
//!
//! Every kernel of a step reads `step`, also the other workgroups of the dispatch that ends it, so it must not change
//! there. Therefore the end of a step writes `done`, which nothing else in the step reads, and the next step begins by
//! taking it over (see [`super::sample`]).

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, View, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("track.wgsl", "shared/track.wgsl");

params! {
    struct Params { replicas: u32, batches: u32 }
}

/// Value of `diverged` as long as all losses are finite.
pub const NEVER: u32 = u32::MAX;

/// What ends a step, after or with everything that reads `clock`.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// (2), read.
    pub parts: Tensor,
    /// u32 (4); this and the others change in place.
    pub clock: Tensor,
    /// (2)
    pub totals: Tensor,
    /// u32 (1)
    pub diverged: Tensor,
    /// Of an epoch.
    pub batches: usize,
}

/// Inputs of the op.
pub(super) const INPUTS: usize = 4;

impl End {
    pub(super) fn tensors(&self) -> [Tensor; INPUTS] {
        [self.parts, self.clock, self.totals, self.diverged]
    }
}

#[derive(Debug)]
struct Track {
    batches: usize,
}

/// Adds the end of a step that no optimiser ends.
///
/// # Errors
/// `Shape` for tensors that do not fit together and for an epoch without batches.
pub fn track(g: &mut Graph, end: End) -> Result<()> {
    g.push(Track { batches: end.batches }, &end.tensors()).map(drop)
}

pub(super) fn infer(x: &[Spec], batches: usize) -> Result<Outputs> {
    let expected = [Spec::f32([2]), Spec::u32([4]), Spec::f32([2]), Spec::u32([1])];
    if x != expected || batches == 0 {
        let mut got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
        got.push(format!("{batches} batches"));
        let expected = "parts (2), clock u32 (4), totals (2), diverged u32 (1), at least 1 batch";
        return Err(Error::shape("track", expected, got.join(", ")));
    }
    Ok(Outputs { y: x[1..].to_vec(), in_place: vec![(0, 1), (1, 2), (2, 3)], ..Default::default() })
}

pub(super) fn reference(x: &[Array<f64>], batches: usize) -> Vec<Array<f64>> {
    let [parts, clock, totals, diverged] = x else { unreachable!("track takes four tensors") };
    let step = clock[2];
    let first = (step as usize).is_multiple_of(batches);
    let totals = Array::from_fn([2], |i| if first { parts[i] } else { totals[i] + parts[i] });
    let finite = parts.data().iter().all(|v| v.is_finite());
    let noted = diverged.map(|v| if v == f64::from(NEVER) && !finite { step } else { v });
    let ended = Array::from_fn([4], |i| if i == 3 { step + 1.0 } else { clock[i] });
    vec![ended, totals, noted]
}

/// What a kernel needs to end a step.
pub(super) struct Tail {
    pub bindings: [(&'static str, View); INPUTS],
    pub batches: usize,
}

impl Tail {
    /// Of an op whose inputs from number `first` on are those of this one.
    pub fn of(io: &Io, first: usize, batches: usize) -> Tail {
        let names = ["parts", "clock", "totals", "diverged"];
        Tail { bindings: std::array::from_fn(|i| (names[i], io.x(first + i).view)), batches }
    }
}

impl Op for Track {
    fn name(&self) -> &'static str {
        "track"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        infer(x, self.batches)
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let p = Params { replicas: io.replicas as u32, batches: self.batches as u32 };
        let Tail { bindings, .. } = Tail::of(io, 0, self.batches);
        r.dispatch(&SHADER, "track_forward", &bindings, p, Grid::items(io.replicas, 64, 1).no_loops());
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        reference(x, self.batches)
    }

    fn cost(&self, _: &[Spec]) -> Cost {
        Cost { flops: 2.0, bytes: 52.0 }
    }
}

/// Inputs in step `step`.
pub(super) fn inputs(parts: Input, step: u32, diverged: u32) -> [Input; INPUTS] {
    [
        parts,
        Input::u32([4], Fill::Given(vec![1.0, 2.0, f64::from(step), f64::from(step)])),
        Input::data([2]),
        Input::u32([1], Fill::Given(vec![f64::from(diverged)])),
    ]
}

fn case(name: &str, parts: Input, step: u32, diverged: u32) -> Case {
    Case::new(name, Track { batches: 5 }, inputs(parts, step, diverged).into())
}

fn cases() -> Vec<Case> {
    let finite = || Input::data([2]);
    let infinite = || finite().filled(Fill::Given(vec![f64::INFINITY, 7.0]));
    vec![
        case("first batch", finite(), 10, NEVER),
        case("later batch", finite(), 13, NEVER),
        case("diverges", infinite(), 13, NEVER),
        case("diverged before", infinite(), 15, 4),
        case("finite again", finite(), 16, 4),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "track", about: "running loss of the epoch, step counter", shaders: &[&SHADER], cases };
