//! Mixtures of isolated notes among the clips of a run: new ones in each epoch, made while the epoch before trains.
//!
//! On the GPU they follow the dataset's clips: first those of held-out notes, for validation, which stay; then those to
//! train on. A mixture is a function of its epoch and number, the same for all seeds and in a resumed run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::audio::{AudioFormat, Clip, Level};
use crate::core::error::{Error, Result};
use crate::core::parallel::map_on_all_cores;
use crate::data::{Dataset, MIXTURE_SR, Mixer, Mixture, Part, Times, class_named};
use crate::features::device_dataset::{DeviceDataset, Dims, LabelledClips};
use crate::features::runner::FrontEndRunner;
use crate::gpu::Gpu;
use crate::nn::front_ends::kind::{Row, SpectrogramFrames};
use crate::ops::gather::Encoding;
use crate::run::clips::features_of_mixtures;
use crate::run::config::Config;

/// Interval between looks at what is being made.
const LOOK: Duration = Duration::from_millis(20);

/// The mixtures of a run.
pub(super) struct Mixtures {
    gpu: Gpu,
    maker: Arc<Maker>,
    dataset: DeviceDataset,
    /// Their first clip in the dataset.
    first: usize,
    held: usize,
    clips: usize,
    epochs: usize,
    /// The epoch whose mixtures are on the GPU.
    present: Option<usize>,
    /// What is being made: an epoch, with the number of the first mixture.
    next: Option<Job>,
}

struct Job {
    epoch: usize,
    at: usize,
    of: usize,
    thread: JoinHandle<Result<Option<Vec<LabelledClips>>>>,
}

/// Makes mixtures with features and labels.
struct Maker {
    mixer: Arc<Mixer>,
    runner: FrontEndRunner,
    dims: Dims,
    /// The number of each class of the notes in the dataset.
    classes: Vec<usize>,
    /// Of an instance.
    seconds: f64,
    level: Level,
    stop: AtomicBool,
    /// Mixtures of the latest job that are done.
    done: AtomicUsize,
}

impl Mixtures {
    /// For a dataset with room for them; `None` if the run has none.
    ///
    /// # Errors
    /// `Usage` if the dataset was loaded without a mixer, or has features of another kind than mixtures will have.
    pub fn new(gpu: &Gpu, config: &Config, data: &Dataset, dataset: &DeviceDataset) -> Result<Option<Mixtures>> {
        let Some(mixer) = data.mixer.clone().filter(|_| config.mix.is_some()) else {
            return match config.mix.is_some() {
                true => Err(Error::Usage("the dataset was loaded without the notes of `mix`".into())),
                false => Ok(None),
            };
        };
        let mut feature_config = features_of_mixtures(config)?;
        let weights = feature_config.load()?;
        let runner = FrontEndRunner::new(gpu, &feature_config, weights.as_ref(), SpectrogramFrames::None)?;
        let dims = dataset.dims;
        if [dims.instances, dims.width] != [runner.instances(), runner.instance_len()]
            || dims.encoding != Encoding::Floats && runner.is_in_bytes() != (dims.encoding == Encoding::Bytes)
        {
            return Err(Error::data(&data.path, "has features of another shape or scaling than mixtures have"));
        }
        let classes: Option<Vec<usize>> =
            mixer.notes().classes.iter().map(|name| class_named(&data.classes, name)).collect();
        let classes =
            classes.ok_or_else(|| Error::data(&mixer.notes().path, "has classes that the dataset has not"))?;
        let Row { seconds, format: AudioFormat { level, .. }, .. } = *feature_config.kind.row();
        let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        let [held, clips] = config.mixtures();
        Ok(Some(Mixtures {
            gpu: gpu.clone(),
            maker: Arc::new(Maker { mixer, runner, dims, classes, seconds, level, stop, done }),
            dataset: dataset.clone(),
            first: data.keys.len(),
            held,
            clips,
            epochs: config.epochs,
            present: None,
            next: None,
        }))
    }

