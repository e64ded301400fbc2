//! Audio to features on the GPU: spectrograms, and VGGish's feature maps or embeddings.

use std::collections::BTreeMap;
use std::sync::Mutex;

use half::f16;

use crate::core::error::{Error, Result};
use crate::features::weights::Weights;
use crate::gpu::{Buffer, Gpu, Pace, Target};
use crate::graph::{Draft, Graph, Mode, Plan, Spec, Tensor};
use crate::nn::front_ends::kind::{FeatureKind, Options, Output, SpectrogramFrames};

/// Largest tensor of a batch, in elements: enough work for a GPU, and little memory on software adapters.
const BATCH_ELEMENTS: usize = 16 << 20;
/// Most clips of a batch, since their samples are in memory.
const MAX_BATCH: usize = 32;

/// Shorter excerpts have shorter plans, of so many lengths: features at the end of an excerpt are those of its own
/// plan, whatever else is in the batch.
const LENGTHS: usize = 4;

/// Plans that are kept for smaller batches and shorter excerpts.
const SMALLER: usize = 4;

/// Computes features of excerpts of up to `samples` samples.
pub struct Extractor {
    gpu: Gpu,
    kind: FeatureKind,
    options: Options,
    /// The weights by their names in graphs.
    weights: Vec<(String, Buffer)>,
    /// For whole batches of the longest excerpts; its features are the extractor's.
    full: Stage,
    /// For the latest sizes of smaller batches and shorter excerpts, the last one used at the end.
    smaller: Mutex<Vec<Stage>>,
    batch: usize,
    samples: usize,
    instances: usize,
    /// F.
    width: usize,
}

/// A plan for `batch` excerpts of at most `samples` samples.
struct Stage {
    plan: Plan,
    pace: Mutex<Pace>,
    input: Buffer,
    features: Tensor,
    spectrogram: Option<Tensor>,
    batch: usize,
    samples: usize,
}

/// Features of an excerpt.
#[derive(Clone, Debug, PartialEq)]
pub struct Extract {
    /// (T, F), zeros beyond `instances`; empty if they stay on the GPU.
    pub features: Vec<f32>,
    /// Valid instances, at least 1: whole patches of 0.96 s, or frames; shorter excerpts are padded with zeros.
    pub instances: usize,
    /// (frames, bands), log magnitudes, as [`Options::spectrogram`] asks for: log-mel, or the spectrum of notes.
    pub spectrogram: Vec<f32>,
}

/// Samples of the plan for an excerpt of `len` samples, of at most `samples`.
pub(crate) fn planned(kind: FeatureKind, samples: usize, len: usize) -> usize {
    let step = samples.div_ceil(LENGTHS);
    let planned = len.max(1).next_multiple_of(step).min(samples);
    if kind.instances(planned) > 0 { planned } else { samples }
}

impl Extractor {
    /// For excerpts of at most `samples` samples, enough for one instance. `weights`: of the kind's network, ignored by
    /// kinds that need none.
    ///
    /// # Errors
    /// `Limit` or `Gpu` if the adapter does not have enough memory.
    pub fn new(
        gpu: &Gpu,
        kind: FeatureKind,
        options: Options,
        weights: Option<&Weights>,
        samples: usize,
    ) -> Result<Extractor> {
        let row = kind.row();
        let (instances, width) = (kind.instances(samples), kind.instance_len(options.width));
        // The maps of the widest layer, the window of a transform, or the samples.
        let frames = (row.spectrogram.frames)(samples);
        let largest = (frames * row.spectrogram.bands * (row.channels)(options.width)).max(samples);
        let batch = (BATCH_ELEMENTS / largest).clamp(1, MAX_BATCH);
        let weights = match (weights, row.weights) {
            (Some(weights), Some((_, prefix))) => weights.upload(gpu, prefix)?,
            _ => vec![],
        };
        let full = Stage::new(gpu, kind, options, &weights, [batch, samples])?;
        let (gpu, smaller) = (gpu.clone(), Mutex::default());
        Ok(Extractor { gpu, kind, options, weights, full, smaller, batch, samples, instances, width })
    }

    /// Excerpts of a batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// T: instances of an extract.
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// F: values of an instance.
    pub fn instance_len(&self) -> usize {
        self.width
    }

    /// Values of a frame of the spectrogram.
    pub fn bands(&self) -> usize {
        self.kind.spectrogram().bands
    }

    /// Buffer with the features of the latest excerpts, (batch, T, F).
    pub(crate) fn features(&self) -> &Buffer {
        self.full.plan.buffer(self.full.features).0
    }

