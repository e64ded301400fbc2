//! Recognises recordings of any length with a trained model: excerpts of 10 s, their features, their predictions, and
//! one result per recording.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::audio::{Condition, Excerpt, Item, SPARE, Windowing, cut_samples, ingest};
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
use crate::predict::clips::ClipPredictor;
use crate::predict::domain::unreliable;
use crate::predict::excerpts::{Excerpts, Placement};
use crate::predict::forest;
use crate::predict::predictor::{Detail, Predictions, Predictor};
use crate::predict::recognition::Recognition;
use crate::predict::silence::{self, Audible, Levels, Loudest};
use crate::predict::trained::{Trained, TrainedModel};

pub use crate::predict::options::{Aggregate, Options};
pub use crate::predict::timeline::Segmentation;

/// Clips predicted with outputs per position at a time.
const PORTION: usize = 1024;

/// The result for a recording.
#[derive(Debug)]
pub struct Recognised {
    pub recognition: Recognition,
    /// As in [`Extract`], (columns, bands), at most a few thousand columns for the whole recording; if requested.
    pub spectrogram: Option<Array<f32>>,
}

/// A trained model with its front end on a GPU, for any number of recordings.
///
/// ```no_run
/// use wmic::predict::recogniser::Options;
/// use wmic::{Gpu, Recogniser, RunDir, Trained};
///
/// let trained = Trained::load(&RunDir::open("runs/att".as_ref())?)?;
/// let mut recogniser = Recogniser::new(&Gpu::open(None)?, trained, Options::default())?;
/// // One second of silence at 44.1 kHz; files: `recognise_file`.
/// let recognised = recogniser.recognise(&[0.0; 44_100], 44_100)?;
/// assert!(recognised.recognition.ranked().iter().all(|instrument| !instrument.present));
/// # Ok::<(), wmic::Error>(())
/// ```
pub struct Recogniser {
    gpu: Gpu,
    trained: Trained,
    /// (K) decision thresholds.
    thresholds: Vec<f64>,
    options: Options,
    kind: FeatureKind,
    /// Seconds.
    hop: f64,
    front_end: FrontEndRunner,
    /// The features on the GPU and the network; `None` for a forest.
    network: Option<(DeviceDataset, Predictor)>,
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
    excerpts: Excerpts,
    /// Seconds up to which the excerpts cover its sound.
    covered: f64,
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
        let mut feature_config = trained.feature_config()?;
        let weights = if feature_config.kind.row().weights.is_none() { None } else { feature_config.load()? };
        let frames = match (&trained.domain, options.spectrogram) {
            (_, true) => SpectrogramFrames::All,
            (Some(domain), false) if domain.of_spectrum => SpectrogramFrames::Patches,
            (_, false) => SpectrogramFrames::None,
        };
        let front_end = FrontEndRunner::new(gpu, &feature_config, weights.as_ref(), frames)?;
        let network = match &trained.model {
            TrainedModel::Network(_) => {
                let dataset = front_end.dataset(gpu, trained.about.classes.len())?;
                let predictor = trained.predictor(gpu, &dataset, Detail::Positions)?;
                Some((dataset, predictor))
            }
            TrainedModel::Forest(_) => None,
        };
        let hop = options.hop(feature_config.kind);
        let (gpu, kind) = (gpu.clone(), feature_config.kind);
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
            let excerpts = Excerpts::new(&self.trained, self.hop, self.front_end.extractor.bands(), &self.options);
            pending.open.push_back(OpenRecording { index, name: name.into(), excerpts, covered: 0.0, end: None });
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

    /// Cuts the silent instances out of the next excerpt of a recording.
    fn without_silence(&self, recording: &mut OpenRecording, excerpt: Excerpt) -> Waiting {
        let Excerpt { start, samples, scale } = excerpt;
        let (kind, sr) = (self.kind, self.kind.format().sr);
        let levels = Levels::of(&samples, sr, kind.part_seconds(), scale);
        recording.excerpts.raise_loudest(levels.loudest());
        let audible = levels.audible(&samples, recording.excerpts.gate());
        // As in `ingest`, where a recording ends: an excerpt with little sound, all of it in the one before, adds
        // nothing.
        let adds = |audible: &Audible| {
            let seconds = audible.end as f64 / f64::from(sr);
            let known = start + seconds <= recording.covered + SPARE * kind.window() && seconds < self.hop / 2.0;
            recording.covered = recording.covered.max(start + seconds);
            !known || start == 0.0
        };
        Waiting {
            index: recording.index,
            start,
            len: samples.len(),
            levels: levels.instances,
            audible: audible.filter(adds),
        }
    }

