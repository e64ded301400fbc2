//! Labels of the instances of the clips of a batch (strong labels), as [`gather`](super::gather) takes those of whole
//! clips.
//!
//! rows u32 (B) chooses clips among N; a row that is not a clip ([`PADDING`]) gives 0 everywhere. labels u32 (1 + K,
//! N): first the lengths (N), valid instances. codes u32 (N, ceil(T K / 16)): of each instance and class two bits, the
//! first in the lowest: 1 absent, 2 present, else unknown. Outputs: target (B T, K), 1 if present; observed (B T, K), 1
//! if known; lengths u32 (B T), the number of positions of a valid instance, else 0. Instances beyond a clip's length
//! are unknown. No gradients.

use super::Entry;
use super::sample::PADDING;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = shader!("instance_labels.wgsl");

params! {
    struct Params {
        batch: u32, instances: u32, classes: u32, words: u32, clips: u32, positions: u32, rows_stride: u32,
    }
}

/// Codes in a word.
const PER_WORD: usize = 16;

/// Words of the codes of a clip of T = `instances` instances and K = `classes` classes.
pub fn words(instances: usize, classes: usize) -> usize {
    (instances * classes).div_ceil(PER_WORD)
}

/// The codes (T K) of a clip as words.
pub fn pack(codes: &[u8]) -> impl Iterator<Item = u32> {
    codes.chunks(PER_WORD).map(|codes| codes.iter().rev().fold(0, |word, code| word << 2 | u32::from(code & 3)))
}

/// Labels of the instances of a batch.
#[derive(Clone, Copy, Debug)]
pub struct InstanceLabels {
    /// (B T, K), 1 if present, else 0.
    pub target: Tensor,
    /// (B T, K), 1 if the label is known, else 0.
    pub observed: Tensor,
    /// u32 (B T): positions of a valid instance; 0 for padding.
    pub lengths: Tensor,
}

/// The op of [`instance_labels`]. Inputs: rows, labels, codes.
#[derive(Clone, Copy, Debug)]
pub struct TakeInstanceLabels {
    /// T.
    pub instances: usize,
    /// K.
    pub classes: usize,
    /// Positions within an instance.
    pub positions: usize,
}

/// Adds the labels of the instances of the clips `rows`, u32 (B), out of `codes`.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn instance_labels(
    g: &mut Graph,
    rows: Tensor,
    labels: Tensor,
    codes: Tensor,
    how: TakeInstanceLabels,
) -> Result<InstanceLabels> {
    let y = g.push(how, &[rows, labels, codes])?;
    Ok(InstanceLabels { target: y[0], observed: y[1], lengths: y[2] })
}

impl Op for TakeInstanceLabels {
    fn name(&self) -> &'static str {
        "instance_labels"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let (batch, clips) = (x[0].shape.len(), x[1].shape.last());
        let codes = Spec::u32([clips, words(self.instances, self.classes)]);
        let fits = x[0] == Spec::u32([batch]) && x[1] == Spec::u32([1 + self.classes, clips]) && x[2] == codes;
        if !fits || batch * self.instances * self.classes == 0 {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = format!("rows u32 (B), labels u32 (1 + K, N), codes u32 {}", codes.shape);
            return Err(Error::shape(self.name(), expected, got.join(", ")));
        }
        let rows = batch * self.instances;
        let labels = Spec::f32([rows, self.classes]);
        Ok(Outputs { y: vec![labels.clone(), labels, Spec::u32([rows])], ..Default::default() })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let p = Params {
            batch: io.x(0).shape.len() as u32,
            instances: self.instances as u32,
            classes: self.classes as u32,
            words: io.x(2).shape.last() as u32,
            clips: io.x(1).shape.last() as u32,
            positions: self.positions as u32,
            rows_stride: io.x(0).stride as u32,
        };
        let bindings = [
            ("rows", io.x(0).view),
            ("labels", io.x(1).view),
            ("codes", io.x(2).view),
            ("targets", io.y(0).view),
            ("observed", io.y(1).view),
            ("y_lengths", io.y(2).view),
        ];
        let grid = Grid::items(io.y(0).shape.len(), 64, io.replicas).no_loops();
        r.dispatch(&SHADER, "instance_labels_forward", &bindings, p, grid);
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (rows, labels, codes) = (&x[0], &x[1], &x[2]);
        let (batch, t, k) = (rows.shape().len(), self.instances, self.classes);
        let clip = |b: usize| Some(rows[b] as usize).filter(|row| *row < labels.shape().last());
        let valid = |row: usize| clip(row / t).filter(|clip| ((row % t) as f64) < labels[*clip]);
        let code = |i: usize| {
            let label = i % (t * k);
            valid(i / k).map_or(0, |clip| codes.row(clip)[label / PER_WORD] as u32 >> (label % PER_WORD * 2) & 3)
        };
        vec![
            Array::from_fn([batch * t, k], |i| f64::from(code(i) == 2)),
            Array::from_fn([batch * t, k], |i| f64::from(code(i) == 1 || code(i) == 2)),
            Array::from_fn([batch * t], |row| valid(row).map_or(0.0, |_| self.positions as f64)),
        ]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let labels = x[0].shape.len() * self.instances * self.classes;
        Cost { flops: 0.0, bytes: 8.0 * labels as f64 }
    }
}

fn case(name: &str, rows: Input, clips: usize, [instances, classes]: [usize; 2], positions: usize) -> Case {
    let inputs = vec![
        rows,
        Input::u32([1 + classes, clips], Fill::Below(instances as u32 + 2)).shared(),
        Input::u32([clips, words(instances, classes)], Fill::Below(u32::MAX)).shared(),
    ];
    Case::new(name, TakeInstanceLabels { instances, classes, positions }, inputs)
}

fn cases() -> Vec<Case> {
    let all = |batch: usize, clips: u32| Input::u32([batch], Fill::Below(clips));
    let padded = Input::u32([4], Fill::Given(vec![6.0, 0.0, f64::from(PADDING), 3.0]));
    vec![
        case("one", all(1, 1), 1, [1, 1], 1),
        case("padding, positions", padded, 7, [3, 5], 24),
        case("ragged words", all(13, 30), 30, [7, 11], 1),
        case("real", all(128, 2000), 2000, [10, 20], 1).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "instance_labels", about: "labels of the instances of a batch", shaders: &[&SHADER], cases };

#[cfg(test)]
mod tests {
    #[test]
    fn codes_are_packed_lowest_first() {
        let codes: Vec<u8> = (0..18).map(|i| i % 3).collect();
        let words: Vec<u32> = super::pack(&codes).collect();
        assert_eq!(words.len(), super::words(1, 18));
        assert!(codes.iter().enumerate().all(|(i, code)| words[i / 16] >> (i % 16 * 2) & 3 == u32::from(*code)));
    }
}
