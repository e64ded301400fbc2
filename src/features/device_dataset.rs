//! A dataset in GPU memory: uploaded once as it is stored; every step gathers its batch from there. Larger datasets are
//! streamed: the clips of a submission are uploaded while the previous one runs.

use std::ops::Range;

use crate::core::error::{BYTES, Error, Result};
use crate::core::random::key;
use crate::data::{Dataset, FeatureValues, Features};
use crate::gpu::{Buffer, Gpu};
use crate::graph::{Graph, Spec, Tensor};
use crate::ops::gather::{Batch, Clips, Encoding, Gather, Rows, gather};
use crate::ops::instance_labels::{self, InstanceLabels, TakeInstanceLabels, instance_labels};
use crate::ops::masked_bce::{FocalAlpha, inverse_class_frequencies, inverse_frequency};
use crate::ops::sample::{Order, PADDING, batch_rows};

/// Label codes on the GPU.
const UNKNOWN: u32 = 0;
const ABSENT: u32 = 1;
const PRESENT: u32 = 2;
/// Features of up to this many bytes (and up to the largest binding) stay on the GPU.
const RESIDENT: u64 = 2 << 30;
/// Of larger ones about this many bytes are on the GPU at a time.
const WINDOW: u64 = 256 << 20;

/// Sizes of a dataset, as a graph needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// N.
    pub clips: usize,
    /// T.
    pub instances: usize,
    /// Instances of a clip in the features that it comes from, of which the first T are on the GPU.
    pub stored: usize,
    /// F.
    pub width: usize,
    /// K.
    pub classes: usize,
    pub encoding: Encoding,
    /// Clips whose features are on the GPU at a time, at most N.
    pub slots: usize,
    /// Whether there are labels of instances.
    pub strong: bool,
}

impl Dims {
    /// `binding`: largest binding of the adapter, bytes.
    pub fn new(features: &Features, classes: usize, binding: u64) -> Dims {
        Dims::cut(features, features.instances, classes).fitted(binding)
    }

    /// Of the clips to train a model on, with room for `extra` clips, see [`Dims::with_room`]. Clips have as many
    /// instances as the longest of them, unless the model (`is_fixed`) or those that come later need all.
    ///
    /// # Errors
    /// `Limit` if they need more memory than the adapter has.
    pub(crate) fn of_training(data: &Dataset, is_fixed: bool, extra: usize, binding: u64) -> Result<Dims> {
        let Features { lengths, instances, width, .. } = &data.features;
        let longest = lengths.iter().max().filter(|_| !is_fixed && extra == 0);
        // Clips whose values are no multiple of four are not packed.
        let packed = |at_least: &u32| (*at_least as usize..*instances).find(|n| (n * width).is_multiple_of(4));
        let instances = longest.and_then(packed).unwrap_or(*instances);
        let dims = Dims { strong: data.strong.is_some(), ..Dims::cut(&data.features, instances, data.classes.len()) };
        dims.fitted(binding).with_room(extra, binding)
    }

    /// Of the first `instances` instances of each clip.
    fn cut(features: &Features, instances: usize, classes: usize) -> Dims {
        let (clips, width, stored) = (features.lengths.len(), features.width, features.instances);
        let encoding = match features.values {
            FeatureValues::U8(_) => Encoding::Bytes,
            FeatureValues::F16(_) => Encoding::Halves,
            FeatureValues::F32(_) => Encoding::Floats,
        }
        .of_clips(instances * width);
        Dims { clips, instances, stored, width, classes, encoding, slots: clips, strong: false }
    }

    /// With as many clips on the GPU at a time as suit an adapter with bindings of this many bytes.
    pub fn fitted(self, binding: u64) -> Dims {
        let (dims, clips) = (self, self.clips);
        match clips as u64 * dims.clip_bytes() <= RESIDENT.min(binding) {
            true => dims,
            false => dims.windowed((WINDOW.min(binding) / dims.clip_bytes()) as usize),
        }
    }

    /// The same dataset with at most `slots` clips on the GPU at a time.
    pub fn windowed(self, slots: usize) -> Dims {
        Dims { slots: slots.min(self.clips), ..self }
    }

