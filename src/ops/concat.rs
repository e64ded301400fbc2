//! Concatenation: some clips of a batch get a partner appended in time (Anhari: "Learning multi-instrument
//! classification with partial labels", 2020, section II.C).
//!
//! clock u32 (4) = (seed low, seed high, step, done); of the clips x (B, T, F), lengths u32 (B): valid instances times
//! positions, target (B, K), observed (B, K); of their partners the same with T2 instances. Outputs: x (B, T + T2, F),
//! lengths, target, observed. Each clip gets its partner with the same probability, independently: the partner's
//! instances then follow the clip's last valid one, and lengths add. A label is the OR of both: present if known to be
//! present in either, absent if known to be absent in both, else unknown. Of soft targets (mixed clips), the OR is the
//! larger one, and present is from 1/2 on. No gradients.

use super::gather::Batch;
use super::mixup::clips;
use super::{Entry, variants};
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::{PHILOX_ROUNDS, philox};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("concat.wgsl");
static VEC4: Shader = SHADER.with(&["VEC4"]);

params! {
    struct Params { b: u32, t: u32, t2: u32, f: u32, classes: u32, positions: u32, clock_stride: u32, threshold: u32 }
}

/// Domain separation of the random stream of the choice, as in the shader.
const STREAM: u32 = 0xC_0CA7;

/// The op of [`concat()`]. Inputs: clock; x, lengths, target, observed of the clips; those of their partners.
#[derive(Clone, Copy, Debug)]
pub struct Concat {
    /// Probability that a clip gets its partner, 0 to 1.
    pub probability: f64,
    /// Factor of the lengths.
    pub positions: usize,
}

/// Adds the clips of `batch`, some of them followed by the clip of `partners` with the same index, by `clock`, u32 (4).
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn concat(g: &mut Graph, clock: Tensor, batch: Batch, partners: Batch, how: Concat) -> Result<Batch> {
    Batch::of_two(g, how, clock, batch, partners)
}

impl Concat {
    /// Of 2^24.
    fn threshold(&self) -> u32 {
        (self.probability * f64::from(1 << 24)).round() as u32
    }

    /// Whether batch entry `b` gets its partner. `clock` = [seed low, seed high, step, done].
    fn chooses(&self, b: usize, clock: [u32; 4]) -> bool {
        philox([b as u32, 0, clock[2], STREAM], [clock[0], clock[1]])[0] >> 8 < self.threshold()
    }
}

/// The kernel variant for F and its vector width.
fn kernels(f: usize) -> (&'static Shader, usize) {
    variants::by_row(f, &SHADER, &VEC4)
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let fits = Batch::fits(&x[1..5])
            && Batch::fits(&x[5..])
            && x[6..] == x[2..5]
            && x[5].shape.last() == x[1].shape.last()
            && x[0] == Spec::u32([4]);
        if !fits {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = "clock u32 (4), and twice x (B, T, F), lengths u32 (B), target (B, K), observed (B, K)";
            return Err(Error::shape("concat", expected, got.join(", ")));
        }
        let ([b, t, f], t2) = (x[1].shape.dims().try_into().expect("three axes"), x[5].shape.dims()[1]);
        Ok(Outputs { y: [&[Spec::f32([b, t + t2, f])], &x[2..5]].concat(), ..Default::default() })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let [b, t, f] = *io.x(1).shape.dims() else { unreachable!("x has three axes") };
        let t2 = io.x(5).shape.dims()[1];
        let (shader, width) = kernels(f);
        let p = Params {
            b: b as u32,
            t: t as u32,
            t2: t2 as u32,
            f: (f / width) as u32,
            classes: io.x(3).shape.last() as u32,
            positions: self.positions as u32,
            clock_stride: io.x(0).stride as u32 / 4,
            threshold: self.threshold(),
        };
        let grid = |items: usize| Grid::items(items, 64, io.replicas).iterations(PHILOX_ROUNDS);
        let lengths = ("lengths", io.x(2).view);
        let drawn = [lengths, ("clock", io.x(0).view), ("lengths2", io.x(6).view), ("y_lengths", io.y(1).view)];
        r.dispatch(shader, "concat_forward_draw", &drawn, p, grid(b));
        let joined = ("joined", io.y(1).view);
        let features = [lengths, joined, ("x", io.x(1).view), ("x2", io.x(5).view), ("y", io.y(0).view)];
        r.dispatch(shader, "concat_forward_features", &features, p, grid(b * (t + t2) * f / width));
        let labels = [
            lengths,
            joined,
            ("targets", io.x(3).view),
            ("observed", io.x(4).view),
            ("targets2", io.x(7).view),
            ("observed2", io.x(8).view),
            ("y_targets", io.y(2).view),
            ("y_observed", io.y(3).view),
        ];
        r.dispatch(shader, "concat_forward_labels", &labels, p, grid(io.x(3).shape.len()));
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [clock, xs, lengths, target, observed, xs2, lengths2, target2, observed2] = x else {
            unreachable!("concat takes nine tensors")
        };
        let ([batch, t, f], t2) = (xs.dims().try_into().expect("three axes"), xs2.dims()[1]);
        let classes = target.shape().last();
        let now = [0, 1, 2, 3].map(|i| clock[i] as u32);
        let (mut y, positions) = (Array::zeros([batch, t + t2, f]), self.positions);
        let valid = |lengths: &Array<f64>, t: usize, b: usize| lengths[b].min((t * positions) as f64);
        let chosen = |b: usize| self.chooses(b, now) && lengths2[b] > 0.0;
        let second = |b: usize| if chosen(b) { valid(lengths2, t2, b) } else { 0.0 };
        let joined = Array::from_fn([batch], |b| valid(lengths, t, b) + second(b));
        for b in 0..batch {
            let (first, all) = (valid(lengths, t, b) as usize / positions, joined[b] as usize / positions);
            for i in 0..all {
                let row = if i < first { xs.row(b * t + i) } else { xs2.row(b * t2 + i - first) };
                y.row_mut(b * (t + t2) + i).copy_from_slice(row);
            }
        }
        let label = |i: usize| {
            let known = |observed: &Array<f64>, target: &Array<f64>| (observed[i] != 0.0).then_some(target[i]);
            match (known(observed, target), known(observed2, target2)) {
                (alone, _) if !chosen(i / classes) => alone,
                (Some(a), Some(b)) => Some(a.max(b)),
                (one, other) => one.or(other).filter(|present| *present >= 0.5),
            }
        };
        vec![
            y,
            joined,
            Array::from_fn([batch, classes], |i| label(i).unwrap_or(0.0)),
            Array::from_fn([batch, classes], |i| f64::from(label(i).is_some())),
        ]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let n = (x[1].shape.len() + x[5].shape.len()) as f64;
        Cost { flops: 0.0, bytes: 8.0 * n }
    }
}

