//! Sound to features on the GPU: log-mel spectrogram, and VGGish's maps or embeddings.

use std::ops::Range;

use half::f16;

use super::front_end::Weights;
use crate::audio::logmel::{self, BANDS, PATCH_FRAMES, log_mel, log_mel_patches};
use crate::data::Kind;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu};
use crate::graph::{Draft, Graph, Mode, Plan, Spec, Tensor};
use crate::nn::models::instance_len;
use crate::nn::vggish::{self, Width};

/// Largest tensor of a batch, in elements: enough work for a GPU, and little memory on a machine that has none.
const BATCH_ELEMENTS: usize = 16 << 20;
/// And no more clips than this, whose sound lies in memory.
const MAX_BATCH: usize = 32;

/// Whole instances of a sound of `samples` samples at 16 kHz.
pub fn instances(kind: Kind, samples: usize) -> usize {
    match kind {
        Kind::Spectrogram => logmel::frames(samples),
        _ => logmel::patches(samples),
    }
}

/// Makes features of excerpts of up to `samples` samples at 16 kHz.
pub struct Extractor<'g> {
    gpu: &'g Gpu,
    kind: Kind,
    plan: Plan,
    input: Buffer,
    features: Tensor,
    spectrogram: Option<Tensor>,
    batch: usize,
    samples: usize,
    instances: usize,
    len: usize,
}

/// What is made of an excerpt.
#[derive(Clone, Debug, PartialEq)]
pub struct Extract {
    /// (T, F), zeros beyond `instances`.
    pub features: Vec<f32>,
    /// Valid instances, at least 1: whole patches of 0.96 s, or frames; a shorter excerpt is one that ends in silence.
    pub instances: usize,
    /// (frames, 64), if asked for.
    pub spectrogram: Vec<f32>,
}

impl<'g> Extractor<'g> {
    /// For excerpts of at most `samples` samples (at least one patch: 15 600). `width` and `weights` are VGGish's; log-mel
    /// patches and spectrograms need no weights. `with_spectrogram`: also give the whole log-mel spectrogram.
    ///
    /// # Errors
    /// `Limit` or `Gpu` if the adapter has not the memory.
    pub fn new(
        gpu: &'g Gpu,
        kind: Kind,
        width: Width,
        weights: Option<(&Weights, bool)>,
        samples: usize,
        with_spectrogram: bool,
    ) -> Result<Extractor<'g>> {
        let instances = instances(kind, samples);
        // The maps of the first layer are the largest tensor.
        let channels = if kind.is_log_mel() { 1 } else { width.map_channels() / 8 };
        let largest = logmel::frames(samples) * BANDS * channels;
        let batch = (BATCH_ELEMENTS / largest).clamp(1, MAX_BATCH);

        let mut g = Graph::new(Mode::Eval);
        let sound = g.input("samples", Spec::f32([batch, samples]));
        let patches = |g: &mut Graph| -> Result<Tensor> {
            let patches = log_mel_patches(g, sound)?;
            Ok(g.reshape(patches, [batch * instances, PATCH_FRAMES, BANDS]))
        };
        let features = match kind {
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
        let spectrogram = match (with_spectrogram, kind) {
            (false, _) => None,
            (true, Kind::Spectrogram) => Some(features),
            (true, _) => Some(log_mel(&mut g, sound)?),
        };
        let keep: Vec<Tensor> = [features].into_iter().chain(spectrogram).collect();
        let draft = Draft::new(&g, gpu.adapter().target(), 1, &keep, &[])?;
        draft.fits(gpu)?;
        let input = gpu.buffer("samples", batch * samples)?;
        let mut bound = vec![("samples".to_owned(), input.clone())];
        if let (Some((weights, _)), true) = (weights, !kind.is_log_mel()) {
            let layers = if kind == Kind::Maps { "features." } else { "" };
            bound.extend(weights.upload(gpu, layers)?);
        }
        let bound: Vec<(&str, Buffer)> = bound.iter().map(|(name, buffer)| (name.as_str(), buffer.clone())).collect();
        let plan = draft.realise(gpu, &bound)?;
        let len = instance_len(kind, width);
        Ok(Extractor { gpu, kind, plan, input, features, spectrogram, batch, samples, instances, len })
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
        self.len
    }

    /// Works on at most [`Extractor::batch`] excerpts. Silence follows those that are shorter than the longest possible.
    ///
    /// # Errors
    /// `Gpu` if the device fails, or answers what is not a number (damaged weights).
    pub fn run(&self, excerpts: &[&[f32]]) -> Result<Vec<Extract>> {
        assert!(excerpts.len() <= self.batch, "more excerpts than the extractor was made for");
        let mut samples = vec![0.0; excerpts.len() * self.samples];
        for (into, excerpt) in samples.chunks_exact_mut(self.samples).zip(excerpts) {
            into[..excerpt.len()].copy_from_slice(excerpt);
        }
        self.gpu.write(&self.input, 0, &samples)?;
        self.gpu.submit(|s| s.replay(&[&self.plan.recording], 1))?;
        let features = self.plan.read::<f32>(self.gpu, self.features)?;
        let spectrogram = match self.spectrogram {
            Some(tensor) => self.plan.read::<f32>(self.gpu, tensor)?,
            None => vec![],
        };
        // What is stored is f16.
        if features.iter().any(|v| !v.is_finite() || v.abs() > f32::from(f16::MAX)) {
            return Err(Error::Gpu(
                "the front end answered what is no number of 16 bits; its weights are damaged".into(),
            ));
        }
        let of = |values: &[f32], i: usize, rows: usize| -> Vec<f32> {
            let each = values.len() / self.batch;
            let range: Range<usize> = i * each..i * each + rows;
            values[range].to_vec()
        };
        let extract = |(i, excerpt): (usize, &&[f32])| {
            let instances = instances(self.kind, excerpt.len()).max(1);
            let mut features = of(&features, i, self.instances * self.len);
            features[instances * self.len..].fill(0.0);
            let frames = if self.spectrogram.is_some() { logmel::frames(excerpt.len()).max(1) } else { 0 };
            Extract { features, instances, spectrogram: of(&spectrogram, i, frames * BANDS) }
        };
        Ok(excerpts.iter().enumerate().map(extract).collect())
    }
}
