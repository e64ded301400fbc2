//! Copies a batch out of the dataset, which is on the GPU once for all replicas.
//!
//! rows u32 (B) chooses clips among N; a row that is not a clip ([`PADDING`]) gives 0 everywhere, lengths included. Or
//! they are drawn here, as [`sample`](super::sample) does. features (S, T F) in one of the encodings of [`Encoding`].
//! Clip i is in slot i of them; or, if only a window of the dataset is on the GPU, in slot `clip_slots[i]`, u32 (N).
//! labels u32 (1 + K, N): first the lengths (N), valid instances, at most T; then the labels (N, K) themselves: 0
//! unknown, 1 absent, 2 present. No gradients.

use half::f16;

use super::Entry;
use super::instance_labels::InstanceLabels;
use super::sample::{self, DRAW_ROUNDS, DrawParams, Order, PADDING, Sample};
use super::variants;
use crate::check::{Case, Fill, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params, shader};
use crate::graph::{Cost, Graph, Io, Op, Outputs, Spec, Tensor};

const WHOLE: Shader = shader!("gather.wgsl", "shared/sample.wgsl");
/// By whether it draws the rows, and whether only a window of the features is there.
static SHADERS: [[Shader; 2]; 2] =
    [[WHOLE, WHOLE.with(&["WINDOWED"])], [WHOLE.with(&["DRAWN"]), WHOLE.with(&["DRAWN", "WINDOWED"])]];

params! {
    struct Params {
        draw: DrawParams,
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
    /// u32 (1 + K, N): lengths, then labels.
    pub labels: Tensor,
    /// u32 (N); none if features has all N clips in order.
    pub clip_slots: Option<Tensor>,
}

/// The clips of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Rows {
    /// u32 (B).
    Given(Tensor),
    /// From `pool`, u32 (n), by `clock`, u32 (4), in which the step begins.
    Drawn { clock: Tensor, pool: Tensor, how: Sample },
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

/// How clips are stored.
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

/// The op. Inputs: rows or the clock, features, labels; the pool of drawn rows; slots of clips, if there are.
#[derive(Clone, Copy, Debug)]
struct Take {
    how: Gather,
    draw: Option<Sample>,
}

/// Adds the copy of the clips `rows`.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn gather(g: &mut Graph, rows: Rows, clips: Clips, how: Gather) -> Result<Batch> {
    let (first, pool, draw) = match rows {
        Rows::Given(rows) => (rows, None, None),
        Rows::Drawn { clock, pool, how } => (clock, Some(pool), Some(how)),
    };
    let inputs: Vec<Tensor> =
        [first, clips.features, clips.labels].into_iter().chain(pool).chain(clips.clip_slots).collect();
    let y = g.push(Take { how, draw }, &inputs)?;
    Ok(Batch { x: y[0], lengths: y[1], target: y[2], observed: y[3], instances: None })
}

impl Gather {
    /// Of a clip.
    fn len(&self) -> usize {
        self.instances * self.width
    }
}

impl Take {
    /// The input with the slots of clips, if there is one.
    fn clip_slots(&self) -> usize {
        3 + usize::from(self.draw.is_some())
    }
}