/// Clips of T and partners of T2 instances.
fn case(name: &str, [b, t, t2, f]: [usize; 4], classes: usize, probability: f64, positions: usize) -> Case {
    let clock = Input::u32([4], Fill::Below(u32::MAX));
    let [mut first, mut second] = [(t, 1), (t2, 3)].map(|(t, salt)| clips([b, t, f], classes, positions, salt));
    for clips in [&mut first, &mut second] {
        let target = std::mem::replace(&mut clips[2], Input::data([b, classes]));
        // Some hard, some soft.
        let soft = |i: usize| [0.0, 1.0, 0.3, 0.5, 0.8][i * 3 % 5];
        clips[2] = target.filled(Fill::Given((0..b * classes).map(soft).collect()));
    }
    let inputs = [clock].into_iter().chain(first).chain(second).collect();
    Case::new(name, Concat { probability, positions }, inputs).forward_tolerance(0.0, 0.0)
}

fn cases() -> Vec<Case> {
    let mut long = case("longer than the clips", [6, 3, 4, 2], 3, 1.0, 1);
    long.inputs[2] = Input::u32([6], Fill::Given([9, 4, 3, 2, 1, 7].map(f64::from).into()));
    long.inputs[6] = Input::u32([6], Fill::Given([5, 4, 9, 0, 1, 2].map(f64::from).into()));
    vec![
        case("one", [1, 1, 1, 1], 1, 1.0, 1),
        case("all clips", [13, 5, 5, 7], 3, 1.0, 1),
        case("no clip", [13, 5, 5, 7], 3, 0.0, 1),
        case("ragged, vec4", [67, 5, 3, 8], 5, 0.5, 1),
        case("positions", [9, 3, 4, 8], 5, 0.5, 24),
        long,
        case("real", [128, 10, 10, 128], 20, 0.5, 1).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "concat", about: "clips concatenated in time (augmentation)", shaders: &[&SHADER, &VEC4], cases };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_are_chosen_with_the_given_chance() {
        for probability in [0.0, 0.25, 0.5, 1.0] {
            let how = Concat { probability, positions: 1 };
            let n = 100_000;
            let chosen = (0..n).filter(|i| how.chooses(i % 1000, [5, 6, (i / 1000) as u32, 0])).count() as f64;
            let error = 4.0 * (probability * (1.0 - probability) * n as f64).sqrt();
            assert!((chosen - probability * n as f64).abs() <= error, "probability {probability}: {chosen} of {n}");
        }
    }
}
