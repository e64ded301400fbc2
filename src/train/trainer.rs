//! The epoch loop: train, validate, save the best, stop.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::learner::{EpochSums, Learner};
use super::mixtures::Mixtures;
use super::{front_ends, init};
use crate::core::error::{Error, Result};
use crate::data::{Dataset, FeatureValues};
use crate::features::device_dataset::{DeviceDataset, Dims};
use crate::gpu::Gpu;
use crate::metrics::counts::Counts;
use crate::metrics::scores::{Task, mean};
use crate::nn;
use crate::nn::front_ends::vggish::TrainFrontEnd;
use crate::ops::sample::Order;
use crate::run::config::{Config, Select};
use crate::run::network;
use crate::run::pretraining;
use crate::run::run_dir::RunDir;
use crate::run::splits::splits;
use crate::run::state::{EpochRow, Progress};
use crate::run::weights::{self, About, Block};

/// Interval between saved states; the last is saved at the end.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Progress events.
#[non_exhaustive]
pub enum Event<'a> {
    /// Making the mixtures of an epoch: so many are done.
    Mixtures { done: usize, of: usize },
    /// Some steps of an epoch are done.
    Step { done: usize, of: usize },
    /// Number of forests done, one for each seed and class.
    Grown { done: usize, of: usize },
    /// An epoch is done: a row for each seed that has not stopped.
    Epoch { rows: &'a [EpochRow], clips_per_s: f64 },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Finished,
    /// Stopped by `stop`; the state is saved.
    Interrupted,
}

/// The best epoch of a replica so far.
#[derive(Clone, Copy, Debug)]
struct Best {
    epoch: usize,
    /// Lower is better.
    value: f64,
}

pub struct Trainer<'a> {
    config: Config,
    about: About,
    dataset: DeviceDataset,
    learner: Learner<'a>,
    progress: Progress,
    train_clips: usize,
    mixtures: Option<Mixtures>,
}