    /// Bytes of the features of a clip on the GPU.
    pub(crate) fn clip_bytes(&self) -> u64 {
        self.encoding.spec(1, self.instances * self.width).shape.len() as u64 * 4
    }

    /// With `extra` clips after the dataset's, which come later and know the labels of their instances.
    ///
    /// # Errors
    /// `Limit` if they cannot all be on the GPU.
    pub(crate) fn with_room(self, extra: usize, binding: u64) -> Result<Dims> {
        if extra == 0 {
            return Ok(self);
        }
        let clips = self.clips + extra;
        let dims = Dims { clips, slots: clips, strong: true, ..self }.fitted(binding);
        if dims.is_windowed() {
            let (need, have) = (clips as u64 * dims.clip_bytes(), RESIDENT.min(binding));
            let what = "the dataset with its mixtures, which stays on the GPU,".into();
            let advice = match (have / dims.clip_bytes()).saturating_sub(self.clips as u64) {
                0 => "a smaller dataset: no mixtures fit beside this one".into(),
                fit => format!("fewer `mix_clips`: {fit} of {extra} mixtures fit"),
            };
            return Err(Error::Limit { what, unit: BYTES, need, have, advice });
        }
        Ok(dims)
    }

    /// Clips to be written into a dataset of these sizes. `present`, (N, K): all labels; `instances`, (N, T, K): codes
    /// of [`crate::data::instance`].
    pub(crate) fn labelled(&self, features: &Features, present: &[bool], instances: &[u8]) -> LabelledClips {
        let mut words = vec![];
        (0..features.lengths.len()).for_each(|clip| self.append_clip(&features.values, clip, &mut words));
        LabelledClips {
            lengths: features.lengths.clone(),
            labels: present.iter().map(|present| if *present { PRESENT } else { ABSENT }).collect(),
            instance_labels: instances.chunks(self.instances * self.classes).flat_map(instance_labels::pack).collect(),
            features: words,
        }
    }

    /// Appends the instances of a clip that are on the GPU, as 32-bit words.
    fn append_clip(&self, values: &FeatureValues, clip: usize, words: &mut Vec<u32>) {
        append_words(values, self.encoding, clip * self.stored * self.width, self.instances * self.width, words);
    }

    fn is_windowed(&self) -> bool {
        self.slots < self.clips
    }

    /// The dataset as inputs of a graph.
    pub fn clips(&self, g: &mut Graph) -> Clips {
        let Dims { clips, instances, width, classes, encoding, slots, .. } = *self;
        Clips {
            features: g.shared_input("features", encoding.spec(slots, instances * width)),
            labels: g.shared_input("labels", Spec::u32([1 + classes, clips])),
            clip_slots: self.is_windowed().then(|| g.shared_input("clip_slots", Spec::u32([clips]))),
        }
    }

    /// Adds the kernels that gather the clips `rows`, for a model that attends to `positions` positions of
    /// an instance.
    pub fn gather(&self, g: &mut Graph, clips: Clips, rows: Rows, positions: usize) -> Result<Batch> {
        let Dims { instances, width, encoding, .. } = *self;
        gather(g, rows, clips, Gather { instances, width, encoding, positions })
    }

    /// Adds the labels of the instances of the clips `rows`.
    pub fn instance_labels(
        &self,
        g: &mut Graph,
        clips: Clips,
        rows: Tensor,
        positions: usize,
    ) -> Result<InstanceLabels> {
        let Dims { instances, classes, .. } = *self;
        let codes = Spec::u32([self.clips, instance_labels::words(instances, classes)]);
        let codes = g.shared_input("instance_labels", codes);
        instance_labels(g, rows, clips.labels, codes, TakeInstanceLabels { instances, classes, positions })
    }
}

/// Clips as they are in GPU memory.
pub(crate) struct LabelledClips {
    pub lengths: Vec<u32>,
    labels: Vec<u32>,
    instance_labels: Vec<u32>,
    features: Vec<u32>,
}

/// N clips on the GPU, shared by all replicas.
#[derive(Clone)]
pub struct DeviceDataset {
    pub dims: Dims,
    /// Source of the clips, if they are streamed.
    source: Option<FeatureValues>,
    features: Buffer,
    /// Lengths, then labels.
    labels: Buffer,
    clip_slots: Buffer,
    instance_labels: Buffer,
}

