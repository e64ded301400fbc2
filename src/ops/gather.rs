//! Copies a batch out of the dataset, which is on the GPU once for all replicas.
//!
//! rows u32 (B) chooses clips among N; a row that is not a clip ([`PADDING`]) gives 0
//! everywhere, lengths included. features (S, T F) in one of the encodings of [`Encoding`]. Clip i is in slot i of
//! them; or, if only a window of the dataset is on the GPU, in slot `clip_slots[i]`, u32 (N). lengths u32 (N): valid
//! instances, at most T; labels u32 (N, K): 0 unknown, 1 absent, 2 present. No gradients.

use half::f16;

use super::Entry;
use super::instance_labels::InstanceLabels;
use super::sample::PADDING;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const WHOLE: Shader = shader!("gather.wgsl");
/// By whether only a window of the features is there.
static SHADERS: [Shader; 2] = [WHOLE, WHOLE.with(&["WINDOWED"])];

params! {
    struct Params {
        batch: u32, words: u32, classes: u32, clips: u32, instances: u32, positions: u32,
        slots: u32, rows_stride: u32,
    }
}

/// How features are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Four uint8 v to a word, the first in the lowest byte: x = v / 255. Clips of a multiple of 4 values only.
    Bytes,
    /// Two f16 to a word, the first in the lower half. Clips of a multiple of 4 values only.
    Halves,
    Floats,
}

impl Encoding {
    fn per_word(self) -> usize {
        match self {
            Encoding::Bytes => 4,
            Encoding::Halves => 2,
            Encoding::Floats => 1,
        }
    }

    /// For clips of `len` values: packed ones must be a multiple of 4.
    pub fn of_clips(self, len: usize) -> Encoding {
        if len.is_multiple_of(4) { self } else { Encoding::Floats }
    }

    /// The features of `clips` clips of `len` values each, as a tensor.
    pub fn spec(self, clips: usize, len: usize) -> Spec {
        match self {
            Encoding::Floats => Spec::f32([clips, len]),
            packed => Spec::u32([clips, len / packed.per_word()]),
        }
    }
}

/// The tensors of a dataset of N clips, shared by all replicas.
#[derive(Clone, Copy, Debug)]
pub struct Clips {
    /// (S, T F), see [`Encoding::spec`].
    pub features: Tensor,
    /// u32 (N).
    pub lengths: Tensor,
    /// u32 (N, K).
    pub labels: Tensor,
    /// u32 (N); none if features has all N clips in order.
    pub clip_slots: Option<Tensor>,
}

/// What a step trains or validates on.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// (B, T, F).
    pub x: Tensor,
    /// u32 (B): valid instances of each clip, times positions per instance; 0 for padding.
    pub lengths: Tensor,
    /// (B, K), 1 if present, else 0; in between for mixed clips.
    pub target: Tensor,
    /// (B, K), 1 if the label is known, else 0.
    pub observed: Tensor,
    /// Labels of the instances, for training on them; not of mixed clips.
    pub instances: Option<InstanceLabels>,
}

impl Batch {
    fn tensors(&self) -> [Tensor; 4] {
        [self.x, self.lengths, self.target, self.observed]
    }

    /// Adds `op`, which combines two batches into one by `clock`, u32 (4).
    pub(super) fn of_two(
        g: &mut Graph,
        op: impl Op + 'static,
        clock: Tensor,
        batch: Batch,
        partners: Batch,
    ) -> Result<Batch> {
        let y = g.push(op, &[[clock].as_slice(), &batch.tensors(), &partners.tensors()].concat())?;
        Ok(Batch { x: y[0], lengths: y[1], target: y[2], observed: y[3], instances: None })
    }

