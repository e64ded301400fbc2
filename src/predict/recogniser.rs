//! Recognises recordings of any length with a trained model: excerpts of 10 s, their features, their predictions, and
//! one result per recording.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::audio::{Condition, Excerpt, Item, Windowing, cut_samples, ingest};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::data::Features;
use crate::features::device_dataset::DeviceDataset;
use crate::features::extraction::FrontEndRunner;
use crate::features::extractor::Extract;
use crate::gpu::Gpu;
use crate::nn::{self, Kind};
use crate::predict::clips::ClipPredictor;
use crate::predict::excerpts::Excerpts;
use crate::predict::forest;
use crate::predict::predictor::{Detail, Predictions, Predictor};
use crate::predict::recognition::Recognition;
use crate::predict::trained::{Trained, TrainedModel};

pub use crate::predict::excerpts::Aggregate;

/// Default hop in seconds: five instances, so that each is analysed twice, in different contexts.
const HOP: f64 = 4.8;
/// Minimum hop in seconds.
const MIN_HOP: f64 = 0.01;

/// Amplitude below which an excerpt is silent for single-label models, which always predict a class: -80 dB of full
/// scale, about three steps of 16 bits.
const SILENCE: f32 = 1e-4;

/// Clips predicted with outputs per position at a time.
const PORTION: usize = 1024;

/// Options of recognition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Hop between excerpts in seconds, from 0.01 (single notes: 0.5) to the length of an excerpt. `None`: 4.8 (1).
    pub hop: Option<f64>,
    /// `None`: max, or mean for single-label models.
    pub aggregate: Option<Aggregate>,
    /// Whether to return a spectrogram.
    pub spectrogram: bool,
}

/// The result for a recording.
#[derive(Debug)]
pub struct Recognised {
    pub recognition: Recognition,
    /// As in [`Extract`], (columns, bands), at most a few thousand columns for the whole recording; if requested.
    pub spectrogram: Option<Array<f32>>,
}

/// A trained model with its front end on a GPU, for any number of recordings.
pub struct Recogniser {
    gpu: Gpu,
    trained: Trained,
    /// (K) decision thresholds.
    thresholds: Vec<f64>,
    options: Options,
    kind: Kind,
    /// Seconds.
    hop: f64,
    front_end: FrontEndRunner,
    /// The features on the GPU and the network; `None` for a forest.
    network: Option<(DeviceDataset, Predictor)>,
}

/// The recordings in progress.
#[derive(Default)]
struct PendingExcerpts {
    /// Excerpts waiting for a full batch, with the index of their recording.
    waiting: Vec<(usize, Excerpt)>,
    open: VecDeque<OpenRecording>,
}

/// A recording whose end has not been reached, or not been predicted.
struct OpenRecording {
    index: usize,
    name: PathBuf,
    excerpts: Excerpts,
    /// Its duration and condition, or an error.
    end: Option<Result<(f64, Condition)>>,
}

impl Recogniser {
    /// Uses the run's thresholds, see [`Trained::set_threshold`].
    ///
    /// # Errors
    /// `Usage` for options that do not apply to the model, a run that does not record its front end, and tuned
    /// thresholds that do not exist; `Checkpoint` for front-end weights that are missing or have changed.
    pub fn new(gpu: &Gpu, trained: Trained, options: Options) -> Result<Recogniser> {
        options.check(&trained)?;
        let thresholds = trained.common_thresholds()?;
        let mut recipe = trained.recipe()?;
        let weights = if recipe.kind.row().weights.is_none() { None } else { recipe.load()? };
        let front_end = FrontEndRunner::new(gpu, &recipe, weights.as_ref(), options.spectrogram)?;
        let network = match &trained.model {
            TrainedModel::Network(_) => {
                let corpus = front_end.corpus(gpu, trained.about.classes.len())?;
                let predictor = trained.predictor(gpu, &corpus, Detail::Positions)?;
                Some((corpus, predictor))
            }
            TrainedModel::Forest(_) => None,
        };
        let hop = options.hop(recipe.kind);
        let (gpu, kind) = (gpu.clone(), recipe.kind);
        Ok(Recogniser { gpu, trained, thresholds, options, kind, hop, front_end, network })
    }

    pub fn trained(&self) -> &Trained {
        &self.trained
    }