    /// Predicts the waiting excerpts.
    fn predict_waiting(&mut self, pending: &mut PendingExcerpts) -> Result<()> {
        let audible = || pending.waiting.iter().filter_map(|waiting| waiting.audible.as_ref());
        let samples: Vec<&[f32]> = audible().map(|audible| audible.samples.as_slice()).collect();
        let (mut extracts, mut features, mut predictions) = (vec![], None, None);
        if !samples.is_empty() {
            let judged = self.trained.domain.as_ref().is_some_and(|domain| !domain.of_spectrum);
            let read = self.network.is_none() || self.front_end.post_processes() || judged;
            extracts = self.front_end.extractor.extract(&samples, read)?;
            features = read.then(|| self.front_end.features(&extracts)).transpose()?;
            predictions = Some(self.predict(&extracts, features.as_ref())?);
        }
        let mut next = 0;
        for Waiting { index, start, len, levels, audible } in pending.waiting.drain(..) {
            let open = pending.open.iter_mut().find(|open| open.index == index);
            let excerpts = &mut open.expect("a recording stays open until it is predicted").excerpts;
            let mut spectrogram = self.options.spectrogram.then(|| Spectrogram::silent(self.kind, len));
            match (audible, &predictions) {
                (Some(audible), Some(predictions)) => {
                    let distance = match &features {
                        Some(features) => self.trained.distance(features, next)?,
                        None => {
                            self.trained.distance_of_spectrum(|| self.front_end.spectrum_moments(&extracts[next]))?
                        }
                    };
                    let at = Placement { start, parts: &audible.instances, levels: &levels, distance };
                    excerpts.add(predictions, next, extracts[next].instances, &at);
                    if let Some(spectrogram) = &mut spectrogram {
                        spectrogram.place(&extracts[next].spectrogram, &audible.instances);
                    }
                    next += 1;
                }
                _ => excerpts.add_silence(start, &levels),
            }
            if let Some(spectrogram) = spectrogram {
                excerpts.spectrogram.add(start, &spectrogram.values);
            }
        }
        pending.audible = 0;
        Ok(())
    }

    /// `features`: of the extracts, if they were read. Embeddings are post-processed on the CPU; other features are
    /// already in the network's input.
    fn predict(&mut self, extracts: &[Extract], features: Option<&Features>) -> Result<Predictions> {
        let rows = vec![(0..extracts.len() as u32).collect(); self.trained.about.seeds.len()];
        match (&mut self.network, &self.trained.model) {
            (Some((dataset, predictor)), _) => {
                let lengths: Vec<u32> = extracts.iter().map(|extract| extract.instances as u32).collect();
                let stored = features.filter(|_| self.front_end.post_processes()).map(|features| &features.values);
                dataset.fill(&self.gpu, &lengths, stored)?;
                predictor.predict(&rows)
            }
            (None, TrainedModel::Forest(forests)) => {
                Ok(forest::predict(forests, features.expect("read for a forest"), &rows))
            }
            (None, TrainedModel::Network(_)) => unreachable!("networks have a predictor"),
        }
    }

    fn finish(&self, open: OpenRecording) -> Result<Recognised> {
        let (duration, condition) = open.end.expect("called when it has ended")?;
        let spectrogram = self.options.spectrogram.then(|| open.excerpts.spectrogram.array());
        let (silent, outlying) = (open.excerpts.is_silent(), open.excerpts.outlying());
        let mut recognition =
            open.excerpts.recognition(open.name, duration, &self.trained, &self.thresholds, &self.options);
        recognition.condition = condition;
        if silent {
            recognition.condition.warnings.push(silence::warning());
        }
        recognition.condition.warnings.extend(unreliable(&recognition, &outlying, &self.options));
        Ok(Recognised { recognition, spectrogram })
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

/// Recognises clips with known features, each as a recording named by its key, and calls `each` in order with the
/// result.
///
/// # Errors
/// As [`Recogniser::new`] and [`Trained::predictor`], and errors of `each`.
pub fn recognise_clips(
    gpu: &Gpu,
    trained: &Trained,
    keys: &[String],
    features: &Features,
    options: &Options,
    each: &mut dyn FnMut(Recognition) -> Result<()>,
) -> Result<()> {
    options.check(trained)?;
    let thresholds = trained.common_thresholds()?;
    let mut predictor = ClipPredictor::new(gpu, trained, features, Detail::Positions)?;
    let clips: Vec<u32> = (0..keys.len() as u32).collect();
    // The outputs per position of a whole dataset do not fit in memory.
    for portion in clips.chunks(PORTION) {
        let predictions = predictor.predict(&vec![portion.to_vec(); trained.about.seeds.len()])?;
        for (i, clip) in portion.iter().map(|&clip| clip as usize).enumerate() {
            let mut excerpts = Excerpts::new(trained, 1.0, 0, options);
            let instances = features.lengths[clip] as usize;
            // Nothing is known of their level.
            let count = trained.config.kind()?.parts(instances);
            let (audible, levels) = ((0..count).collect::<Vec<_>>(), vec![0.0; count]);
            excerpts.raise_loudest(Loudest::FULL_SCALE);
            let distance = trained.distance(features, clip)?;
            let at = Placement { start: 0.0, parts: &audible, levels: &levels, distance };
            excerpts.add(&predictions, i, instances, &at);
            let duration = excerpts.seconds(instances);
            let name = PathBuf::from(&keys[clip]);
            let mut recognition = excerpts.recognition(name, duration, trained, &thresholds, options);
            recognition.condition.warnings.extend(unreliable(&recognition, &[], options));
            each(recognition)?;
        }
    }
    Ok(())
}
