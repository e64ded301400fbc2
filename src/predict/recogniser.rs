//! Recognises recordings of any length with trained models: excerpts of 10 s, their features, their predictions, and
//! one result per recording.

use std::path::PathBuf;

use crate::core::array::Array;
use crate::core::error::Result;
use crate::data::Features;
use crate::gpu::Gpu;
use crate::predict::clips::ClipPredictor;
use crate::predict::domain::unreliable;
use crate::predict::excerpts::{Excerpts, Placement};
use crate::predict::mixture::{Combinations, Mixture};
use crate::predict::predictor::Detail;
use crate::predict::recognition::Recognition;
use crate::predict::silence::Loudest;
use crate::predict::stream::{Answers, Progress, Stream};
use crate::predict::trained::Trained;

pub use crate::predict::options::{Aggregate, Options};
pub use crate::predict::timeline::Segmentation;

/// Clips predicted with outputs per position at a time.
const PORTION: usize = 1024;

/// The result for a recording.
#[derive(Debug)]
pub struct Recognised {
    pub recognition: Recognition,
    /// (columns, bands), at most a few thousand columns for the whole recording; if requested. That of the first model.
    pub spectrogram: Option<Array<f32>>,
    /// The answer of each model.
    pub models: Vec<Recognition>,
}

/// A trained model, or several, with their front ends on a GPU, for any number of recordings.
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
    /// A front end each.
    streams: Vec<Stream>,
    combinations: Combinations,
    options: Options,
}

impl Recogniser {
    /// Uses the models' thresholds, see [`Mixture::set_threshold`].
    ///
    /// # Errors
    /// `Usage` for options that do not apply to a model, a run that does not record its front end, and tuned
    /// thresholds that do not exist; `Checkpoint` for front-end weights that are missing or have changed.
    pub fn new(gpu: &Gpu, models: impl Into<Mixture>, options: Options) -> Result<Recogniser> {
        let (models, combinations) = models.into().split()?;
        let of = |(i, models)| {
            let options = Options { spectrogram: options.spectrogram && i == 0, ..options };
            Stream::new(gpu, models, combinations.thresholds(), options)
        };
        let streams = models.into_iter().enumerate().map(of).collect::<Result<_>>()?;
        Ok(Recogniser { streams, combinations, options })
    }

    /// Recognises audio in memory: mono, nominally in [-1, 1], at `sr` Hz.
    ///
    /// # Errors
    /// `Data` for invalid samples: empty, not finite, or too few for the model; `Gpu` for a lost device.
    pub fn recognise(&mut self, samples: &[f32], sr: u32) -> Result<Recognised> {
        let each = self.streams.iter_mut().map(|stream| stream.recognise(samples, sr)).collect();
        self.combined(each)
    }

    /// Recognises an audio file.
    ///
    /// # Errors
    /// `Io` and `Data` for a file that cannot be used; `Gpu` for a lost device.
    pub fn recognise_file(&mut self, file: impl Into<PathBuf>) -> Result<Recognised> {
        let mut result = None;
        self.recognise_files(&[file.into()], &|| false, &mut |_, recognised| {
            result = Some(recognised);
            Ok(())
        })?;
        result.expect("each file has a result")
    }

    /// Recognises `files`, decoded on all cores, until all are done or `stop` returns true, and calls `each` in order
    /// with the index and the result or error. Memory grows with the length of a recording only for its timelines.
    /// Returns whether all are done.
    ///
    /// # Errors
    /// `Gpu` for a lost device, and errors of `each`.
    pub fn recognise_files(
        &mut self,
        files: &[PathBuf],
        stop: &dyn Fn() -> bool,
        each: &mut dyn FnMut(usize, Result<Recognised>) -> Result<()>,
    ) -> Result<bool> {
        // Every front end has a sample rate and a level of its own, and decodes for itself.
        let mut progress: Vec<Progress> =
            self.streams.iter().map(|stream| stream.start(files)).collect::<Result<_>>()?;
        for index in 0..files.len() {
            let mut answers: Vec<Result<Answers>> = vec![];
            for (stream, progress) in self.streams.iter_mut().zip(&mut progress) {
                match stream.next(progress, stop)? {
                    Some(answer) => answers.push(answer),
                    None => return Ok(false),
                }
            }
            each(index, self.combined(answers.into_iter().collect()))?;
        }
        Ok(true)
    }

    /// Combines the answers of the streams.
    fn combined(&self, answers: Result<Vec<Answers>>) -> Result<Recognised> {
        let mut answers = answers?;
        let spectrogram = answers[0].spectrogram.take();
        let each: Vec<Recognition> = answers.into_iter().flat_map(|of_stream| of_stream.recognitions).collect();
        let recognition = self.combinations.combine(&each, &self.options);
        Ok(Recognised { recognition, spectrogram, models: each })
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
    let clips: Vec<u32> = (0..keys.len() as u32).collect();
    recognise_some(gpu, trained, (keys, &clips), features, options, each)
}

/// As [`recognise_clips`], of some of the clips.
pub(super) fn recognise_some(
    gpu: &Gpu,
    trained: &Trained,
    (keys, clips): (&[String], &[u32]),
    features: &Features,
    options: &Options,
    each: &mut dyn FnMut(Recognition) -> Result<()>,
) -> Result<()> {
    options.check(trained)?;
    let thresholds = trained.common_thresholds()?;
    let mut predictor = ClipPredictor::new(gpu, trained, features, Detail::Positions)?;
    // The outputs per position of a whole dataset do not fit in memory.
    for portion in clips.chunks(PORTION) {
        let predictions = predictor.predict(&vec![portion.to_vec(); trained.about.seeds.len()])?;
        for (i, clip) in portion.iter().map(|&clip| clip as usize).enumerate() {
            let mut excerpts = Excerpts::new(trained, 1.0, options);
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