    /// Processes at most [`Extractor::batch`] excerpts, each zero-padded to the length of its plan.
    ///
    /// # Errors
    /// `Gpu` if the device fails, or returns values that are not finite (damaged weights).
    pub fn run(&self, excerpts: &[&[f32]]) -> Result<Vec<Extract>> {
        self.extract(excerpts, true)
    }

    /// As [`Extractor::run`]; without `read` the features are only on the GPU, see [`Extractor::features`].
    pub(crate) fn extract(&self, excerpts: &[&[f32]], read: bool) -> Result<Vec<Extract>> {
        assert!(excerpts.len() <= self.batch, "more excerpts than the extractor's batch");
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, excerpt) in excerpts.iter().enumerate() {
            by_length.entry(self.planned(excerpt.len())).or_default().push(i);
        }
        let mut smaller = self.smaller.lock().expect("nothing panics while it is held");
        let mut extracts: Vec<(usize, Extract)> = vec![];
        // The longest first: their plan, if it is the full one, writes all rows of the features that are wanted.
        for (samples, members) in by_length.into_iter().rev() {
            let some: Vec<&[f32]> = members.iter().map(|&i| excerpts[i]).collect();
            let stage = self.stage(&mut smaller, some.len(), samples)?;
            stage.run(&self.gpu, &some)?;
            // Whole batches of the longest excerpts are where they are wanted.
            let there = std::ptr::eq(stage, &self.full) && some.len() == excerpts.len();
            let found = self.extracts(stage, &some, read || !there)?;
            for (&i, extract) in members.iter().zip(&found) {
                let (at, valid) = (i * self.instances * self.width, extract.instances * self.width);
                let rest = vec![0.0f32; self.instances * self.width - valid];
                match there {
                    true => self.gpu.write(self.features(), at + valid, &rest)?,
                    false => self.gpu.write(self.features(), at, &extract.features)?,
                }
            }
            extracts.extend(members.into_iter().zip(found));
        }
        extracts.sort_unstable_by_key(|(i, _)| *i);
        let kept = |(_, extract): (usize, Extract)| match read {
            true => extract,
            false => Extract { features: vec![], ..extract },
        };
        Ok(extracts.into_iter().map(kept).collect())
    }

    /// Samples of the plan for an excerpt of `len` samples.
    fn planned(&self, len: usize) -> usize {
        planned(self.kind, self.samples, len)
    }

    /// A plan for `count` excerpts of up to `samples` samples.
    fn stage<'a>(&'a self, smaller: &'a mut Vec<Stage>, count: usize, samples: usize) -> Result<&'a Stage> {
        // Few sizes, each at most a fifth larger than needed.
        let step = (count.next_power_of_two() / 8).max(1);
        let sizes = [count.next_multiple_of(step).clamp(1, self.batch), samples];
        if sizes == [self.full.batch, self.full.samples] {
            return Ok(&self.full);
        }
        let stage = match smaller.iter().position(|stage| [stage.batch, stage.samples] == sizes) {
            Some(known) => smaller.remove(known),
            None => {
                // The memory of the least recently used ones is free for the next: together they take at most twice
                // that of the full one.
                let size = |stage: &Stage| stage.batch * stage.samples;
                let room = 2 * size(&self.full) - sizes[0] * sizes[1];
                while smaller.len() >= SMALLER || smaller.iter().map(size).sum::<usize>() > room {
                    smaller.remove(0);
                }
                let Extractor { gpu, kind, options, weights, .. } = self;
                Stage::new(gpu, *kind, *options, weights, sizes)?
            }
        };
        smaller.push(stage);
        Ok(smaller.last().expect("it was pushed"))
    }

    /// What a stage has found in excerpts, without the features unless `read`.
    fn extracts(&self, stage: &Stage, excerpts: &[&[f32]], read: bool) -> Result<Vec<Extract>> {
        let features = if read { stage.plan.read::<f32>(&self.gpu, stage.features)? } else { vec![] };
        let mut spectrogram = match stage.spectrogram {
            Some(tensor) => stage.plan.read::<f32>(&self.gpu, tensor)?,
            None => vec![],
        };
        let shown = self.kind.spectrogram();
        if let Some(offset) = shown.offset {
            spectrogram.iter_mut().for_each(|v| *v = (*v + offset).ln());
        }
        let [of_features, of_spectrogram] = [&features, &spectrogram].map(|values| values.len() / stage.batch);
        let extract = |(i, excerpt): (usize, &&[f32])| {
            // Features of the padding after a short excerpt are ignored.
            let instances = self.kind.instances(excerpt.len()).max(1);
            let mut row = vec![];
            if read {
                row.extend_from_slice(&features[i * of_features..][..instances * self.width]);
                // Features are stored as f16.
                if row.iter().any(|v| !v.is_finite() || v.abs() > f32::from(f16::MAX)) {
                    return Err(Error::Gpu(
                        "the front end returned a value outside f16; its weights or an audio file are damaged".into(),
                    ));
                }
                row.resize(self.instances * self.width, 0.0);
            }
            let frames = (shown.frames)(excerpt.len()).max(1).min(of_spectrogram / shown.bands);
            let spectrogram = spectrogram[i * of_spectrogram..][..frames * shown.bands].to_vec();
            Ok(Extract { features: row, instances, spectrogram })
        };
        excerpts.iter().enumerate().map(extract).collect()
    }
}