impl DeviceDataset {
    pub fn of_dataset(gpu: &Gpu, data: &Dataset) -> Result<DeviceDataset> {
        DeviceDataset::with_dims(gpu, data, Dims::of_training(data, true, 0, gpu.max_binding())?)
    }

    /// As [`DeviceDataset::of_dataset`], with other sizes: a smaller window, fewer instances, or room for more clips
    /// after the dataset's, which have no labels until they come.
    pub fn with_dims(gpu: &Gpu, data: &Dataset, dims: Dims) -> Result<DeviceDataset> {
        let code = |(observed, target): (&bool, &f32)| match (observed, *target >= 0.5) {
            (false, _) => UNKNOWN,
            (true, false) => ABSENT,
            (true, true) => PRESENT,
        };
        let mut labels: Vec<u32> = data.observed.iter().zip(&data.targets).map(code).collect();
        labels.resize(dims.clips * dims.classes, UNKNOWN);
        let mut on_device = DeviceDataset::new(gpu, &data.features, dims, &labels)?;
        if dims.strong {
            let clip = data.features.instances * data.classes.len();
            let codes = data.strong.iter().flat_map(|codes| codes.chunks(clip));
            let on_gpu = dims.instances * dims.classes;
            let mut words: Vec<u32> = codes.flat_map(|codes| instance_labels::pack(&codes[..on_gpu])).collect();
            words.resize(dims.clips * instance_labels::words(dims.instances, dims.classes), 0);
            on_device.instance_labels = gpu.upload("instance labels", &words)?;
        }
        Ok(on_device)
    }

    /// Clips without labels, for prediction.
    pub fn unlabelled(gpu: &Gpu, features: &Features, classes: usize) -> Result<DeviceDataset> {
        let dims = Dims::new(features, classes, gpu.max_binding());
        DeviceDataset::new(gpu, features, dims, &vec![UNKNOWN; features.lengths.len() * classes])
    }

    /// Buffers for clips without labels, to be refilled: see [`DeviceDataset::fill`]. `features`: their buffer, if
    /// something else writes it on the GPU.
    pub(crate) fn refillable(gpu: &Gpu, dims: Dims, features: Option<Buffer>) -> Result<DeviceDataset> {
        assert!(!dims.is_windowed(), "all clips are on the GPU");
        let size = dims.clips * dims.clip_bytes() as usize / 4;
        Ok(DeviceDataset {
            dims,
            source: None,
            features: features.map_or_else(|| gpu.buffer("features", size), Ok)?,
            labels: gpu.upload("labels", &vec![UNKNOWN; dims.clips * (1 + dims.classes)])?,
            clip_slots: gpu.buffer("clip_slots", 1)?,
            instance_labels: gpu.buffer("instance labels", 1)?,
        })
    }

    /// Replaces the first clips: their valid instances, and their features unless something else writes them.
    pub(crate) fn fill(&self, gpu: &Gpu, lengths: &[u32], features: Option<&FeatureValues>) -> Result<()> {
        gpu.write(&self.labels, 0, lengths)?;
        features.map_or(Ok(()), |values| self.write(gpu, values, 0..lengths.len() as u32))
    }

    /// Replaces the clips from number `at` on.
    pub(crate) fn replace(&self, gpu: &Gpu, at: usize, clips: &LabelledClips) -> Result<()> {
        let Dims { clips: all, instances, classes, .. } = self.dims;
        gpu.write(&self.labels, at, &clips.lengths)?;
        gpu.write(&self.labels, all + at * classes, &clips.labels)?;
        gpu.write(&self.instance_labels, at * instance_labels::words(instances, classes), &clips.instance_labels)?;
        gpu.write(&self.features, at * self.dims.clip_bytes() as usize / 4, &clips.features)
    }