impl Op for Take {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let (how, rows, features, labels) = (&self.how, &x[0], &x[1], &x[2]);
        let slots = features.shape.rows();
        let (classes, clips) = match *labels.shape.dims() {
            [facts, clips] => (facts.saturating_sub(1), clips),
            _ => (0, 0),
        };
        let batch = self.draw.map_or(rows.shape.len(), |draw| draw.batch);
        let rows_fit = match self.draw {
            None => *rows == Spec::u32([batch]),
            Some(draw) => draw.fits([rows, &x[3]]),
        };
        // Packed features are copied four at a time.
        let whole = how.encoding == Encoding::Floats || how.len().is_multiple_of(4);
        let fits = rows_fit
            && how.len() > 0
            && whole
            && *features == how.encoding.spec(slots, how.len())
            && *labels == Spec::u32([1 + classes, clips])
            && x.get(self.clip_slots()).map_or(slots == clips, |clip_slots| *clip_slots == Spec::u32([clips]));
        if !fits {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let (len, per_word) = (how.len(), how.encoding.per_word());
            let expected =
                format!("rows (B) or clock (4) and pool (n), features (N, {len} / {per_word}), labels (1 + K, N)");
            return Err(Error::shape("gather", expected, got.join(", ")));
        }
        let mut y = vec![
            Spec::f32([batch, how.instances, how.width]),
            Spec::u32([batch]),
            Spec::f32([batch, classes]),
            Spec::f32([batch, classes]),
        ];
        let in_place: Vec<_> = self.draw.map(|_| (y.len(), 0)).into_iter().collect();
        y.extend(self.draw.map(|_| rows.clone()));
        Ok(Outputs { y, in_place, scratch: vec![Spec::u32([batch])], ..Default::default() })
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let how = &self.how;
        let (batch, classes) = (io.y(1).shape.len(), io.y(2).shape.last());
        let (entry, features, x, words) = match how.encoding {
            Encoding::Bytes => ("gather_forward_bytes", "bytes", "x4", how.len() / 4),
            Encoding::Halves => ("gather_forward_halves", "halves", "x4", how.len() / 4),
            Encoding::Floats if how.len().is_multiple_of(4) => ("gather_forward_vec4", "values4", "x4", how.len() / 4),
            Encoding::Floats => ("gather_forward_scalar", "values", "x", how.len()),
        };
        let drawn = self.draw.map(|draw| (draw, [io.x(0), io.x(3)]));
        let within = drawn.filter(|_| variants::draws_within(r.target));
        if let Some((draw, from)) = drawn.filter(|_| within.is_none()) {
            draw.record(r, from, io.scratch(0).view, io.replicas);
        }
        let rows = if drawn.is_some() { io.scratch(0) } else { io.x(0) };
        let p = Params {
            draw: within.map_or_else(bytemuck::Zeroable::zeroed, |(draw, [_, pool])| draw.params(pool)),
            batch: batch as u32,
            words: words as u32,
            classes: classes as u32,
            clips: io.x(2).shape.last() as u32,
            instances: how.instances as u32,
            positions: how.positions as u32,
            slots: io.x(1).shape.rows() as u32,
            rows_stride: rows.stride as u32,
        };
        let rows = match within {
            Some((_, [clock, pool])) => vec![("clock", clock.view), ("pool", pool.view)],
            None => vec![("rows", rows.view)],
        };
        let features = [&rows[..], &[(features, io.x(1).view), (x, io.y(0).view)]].concat();
        let labels = [
            ("labels", io.x(2).view),
            ("y_lengths", io.y(1).view),
            ("targets", io.y(2).view),
            ("observed", io.y(3).view),
        ];
        let items = |items: usize| {
            // A row for the features, and one for the label.
            Grid::items(items, 64, io.replicas).iterations(if within.is_some() { 2 * DRAW_ROUNDS } else { 0 })
        };
        let shaders = &SHADERS[usize::from(within.is_some())];
        if io.inputs() > self.clip_slots() {
            let features = [&features[..], &[("clip_slots", io.x(self.clip_slots()).view)]].concat();
            r.dispatch(&shaders[1], entry, &features, p, items(batch * words));
            let labels = [&rows[..], &labels].concat();
            r.dispatch(&shaders[1], "gather_forward_labels", &labels, p, items(batch * classes));
        } else {
            let both = [&features[..], &labels].concat();
            r.dispatch(&shaders[0], entry, &both, p, items(batch * words.max(classes)));
        }
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let (how, features, labels) = (&self.how, &x[1], &x[2]);
        let (clips, classes) = (labels.shape().last(), labels.shape().rows() - 1);
        let drawn = self.draw.map(|draw| draw.draw([&x[0], &x[3]]));
        let rows = drawn.as_ref().map_or(&x[0], |[rows, _]| rows);
        let batch = rows.shape().len();
        let clip = |b: usize| Some(rows[b] as usize).filter(|row| *row < clips);
        let feature = |row: usize, i: usize| {
            let slot = features.row(x.get(self.clip_slots()).map_or(row, |clip_slots| clip_slots[row] as usize));
            let word = |n: usize| (slot[i / n] as u32).to_le_bytes();
            match how.encoding {
                Encoding::Bytes => f64::from(word(4)[i % 4]) / 255.0,
                Encoding::Halves => {
                    let bytes = word(2);
                    f16::from_le_bytes([bytes[i % 2 * 2], bytes[i % 2 * 2 + 1]]).to_f64()
                }
                Encoding::Floats => slot[i],
            }
        };
        let label = |i: usize| clip(i / classes).map_or(0.0, |row| labels[clips + row * classes + i % classes]);
        let length = |row: usize| labels[row].min(how.instances as f64) * how.positions as f64;
        let mut y = vec![
            Array::from_fn([batch, how.instances, how.width], |i| {
                clip(i / how.len()).map_or(0.0, |row| feature(row, i % how.len()))
            }),
            Array::from_fn([batch], |b| clip(b).map_or(0.0, length)),
            Array::from_fn([batch, classes], |i| f64::from(label(i) == 2.0)),
            Array::from_fn([batch, classes], |i| f64::from(label(i) != 0.0)),
        ];
        y.extend(drawn.map(|[_, clock]| clock));
        y
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let batch = self.draw.map_or(x[0].shape.len(), |draw| draw.batch);
        let words = self.how.len() + x[1].shape.last() + 3 * x[2].shape.rows();
        Cost { flops: 0.0, bytes: (4 * batch * words) as f64 }
    }
}

