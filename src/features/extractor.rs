//! Sound to features on the GPU: log-mel spectrogram, and VGGish's maps or embeddings.

use std::ops::Range;
use std::sync::Mutex;

use half::f16;

use crate::core::error::{Error, Result};
use crate::data::Kind;
use crate::features::front_end::Weights;
use crate::gpu::{Buffer, Gpu, Pace};
use crate::graph::{Draft, Graph, Mode, Plan, Spec, Tensor};
use crate::nn::front_ends::log_mel::{self, BANDS, PATCH_FRAMES, log_mel, log_mel_patches};
use crate::nn::front_ends::spectrum::{self, Input, Scale};
use crate::nn::front_ends::vggish::{self, Width};
use crate::nn::models::instance_len;

/// Largest tensor of a batch, in elements: enough work for a GPU, and little memory on a machine that has none.
const BATCH_ELEMENTS: usize = 16 << 20;
/// And no more clips than this, whose sound lies in memory.
const MAX_BATCH: usize = 32;

/// Whole instances of a sound of `samples` samples.
pub fn instances(kind: Kind, samples: usize) -> usize {
    match (kind, kind.note()) {
        (_, Some(note)) => note.frames(samples),
        (Kind::Spectrogram, None) => log_mel::frames(samples),
        _ => log_mel::patches(samples),
    }
}

/// What features are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sort {
    pub kind: Kind,
    /// VGGish's.
    pub width: Width,
    /// Of spectra of notes.
    pub scale: Scale,
}

/// Makes features of excerpts of up to `samples` samples.
pub struct Extractor {
    gpu: Gpu,
    sort: Sort,
    plan: Plan,
    pace: Mutex<Pace>,
    input: Buffer,
    features: Tensor,
    spectrogram: Option<Tensor>,
    batch: usize,
    samples: usize,
    instances: usize,
}

/// What is made of an excerpt.
#[derive(Clone, Debug, PartialEq)]
pub struct Extract {
    /// (T, F), zeros beyond `instances`; empty if they stay on the GPU.
    pub features: Vec<f32>,
    /// Valid instances, at least 1: whole patches of 0.96 s, or frames; a shorter excerpt is one that ends in silence.
    pub instances: usize,
    /// (frames, bands), logarithms, if asked for: log-mel, or of notes what features are made of.
    pub spectrogram: Vec<f32>,
}

impl Sort {
    /// Of an instance.
    fn len(self) -> usize {
        instance_len(self.kind, self.width)
    }

    /// Values of a frame of the spectrogram.
    pub fn bands(self) -> usize {
        if self.kind.is_of_notes() { self.len() } else { BANDS }
    }

    /// Frames of the spectrogram of so many samples.
    fn frames(self, samples: usize) -> usize {
        if self.kind.is_of_notes() { instances(self.kind, samples) } else { log_mel::frames(samples) }
    }

    /// Elements of the largest tensor on the way from an excerpt.
    fn largest(self, samples: usize) -> usize {
        // The maps of the first layer, the window of a transform, or the sound itself.
        let channels = if self.kind.is_log_mel() { 1 } else { self.width.map_channels() / 8 };
        let spectrum = if self.kind.is_of_notes() {
            self.frames(samples) * self.len()
        } else {
            log_mel::frames(samples) * BANDS * channels
        };
        spectrum.max(samples)
    }
}

impl Extractor {
    /// For excerpts of at most `samples` samples, enough for one instance. `weights` are VGGish's; spectra need none.
    /// `with_spectrogram`: also give the whole spectrogram.
    ///
    /// # Errors
    /// `Limit` or `Gpu` if the adapter has not the memory.
    pub fn new(
        gpu: &Gpu,
        sort: Sort,
        weights: Option<(&Weights, bool)>,
        samples: usize,
        with_spectrogram: bool,
    ) -> Result<Extractor> {
        let Sort { kind, width, scale } = sort;
        let instances = instances(kind, samples);
        let batch = (BATCH_ELEMENTS / sort.largest(samples)).clamp(1, MAX_BATCH);

        let mut g = Graph::new(Mode::Eval);
        let sound = g.input("samples", Spec::f32([batch, samples]));
        let patches = |g: &mut Graph| -> Result<Tensor> {
            let patches = log_mel_patches(g, sound)?;
            Ok(g.reshape(patches, [batch * instances, PATCH_FRAMES, BANDS]))
        };
        let mut spectrogram = None;
        let mut notes = |g: &mut Graph, input: Input| -> Result<Tensor> {
            let magnitudes = input.magnitudes(g, sound)?;
            spectrogram = Some(magnitudes);
            scale.apply(g, magnitudes)
        };
        let features = match kind {
            Kind::Stft | Kind::Cqt => notes(&mut g, kind.note().expect("a spectrum of notes"))?,
            Kind::Spectrogram => log_mel(&mut g, sound)?,
            Kind::LogMel => patches(&mut g)?,
            Kind::Maps => {
                let patches = patches(&mut g)?;
                vggish::convolutions(&mut g, patches, width, vggish::Weights::Frozen)?
            }
            Kind::Vggish => {
                let patches = patches(&mut g)?;
                let maps = vggish::convolutions(&mut g, patches, width, vggish::Weights::Frozen)?;
                let last_relu = weights.is_none_or(|(_, last_relu)| last_relu);
                vggish::embeddings(&mut g, maps, width, vggish::Weights::Frozen, last_relu)?
            }
        };
        let spectrogram = match (with_spectrogram, kind, spectrogram) {
            (false, ..) => None,
            (true, _, Some(magnitudes)) => Some(magnitudes),
            (true, Kind::Spectrogram, None) => Some(features),
            (true, _, None) => Some(log_mel(&mut g, sound)?),
        };
        let keep: Vec<Tensor> = [features].into_iter().chain(spectrogram).collect();
        let draft = Draft::new(&g, gpu.adapter().target(), 1, &keep, &[])?;
        draft.fits(gpu)?;
        let input = gpu.buffer("samples", batch * samples)?;
        let mut bound = vec![("samples".to_owned(), input.clone())];
        if let (Some((weights, _)), Kind::Maps | Kind::Vggish) = (weights, kind) {
            let layers = if kind == Kind::Maps { "features." } else { "" };
            bound.extend(weights.upload(gpu, layers)?);
        }
        let bound: Vec<(&str, Buffer)> = bound.iter().map(|(name, buffer)| (name.as_str(), buffer.clone())).collect();
        let plan = draft.realise(gpu, &bound)?;
        Ok(Extractor {
            gpu: gpu.clone(),
            sort,
            plan,
            pace: Mutex::default(),
            input,
            features,
            spectrogram,
            batch,
            samples,
            instances,
        })
    }

