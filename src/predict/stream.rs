//! Recordings through one front end: excerpts, their features, and the answers of every model on these features.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::audio::{Condition, Excerpt, Ingest, Item, SPARE, Windowing, cut_samples, ingest};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::data::Features;
use crate::features::device_dataset::DeviceDataset;
use crate::features::extractor::Extract;
use crate::features::runner::FrontEndRunner;
use crate::gpu::Gpu;
use crate::nn::FeatureKind;
use crate::nn::front_ends::kind::SpectrogramFrames;
use crate::nn::front_ends::log_mel;
use crate::predict::condensed::CondensedSpectrogram;
use crate::predict::domain::unreliable;
use crate::predict::excerpts::{Excerpts, Placement};
use crate::predict::forest;
use crate::predict::noise;
use crate::predict::options::Options;
use crate::predict::predictor::{Detail, Predictions, Predictor};
use crate::predict::recognition::Recognition;
use crate::predict::silence::{self, Audible, Levels};
use crate::predict::trained::{Trained, TrainedModel};

/// A front end on a GPU, and the models on its features.
pub(super) struct Stream {
    gpu: Gpu,
    heads: Vec<Head>,
    /// (K) decision thresholds.
    thresholds: Vec<f64>,
    options: Options,
    kind: FeatureKind,
    /// Seconds.
    hop: f64,
    /// Whether steady noise is left out: where no model knows what its training clips were like.
    skips_noise: bool,
    front_end: FrontEndRunner,
    /// The features on the GPU; `None` if all models are forests.
    dataset: Option<DeviceDataset>,
}

/// A trained model.
struct Head {
    trained: Trained,
    /// `None` for a forest.
    predictor: Option<Predictor>,
}

impl Head {
    /// Whether features are needed on the CPU: for a forest, or to tell how unlike the training clips they are.
    fn needs_features(&self) -> bool {
        self.predictor.is_none() || self.trained.domain.as_ref().is_some_and(|domain| !domain.of_spectrum)
    }
}

/// The result for a recording.
#[derive(Debug)]
pub(super) struct Answers {
    /// Of each model.
    pub recognitions: Vec<Recognition>,
    /// As in [`Extract`], (columns, bands), at most a few thousand columns for the whole recording; if requested.
    pub spectrogram: Option<Array<f32>>,
}

/// Files in progress.
pub(super) struct Progress {
    files: Vec<PathBuf>,
    decoded: Ingest,
    pending: PendingExcerpts,
    ready: VecDeque<Result<Answers>>,
}

/// The recordings in progress.
#[derive(Default)]
struct PendingExcerpts {
    /// Excerpts waiting for a full batch.
    waiting: Vec<Waiting>,
    /// Those of them that are not silent.
    audible: usize,
    open: VecDeque<OpenRecording>,
}

/// An excerpt without its silent instances.
struct Waiting {
    /// Of the recording.
    index: usize,
    /// Seconds.
    start: f64,
    /// Samples of the excerpt.
    len: usize,
    /// dB of full scale of all its instances.
    levels: Vec<f32>,
    /// `None` if it has nothing to analyse.
    audible: Option<Audible>,
}

/// A recording whose end has not been reached, or not been predicted.
struct OpenRecording {
    index: usize,
    name: PathBuf,
    /// By model.
    excerpts: Vec<Excerpts>,
    spectrogram: CondensedSpectrogram,
    /// Seconds up to which the excerpts cover its sound.
    covered: f64,
    /// Its parts that are steady noise, from and to seconds.
    noise: Vec<(f64, f64)>,
    /// Its duration and condition, or an error.
    end: Option<Result<(f64, Condition)>>,
}

