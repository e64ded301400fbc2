//! Recognises recordings of any length with a trained run: excerpts of 10 s, their features, what the run says about
//! them, and one answer per recording.

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
use crate::predict::trained::{Fitted, Trained};

pub use crate::predict::excerpts::Aggregate;

/// Seconds between two excerpts unless said otherwise: five instances, so that each is analysed twice, in another
/// context.
const HOP: f64 = 4.8;
/// Seconds: patience is finite.
const MIN_HOP: f64 = 0.01;

/// Amplitude below which an excerpt is silent for models that have to name a class whatever is in it: -80 dB of full
/// scale, some three steps of 16 bits.
const SILENCE: f32 = 1e-4;

/// Clips whose places are looked at at a time.
const PORTION: usize = 1024;

/// How recordings are recognised.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Seconds from one excerpt's start to the next, 0.01 (of notes 0.5) to the length of one. `None`: 4.8 of 10, or 1
    /// of 1.
    pub hop: Option<f64>,
    /// `None`: max, or for models that name one class the mean.
    pub aggregate: Option<Aggregate>,
    /// Whether to keep a spectrogram.
    pub spectrogram: bool,
}

/// What was recognised in a recording.
#[derive(Debug)]
pub struct Recognised {
    pub recognition: Recognition,
    /// As [`Extract`] has it, (columns, bands), at most some thousand columns for the whole recording; if asked for.
    pub spectrogram: Option<Array<f32>>,
}

/// A trained run with its front end on a GPU, ready for any number of recordings.
pub struct Recogniser {
    gpu: Gpu,
    trained: Trained,
    /// (K), the probability from which on each class is present.
    thresholds: Vec<f64>,
    options: Options,
    kind: Kind,
    /// Seconds.
    hop: f64,
    front_end: FrontEndRunner,
    /// What the front end's features are predicted from; a forest needs none.
    network: Option<(DeviceDataset, Predictor)>,
}

/// The recordings that are being recognised.
#[derive(Default)]
struct Work {
    /// Excerpts that wait for the batch to fill, and whose they are.
    waiting: Vec<(usize, Excerpt)>,
    open: VecDeque<Open>,
}

/// A recording whose end has not been reached, or not been answered.
struct Open {
    index: usize,
    name: PathBuf,
    excerpts: Excerpts,
    /// Its duration and condition, or what is wrong with it.
    end: Option<Result<(f64, Condition)>>,
}

impl Recogniser {
    /// The run's own thresholds count, see [`Trained::set_threshold`].
    ///
    /// # Errors
    /// `Usage` for options that the model cannot follow, a run that does not know its front end, and one without the
    /// thresholds that it is set to; `Checkpoint` for weights of the front end that are missing or others.
    pub fn new(gpu: &Gpu, trained: Trained, options: Options) -> Result<Recogniser> {
        options.check(&trained)?;
        let thresholds = trained.common_thresholds()?;
        let mut recipe = trained.recipe()?;
        let weights = if recipe.kind.row().weights.is_none() { None } else { recipe.load()? };
        let front_end = FrontEndRunner::new(gpu, &recipe, weights.as_ref(), options.spectrogram)?;
        let network = match &trained.fitted {
            Fitted::Network(_) => {
                let corpus = front_end.corpus(gpu, trained.about.classes.len())?;
                let predictor = trained.predictor(gpu, &corpus, Detail::Places)?;
                Some((corpus, predictor))
            }
            Fitted::Forest(_) => None,
        };
        let hop = options.hop(recipe.kind);
        let (gpu, kind) = (gpu.clone(), recipe.kind);
        Ok(Recogniser { gpu, trained, thresholds, options, kind, hop, front_end, network })
    }

    pub fn trained(&self) -> &Trained {
        &self.trained
    }

    /// Recognises sound in memory: mono, nominally in [-1, 1], at `sr` Hz.
    ///
    /// # Errors
    /// `Data` for samples that are no sound: none, not finite, or too few for the model; `Gpu` for a lost device.
    pub fn recognise(&mut self, samples: &[f32], sr: u32) -> Result<Recognised> {
        let mut work = Work::default();
        let (cut, name) = (self.cut(), Path::new("samples"));
        let mut failed = Ok(false);
        let end = cut_samples(name, samples, sr, cut, |excerpt| {
            failed = self.take(&mut work, 0, name, Item::Excerpt(excerpt));
            failed.is_ok()
        })?;
        failed?;
        self.take(&mut work, 0, name, end)?;
        self.answer(&mut work)?;
        let done = work.open.pop_front().expect("it was opened when its end was taken");
        self.finish(done)
    }

    /// Recognises a sound file.
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

    /// Recognises `files`, decoded on all cores, and hands over in order what is in each, or why it cannot be used,
    /// with its index. Memory does not grow with the length of a recording but for its timelines.
    ///
    /// # Errors
    /// `Gpu` for a lost device, and whatever `each` returns.
    pub fn recognise_files(
        &mut self,
        files: &[PathBuf],
        each: &mut dyn FnMut(usize, Result<Recognised>) -> Result<()>,
    ) -> Result<()> {
        let mut work = Work::default();
        for (index, item) in ingest(files.to_vec(), self.cut())? {
            if self.take(&mut work, index, &files[index], item)? {
                // The excerpts of recordings that have ended were all in this batch or an earlier one.
                while work.open.front().is_some_and(|open| open.end.is_some()) {
                    let done = work.open.pop_front().expect("there is a front");
                    each(done.index, self.finish(done))?;
                }
            }
        }
        self.answer(&mut work)?;
        work.open.into_iter().try_for_each(|open| each(open.index, self.finish(open)))
    }