impl<'a> Trainer<'a> {
    /// Sets up a run; nothing is written.
    ///
    /// # Errors
    /// `Limit` when the adapter does not have the memory, `Usage` for settings that do not fit the data, `Checkpoint`
    /// for initial weights of another model.
    pub fn new(gpu: &'a Gpu, config: &Config, data: &Dataset) -> Result<Trainer<'a>> {
        let model = config.model()?;
        if model.single_label {
            data.check_single_label(&config.model)?;
        }
        if config.strong_weight.is_some_and(|weight| weight > 0.0) && data.strong.is_none() && config.mix.is_none() {
            return Err(Error::data(&data.path, "has no labels with times, which `strong_weight` needs (see `times`)"));
        }
        let [held, mixed] = config.mixtures();
        let dims = Dims::of_training(data, model.fixed_instances, held + mixed, gpu.max_binding())?;
        let dataset = DeviceDataset::with_dims(gpu, data, dims)?;
        let mut splits = splits(config, data)?;
        let mixtures = Mixtures::new(gpu, config, data, &dataset)?;
        for (train, val) in splits.iter_mut().filter(|_| mixtures.is_some()) {
            let first = data.keys.len() as u32;
            let (last_held, last) = (first + held as u32, first + (held + mixed) as u32);
            val.extend(first..last_held);
            train.extend(last_held..last);
        }
        let mut frozen = network::frozen(gpu, config)?;
        frozen.extend(pretraining::words(gpu, data)?);
        let mut learner = Learner::new(gpu, config, &dataset, &frozen, &splits, Order::Shuffled)?;
        if let Some(front_end) = config.front_end.as_ref().filter(|_| config.train_front_end != TrainFrontEnd::None) {
            let weights = front_end.load()?;
            let mut blocks = learner.best_weights()?;
            blocks.iter_mut().for_each(|block| weights.overlay(learner.layout(), &mut block.trained));
            learner.set_weights(&blocks)?;
        }
        if let Some(path) = &config.init {
            let blocks = init::initial(path, config, data, learner.layout(), learner.best_weights()?)?;
            learner.set_weights(&blocks)?;
        }
        let steps = config.epochs.checked_mul(learner.steps_per_epoch());
        if steps.is_none_or(|steps| steps > u32::MAX as usize) {
            let each = learner.steps_per_epoch();
            return Err(Error::Usage(format!(
                "{} epochs of {each} steps are too many; at most {} steps are supported",
                config.epochs,
                u32::MAX
            )));
        }
        let input = match data.features.values {
            FeatureValues::U8(_) => "x / 255",
            _ => "x",
        };
        let about = About::new(config, data, input);
        Ok(Trainer {
            config: config.clone(),
            about,
            dataset,
            learner,
            progress: Progress::default(),
            train_clips: splits[0].0.len(),
            mixtures,
        })
    }

    /// Restores the state that `run` has saved, if any.
    ///
    /// # Errors
    /// `Checkpoint` when it is damaged or another run's.
    pub fn resume(&mut self, run: &RunDir) -> Result<()> {
        if let Some((state, saved)) = run.load_state(&self.config.seeds, self.learner.steps_per_epoch())? {
            self.learner.restore(&state).map_err(|e| Error::checkpoint(run.state(), e.to_string()))?;
            self.progress = saved;
        }
        Ok(())
    }

    /// The dataset on the GPU.
    pub fn dataset(&self) -> &DeviceDataset {
        &self.dataset
    }

    /// Trainable parameters of one replica.
    pub fn parameters(&self) -> usize {
        self.learner.layout().count()
    }

    /// The problems with a choice of tiles in its plans.
    pub(super) fn products(&self) -> &BTreeSet<String> {
        self.learner.products()
    }

    /// Epochs done so far (by the run that is resumed).
    pub fn epochs_done(&self) -> usize {
        self.progress.epochs
    }

    /// A row per epoch done and seed, epoch after epoch.
    pub fn history(&self) -> &[EpochRow] {
        &self.progress.history
    }

    pub fn steps_per_epoch(&self) -> usize {
        self.learner.steps_per_epoch()
    }

    /// Trains to the end, or until `stop` returns true, and saves into `run` periodically.
    ///
    /// # Errors
    /// `Diverged` for a non-finite loss (the best weights of complete epochs are saved), `Gpu` for a lost device and
    /// `Io` for a full disk (the last saved state is intact).
    pub fn train(&mut self, run: &RunDir, stop: &dyn Fn() -> bool, progress: &mut dyn FnMut(Event)) -> Result<End> {
        let mut saved = Instant::now();
        while self.progress.epochs < self.config.epochs && !self.all_stopped() {
            let start = Instant::now();
            if let Some(mixtures) = &mut self.mixtures
                && !mixtures.prepare(self.progress.epochs, stop, &mut |done, of| {
                    progress(Event::Mixtures { done, of });
                })?
            {
                self.save(run)?;
                return Ok(End::Interrupted);
            }
            let first = self.learner.steps_done();
            let of = self.learner.steps_per_epoch();
            let complete = self.learner.train(stop, &mut |done| {
                let done = if done > first { (done - 1) % of + 1 } else { 0 };
                progress(Event::Step { done, of });
            })?;
            if !complete {
                self.save(run)?;
                return Ok(End::Interrupted);
            }
            let fraction = (self.learner.steps_done() - first) as f64 / of as f64;
            let clips = (self.train_clips * self.config.seeds.len()) as f64 * fraction;
            let clips_per_s = clips / start.elapsed().as_secs_f64();
            let sums = self.learner.validate()?;
            if let Some(error) = self.divergence(&sums) {
                self.save_best(run)?;
                return Err(error);
            }
            let rows = self.update_best(&sums)?;
            progress(Event::Epoch { rows: &rows, clips_per_s });
            self.progress.history.extend(rows);
            self.progress.epochs += 1;
            if saved.elapsed() >= SAVE_EVERY {
                self.save(run)?;
                saved = Instant::now();
            }
        }
        self.save(run)?;
        Ok(End::Finished)
    }

    /// The best weights of each replica.
    pub fn best_weights(&self) -> Result<Vec<Block>> {
        self.learner.best_weights()
    }

    /// Writes the front ends of a pre-training run; gives each seed's best epoch and its file.
    pub(super) fn save_front_ends(&self, run: &RunDir) -> Result<Vec<(EpochRow, PathBuf)>> {
        let files = front_ends::save(run, &self.config, self.learner.layout(), &self.best_weights()?)?;
        let best = |seed: u64| self.progress.history.iter().rev().find(|row| row.best && row.seed == seed).cloned();
        Ok(self.config.seeds.iter().zip(files).filter_map(|(&seed, file)| Some((best(seed)?, file))).collect())
    }

    /// The epoch that each replica's best weights are of.
    pub fn best_epochs(&self) -> Vec<usize> {
        (0..self.config.seeds.len()).map(|r| self.best(r).map_or(0, |b| b.epoch)).collect()
    }

    /// The state is written last: it must not be ahead of the other files.
    fn save(&self, run: &RunDir) -> Result<()> {
        self.save_best(run)?;
        run.save_state(&self.learner.state()?, &self.progress)
    }

    /// Before the end of the first epoch there are no best weights.
    fn save_best(&self, run: &RunDir) -> Result<()> {
        run.write_metrics(&self.progress.history)?;
        if self.progress.epochs == 0 {
            return Ok(());
        }
        let about = About { best_epochs: self.best_epochs(), ..self.about.clone() };
        weights::save_model(&run.model(), self.learner.layout(), &self.learner.best_weights()?, &about)
    }

    /// The first seed with a non-finite loss. Stopped seeds are ignored.
    fn divergence(&self, sums: &EpochSums) -> Option<Error> {
        let active = || (0..self.config.seeds.len()).filter(|&r| !self.stopped(self.best(r)));
        let first = active().filter_map(|r| Some((r, sums.diverged[r]? as usize))).min_by_key(|(_, step)| *step);
        // The validation loss may be affected first.
        let late = || Some((active().find(|&r| !sums.val_loss[r].is_finite())?, self.learner.steps_done() - 1));
        let (r, step) = first.or_else(late)?;
        let of = self.learner.steps_per_epoch();
        Some(Error::Diverged { seed: self.config.seeds[r], epoch: step / of, step: step % of })
    }

    /// Compares the epoch with the best of each active seed, saves better weights, and returns the history rows.
    fn update_best(&mut self, sums: &EpochSums) -> Result<Vec<EpochRow>> {
        let epoch = self.progress.epochs;
        let task = Task::of(nn::find(&self.config.model)?.single_label);
        let mut better = vec![];
        let mut rows = vec![];
        for (r, &seed) in self.config.seeds.iter().enumerate() {
            let best = self.best(r);
            // A stopped seed does not change: the result must be as if it had been trained alone.
            if self.stopped(best) {
                continue;
            }
            // Single-label: the counts are those of the predicted classes, so each clip is a hit or a miss of its
            // class.
            let pooled: Counts = sums.counts[r].iter().copied().sum();
            let (val_f1_pn, val_accuracy) = match task {
                Task::MultiLabel => (mean(sums.counts[r].iter().map(Counts::f1_pn)), None),
                Task::SingleLabel => (None, pooled.recall_pos()),
            };
            let train_accuracy =
                sums.train_counts.get(r).and_then(|of| of.iter().copied().sum::<Counts>().recall_pos());
            let mut row = EpochRow {
                epoch,
                seed,
                train_loss: sums.train_loss[r],
                val_loss: sums.val_loss[r],
                val_f1_pn,
                train_accuracy,
                val_accuracy,
                best: false,
            };
            row.best = best.is_none_or(|b| self.value(&row) < b.value);
            if row.best {
                better.push(r);
            }
            rows.push(row);
        }
        self.learner.save_best(&better)?;
        Ok(rows)
    }

    /// Selection criterion, lower is better.
    fn value(&self, row: &EpochRow) -> f64 {
        match self.config.select {
            Select::ValLoss => f64::from(row.val_loss),
            Select::ValF1 => -row.val_accuracy.or(row.val_f1_pn).unwrap_or(0.0),
        }
    }

    fn best(&self, r: usize) -> Option<Best> {
        let seed = self.config.seeds[r];
        let row = self.progress.history.iter().rev().find(|row| row.best && row.seed == seed)?;
        Some(Best { epoch: row.epoch, value: self.value(row) })
    }

    fn stopped(&self, best: Option<Best>) -> bool {
        match (self.config.patience, best) {
            (Some(patience), Some(best)) => self.progress.epochs > best.epoch + patience,
            _ => false,
        }
    }

    fn all_stopped(&self) -> bool {
        (0..self.config.seeds.len()).all(|r| self.stopped(self.best(r)))
    }
}
