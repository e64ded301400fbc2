//! A training run from start to scores: the library's entry point for training.
//!
//! A [`Session`] is [started](Session::begin) in a new directory, or [resumed](Session::resume) from one, trained, and
//! finished: thresholds are tuned and the test split is evaluated. [`crate::report::write`] writes figures and the page
//! of the [`Outcome`].

use std::path::{Path, PathBuf};

use crate::core::error::{Error, Result};
use crate::data::Dataset;
use crate::gpu::Gpu;
use crate::metrics::evaluation::Evaluation;
use crate::metrics::scores::Task;
use crate::metrics::thresholds::Threshold;
use crate::nn::is_objective;
use crate::predict::evaluator::{Evaluator, SplitPredictions};
use crate::predict::forest;
use crate::predict::trained::{Split, Trained};
use crate::run::config::Config;
use crate::run::pretraining::constant_loss;
use crate::run::run_dir::{Environment, RunDir, RunRecord, hex};
use crate::run::splits::splits;
use crate::run::state::EpochRow;
use crate::run::weights::About;
use crate::train::findings::{Findings, findings};
use crate::train::forest::grow;
use crate::train::trainer::{End, Event, Trainer};

/// A run in progress.
pub struct Session<'a> {
    gpu: &'a Gpu,
    config: Config,
    data: &'a Dataset,
    run: RunDir,
    /// The adapter it was started on.
    adapter: String,
    /// `None` for a forest, which is trained in one call, and for a run of [blocks](Session::of_blocks).
    trainer: Option<Trainer<'a>>,
    /// Of a run of blocks.
    history: Option<Vec<EpochRow>>,
}

/// A finished run.
pub struct Outcome {
    pub run: RunDir,
    pub record: RunRecord,
    /// A row per epoch and seed.
    pub history: Vec<EpochRow>,
    /// On the test split; the content of `test.json`.
    pub evaluation: Evaluation,
    /// Predictions of each seed for the test clips.
    pub predictions: SplitPredictions,
    /// (R, K): decision thresholds; unused by single-label models.
    pub thresholds: Vec<Vec<f64>>,
}

/// A finished run of pre-training.
pub struct FrontEnds {
    pub run: RunDir,
    /// A row per epoch and seed.
    pub history: Vec<EpochRow>,
    /// Each seed's best epoch, and the file with its weights.
    pub best: Vec<(EpochRow, PathBuf)>,
    /// The validation loss of the best constant output.
    pub constant: f64,
    /// What each has learned.
    pub findings: Vec<Findings>,
}