impl Stream {
    /// `models`: at least one, all of the same classes and on the same features. `thresholds`: (K).
    ///
    /// # Errors
    /// As [`Recogniser::new`](crate::Recogniser::new).
    pub fn new(gpu: &Gpu, models: Vec<Trained>, thresholds: &[f64], options: Options) -> Result<Stream> {
        models.iter().try_for_each(|trained| options.check(trained))?;
        let mut feature_config = models[0].feature_config()?;
        let weights = if feature_config.kind.row().weights.is_none() { None } else { feature_config.load()? };
        let judges_spectra = models.iter().any(|model| model.domain.as_ref().is_some_and(|domain| domain.of_spectrum));
        let frames = match (options.spectrogram, judges_spectra) {
            (true, _) => SpectrogramFrames::All,
            (false, true) => SpectrogramFrames::Patches,
            (false, false) => SpectrogramFrames::None,
        };
        let front_end = FrontEndRunner::new(gpu, &feature_config, weights.as_ref(), frames)?;
        let has_network = models.iter().any(|trained| matches!(trained.model, TrainedModel::Network(_)));
        let classes = models[0].about.classes.len();
        let dataset = has_network.then(|| front_end.dataset(gpu, classes)).transpose()?;
        let head = |trained: Trained| {
            let predictor = match (&trained.model, &dataset) {
                (TrainedModel::Network(_), Some(dataset)) => {
                    Some(trained.predictor(gpu, dataset, Detail::Positions)?)
                }
                _ => None,
            };
            Ok(Head { trained, predictor })
        };
        let skips_noise =
            models.iter().all(|model| model.domain.is_none()) && !models[0].feature_config()?.kind.is_single_note();
        let heads = models.into_iter().map(head).collect::<Result<_>>()?;
        let (hop, kind) = (options.hop(feature_config.kind), feature_config.kind);
        let thresholds = thresholds.to_vec();
        let skips_noise = skips_noise && !options.keep_unreliable;
        Ok(Stream { gpu: gpu.clone(), heads, thresholds, options, kind, hop, skips_noise, front_end, dataset })
    }

