//! The end of a step: the loss is added to the epoch's totals and the clock is advanced.
//!
//! parts (2) = numerator and denominator of the step's loss; in place: clock u32 (4) = (seed low, seed high, step, 0),
//! totals (2), diverged u32 (1). In the first batch of an epoch (step % batches = 0) totals = parts, later totals +=
//! parts; diverged, while it is [`NEVER`], becomes the step if a part is not finite; step becomes step + 1.

use super::Entry;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("track.wgsl");

params! {
    struct Params { replicas: u32, batches: u32 }
}

/// Value of `diverged` as long as all losses are finite.
pub const NEVER: u32 = u32::MAX;

#[derive(Debug)]
struct Track {
    batches: usize,
}

/// Adds the end of a step, after everything that reads `clock`. `parts` (2) is read; `clock` u32 (4), `totals` (2) and
/// `diverged` u32 (1) change in place; an epoch has `batches` steps.
///
/// # Errors
/// `Shape` for tensors that do not fit together and for an epoch without batches.
pub fn track(
    g: &mut Graph,
    parts: Tensor,
    clock: Tensor,
    totals: Tensor,
    diverged: Tensor,
    batches: usize,
) -> Result<()> {
    g.push(Track { batches }, &[parts, clock, totals, diverged]).map(drop)
}

impl Op for Track {
    fn name(&self) -> &'static str {
        "track"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let expected = [Spec::f32([2]), Spec::u32([4]), Spec::f32([2]), Spec::u32([1])];
        if x != expected || self.batches == 0 {
            let mut got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            got.push(format!("{} batches", self.batches));
            let expected = "parts (2), clock u32 (4), totals (2), diverged u32 (1), at least 1 batch";
            return Err(Error::shape("track", expected, got.join(", ")));
        }
        Ok(Outputs { y: x[1..].to_vec(), in_place: vec![(0, 1), (1, 2), (2, 3)], ..Default::default() })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let p = Params { replicas: io.replicas as u32, batches: self.batches as u32 };
        let bindings =
            [("parts", io.x(0).view), ("clock", io.y(0).view), ("totals", io.y(1).view), ("diverged", io.y(2).view)];
        r.dispatch(&SHADER, "track_forward", &bindings, p, Grid::items(io.replicas, 64, 1).no_loops());
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [parts, clock, totals, diverged] = x else { unreachable!("track takes four tensors") };
        let step = clock[2];
        let first = (step as usize).is_multiple_of(self.batches);
        let totals = Array::from_fn([2], |i| if first { parts[i] } else { totals[i] + parts[i] });
        let finite = parts.data().iter().all(|v| v.is_finite());
        let noted = diverged.map(|v| if v == f64::from(NEVER) && !finite { step } else { v });
        let advanced = Array::from_fn([4], |i| if i == 2 { step + 1.0 } else { clock[i] });
        vec![advanced, totals, noted]
    }

    fn cost(&self, _: &[Spec]) -> Cost {
        Cost { flops: 2.0, bytes: 52.0 }
    }
}

fn case(name: &str, parts: Input, step: u32, diverged: u32) -> Case {
    let inputs = vec![
        parts,
        Input::u32([4], Fill::Given(vec![1.0, 2.0, f64::from(step), 0.0])),
        Input::data([2]),
        Input::u32([1], Fill::Given(vec![f64::from(diverged)])),
    ];
    Case::new(name, Track { batches: 5 }, inputs)
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