impl<'a> Session<'a> {
    /// Starts a run in the directory `out`, after checking all that it needs. An existing run is replaced only with
    /// `force`.
    ///
    /// # Errors
    /// `Limit` when the adapter does not have the memory, `Usage` for settings that do not fit the data and for a
    /// directory in use, `Checkpoint` for initial weights of another model. After an error, nothing is left in `out`.
    pub fn begin(gpu: &'a Gpu, config: &Config, data: &'a Dataset, out: &Path, force: bool) -> Result<Session<'a>> {
        config.validate()?;
        can_tune(config, data)?;
        let trainer = match config.model()?.is_forest() {
            true => None,
            false => Some(Trainer::new(gpu, config, data)?),
        };
        // Only what it uses is recorded, and holds from now on.
        let used =
            config.tuning.as_ref().zip(trainer.as_ref()).and_then(|(tuning, trainer)| tuning.of(trainer.products()));
        let config = &Config { tuning: used, ..config.clone() };
        let adapter = gpu.adapter();
        let [adapter, backend, driver] = match trainer {
            Some(_) => [&adapter.name, &adapter.backend, &adapter.driver].map(String::clone),
            None => [forest::DEVICE, &format!("{} threads", forest::threads()), ""].map(str::to_owned),
        };
        let (train, val) = &splits(config, data)?[0];
        let environment = Environment {
            version: env!("CARGO_PKG_VERSION").into(),
            adapter: adapter.clone(),
            backend,
            driver,
            parameters: trainer.as_ref().map_or(0, Trainer::parameters),
            data: hex(data.fingerprint()),
            splits: hex(data.splits_fingerprint()),
            strong: data.strong_fingerprint().map(hex),
            replaces: vec![],
            notes: data.notes_fingerprint().map(hex),
            train_clips: train.len(),
            val_clips: val.len(),
            test_clips: data.test.len(),
        };
        let run = RunDir::create(out, force, &RunRecord { config: config.clone(), run: environment })?;
        run.write_splits(data)?;
        Ok(Session { gpu, config: config.clone(), data, run, adapter, trainer, history: None })
    }

    /// A trained run of all seeds of `config`, which is to be [finished](Session::finish), of `blocks`: finished runs
    /// of the same settings with some of the seeds each, in order. It is what one session would have trained, as a
    /// seed does not depend on the others.
    ///
    /// # Errors
    /// `Usage` for blocks of other settings or seeds, `Data` for those of other data, `Checkpoint` for damaged ones; as
    /// [`Session::begin`] for `out`.
    pub fn of_blocks(
        gpu: &'a Gpu,
        config: &Config,
        data: &'a Dataset,
        (out, force): (&Path, bool),
        blocks: &[RunDir],
    ) -> Result<Session<'a>> {
        let (mut whole, mut history, mut begun) = (None::<Trained>, vec![], None);
        for block in blocks {
            let RunRecord { config: of_block, run } = block.record()?;
            same_data(block, &run, data)?;
            let asked = Config { seeds: of_block.seeds.clone(), ..config.clone() };
            if let Some((key, of_block, asked)) = of_block.differs(&asked)? {
                let block = block.path().display();
                return Err(Error::Usage(format!("{block} was trained with {key} {of_block}, not {asked}")));
            }
            let trained = Trained::load(block)?;
            history.extend(block.metrics()?);
            begun.get_or_insert((run, of_block.tuning));
            match &mut whole {
                Some(whole) => whole.append(trained)?,
                None => whole = Some(trained),
            }
        }
        let (Some(whole), Some((started, tuning))) = (whole, begun) else {
            return Err(Error::Usage("a run needs blocks of its seeds".into()));
        };
        if whole.about.seeds != config.seeds {
            let (seeds, asked) = (&whole.about.seeds, &config.seeds);
            return Err(Error::Usage(format!("the blocks have the seeds {seeds:?}, not {asked:?}")));
        }
        history.sort_by_key(|row: &EpochRow| row.epoch);
        let (config, adapter) = (Config { tuning, ..config.clone() }, started.adapter.clone());
        let run = RunDir::create(out, force, &RunRecord { config: config.clone(), run: started })?;
        run.write_splits(data)?;
        run.write_metrics(&history)?;
        whole.save(&run.model())?;
        Ok(Session { gpu, config, data, run, adapter, trainer: None, history: Some(history) })
    }

    /// Resumes a run from its saved state. `config` are its settings, in which paths may have changed.
    ///
    /// # Errors
    /// `Data` if it was started with other data, `Checkpoint` for a damaged state; as [`Session::begin`].
    pub fn resume(gpu: &'a Gpu, config: &Config, data: &'a Dataset, run: RunDir) -> Result<Session<'a>> {
        let RunRecord { config: recorded, run: started } = run.record()?;
        same_data(&run, &started, data)?;
        // Killed during the start.
        run.write_splits(data)?;
        let mut config = Config { tuning: recorded.tuning, ..config.clone() };
        let trainer = match config.model()?.is_forest() {
            true => None,
            false => {
                if run.state().exists() {
                    // Initial weights are not needed any more; the file may be gone.
                    config.init = None;
                }
                let mut trainer = Trainer::new(gpu, &config, data)?;
                trainer.resume(&run)?;
                Some(trainer)
            }
        };
        Ok(Session { gpu, config, data, run, adapter: started.adapter, trainer, history: None })
    }

    /// The adapter that the run was started on, if it is another one: results are then not bit-identical.
    pub fn begun_elsewhere(&self) -> Option<&str> {
        let here = self.trainer.is_none() || self.adapter == self.gpu.adapter().name;
        (!here).then_some(&self.adapter)
    }

    pub fn gpu(&self) -> &Gpu {
        self.gpu
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Trainable parameters of a seed; 0 for a forest.
    pub fn parameters(&self) -> usize {
        self.trainer.as_ref().map_or(0, Trainer::parameters)
    }

    /// Steps of an epoch; 0 for a forest.
    pub fn steps_per_epoch(&self) -> usize {
        self.trainer.as_ref().map_or(0, Trainer::steps_per_epoch)
    }

    /// Epochs done so far, by the run that is resumed.
    pub fn epochs_done(&self) -> usize {
        self.trainer.as_ref().map_or(0, Trainer::epochs_done)
    }

    /// Trains to the end, or until `stop` returns true; `progress` is called with progress events. A stopped network
    /// has saved its state and can be resumed; a forest starts again.
    ///
    /// # Errors
    /// As [`Trainer::train`].
    pub fn train(&mut self, stop: &(dyn Fn() -> bool + Sync), progress: &mut dyn FnMut(Event)) -> Result<End> {
        if let Some(trainer) = &mut self.trainer {
            return trainer.train(&self.run, &stop, progress);
        }
        if self.history.is_some() {
            return Ok(End::Finished);
        }
        let of = self.config.seeds.len() * self.data.classes.len();
        let mut grown = |done| progress(Event::Grown { done, of });
        let Some(forests) = grow(&self.config, self.data, stop, &mut grown)? else { return Ok(End::Interrupted) };
        forest::save(&self.run.model(), &forests, &About::new(&self.config, self.data, forest::INPUT))?;
        Ok(End::Finished)
    }

    /// Writes the front ends of a trained objective of pre-training.
    ///
    /// # Errors
    /// `Usage` for a run of another model.
    pub fn finish_front_ends(self) -> Result<FrontEnds> {
        match self.trainer {
            Some(trainer) if is_objective(self.config.model()?) => {
                let (config, data) = (&self.config, self.data);
                let findings = findings(self.gpu, config, data, trainer.dataset(), &trainer.best_weights()?)?;
                let (best, constant) = (trainer.save_front_ends(&self.run)?, constant_loss(config, data)?);
                Ok(FrontEnds { history: trainer.history().to_vec(), best, constant, findings, run: self.run })
            }
            _ => Err(Error::Usage(format!("{} is not an objective of pre-training", self.config.model))),
        }
    }

    /// Tunes the thresholds of a trained run, if it has any and validation clips, and evaluates the test split.
    ///
    /// # Errors
    /// `Checkpoint` for a run without weights; those of prediction.
    pub fn finish(self) -> Result<Outcome> {
        if is_objective(self.config.model()?) {
            return Err(Error::Usage(format!(
                "{} has no test split: it is an objective of pre-training",
                self.config.model
            )));
        }
        let Session { gpu, data, run, trainer, history: of_blocks, .. } = self;
        // The dataset stays on the GPU; the rest of the training memory is freed for the evaluation.
        let (dataset, history) = match trainer {
            Some(trainer) => (Some(trainer.dataset().clone()), Some(trainer.history().to_vec())),
            None => (None, of_blocks),
        };
        let mut trained = Trained::load(&run)?;
        let mut evaluator = Evaluator::new(gpu, &trained, data, dataset.as_ref())?;
        let validated = trained.task()? == Task::MultiLabel && !splits(&trained.config, data)?[0].1.is_empty();
        let validation = validated.then(|| evaluator.predict_split(Split::Val)).transpose()?;
        let history = match history {
            Some(history) => history,
            None => {
                let only = trained.only_epoch(&evaluator.predict_split(Split::Train)?, validation.as_ref());
                run.write_metrics(&only)?;
                only
            }
        };
        let predictions = evaluator.predict_split(Split::Test)?;
        trained.fit_domain(data)?;
        trained.domain.iter().try_for_each(|domain| run.write_domain(domain))?;
        if let Some(validation) = validation {
            trained.tune(&validation);
            trained.save(&run.model())?;
            run.write_thresholds(&trained.about.classes, &trained.common_at(Threshold::Tuned)?)?;
        }
        let evaluation = trained.score(gpu, data, &predictions)?;
        run.write_evaluation(&evaluation)?;
        let (record, thresholds) = (run.record()?, trained.thresholds()?);
        Ok(Outcome { run, record, history, evaluation, predictions, thresholds })
    }
}

/// # Errors
/// `Data` if the run was started with other data.
pub(crate) fn same_data(run: &RunDir, started: &Environment, data: &Dataset) -> Result<()> {
    if let (true, Some(mixer)) = (started.notes != data.notes_fingerprint().map(hex), &data.mixer) {
        let run = run.path().display();
        let reason = format!("are not the notes that {run} was started with, or have changed since");
        return Err(Error::data(&mixer.notes().path, reason));
    }
    match started.is_of(data) {
        true => Ok(()),
        false => {
            let run = run.path().display();
            Err(Error::data(
                &data.path,
                format!("is not the dataset that {run} was started with, or has changed since"),
            ))
        }
    }
}

/// # Errors
/// `Usage` if thresholds are to be found without validation clips.
fn can_tune(config: &Config, data: &Dataset) -> Result<()> {
    match !matches!(config.threshold, Threshold::Fixed(_)) && splits(config, data)?[0].1.is_empty() {
        true => Err(Error::Usage(
            "thresholds from validation clips need some: give `val_fraction`, e.g. 0.15, or `val_keys`".into(),
        )),
        false => Ok(()),
    }
}