/// Lengths and labels of a dataset of clips of up to `instances` instances.
fn labels(clips: usize, instances: usize, classes: usize) -> Input {
    let lengths = (0..clips).map(|i| i * 7 % (instances + 2));
    let labels = (0..clips * classes).map(|i| (i * 5 + i / 3) % 3);
    let values = lengths.chain(labels).map(|v| v as f64).collect();
    Input::u32([1 + classes, clips], Fill::Given(values)).shared()
}

fn features(slots: usize, len: usize, encoding: Encoding) -> Input {
    let spec = encoding.spec(slots, len);
    let dims = spec.shape.dims().to_vec();
    let features = match encoding {
        Encoding::Bytes => Input::u32(dims, Fill::Below(u32::MAX)),
        Encoding::Halves => Input::u32(dims, Fill::Given((0..spec.shape.len()).map(two_halves).collect())),
        Encoding::Floats => Input::data(dims),
    };
    features.shared()
}

/// A word of two f16, not NaN or infinite.
fn two_halves(i: usize) -> f64 {
    let half = |v: usize| u32::from(f16::from_f32(v as f32 / 64.0 - 5.0).to_bits());
    f64::from(half(i * 37 % 640) | half(i * 91 % 640) << 16)
}

/// Of a dataset of `clips` clips, with `rows` first.
fn whole(rows: Input, clips: usize, shape: [usize; 3], encoding: Encoding) -> (Gather, Vec<Input>) {
    let [instances, width, classes] = shape;
    let inputs = vec![rows, features(clips, instances * width, encoding), labels(clips, instances, classes)];
    (Gather { instances, width, encoding, positions: 1 }, inputs)
}

/// With clips of several positions, of which a window is on the GPU in another order.
fn window(rows: &[f64], clip_slots: &[f64], width: usize, encoding: Encoding) -> (Gather, Vec<Input>) {
    let clips = clip_slots.len();
    let slots = 1 + clip_slots.iter().filter(|p| **p < clips as f64).fold(0.0f64, |most, p| most.max(*p)) as usize;
    let inputs = vec![
        Input::u32([rows.len()], Fill::Given(rows.to_vec())),
        features(slots, 3 * width, encoding),
        labels(clips, 2, 5),
        Input::u32([clips], Fill::Given(clip_slots.to_vec())).shared(),
    ];
    (Gather { instances: 3, width, encoding, positions: 24 }, inputs)
}