/// The computation of the features of `batch` excerpts of `samples` samples, from the input `samples`.
pub(crate) fn draft(
    target: Target,
    kind: FeatureKind,
    options: Options,
    [batch, samples]: [usize; 2],
) -> Result<(Draft, Output)> {
    let mut g = Graph::new(Mode::Eval);
    let sound = g.input("samples", Spec::f32([batch, samples]));
    let Output { features, spectrogram } = (kind.row().graph)(&mut g, sound, options)?;
    let spectrogram = spectrogram.filter(|_| options.spectrogram != SpectrogramFrames::None);
    let keep: Vec<Tensor> = [features].into_iter().chain(spectrogram).collect();
    Ok((Draft::new(&g, target, 1, &keep, &[])?, Output { features, spectrogram }))
}

impl Stage {
    fn new(
        gpu: &Gpu,
        kind: FeatureKind,
        options: Options,
        weights: &[(String, Buffer)],
        [batch, samples]: [usize; 2],
    ) -> Result<Stage> {
        let (draft, Output { features, spectrogram }) = draft(gpu.adapter().target(), kind, options, [batch, samples])?;
        draft.fits(gpu)?;
        let input = gpu.buffer("samples", batch * samples)?;
        let mut bound: Vec<(&str, Buffer)> =
            weights.iter().map(|(name, buffer)| (name.as_str(), buffer.clone())).collect();
        bound.push(("samples", input.clone()));
        let plan = draft.realise(gpu, &bound)?;
        Ok(Stage { plan, pace: Mutex::default(), input, features, spectrogram, batch, samples })
    }

    /// Processes excerpts, zero-padded to the same length.
    fn run(&self, gpu: &Gpu, excerpts: &[&[f32]]) -> Result<()> {
        let mut samples = vec![0.0; excerpts.len() * self.samples];
        for (into, excerpt) in samples.chunks_exact_mut(self.samples).zip(excerpts) {
            into[..excerpt.len()].copy_from_slice(excerpt);
        }
        gpu.write(&self.input, 0, &samples)?;
        let mut pace = self.pace.lock().expect("nothing panics while it is held");
        pace.replay(gpu, &[&self.plan.recording], 1, 1, &mut |_| Ok(()), &mut |_| true).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::front_ends::kind::SpectrogramFrames;
    use crate::nn::front_ends::spectrum::Scale;
    use crate::nn::front_ends::vggish::Width;

    #[test]
    fn features_on_the_gpu_are_those_that_are_read_whatever_the_lengths_in_a_batch() {
        let gpu = Gpu::open(None).unwrap();
        let options = Options {
            width: Width::Full,
            scale: Scale::Magnitude,
            last_relu: true,
            spectrogram: SpectrogramFrames::None,
        };
        let extractor = Extractor::new(&gpu, FeatureKind::LogMel, options, None, 160_000).unwrap();
        let sound = |samples: usize| -> Vec<f32> { (0..samples).map(|i| (i as f32 * samples as f32).sin()).collect() };
        let short = [30_000, 50_000].map(sound);
        let long: Vec<Vec<f32>> = (0..extractor.batch() - 2).map(|i| sound(150_000 + i)).collect();
        let all: Vec<&[f32]> = short.iter().chain(&long).map(Vec::as_slice).collect();
        let expected = extractor.extract(&all, true).unwrap();
        let each = extractor.instances() * extractor.instance_len();
        let others: Vec<&[f32]> = all.iter().rev().copied().collect();
        for (count, read) in [(all.len(), false), (3, false), (all.len(), true), (3, true), (1, true)] {
            extractor.extract(&others, false).unwrap();
            extractor.extract(&all[..count], read).unwrap();
            let there = gpu.read::<f32>(extractor.features()).unwrap();
            for (extract, there) in expected.iter().zip(there.chunks_exact(each)).take(count) {
                assert!(extract.features == there, "{} instances, {count} {read}", extract.instances);
            }
        }
    }
}
