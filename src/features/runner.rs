//! Features of excerpts: an extractor on the GPU with its post-processing.

use half::f16;

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::data::{FeatureValues, Features};
use crate::features::device_dataset::{DeviceDataset, Dims};
use crate::features::extractor::{Extract, Extractor};
use crate::features::feature_config::FeatureConfig;
use crate::features::scaling::{PostProcess, Range};
use crate::features::spectrum;
use crate::features::weights::Weights;
use crate::gpu::Gpu;
use crate::nn::front_ends::kind::SpectrogramFrames;
use crate::ops::gather::Encoding;

/// An extractor with its pre- and post-processing: excerpts to stored features.
pub struct FrontEndRunner {
    pub extractor: Extractor,
    /// For embeddings that are stored in 8 bits; all others are f16.
    post_process: Option<PostProcess>,
    /// Whether features are scaled by minimum and maximum, and the range, if it is known.
    is_scaled: bool,
    range: Option<Range>,
    /// Whether the spectrum is returned beside features that do not contain it.
    has_spectrum: bool,
    /// Frames of the spectrogram from one instance to the next.
    frames: f64,
}

impl FrontEndRunner {
    /// `weights`: from [`FeatureConfig::load`].
    pub fn new(
        gpu: &Gpu,
        config: &FeatureConfig,
        weights: Option<&Weights>,
        spectrogram: SpectrogramFrames,
    ) -> Result<FrontEndRunner> {
        let options = config.options(spectrogram);
        let extractor = Extractor::new(gpu, config.kind, options, weights, config.kind.samples())?;
        let post_process = config.post_process(weights)?.cloned();
        let range = config.range().cloned();
        let has_spectrum = spectrogram != SpectrogramFrames::None && config.has_spectrum();
        let frames = config.kind.row().seconds / config.kind.spectrogram().hop;
        Ok(FrontEndRunner { extractor, post_process, is_scaled: config.is_scaled(), range, has_spectrum, frames })
    }

    /// T.
    pub fn instances(&self) -> usize {
        self.extractor.instances()
    }

    /// F.
    pub fn instance_len(&self) -> usize {
        self.extractor.instance_len()
    }

    /// Whether features are stored in 8 bits; else as f16.
    pub(crate) fn is_in_bytes(&self) -> bool {
        self.post_process.is_some()
    }

    /// Bytes of the stored features of an excerpt.
    pub(super) fn row_bytes(&self) -> usize {
        self.instances() * self.instance_len() * if self.is_in_bytes() { 1 } else { 2 }
    }

    /// Bytes of the stored spectrum of an excerpt.
    pub(super) fn spectrum_bytes(&self) -> usize {
        if self.has_spectrum { 2 * self.instances() * spectrum::width(self.extractor.bands()) } else { 0 }
    }

    /// [`Features::spectrum`] of an extract as stored: f16.
    pub(super) fn store_spectrum(&self, extract: &Extract, into: &mut Vec<u8>) {
        let values = self.spectrum(extract).into_iter().flatten();
        into.extend(values.flat_map(|v| f16::from_f32(v).to_le_bytes()));
    }

    /// (T, S), zeros beyond the instances.
    fn spectrum(&self, extract: &Extract) -> Option<Vec<f32>> {
        let mut values = self.spectrum_moments(extract)?.into_data();
        values.resize(self.instances() * spectrum::width(self.extractor.bands()), 0.0);
        Some(values)
    }

    /// The moments of the spectrum of each instance, (instances, S), if they are returned beside the features.
    pub(crate) fn spectrum_moments(&self, extract: &Extract) -> Option<Array<f32>> {
        let bands = self.extractor.bands();
        let at = |instance: usize| (instance as f64 * self.frames).round() as usize * bands;
        let frames = |i: usize| extract.spectrogram.get(at(i)..at(i + 1).min(extract.spectrogram.len()));
        let instances = (0..extract.instances).filter_map(frames);
        let moments: Vec<f32> = instances.flat_map(|instance| spectrum::moments(instance, bands)).collect();
        let width = spectrum::width(bands);
        self.has_spectrum.then(|| Array::new([moments.len() / width, width], moments))
    }

    /// Features of an extract as stored: in 8 bits after the post-processing, or as f16.
    pub(super) fn store(&self, extract: &Extract, into: &mut Vec<u8>) {
        match &self.post_process {
            Some(post_process) => {
                let valid = extract.features.chunks_exact(self.instance_len()).take(extract.instances);
                let start = into.len();
                into.extend(valid.flat_map(|embedding| post_process.quantise(embedding)));
                into.resize(start + self.row_bytes(), 0);
            }
            None => into.extend(extract.features.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes())),
        }
    }

    /// Whether embeddings need post-processing on the CPU; else the extractor's features are model inputs.
    pub(crate) fn post_processes(&self) -> bool {
        self.post_process.is_some() || self.is_scaled
    }

    /// A device dataset for the features of a batch of excerpts and K = `classes`, sharing the extractor's buffer if
    /// its features are model inputs.
    pub(crate) fn dataset(&self, gpu: &Gpu, classes: usize) -> Result<DeviceDataset> {
        let (clips, instances, width) = (self.extractor.batch(), self.instances(), self.instance_len());
        let (encoding, features) = match self.post_processes() {
            true if self.is_scaled => (Encoding::Floats, None),
            true => (Encoding::Bytes, None),
            false => (Encoding::Floats, Some(self.extractor.features().clone())),
        };
        let encoding = encoding.of_clips(instances * width);
        DeviceDataset::refillable(
            gpu,
            Dims { clips, instances, stored: instances, width, classes, encoding, slots: clips, strong: false },
            features,
        )
    }

    /// Extracts in memory, as model inputs: bytes after the post-processing, else floats.
    ///
    /// # Errors
    /// `Usage` if they are to be scaled by an unknown range.
    pub fn features(&self, extracts: &[Extract]) -> Result<Features> {
        let values = match (&self.post_process, &self.range) {
            (None, Some(range)) if self.is_scaled => {
                let scaled = |extract: &Extract| -> Vec<f32> {
                    let halves: Vec<f16> = extract.features.iter().map(|v| f16::from_f32(*v)).collect();
                    let valid = halves.chunks_exact(self.instance_len()).take(extract.instances);
                    let mut scaled: Vec<f32> = valid.flat_map(|e| range.scale(e)).map(f16::to_f32).collect();
                    scaled.resize(halves.len(), 0.0);
                    scaled
                };
                FeatureValues::F32(extracts.iter().flat_map(scaled).collect::<Vec<_>>().into())
            }
            (None, None) if self.is_scaled => {
                let reason = "the minimum and maximum of the embeddings that the model was trained on are not known";
                return Err(Error::Usage(reason.into()));
            }
            (Some(_), _) => {
                let mut bytes = vec![];
                extracts.iter().for_each(|extract| self.store(extract, &mut bytes));
                FeatureValues::U8(bytes.into())
            }
            (None, _) => {
                FeatureValues::F32(extracts.iter().flat_map(|e| e.features.iter().copied()).collect::<Vec<_>>().into())
            }
        };
        let lengths = extracts.iter().map(|e| e.instances as u32).collect();
        let spectrum: Option<Vec<Vec<f32>>> = extracts.iter().map(|extract| self.spectrum(extract)).collect();
        let spectrum = spectrum.map(|values| FeatureValues::F32(values.concat().into()));
        Ok(Features { values, instances: self.instances(), width: self.instance_len(), lengths, spectrum })
    }
}