    /// Whether these are the tensors of a batch: x (B, T, F), lengths u32 (B), target and observed (B, K), none of them
    /// empty.
    pub(super) fn fits(x: &[Spec]) -> bool {
        let [clips, lengths, target, observed] = x else { return false };
        let batch = lengths.shape.len();
        let labels = Spec::f32([batch, target.shape.last()]);
        *clips == Spec::f32(clips.shape.clone())
            && clips.shape.rank() == 3
            && clips.shape.dims()[0] == batch
            && !clips.shape.is_empty()
            && *lengths == Spec::u32([batch])
            && [target, observed].iter().all(|l| **l == labels && !l.shape.is_empty())
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Gather {
    /// T.
    pub instances: usize,
    /// F.
    pub width: usize,
    pub encoding: Encoding,
    /// Positions within an instance that the model attends to separately; lengths are multiplied by it.
    pub positions: usize,
}

/// Adds the copy of the clips `rows`, u32 (B).
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn gather(g: &mut Graph, rows: Tensor, clips: Clips, how: Gather) -> Result<Batch> {
    let inputs: Vec<Tensor> =
        [rows, clips.features, clips.lengths, clips.labels].into_iter().chain(clips.clip_slots).collect();
    let y = g.push(how, &inputs)?;
    Ok(Batch { x: y[0], lengths: y[1], target: y[2], observed: y[3], instances: None })
}

impl Gather {
    /// Of a clip.
    fn len(&self) -> usize {
        self.instances * self.width
    }
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let (rows, features, lengths, labels) = (&x[0], &x[1], &x[2], &x[3]);
        let (slots, clips) = (features.shape.rows(), lengths.shape.len());
        // Packed features are copied four at a time.
        let whole = self.encoding == Encoding::Floats || self.len().is_multiple_of(4);
        let fits = *rows == Spec::u32([rows.shape.len()])
            && self.len() > 0
            && whole
            && *features == self.encoding.spec(slots, self.len())
            && *lengths == Spec::u32([clips])
            && *labels == Spec::u32([clips, labels.shape.last()])
            && x.get(4).map_or(slots == clips, |clip_slots| *clip_slots == Spec::u32([clips]));
        if !fits {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let (len, per_word) = (self.len(), self.encoding.per_word());
            let expected = format!("rows (B), features (N, {len} / {per_word}), lengths (N), labels (N, K)");
            return Err(Error::shape("gather", expected, got.join(", ")));
        }
        let (batch, classes) = (rows.shape.len(), labels.shape.last());
        Ok(Outputs {
            y: vec![
                Spec::f32([batch, self.instances, self.width]),
                Spec::u32([batch]),
                Spec::f32([batch, classes]),
                Spec::f32([batch, classes]),
            ],
            ..Default::default()
        })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let (batch, classes) = (io.x(0).shape.len(), io.x(3).shape.last());
        let (entry, features, x, words) = match self.encoding {
            Encoding::Bytes => ("gather_forward_bytes", "bytes", "x4", self.len() / 4),
            Encoding::Halves => ("gather_forward_halves", "halves", "x4", self.len() / 4),
            Encoding::Floats if self.len().is_multiple_of(4) => {
                ("gather_forward_vec4", "values4", "x4", self.len() / 4)
            }
            Encoding::Floats => ("gather_forward_scalar", "values", "x", self.len()),
        };
        let windowed = io.inputs() == 5;
        let p = Params {
            batch: batch as u32,
            words: words as u32,
            classes: classes as u32,
            clips: io.x(2).shape.len() as u32,
            instances: self.instances as u32,
            positions: self.positions as u32,
            slots: io.x(1).shape.rows() as u32,
            rows_stride: io.x(0).stride as u32,
        };
        let shader = &SHADERS[usize::from(windowed)];
        let rows = ("rows", io.x(0).view);
        let features = [rows, (features, io.x(1).view), (x, io.y(0).view)];
        let labels = [
            ("lengths", io.x(2).view),
            ("labels", io.x(3).view),
            ("y_lengths", io.y(1).view),
            ("targets", io.y(2).view),
            ("observed", io.y(3).view),
        ];
        let items = |items: usize| Grid::items(items, 64, io.replicas).no_loops();
        if windowed {
            let features = [&features[..], &[("clip_slots", io.x(4).view)]].concat();
            r.dispatch(shader, entry, &features, p, items(batch * words));
            let labels = [&[rows], &labels[..]].concat();
            r.dispatch(shader, "gather_forward_labels", &labels, p, items(batch * classes));
        } else {
            let both = [&features[..], &labels[..]].concat();
            r.dispatch(shader, entry, &both, p, items(batch * words.max(classes)));
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (rows, features, lengths, labels) = (&x[0], &x[1], &x[2], &x[3]);
        let (batch, classes) = (rows.shape().len(), labels.shape().last());
        let clip = |b: usize| Some(rows[b] as usize).filter(|row| *row < lengths.shape().len());
        let feature = |row: usize, i: usize| {
            let slot = features.row(x.get(4).map_or(row, |clip_slots| clip_slots[row] as usize));
            let word = |n: usize| (slot[i / n] as u32).to_le_bytes();
            match self.encoding {
                Encoding::Bytes => f64::from(word(4)[i % 4]) / 255.0,
                Encoding::Halves => {
                    let bytes = word(2);
                    f16::from_le_bytes([bytes[i % 2 * 2], bytes[i % 2 * 2 + 1]]).to_f64()
                }
                Encoding::Floats => slot[i],
            }
        };
        let label = |i: usize| clip(i / classes).map_or(0.0, |row| labels.row(row)[i % classes]);
        let length = |row: usize| lengths[row].min(self.instances as f64) * self.positions as f64;
        vec![
            Array::from_fn([batch, self.instances, self.width], |i| {
                clip(i / self.len()).map_or(0.0, |row| feature(row, i % self.len()))
            }),
            Array::from_fn([batch], |b| clip(b).map_or(0.0, length)),
            Array::from_fn([batch, classes], |i| f64::from(label(i) == 2.0)),
            Array::from_fn([batch, classes], |i| f64::from(label(i) != 0.0)),
        ]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let (batch, stored) = (x[0].shape.len(), x[1].shape.last());
        let words = self.len() + stored + 3 * x[3].shape.last() + 3;
        Cost { flops: 0.0, bytes: (4 * batch * words) as f64 }
    }
}

/// `rows` of a dataset of `clips` clips.
fn case(name: &str, rows: Input, clips: usize, shape: [usize; 3], encoding: Encoding) -> Case {
    let [instances, width, classes] = shape;
    let spec = encoding.spec(clips, instances * width);
    let dims = spec.shape.dims().to_vec();
    let features = match encoding {
        Encoding::Bytes => Input::u32(dims, Fill::Below(u32::MAX)),
        Encoding::Halves => Input::u32(dims, Fill::Given((0..spec.shape.len()).map(two_halves).collect())),
        Encoding::Floats => Input::data(dims),
    };
    let inputs = vec![
        rows,
        features.shared(),
        Input::u32([clips], Fill::Below(instances as u32 + 2)).shared(),
        Input::u32([clips, classes], Fill::Below(3)).shared(),
    ];
    Case::new(name, Gather { instances, width, encoding, positions: 1 }, inputs)
}

/// A word of two f16, not NaN or infinite.
fn two_halves(i: usize) -> f64 {
    let half = |v: usize| u32::from(f16::from_f32(v as f32 / 64.0 - 5.0).to_bits());
    f64::from(half(i * 37 % 640) | half(i * 91 % 640) << 16)
}

/// With clips of several positions, of which a window is on the GPU in another order.
fn windowed(name: &str, rows: &[f64], clip_slots: &[f64], width: usize, encoding: Encoding) -> Case {
    let clips = clip_slots.len();
    let slots = 1 + clip_slots.iter().filter(|p| **p < clips as f64).fold(0.0f64, |most, p| most.max(*p)) as usize;
    let rows = Input::u32([rows.len()], Fill::Given(rows.to_vec()));
    let Case { inputs, .. } = case(name, rows, slots, [3, width, 5], encoding);
    let [rows, features, ..] = <[Input; 4]>::try_from(inputs).expect("gather has four inputs");
    let inputs = vec![
        rows,
        features,
        Input::u32([clips], Fill::Below(4)).shared(),
        Input::u32([clips, 5], Fill::Below(3)).shared(),
        Input::u32([clips], Fill::Given(clip_slots.to_vec())).shared(),
    ];
    Case::new(name, Gather { instances: 3, width, encoding, positions: 24 }, inputs)
}

fn cases() -> Vec<Case> {
    let padding = f64::from(PADDING);
    let some = || Input::u32([5], Fill::Given(vec![6.0, 0.0, 3.0, padding, padding]));
    let all = |batch: usize, clips: u32| Input::u32([batch], Fill::Below(clips));
    vec![
        case("one byte clip", all(1, 1), 1, [1, 4, 1], Encoding::Bytes),
        case("packed bytes, padding", some(), 7, [3, 8, 5], Encoding::Bytes),
        case("packed bytes, groups", all(13, 30), 30, [5, 12, 20], Encoding::Bytes),
        case("f32, padding", some(), 7, [3, 8, 5], Encoding::Floats),
        case("f32, ragged", some(), 7, [3, 7, 5], Encoding::Floats),
        case("one f32", all(1, 1), 1, [1, 1, 1], Encoding::Floats),
        case("halves, padding", some(), 7, [3, 8, 5], Encoding::Halves),
        windowed("window, bytes", &[6.0, 2.0, padding], &[9.0, 9.0, 0.0, 2.0, 9.0, 3.0, 1.0], 8, Encoding::Bytes),
        windowed("window, halves", &[0.0, 4.0, 4.0], &[2.0, 9.0, 9.0, 9.0, 0.0, 1.0], 8, Encoding::Halves),
        windowed("window, f32", &[1.0, padding, 3.0], &[9.0, 1.0, 9.0, 0.0, 2.0], 8, Encoding::Floats),
        windowed("window, f32, ragged", &[1.0, padding, 3.0], &[9.0, 1.0, 9.0, 0.0, 2.0], 7, Encoding::Floats),
        case("real bytes", all(128, 2000), 2000, [10, 128, 20], Encoding::Bytes).bench(),
    ]
}

pub(crate) const OP: Entry =
    Entry { name: "gather", about: "batch gather and dequantisation", shaders: &[&SHADERS[0], &SHADERS[1]], cases };
