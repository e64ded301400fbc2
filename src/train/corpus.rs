//! A dataset in GPU memory: uploaded once as it is stored; every step gathers its batch from there.

use crate::data::{Dataset, FeatureValues, Features};
use crate::error::Result;
use crate::gpu::{Buffer, Gpu};
use crate::graph::{Graph, Spec, Tensor};
use crate::ops::gather::{Batch, gather};

/// Label codes on the GPU.
const UNKNOWN: u32 = 0;
const ABSENT: u32 = 1;
const PRESENT: u32 = 2;

/// Sizes of a dataset, all that a graph needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// N.
    pub clips: usize,
    /// T.
    pub instances: usize,
    /// F.
    pub width: usize,
    /// K.
    pub classes: usize,
    /// Four uint8 features to a word, else f32.
    pub packed: bool,
}

impl Dims {
    pub fn new(features: &Features, classes: usize) -> Dims {
        let Features { instances, width, .. } = *features;
        let packed = matches!(features.values, FeatureValues::U8(_)) && (instances * width).is_multiple_of(4);
        Dims { clips: features.lengths.len(), instances, width, classes, packed }
    }

    /// Adds the kernels that gather the clips `rows` (u32, (B)).
    pub fn gather(&self, g: &mut Graph, rows: Tensor) -> Result<Batch> {
        let Dims { clips, instances, width, classes, packed } = *self;
        let features = match packed {
            true => g.shared_input("features", Spec::u32([clips, instances * width / 4])),
            false => g.shared_input("features", Spec::f32([clips, instances * width])),
        };
        let lengths = g.shared_input("lengths", Spec::u32([clips]));
        let labels = g.shared_input("labels", Spec::u32([clips, classes]));
        gather(g, rows, features, lengths, labels, instances, width)
    }
}

/// N clips on the GPU, shared by all replicas.
pub struct Corpus {
    pub dims: Dims,
    features: Buffer,
    lengths: Buffer,
    labels: Buffer,
}

impl Corpus {
    pub fn of_dataset(gpu: &Gpu, data: &Dataset) -> Result<Corpus> {
        let code = |(observed, target): (&bool, &f32)| match (observed, *target >= 0.5) {
            (false, _) => UNKNOWN,
            (true, false) => ABSENT,
            (true, true) => PRESENT,
        };
        let labels: Vec<u32> = data.observed.iter().zip(&data.targets).map(code).collect();
        Corpus::new(gpu, &data.features, data.classes.len(), &labels)
    }

    /// Clips without labels, for prediction.
    pub fn unlabelled(gpu: &Gpu, features: &Features, classes: usize) -> Result<Corpus> {
        Corpus::new(gpu, features, classes, &vec![UNKNOWN; features.lengths.len() * classes])
    }

    fn new(gpu: &Gpu, features: &Features, classes: usize, labels: &[u32]) -> Result<Corpus> {
        let dims = Dims::new(features, classes);
        let values = match &features.values {
            FeatureValues::U8(bytes) if dims.packed => {
                let words: Vec<u32> =
                    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
                gpu.upload("features", &words)?
            }
            FeatureValues::U8(bytes) => {
                let scaled: Vec<f32> = bytes.iter().map(|v| f32::from(*v) / 255.0).collect();
                gpu.upload("features", &scaled)?
            }
            FeatureValues::F32(values) => gpu.upload("features", values)?,
        };
        let lengths = gpu.upload("lengths", &features.lengths)?;
        Ok(Corpus { dims, features: values, lengths, labels: gpu.upload("labels", labels)? })
    }

    /// Its buffers under the names that [`Dims::gather`] uses.
    pub fn named(&self) -> [(&'static str, Buffer); 3] {
        [("features", self.features.clone()), ("lengths", self.lengths.clone()), ("labels", self.labels.clone())]
    }
}