    fn new(gpu: &Gpu, features: &Features, dims: Dims, labels: &[u32]) -> Result<DeviceDataset> {
        tracing::debug!(clips = dims.clips, slots = dims.slots, "uploading dataset");
        let (clips, mut lengths) = (features.lengths.len() as u32, features.lengths.clone());
        lengths.resize(dims.clips, 1);
        let data = DeviceDataset {
            dims,
            source: dims.is_windowed().then(|| features.values.clone()),
            features: gpu.buffer("features", dims.slots * dims.clip_bytes() as usize / 4)?,
            labels: gpu.upload("labels", &[&lengths[..], labels].concat())?,
            clip_slots: gpu.buffer("clip_slots", if dims.is_windowed() { dims.clips } else { 1 })?,
            instance_labels: gpu.buffer("instance labels", 1)?,
        };
        if !dims.is_windowed() {
            data.write(gpu, &features.values, 0..clips)?;
        }
        Ok(data)
    }

    /// Its buffers under the names that [`Dims::clips`] uses.
    pub fn named(&self) -> [(&'static str, Buffer); 4] {
        [
            ("features", self.features.clone()),
            ("labels", self.labels.clone()),
            ("clip_slots", self.clip_slots.clone()),
            ("instance_labels", self.instance_labels.clone()),
        ]
    }

    /// Valid instances of each clip.
    pub(super) fn lengths(&self, gpu: &Gpu) -> Result<Vec<u32>> {
        gpu.read_at(&self.labels, 0, self.dims.clips)
    }

    /// The features of some clips, as they are stored.
    pub(super) fn words(&self, gpu: &Gpu, clips: Range<usize>) -> Result<Vec<u32>> {
        let Some(source) = &self.source else {
            let each = self.dims.clip_bytes() as usize / 4;
            return gpu.read_at(&self.features, clips.start * each, clips.len() * each);
        };
        let mut words = vec![];
        clips.for_each(|clip| self.dims.append_clip(source, clip, &mut words));
        Ok(words)
    }

    /// alpha of each class from the labels of each pool's clips, pool after pool.
    pub(crate) fn focal_alphas<'a>(
        &self,
        gpu: &Gpu,
        alpha: FocalAlpha,
        pools: impl Iterator<Item = &'a [u32]>,
    ) -> Result<Vec<f32>> {
        let Dims { clips, classes, .. } = self.dims;
        let labels = gpu.read_at::<u32>(&self.labels, clips, clips * classes)?;
        let of_pool = |pool: &'a [u32]| {
            let mut counts = vec![[0; 3]; classes];
            for &clip in pool {
                let codes = &labels[clip as usize * classes..][..classes];
                counts.iter_mut().zip(codes).for_each(|(counts, code)| counts[*code as usize] += 1);
            }
            let labels: Vec<[u32; 2]> = counts.iter().map(|n| [n[PRESENT as usize], n[ABSENT as usize]]).collect();
            let alphas: Vec<f64> = match alpha {
                FocalAlpha::Same(alpha) => vec![alpha; classes],
                FocalAlpha::InverseFrequency => labels.iter().map(|&[p, a]| inverse_frequency(p, a)).collect(),
                FocalAlpha::InverseClassFrequency => inverse_class_frequencies(&labels),
            };
            alphas.into_iter().map(|alpha| alpha as f32)
        };
        Ok(pools.flat_map(of_pool).collect())
    }

    /// Most steps of `each` clips in a submission.
    ///
    /// # Errors
    /// `Limit` if the clips of a single step exceed the window.
    pub(crate) fn max_steps(&self, each: usize) -> Result<usize> {
        let dims = self.dims;
        let need = each.min(dims.clips);
        if need > dims.slots {
            let bytes = |clips: usize| clips as u64 * dims.clip_bytes();
            let what = "a step, for its clips,".into();
            return Err(Error::limit(what, BYTES, bytes(need), bytes(dims.slots)));
        }
        Ok(if dims.is_windowed() { (dims.slots / each).max(1) } else { usize::MAX })
    }

    /// Uploads the clips `rows` for the next submission; padding is ignored.
    pub(crate) fn upload(&self, gpu: &Gpu, rows: impl Iterator<Item = u32>) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let mut wanted: Vec<u32> = rows.filter(|row| *row != PADDING).collect();
        wanted.sort_unstable();
        wanted.dedup();
        assert!(wanted.len() <= self.dims.slots, "a submission needs more clips than the window holds");
        let mut clip_slots = vec![PADDING; self.dims.clips];
        wanted.iter().zip(0..).for_each(|(&clip, slot)| clip_slots[clip as usize] = slot);
        gpu.write(&self.clip_slots, 0, &clip_slots)?;
        self.write(gpu, source, wanted)
    }

    /// Writes the features of some clips into the first slots.
    fn write(&self, gpu: &Gpu, values: &FeatureValues, clips: impl IntoIterator<Item = u32>) -> Result<()> {
        /// Elements converted at once.
        const PORTION: usize = 4 << 20;
        let (mut words, mut at) = (vec![], 0);
        for clip in clips {
            self.dims.append_clip(values, clip as usize, &mut words);
            if words.len() >= PORTION {
                gpu.write(&self.features, at, &words)?;
                at += words.len();
                words.clear();
            }
        }
        gpu.write(&self.features, at, &words)
    }
}