    /// Excerpts that are worked on at once.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// T: instances of an extract.
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// F: values of an instance.
    pub fn instance_len(&self) -> usize {
        self.sort.len()
    }

    /// Values of a frame of the spectrogram.
    pub fn bands(&self) -> usize {
        self.sort.bands()
    }

    /// Where the features of the latest excerpts are, (batch, T, F).
    pub(crate) fn features(&self) -> &Buffer {
        self.plan.buffer(self.features).0
    }

    /// Works on at most [`Extractor::batch`] excerpts. Silence follows those that are shorter than the longest possible.
    ///
    /// # Errors
    /// `Gpu` if the device fails, or answers what is not a number (damaged weights).
    pub fn run(&self, excerpts: &[&[f32]]) -> Result<Vec<Extract>> {
        self.extract(excerpts, true)
    }

    /// As [`Extractor::run`]; without `read` the features stay on the GPU, unseen, see [`Extractor::features`].
    pub(crate) fn extract(&self, excerpts: &[&[f32]], read: bool) -> Result<Vec<Extract>> {
        assert!(excerpts.len() <= self.batch, "more excerpts than the extractor was made for");
        let mut samples = vec![0.0; excerpts.len() * self.samples];
        for (into, excerpt) in samples.chunks_exact_mut(self.samples).zip(excerpts) {
            into[..excerpt.len()].copy_from_slice(excerpt);
        }
        self.gpu.write(&self.input, 0, &samples)?;
        let mut pace = self.pace.lock().expect("nothing panics while it is held");
        pace.replay(&self.gpu, &[&self.plan.recording], 1, 1, &mut |_| Ok(()), &mut |_| true)?;
        drop(pace);
        // What is made of the silence after a short excerpt does not count.
        let (len, valid) = (self.sort.len(), |excerpt: &[f32]| instances(self.sort.kind, excerpt.len()).max(1));
        for (i, excerpt) in excerpts.iter().enumerate() {
            let rest = (self.instances - valid(excerpt)) * len;
            self.gpu.write(self.features(), (i + 1) * self.instances * len - rest, &vec![0.0f32; rest])?;
        }
        let features = if read { self.plan.read::<f32>(&self.gpu, self.features)? } else { vec![] };
        let mut spectrogram = match self.spectrogram {
            Some(tensor) => self.plan.read::<f32>(&self.gpu, tensor)?,
            None => vec![],
        };
        if self.sort.kind.is_of_notes() {
            spectrogram.iter_mut().for_each(|v| *v = (*v + spectrum::OFFSET).ln());
        }
        // What is stored is f16.
        if features.iter().any(|v| !v.is_finite() || v.abs() > f32::from(f16::MAX)) {
            return Err(Error::Gpu(
                "the front end answered what is no number of 16 bits; its weights, or a sound, are damaged".into(),
            ));
        }
        let of = |values: &[f32], i: usize, rows: usize| -> Vec<f32> {
            let each = values.len() / self.batch;
            let range: Range<usize> = i * each..i * each + rows;
            values[range].to_vec()
        };
        let extract = |(i, excerpt): (usize, &&[f32])| {
            let features = of(&features, i, if read { self.instances * len } else { 0 });
            let frames = if self.spectrogram.is_some() { self.sort.frames(excerpt.len()).max(1) } else { 0 };
            let spectrogram = of(&spectrogram, i, frames * self.sort.bands());
            Extract { features, instances: valid(excerpt), spectrogram }
        };
        Ok(excerpts.iter().enumerate().map(extract).collect())
    }
}