    /// Recognises audio in memory: mono, nominally in [-1, 1], at `sr` Hz.
    ///
    /// # Errors
    /// `Data` for invalid samples: empty, not finite, or too few for the model; `Gpu` for a lost device.
    pub fn recognise(&mut self, samples: &[f32], sr: u32) -> Result<Recognised> {
        let mut pending = PendingExcerpts::default();
        let (cut, name) = (self.cut(), Path::new("samples"));
        let mut failed = Ok(false);
        let end = cut_samples(name, samples, sr, cut, |excerpt| {
            failed = self.take(&mut pending, 0, name, Item::Excerpt(excerpt));
            failed.is_ok()
        })?;
        failed?;
        self.take(&mut pending, 0, name, end)?;
        self.predict_waiting(&mut pending)?;
        let done = pending.open.pop_front().expect("opened before its end");
        self.finish(done)
    }

    /// Recognises an audio file.
    ///
    /// # Errors
    /// `Io` and `Data` for a file that cannot be used; `Gpu` for a lost device.
    pub fn recognise_file(&mut self, file: impl Into<PathBuf>) -> Result<Recognised> {
        let mut result = None;
        self.recognise_files(&[file.into()], &mut |_, recognised| {
            result = Some(recognised);
            Ok(())
        })?;
        result.expect("each file has a result")
    }

    /// Recognises `files`, decoded on all cores, and calls `each` in order with the index and the result or error.
    /// Memory grows with the length of a recording only for its timelines.
    ///
    /// # Errors
    /// `Gpu` for a lost device, and errors of `each`.
    pub fn recognise_files(
        &mut self,
        files: &[PathBuf],
        each: &mut dyn FnMut(usize, Result<Recognised>) -> Result<()>,
    ) -> Result<()> {
        let mut pending = PendingExcerpts::default();
        for (index, item) in ingest(files.to_vec(), self.cut())? {
            if self.take(&mut pending, index, &files[index], item)? {
                // The excerpts of recordings that have ended were all in this batch or an earlier one.
                while pending.open.front().is_some_and(|open| open.end.is_some()) {
                    let done = pending.open.pop_front().expect("there is a front");
                    each(done.index, self.finish(done))?;
                }
            }
        }
        self.predict_waiting(&mut pending)?;
        pending.open.into_iter().try_for_each(|open| each(open.index, self.finish(open)))
    }

    fn cut(&self) -> Windowing {
        Windowing { window: self.kind.window(), hop: Some(self.hop), format: self.kind.format(), align_last: true }
    }

    /// Takes the next item of a recording. Returns whether a batch was full, and all waiting excerpts were predicted.
    fn take(&mut self, pending: &mut PendingExcerpts, index: usize, name: &Path, item: Item) -> Result<bool> {
        if pending.open.back().is_none_or(|last| last.index < index) {
            let excerpts = Excerpts::new(&self.trained, self.hop, self.front_end.extractor.bands());
            pending.open.push_back(OpenRecording { index, name: name.into(), excerpts, end: None });
        }
        let current = pending.open.back_mut().expect("just opened");
        match item {
            Item::Excerpt(excerpt) => pending.waiting.push((index, excerpt)),
            Item::End { duration, .. } if self.kind.is_single_note() && duration < self.kind.window() => {
                let reason = format!("is shorter than {} s, the model's window", self.kind.window());
                current.end = Some(Err(Error::data(name, reason)));
            }
            Item::End { duration, condition } => current.end = Some(Ok((duration, condition))),
            Item::Failed(error) => {
                pending.waiting.retain(|(of, _)| *of != index);
                current.end = Some(Err(error));
            }
        }
        let full = pending.waiting.len() == self.front_end.extractor.batch();
        if full {
            self.predict_waiting(pending)?;
        }
        Ok(full)
    }

    /// Predicts the waiting excerpts.
    fn predict_waiting(&mut self, pending: &mut PendingExcerpts) -> Result<()> {
        if pending.waiting.is_empty() {
            return Ok(());
        }
        let samples: Vec<&[f32]> = pending.waiting.iter().map(|(_, e)| e.samples.as_slice()).collect();
        let read = self.network.is_none() || self.front_end.post_processes();
        let extracts = self.front_end.extractor.extract(&samples, read)?;
        let predictions = self.predict(&extracts)?;
        for (i, ((index, excerpt), extract)) in pending.waiting.iter().zip(&extracts).enumerate() {
            let open = pending.open.iter_mut().find(|open| open.index == *index);
            let excerpts = &mut open.expect("a recording stays open until it is predicted").excerpts;
            let silent = excerpts.single_label && excerpt.samples.iter().all(|v| v.abs() < SILENCE);
            match silent {
                true => excerpts.add_silence(excerpt.start),
                false => excerpts.add(&predictions, i, excerpt.start, extract.instances),
            }
            excerpts.spectrogram.add(excerpt.start, &extract.spectrogram);
        }
        pending.waiting.clear();
        Ok(())
    }