/// Appends `len` values from `start` on, as 32-bit words.
fn append_words(values: &FeatureValues, encoding: Encoding, start: usize, len: usize, words: &mut Vec<u32>) {
    let floats = |words: &mut Vec<u32>, values: &mut dyn Iterator<Item = f32>| words.extend(values.map(f32::to_bits));
    let range = start..start + len;
    match (values, encoding) {
        (FeatureValues::U8(bytes), Encoding::Bytes) => words.extend(bytes[range].chunks_exact(4).map(word)),
        (FeatureValues::U8(bytes), _) => floats(words, &mut bytes[range].iter().map(|v| f32::from(*v) / 255.0)),
        (FeatureValues::F32(values), Encoding::Halves) => {
            let half = |v: f32| u32::from(half::f16::from_f32(v).to_bits());
            words.extend(values[range].chunks_exact(2).map(|two| half(two[0]) | half(two[1]) << 16));
        }
        (FeatureValues::F32(values), _) => floats(words, &mut values[range].iter().copied()),
        (FeatureValues::F16(map), encoding) => {
            let bytes = &map.bytes()[2 * range.start..2 * range.end];
            match encoding {
                Encoding::Halves => words.extend(bytes.chunks_exact(4).map(word)),
                _ => floats(words, &mut bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())),
            }
        }
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The batches of a plan: the clips of each replica in each step.
pub(crate) struct BatchSchedule {
    data: DeviceDataset,
    pools: Vec<Vec<u32>>,
    seeds: Vec<u64>,
    batch: usize,
    orders: Vec<Order>,
}

impl BatchSchedule {
    /// `pools` and `seeds`: an entry per replica. A step takes a batch in each of the `orders`.
    ///
    /// # Errors
    /// `Limit` if the clips of a single step exceed the window.
    pub fn new(
        data: &DeviceDataset,
        pools: Vec<Vec<u32>>,
        seeds: &[u64],
        batch: usize,
        orders: Vec<Order>,
    ) -> Result<BatchSchedule> {
        data.max_steps(pools.len() * batch * orders.len())?;
        Ok(BatchSchedule { data: data.clone(), pools, seeds: seeds.to_vec(), batch, orders })
    }

    /// The dataset, and the clips of each replica.
    pub(crate) fn clips(&self) -> (&DeviceDataset, &[Vec<u32>]) {
        (&self.data, &self.pools)
    }

    /// Most steps of a submission.
    pub(crate) fn most_steps(&self) -> usize {
        let each = self.pools.len() * self.batch * self.orders.len();
        self.data.max_steps(each).expect("checked by new")
    }

    /// Uploads the clips of the steps `first` .. `first + n` for the next submission.
    pub fn upload(&self, gpu: &Gpu, first: usize, n: usize) -> Result<()> {
        if !self.data.dims.is_windowed() {
            return Ok(());
        }
        let replicas = || self.pools.iter().zip(&self.seeds);
        let batches = (first..first + n)
            .flat_map(|step| replicas().map(move |replica| (step, replica)))
            .flat_map(|(step, replica)| self.orders.iter().map(move |order| (step, replica, *order)));
        let rows =
            batches.flat_map(|(step, (pool, seed), order)| batch_rows(pool, self.batch, order, key(*seed), step));
        self.data.upload(gpu, rows)
    }
}
