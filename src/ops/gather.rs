//! Copies a batch out of the dataset, which lies on the GPU once for all replicas.
//!
//! rows u32 (B) chooses clips among N; a row that is no clip ([`PADDING`](super::sample::PADDING)) gives 0 everywhere, lengths included.
//! features: u32 (N, T F / 4), four uint8 v in each word, the first in the lowest byte: x = v / 255; or f32 (N, T F): x as it is.
//! lengths u32 (N): valid instances, at most T; labels u32 (N, K): 0 unknown, 1 absent, 2 present. No gradients.

use super::Room;
use super::sample::PADDING;
use crate::array::Array;
use crate::check::{Case, Fill, Input};
use crate::error::{Error, Result};
use crate::gpu::{Grid, Recorder, Shader, params};
use crate::graph::{Cost, Dtype, Graph, Io, Op, Outputs, Spec, Tensor};

static SHADER: Shader = Shader::portable("gather.wgsl", include_str!("../../shaders/gather.wgsl"));

params! {
    struct Params { batch: u32, words: u32, classes: u32, clips: u32, instances: u32, rows_stride: u32 }
}

/// What a step trains or validates on.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// (B, T, F).
    pub x: Tensor,
    /// u32 (B): valid instances of each clip, 0 for padding.
    pub lengths: Tensor,
    /// (B, K), 1 where present, else 0.
    pub target: Tensor,
    /// (B, K), 1 where the label is known, else 0.
    pub observed: Tensor,
}

#[derive(Debug)]
struct Gather {
    instances: usize,
    width: usize,
}

/// Adds the copy of the clips `rows`, u32 (B). `features` (N, T F / 4) of packed bytes or (N, T F) of f32, `lengths` u32 (N)
/// and `labels` u32 (N, K) are the dataset, shared by all replicas; `instances` is T, `width` is F.
///
/// # Errors
/// `Shape` for tensors that do not fit together.
pub fn gather(
    g: &mut Graph,
    rows: Tensor,
    features: Tensor,
    lengths: Tensor,
    labels: Tensor,
    instances: usize,
    width: usize,
) -> Result<Batch> {
    let y = g.push(Gather { instances, width }, &[rows, features, lengths, labels])?;
    Ok(Batch { x: y[0], lengths: y[1], target: y[2], observed: y[3] })
}

/// Elements in a word of packed bytes.
const PACKED: usize = 4;

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let [rows, features, lengths, labels] = x else { unreachable!("gather takes four tensors") };
        let clips = features.shape.rows();
        let len = self.instances * self.width;
        let words = match features.dtype {
            Dtype::F32 => len,
            Dtype::U32 if len.is_multiple_of(PACKED) => len / PACKED,
            Dtype::U32 => 0,
        };
        let fits = rows.dtype == Dtype::U32
            && rows.shape.rank() == 1
            && words > 0
            && features.shape.dims() == [clips, words]
            && *lengths == Spec::u32([clips])
            && labels.dtype == Dtype::U32
            && labels.shape.rank() == 2
            && labels.shape.rows() == clips;
        if !fits {
            let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
            let expected = format!(
                "rows (B), features of packed bytes (N, {len} / 4) or f32 (N, {len}), lengths (N), labels (N, K)"
            );
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
        let len = self.instances * self.width;
        let stored = io.x(1).shape.last();
        let (entry, features, x, words) = if stored != len {
            ("gather_forward_bytes", "bytes", "x4", stored)
        } else if len.is_multiple_of(4) {
            ("gather_forward_vec4", "values4", "x4", len / 4)
        } else {
            ("gather_forward_scalar", "values", "x", len)
        };
        let p = Params {
            batch: batch as u32,
            words: words as u32,
            classes: classes as u32,
            clips: io.x(1).shape.rows() as u32,
            instances: self.instances as u32,
            rows_stride: io.x(0).stride as u32,
        };
        let rows = ("rows", io.x(0).view);
        let bindings = [rows, (features, io.x(1).view), (x, io.y(0).view)];
        r.dispatch(&SHADER, entry, &bindings, p, Grid::items(batch * words, 64, io.replicas));
        let bindings = [
            rows,
            ("lengths", io.x(2).view),
            ("labels", io.x(3).view),
            ("y_lengths", io.y(1).view),
            ("targets", io.y(2).view),
            ("observed", io.y(3).view),
        ];
        r.dispatch(&SHADER, "gather_forward_labels", &bindings, p, Grid::items(batch * classes, 64, io.replicas));
        Ok(())
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let [rows, features, lengths, labels] = x else { unreachable!("gather takes four tensors") };
        let (batch, classes) = (rows.shape().len(), labels.shape().last());
        let len = self.instances * self.width;
        let clip = |b: usize| Some(rows[b] as usize).filter(|row| *row < lengths.shape().len());
        let feature = |row: usize, i: usize| match features.shape().last() == len {
            true => features.row(row)[i],
            false => f64::from((features.row(row)[i / PACKED] as u32).to_le_bytes()[i % PACKED]) / 255.0,
        };
        let label = |i: usize| clip(i / classes).map_or(0.0, |row| labels.row(row)[i % classes]);
        vec![
            Array::from_fn([batch, self.instances, self.width], |i| {
                clip(i / len).map_or(0.0, |row| feature(row, i % len))
            }),
            Array::from_fn([batch], |b| clip(b).map_or(0.0, |row| lengths[row].min(self.instances as f64))),
            Array::from_fn([batch, classes], |i| f64::from(label(i) == 2.0)),
            Array::from_fn([batch, classes], |i| f64::from(label(i) != 0.0)),
        ]
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        let (batch, stored) = (x[0].shape.len(), x[1].shape.last());
        let words = self.instances * self.width + stored + 3 * x[3].shape.last() + 3;
        Cost { flops: 0.0, bytes: (4 * batch * words) as f64 }
    }
}

/// `rows` of a dataset of `clips` clips.
fn case(name: &str, rows: Input, clips: usize, shape: [usize; 3], packed: bool) -> Case {
    let [instances, width, classes] = shape;
    let len = instances * width;
    let features = match packed {
        true => Input::u32([clips, len / PACKED], Fill::Below(u32::MAX)),
        false => Input::data([clips, len]),
    };
    let inputs = vec![
        rows,
        features.shared(),
        Input::u32([clips], Fill::Below(instances as u32 + 2)).shared(),
        Input::u32([clips, classes], Fill::Below(3)).shared(),
    ];
    Case::new(name, Gather { instances, width }, inputs)
}

fn cases() -> Vec<Case> {
    let padding = f64::from(PADDING);
    let some = || Input::u32([5], Fill::Given(vec![6.0, 0.0, 3.0, padding, padding]));
    let all = |batch: usize, clips: u32| Input::u32([batch], Fill::Below(clips));
    vec![
        case("one byte clip", all(1, 1), 1, [1, 4, 1], true),
        case("packed bytes, padding", some(), 7, [3, 8, 5], true),
        case("packed bytes, groups", all(13, 30), 30, [5, 12, 20], true),
        case("f32, padding", some(), 7, [3, 8, 5], false),
        case("f32, ragged", some(), 7, [3, 7, 5], false),
        case("one f32", all(1, 1), 1, [1, 1, 1], false),
        case("real bytes", all(128, 2000), 2000, [10, 128, 20], true).bench(),
    ]
}

pub const ROOM: Room = Room { name: "gather", about: "a batch of the dataset", shaders: &[&SHADER], cases };