fn given(name: &str, (how, inputs): (Gather, Vec<Input>)) -> Case {
    Case::new(name, Take { how, draw: None }, inputs)
}

/// Rows are drawn instead, five from a pool of 13 clips whose features are there, in the last step of an epoch.
fn drawn(name: &str, (how, mut inputs): (Gather, Vec<Input>)) -> Case {
    let slots = inputs[1].spec.shape.rows() as f64;
    let clips: Vec<f64> = match inputs.get(3).map(|clip_slots| &clip_slots.fill) {
        Some(Fill::Given(of)) => (0..of.len()).filter(|clip| of[*clip] < slots).map(|clip| clip as f64).collect(),
        _ => (0..inputs[2].spec.shape.last()).map(|clip| clip as f64).collect(),
    };
    inputs[0] = Input::u32([4], Fill::Given(vec![7.0, 9.0, 0.0, 8.0]));
    inputs.insert(3, Input::u32([13], Fill::Given((0..13).map(|i| clips[i % clips.len()]).collect())));
    Case::new(name, Take { how, draw: Some(Sample { batch: 5, order: Order::Shuffled }) }, inputs)
}

fn cases() -> Vec<Case> {
    use Encoding::{Bytes, Floats, Halves};
    let padding = f64::from(PADDING);
    let some = || Input::u32([5], Fill::Given(vec![6.0, 0.0, 3.0, padding, padding]));
    let all = |batch: usize, clips: u32| Input::u32([batch], Fill::Below(clips));
    let four = || window(&[1.0, padding, 3.0], &[9.0, 1.0, 9.0, 0.0, 2.0], 8, Floats);
    let ragged = || window(&[1.0, padding, 3.0], &[9.0, 1.0, 9.0, 0.0, 2.0], 7, Floats);
    let halves = || window(&[0.0, 4.0, 4.0], &[2.0, 9.0, 9.0, 9.0, 0.0, 1.0], 8, Halves);
    let bytes = || window(&[6.0, 2.0, padding], &[9.0, 9.0, 0.0, 2.0, 9.0, 3.0, 1.0], 8, Bytes);
    vec![
        given("one byte clip", whole(all(1, 1), 1, [1, 4, 1], Bytes)),
        given("packed bytes, padding", whole(some(), 7, [3, 8, 5], Bytes)),
        given("packed bytes, groups", whole(all(13, 30), 30, [5, 12, 20], Bytes)),
        given("f32, padding", whole(some(), 7, [3, 8, 5], Floats)),
        given("f32, ragged", whole(some(), 7, [3, 7, 5], Floats)),
        given("one f32", whole(all(1, 1), 1, [1, 1, 1], Floats)),
        given("halves, padding", whole(some(), 7, [3, 8, 5], Halves)),
        given("window, bytes", bytes()),
        given("window, halves", halves()),
        given("window, f32", four()),
        given("window, f32, ragged", ragged()),
        drawn("drawn, bytes", whole(some(), 7, [3, 8, 5], Bytes)),
        drawn("drawn, halves", whole(some(), 7, [3, 8, 5], Halves)),
        drawn("drawn, f32", whole(some(), 7, [3, 8, 5], Floats)),
        drawn("drawn, f32, ragged", whole(some(), 7, [3, 7, 5], Floats)),
        drawn("drawn, window, bytes", bytes()),
        drawn("drawn, window, halves", halves()),
        drawn("drawn, window, f32", four()),
        drawn("drawn, window, f32, ragged", ragged()),
        given("real bytes", whole(all(128, 2000), 2000, [10, 128, 20], Bytes)).bench(),
    ]
}

pub(crate) const OP: Entry = Entry {
    name: "gather",
    about: "batch gather and dequantisation, of rows given or drawn",
    shaders: &[&SHADERS[0][0], &SHADERS[0][1], &SHADERS[1][0], &SHADERS[1][1], &sample::SHADER],
    cases,
};