    /// Puts the mixtures of an epoch on the GPU, and begins to make those of the next one. False if `stop` returned
    /// true. `progress`: mixtures done, of all.
    ///
    /// # Errors
    /// `Gpu` for a lost device.
    pub fn prepare(
        &mut self,
        epoch: usize,
        stop: &dyn Fn() -> bool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<bool> {
        if self.present == Some(epoch) {
            return Ok(true);
        }
        let job = match self.next.take().filter(|job| job.epoch == epoch) {
            Some(job) => job,
            None => self.begin(epoch),
        };
        let (mut at, of) = (job.at, job.of);
        while !job.thread.is_finished() {
            if stop() {
                self.next = Some(job);
                return Ok(false);
            }
            progress(self.maker.done.load(Ordering::Relaxed), of);
            thread::sleep(LOOK);
        }
        let Some(made) = job.thread.join().expect("making mixtures does not panic")? else { return Ok(false) };
        for clips in &made {
            self.dataset.replace(&self.gpu, at, clips)?;
            at += clips.lengths.len();
        }
        self.present = Some(epoch);
        if epoch + 1 < self.epochs {
            self.next = Some(self.begin(epoch + 1));
        }
        Ok(true)
    }

    /// Begins to make the mixtures of an epoch; before the first ones also those of held-out notes.
    fn begin(&self, epoch: usize) -> Job {
        let is_first = self.present.is_none();
        let held = (0..if is_first { self.held } else { 0 }).map(|i| (Part::Test, 1, i as u32));
        // Those of epoch 0 are the ones that `wmic mix` writes with the same seed.
        let clips = (0..self.clips).map(|i| (Part::Train, epoch as u32 + 1, i as u32));
        let wanted: Vec<(Part, u32, u32)> = held.chain(clips).collect();
        self.maker.done.store(0, Ordering::Relaxed);
        let (maker, of) = (self.maker.clone(), wanted.len());
        let at = self.first + if is_first { 0 } else { self.held };
        Job { epoch, at, of, thread: thread::spawn(move || maker.make(&wanted)) }
    }
}

impl Drop for Mixtures {
    fn drop(&mut self) {
        self.maker.stop.store(true, Ordering::Relaxed);
        self.next.take().into_iter().for_each(|job| drop(job.thread.join()));
    }
}

impl Maker {
    /// The mixtures of these parts, epochs and numbers, some at a time; `None` if it was stopped.
    fn make(&self, wanted: &[(Part, u32, u32)]) -> Result<Option<Vec<LabelledClips>>> {
        let mut made = vec![];
        for some in wanted.chunk_by(|a, b| a.0 == b.0).flat_map(|part| part.chunks(self.runner.extractor.batch())) {
            let mixtures = map_on_all_cores(some, |_, &(part, epoch, index)| {
                let mixture = self.mixer.mixture(part, epoch, index);
                self.done.fetch_add(1, Ordering::Relaxed);
                Ok(mixture)
            })?;
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            made.push(self.labelled(mixtures)?);
        }
        Ok(Some(made))
    }

    fn labelled(&self, mixtures: Vec<Mixture>) -> Result<LabelledClips> {
        let sounds: Vec<Vec<f32>> = mixtures.iter().map(|mixture| at_level(self.level, &mixture.samples)).collect();
        let extracts = self.runner.extractor.run(&sounds.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let features = self.runner.features(&extracts)?;
        let (mut present, mut instances) = (vec![], vec![]);
        for (mixture, length) in mixtures.iter().zip(&features.lengths) {
            let (mut times, mut absent) = (Times::default(), vec![true; self.dims.classes]);
            for (class, segments) in &mixture.instruments {
                let class = self.classes[*class];
                absent[class] = segments.is_empty();
                segments.iter().for_each(|segment| times.add(0, class as u32, *segment));
            }
            let valid = [self.dims.instances, *length as usize];
            instances.extend(times.codes(0, [0.0, self.seconds], valid, &absent));
            present.extend(absent.iter().map(|absent| !absent));
        }
        Ok(self.dims.labelled(&features, &present, &instances))
    }
}

/// The samples of a mixture at the level that an excerpt of a recording has.
fn at_level(level: Level, samples: &[f32]) -> Vec<f32> {
    let mut clip = Clip { sr: MIXTURE_SR, samples: samples.to_vec() };
    match level {
        Level::Original => {}
        Level::Peak => drop(clip.normalise_peak()),
        Level::Rms(level) => drop(clip.normalise_rms(level)),
    }
    clip.samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::FeatureKind;

    #[test]
    fn mixtures_have_the_level_of_their_features() {
        let samples: Vec<f32> = (0..1000).map(|i| 0.5 * (i as f32).sin()).collect();
        let of = |kind: FeatureKind| at_level(kind.format().level, &samples);
        let rms = |x: &[f32]| (x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / x.len() as f64).sqrt();
        let peak = |x: &[f32]| x.iter().fold(0.0f32, |peak, v| peak.max(v.abs()));
        assert!((rms(&of(FeatureKind::Musicnn)) - 0.08).abs() < 1e-6);
        assert_eq!(peak(&of(FeatureKind::Vggish)), 1.0);
        assert_eq!(of(FeatureKind::Yamnet), samples);
    }
}