    /// Embeddings are post-processed on the CPU; other features are already in the network's input.
    fn predict(&mut self, extracts: &[Extract]) -> Result<Predictions> {
        let rows = vec![(0..extracts.len() as u32).collect(); self.trained.about.seeds.len()];
        match (&mut self.network, &self.trained.model) {
            (Some((corpus, predictor)), _) => {
                let lengths: Vec<u32> = extracts.iter().map(|extract| extract.instances as u32).collect();
                let post_processed = self.front_end.post_processes().then(|| self.front_end.features(extracts));
                let stored = post_processed.transpose()?.map(|features| features.values);
                corpus.fill(&self.gpu, &lengths, stored.as_ref())?;
                predictor.predict(&rows)
            }
            (None, TrainedModel::Forest(forests)) => {
                Ok(forest::predict(forests, &self.front_end.features(extracts)?, &rows))
            }
            (None, TrainedModel::Network(_)) => unreachable!("networks have a predictor"),
        }
    }

    fn finish(&self, open: OpenRecording) -> Result<Recognised> {
        let (duration, condition) = open.end.expect("called when it has ended")?;
        let spectrogram = self.options.spectrogram.then(|| open.excerpts.spectrogram.array());
        let (trained, aggregate) = (&self.trained, self.options.aggregate);
        let mut recognition = open.excerpts.recognition(open.name, duration, trained, &self.thresholds, aggregate);
        recognition.condition = condition;
        Ok(Recognised { recognition, spectrogram })
    }
}

impl Options {
    fn hop(&self, kind: Kind) -> f64 {
        self.hop.unwrap_or(if kind.is_single_note() { kind.window() } else { HOP })
    }

    fn check(&self, trained: &Trained) -> Result<()> {
        let model = nn::find(&trained.about.model)?;
        let (has_attention, kind) = (model.has_attention, trained.config.kind()?);
        let (hop, longest) = (self.hop(kind), kind.window());
        // Seconds that overlap more add no information.
        let shortest = if kind.is_single_note() { longest / 2.0 } else { MIN_HOP };
        if !(shortest..=longest).contains(&hop) {
            return Err(Error::Usage(format!("hop {hop} s is out of range: {shortest} to {longest} s")));
        }
        if self.aggregate == Some(Aggregate::Attention) && !has_attention {
            return Err(Error::Usage(format!("{} has no attention; use mean or max", model.name)));
        }
        Ok(())
    }
}

/// Recognises clips with known features: each as a recording, named by its key.
///
/// # Errors
/// As [`Recogniser::new`] and [`ClipPredictor::new`].
pub fn recognise_clips(
    gpu: &Gpu,
    trained: &Trained,
    keys: &[String],
    features: &Features,
    options: &Options,
) -> Result<Vec<Recognition>> {
    options.check(trained)?;
    let thresholds = trained.common_thresholds()?;
    let mut predictor = ClipPredictor::new(gpu, trained, features, Detail::Positions)?;
    let clips: Vec<u32> = (0..keys.len() as u32).collect();
    let mut all = Vec::with_capacity(keys.len());
    // The outputs per position of a whole dataset do not fit in memory.
    for portion in clips.chunks(PORTION) {
        let predictions = predictor.predict(&vec![portion.to_vec(); trained.about.seeds.len()])?;
        for (i, clip) in portion.iter().map(|&clip| clip as usize).enumerate() {
            let mut excerpts = Excerpts::new(trained, 1.0, 0);
            let instances = features.lengths[clip] as usize;
            excerpts.add(&predictions, i, 0.0, instances);
            let duration = excerpts.seconds(instances, trained)?;
            let name = PathBuf::from(&keys[clip]);
            all.push(excerpts.recognition(name, duration, trained, &thresholds, options.aggregate));
        }
    }
    Ok(all)
}