    fn cut(&self) -> Windowing {
        Windowing { window: self.kind.window(), hop: Some(self.hop), format: self.kind.format(), align_last: true }
    }

    /// Takes what comes of a recording, one after the other. Returns whether a batch was full, and all that waited is
    /// answered.
    fn take(&mut self, work: &mut Work, index: usize, name: &Path, item: Item) -> Result<bool> {
        if work.open.back().is_none_or(|last| last.index < index) {
            let excerpts = Excerpts::new(&self.trained, self.hop, self.front_end.extractor.bands());
            work.open.push_back(Open { index, name: name.into(), excerpts, end: None });
        }
        let current = work.open.back_mut().expect("just opened");
        match item {
            Item::Excerpt(excerpt) => work.waiting.push((index, excerpt)),
            Item::End { duration, .. } if self.kind.is_single_note() && duration < self.kind.window() => {
                let reason = format!("is shorter than {} s, which the model takes in at a time", self.kind.window());
                current.end = Some(Err(Error::data(name, reason)));
            }
            Item::End { duration, condition } => current.end = Some(Ok((duration, condition))),
            Item::Failed(error) => {
                work.waiting.retain(|(of, _)| *of != index);
                current.end = Some(Err(error));
            }
        }
        let full = work.waiting.len() == self.front_end.extractor.batch();
        if full {
            self.answer(work)?;
        }
        Ok(full)
    }

    /// Predicts the excerpts that wait.
    fn answer(&mut self, work: &mut Work) -> Result<()> {
        if work.waiting.is_empty() {
            return Ok(());
        }
        let samples: Vec<&[f32]> = work.waiting.iter().map(|(_, e)| e.samples.as_slice()).collect();
        let read = self.network.is_none() || self.front_end.post_processes();
        let extracts = self.front_end.extractor.extract(&samples, read)?;
        let predictions = self.predict(&extracts)?;
        for (i, ((index, excerpt), extract)) in work.waiting.iter().zip(&extracts).enumerate() {
            let open = work.open.iter_mut().find(|open| open.index == *index);
            let excerpts = &mut open.expect("a recording stays open until it is answered").excerpts;
            let silent = excerpts.exclusive && excerpt.samples.iter().all(|v| v.abs() < SILENCE);
            match silent {
                true => excerpts.pause(excerpt.start),
                false => excerpts.add(&predictions, i, excerpt.start, extract.instances),
            }
            excerpts.strip.add(excerpt.start, &extract.spectrogram);
        }
        work.waiting.clear();
        Ok(())
    }

    /// Embeddings go through the post-processing on the CPU; other features are where the network takes them from.
    fn predict(&mut self, extracts: &[Extract]) -> Result<Predictions> {
        let rows = vec![(0..extracts.len() as u32).collect(); self.trained.about.seeds.len()];
        match (&mut self.network, &self.trained.fitted) {
            (Some((corpus, predictor)), _) => {
                let lengths: Vec<u32> = extracts.iter().map(|extract| extract.instances as u32).collect();
                let post_processed = self.front_end.post_processes().then(|| self.front_end.features(extracts));
                let stored = post_processed.transpose()?.map(|features| features.values);
                corpus.fill(&self.gpu, &lengths, stored.as_ref())?;
                predictor.predict(&rows)
            }
            (None, Fitted::Forest(forests)) => Ok(forest::predict(forests, &self.front_end.features(extracts)?, &rows)),
            (None, Fitted::Network(_)) => unreachable!("networks have a predictor"),
        }
    }

    fn finish(&self, open: Open) -> Result<Recognised> {
        let (duration, condition) = open.end.expect("called when it has ended")?;
        let spectrogram = self.options.spectrogram.then(|| open.excerpts.strip.array());
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
        let (attends, kind) = (model.has_attention, trained.config.kind()?);
        let (hop, longest) = (self.hop(kind), kind.window());
        // Seconds that overlap more have nothing of their own to tell.
        let shortest = if kind.is_single_note() { longest / 2.0 } else { MIN_HOP };
        if !(shortest..=longest).contains(&hop) {
            return Err(Error::Usage(format!("a hop of {hop} s: {shortest} to {longest} s are possible")));
        }
        if self.aggregate == Some(Aggregate::Attention) && !attends {
            return Err(Error::Usage(format!(
                "{} has no attention to aggregate by; mean and max are left",
                model.name
            )));
        }
        Ok(())
    }
}

/// What a run says about clips whose features are known: each as a recording of its own, named by its key.
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
    let mut predictor = ClipPredictor::new(gpu, trained, features, Detail::Places)?;
    let clips: Vec<u32> = (0..keys.len() as u32).collect();
    let mut all = Vec::with_capacity(keys.len());
    // What is said about each place of each clip does not fit memory for a whole dataset.
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