    /// Recognises audio in memory.
    pub fn recognise(&mut self, samples: &[f32], sr: u32) -> Result<Answers> {
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

    /// Starts to decode `files` on all cores.
    pub fn start(&self, files: &[PathBuf]) -> Result<Progress> {
        let decoded = ingest(files.to_vec(), self.cut())?;
        let pending = PendingExcerpts::default();
        Ok(Progress { files: files.to_vec(), decoded, pending, ready: VecDeque::new() })
    }

    /// The result or the error of the next file, in order; `None` after the last, or once `stop` returns true.
    ///
    /// # Errors
    /// `Gpu` for a lost device.
    pub fn next(&mut self, progress: &mut Progress, stop: &dyn Fn() -> bool) -> Result<Option<Result<Answers>>> {
        let Progress { files, decoded, pending, ready } = progress;
        loop {
            if let Some(done) = ready.pop_front() {
                return Ok(Some(done));
            }
            if stop() {
                return Ok(None);
            }
            match decoded.next() {
                Some((index, item)) => {
                    if !self.take(pending, index, &files[index], item)? {
                        continue;
                    }
                }
                None if pending.open.is_empty() => return Ok(None),
                None => self.predict_waiting(pending)?,
            }
            // The excerpts of recordings that have ended were all in this batch or an earlier one.
            while pending.open.front().is_some_and(|open| open.end.is_some()) {
                let done = pending.open.pop_front().expect("there is a front");
                ready.push_back(self.finish(done));
            }
        }
    }

    fn cut(&self) -> Windowing {
        Windowing { window: self.kind.window(), hop: Some(self.hop), format: self.kind.format(), align_last: true }
    }

    /// Takes the next item of a recording. Returns whether a batch was full, and all waiting excerpts were predicted.
    fn take(&mut self, pending: &mut PendingExcerpts, index: usize, name: &Path, item: Item) -> Result<bool> {
        if pending.open.back().is_none_or(|last| last.index < index) {
            let of_model = |head: &Head| Excerpts::new(&head.trained, self.hop, &self.options);
            let excerpts = self.heads.iter().map(of_model).collect();
            let bands = self.front_end.extractor.bands();
            let spectrogram = CondensedSpectrogram::new(bands, self.kind.spectrogram().hop);
            let name = name.into();
            let (covered, noise) = (0.0, vec![]);
            pending.open.push_back(OpenRecording { index, name, excerpts, spectrogram, covered, noise, end: None });
        }
        let current = pending.open.back_mut().expect("just opened");
        match item {
            Item::Excerpt(excerpt) => {
                let waiting = self.without_silence(current, excerpt);
                pending.audible += usize::from(waiting.audible.is_some());
                pending.waiting.push(waiting);
            }
            Item::End { duration, .. } if self.kind.is_single_note() && duration < self.kind.window() => {
                let reason = format!("is shorter than {} s, the model's window", self.kind.window());
                current.end = Some(Err(Error::data(name, reason)));
            }
            Item::End { duration, condition } => current.end = Some(Ok((duration, condition))),
            Item::Failed(error) => {
                pending.waiting.retain(|waiting| waiting.index != index);
                pending.audible = pending.waiting.iter().filter(|waiting| waiting.audible.is_some()).count();
                current.end = Some(Err(error));
            }
        }
        let full = pending.audible == self.front_end.extractor.batch();
        if full {
            self.predict_waiting(pending)?;
        }
        Ok(full)
    }

    /// Cuts the silent instances out of the next excerpt of a recording; all of it, if it is noise.
    fn without_silence(&self, recording: &mut OpenRecording, excerpt: Excerpt) -> Waiting {
        let Excerpt { start, samples, scale } = excerpt;
        let (kind, sr) = (self.kind, self.kind.format().sr);
        let levels = Levels::of(&samples, sr, kind.part_seconds(), scale);
        recording.excerpts.iter_mut().for_each(|excerpts| excerpts.raise_loudest(levels.loudest()));
        // The gate depends on the sound alone.
        let audible = levels.audible(&samples, recording.excerpts[0].gate());
        // As in `ingest`, where a recording ends: an excerpt with little sound, all of it in the one before, adds
        // nothing.
        let adds = |audible: &Audible| {
            let seconds = audible.end as f64 / f64::from(sr);
            let known = start + seconds <= recording.covered + SPARE * kind.window() && seconds < self.hop / 2.0;
            recording.covered = recording.covered.max(start + seconds);
            !known || start == 0.0
        };
        let mut audible = audible.filter(adds);
        let goes_on = recording.noise.last().is_some_and(|(_, end)| *end >= start);
        if self.skips_noise && audible.as_ref().is_some_and(|audible| noise::is_noise(&audible.samples, sr, goes_on)) {
            audible = None;
            let end = start + samples.len() as f64 / f64::from(sr);
            match recording.noise.last_mut() {
                Some(last) if last.1 >= start => last.1 = end,
                _ => recording.noise.push((start, end)),
            }
        }
        Waiting { index: recording.index, start, len: samples.len(), levels: levels.instances, audible }
    }

    /// Predicts the waiting excerpts.
    fn predict_waiting(&mut self, pending: &mut PendingExcerpts) -> Result<()> {
        let audible = || pending.waiting.iter().filter_map(|waiting| waiting.audible.as_ref());
        let samples: Vec<&[f32]> = audible().map(|audible| audible.samples.as_slice()).collect();
        let (mut extracts, mut features, mut predictions) = (vec![], None, vec![]);
        if !samples.is_empty() {
            let read = self.front_end.post_processes() || self.heads.iter().any(Head::needs_features);
            extracts = self.front_end.extractor.extract(&samples, read)?;
            features = read.then(|| self.front_end.features(&extracts)).transpose()?;
            predictions = self.predict(&extracts, features.as_ref())?;
        }
        let mut next = 0;
        for Waiting { index, start, len, levels, audible } in pending.waiting.drain(..) {
            let open = pending.open.iter_mut().find(|open| open.index == index);
            let open = open.expect("a recording stays open until it is predicted");
            let mut spectrogram = self.options.spectrogram.then(|| Spectrogram::silent(self.kind, len));
            match &audible {
                Some(audible) => {
                    for ((head, excerpts), predictions) in self.heads.iter().zip(&mut open.excerpts).zip(&predictions) {
                        let distance = match &features {
                            Some(features) => head.trained.distance(features, next)?,
                            None => {
                                let moments = || self.front_end.spectrum_moments(&extracts[next]);
                                head.trained.distance_of_spectrum(moments)?
                            }
                        };
                        let at = Placement { start, parts: &audible.instances, levels: &levels, distance };
                        excerpts.add(predictions, next, extracts[next].instances, &at);
                    }
                    if let Some(spectrogram) = &mut spectrogram {
                        spectrogram.place(&extracts[next].spectrogram, &audible.instances);
                    }
                    next += 1;
                }
                None => open.excerpts.iter_mut().for_each(|excerpts| excerpts.add_silence(start, &levels)),
            }
            if let Some(spectrogram) = spectrogram {
                open.spectrogram.add(start, &spectrogram.values);
            }
        }
        pending.audible = 0;
        Ok(())
    }

    /// The predictions of each model. `features`: of the extracts, if they were read. Embeddings are post-processed on
    /// the CPU; other features are already in the networks' input.
    fn predict(&mut self, extracts: &[Extract], features: Option<&Features>) -> Result<Vec<Predictions>> {
        if let Some(dataset) = &mut self.dataset {
            let lengths: Vec<u32> = extracts.iter().map(|extract| extract.instances as u32).collect();
            let stored = features.filter(|_| self.front_end.post_processes()).map(|features| &features.values);
            dataset.fill(&self.gpu, &lengths, stored)?;
        }
        let predictions = self.heads.iter_mut().map(|head| {
            let rows = vec![(0..extracts.len() as u32).collect(); head.trained.about.seeds.len()];
            match (&mut head.predictor, &head.trained.model) {
                (Some(predictor), _) => predictor.predict(&rows),
                (None, TrainedModel::Forest(forests)) => {
                    Ok(forest::predict(forests, features.expect("read for a forest"), &rows))
                }
                (None, TrainedModel::Network(_)) => unreachable!("networks have a predictor"),
            }
        });
        predictions.collect()
    }

    fn finish(&self, open: OpenRecording) -> Result<Answers> {
        let (duration, condition) = open.end.expect("called when it has ended")?;
        let spectrogram = self.options.spectrogram.then(|| open.spectrogram.array());
        let answer = |(head, excerpts): (&Head, Excerpts)| {
            let (silent, outlying) = (excerpts.is_silent(), excerpts.outlying());
            let (name, options) = (open.name.clone(), &self.options);
            let mut recognition = excerpts.recognition(name, duration, &head.trained, &self.thresholds, options);
            recognition.condition = condition.clone();
            if silent {
                recognition.condition.warnings.push(silence::warning(duration));
            }
            recognition.condition.warnings.extend(noise::warning(&open.noise, duration));
            recognition.condition.warnings.extend(unreliable(&recognition, &outlying, options));
            recognition
        };
        Ok(Answers { recognitions: self.heads.iter().zip(open.excerpts).map(answer).collect(), spectrogram })
    }
}

/// The spectrogram of an excerpt whose silent instances were not analysed.
struct Spectrogram {
    /// Frames of a part.
    part: f64,
    bands: usize,
    values: Vec<f32>,
}

impl Spectrogram {
    /// Of an excerpt of so many samples, all of it silent.
    fn silent(kind: FeatureKind, samples: usize) -> Spectrogram {
        let shown = kind.spectrogram();
        let silence = shown.offset.unwrap_or(log_mel::OFFSET).ln();
        let (part, bands) = (kind.part_seconds() / shown.hop, shown.bands);
        Spectrogram { part, bands, values: vec![silence; (shown.frames)(samples).max(1) * shown.bands] }
    }

    /// Puts the frames of the analysed instances where these are in the excerpt.
    fn place(&mut self, frames: &[f32], instances: &[usize]) {
        // An excerpt whose instances were all analysed, or that has only one.
        if instances.len() == instances.last().map_or(0, |last| last + 1) {
            let known = frames.len().min(self.values.len());
            return self.values[..known].copy_from_slice(&frames[..known]);
        }
        let at = |part: usize| (part as f64 * self.part).round() as usize * self.bands;
        for (i, instance) in instances.iter().enumerate() {
            let frames = frames.get(at(i)..at(i + 1).min(frames.len())).unwrap_or_default();
            let into = self.values.get_mut(at(*instance)..).unwrap_or_default();
            let known = frames.len().min(into.len());
            into[..known].copy_from_slice(&frames[..known]);
        }
    }
}
