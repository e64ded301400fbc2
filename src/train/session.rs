//! A training run from its beginning to its scores: what a library user calls.
//!
//! A [`Session`] is [begun](Session::begin) in a new directory, or [resumed](Session::resume) in one, trained, and finished: its
//! thresholds are tuned and it is tested. Pictures and pages of the [`Outcome`] are made by [`crate::report::write`].

use std::path::Path;

use crate::core::error::{Error, Result};
use crate::core::files::write_atomic;
use crate::data::Dataset;
use crate::gpu::Gpu;
use crate::metrics::evaluation::Evaluation;
use crate::metrics::scores::Task;
use crate::metrics::thresholds::Level;
use crate::predict::evaluator::{Evaluator, SplitPredictions};
use crate::predict::forest;
use crate::predict::trained::{Split, Trained};
use crate::run::config::Config;
use crate::run::run_dir::{Environment, RunDir, RunRecord};
use crate::run::splits::splits;
use crate::run::state::EpochRow;
use crate::run::weights::About;
use crate::train::forest::grow;
use crate::train::trainer::{End, Event, Trainer};

/// A run that goes on.
pub struct Session<'a> {
    gpu: &'a Gpu,
    config: Config,
    data: &'a Dataset,
    run: RunDir,
    /// The adapter it was begun on.
    adapter: String,
    /// `None` for a forest, which is grown in one piece.
    trainer: Option<Trainer<'a>>,
}

/// A run that was trained to its end.
pub struct Outcome {
    pub run: RunDir,
    pub record: RunRecord,
    /// A row per epoch and seed.
    pub history: Vec<EpochRow>,
    /// On the test split; what `test.json` holds.
    pub evaluation: Evaluation,
    /// What each seed says about the test clips.
    pub answers: SplitPredictions,
    /// (R, K): from which probability on each seed takes a class for present; where a clip has one class nobody asks.
    pub thresholds: Vec<Vec<f64>>,
}

impl<'a> Session<'a> {
    /// Begins a run in the directory `out`, once all that it needs is there. An existing run is replaced only with `force`.
    ///
    /// # Errors
    /// `Limit` when the adapter has not the memory, `Usage` for settings that do not fit the data and for a directory in use,
    /// `Checkpoint` for weights to start from that are another model's. Nothing is left behind then.
    pub fn begin(gpu: &'a Gpu, config: &Config, data: &'a Dataset, out: &Path, force: bool) -> Result<Session<'a>> {
        config.validate()?;
        can_tune(config, data)?;
        let trainer = match config.model()?.is_forest() {
            true => None,
            false => Some(Trainer::new(gpu, config, data)?),
        };
        let adapter = gpu.adapter();
        let [adapter, backend, driver] = match trainer {
            Some(_) => [&adapter.name, &adapter.backend, &adapter.driver].map(String::clone),
            None => [forest::DEVICE, &format!("{} threads", forest::threads()), ""].map(str::to_owned),
        };
        let (train, val) = &splits(config, data)?[0];
        let circumstances = Environment {
            version: env!("CARGO_PKG_VERSION").into(),
            adapter: adapter.clone(),
            backend,
            driver,
            parameters: trainer.as_ref().map_or(0, Trainer::parameters),
            data: fingerprint(data),
            train_clips: train.len(),
            val_clips: val.len(),
            test_clips: data.test.len(),
        };
        let run = RunDir::create(out, force, &RunRecord { config: config.clone(), run: circumstances })?;
        run.write_splits(config, data)?;
        Ok(Session { gpu, config: config.clone(), data, run, adapter, trainer })
    }

    /// Goes on with a run from its saved state. `config` are its settings, in which places may have changed.
    ///
    /// # Errors
    /// `Data` if it was begun with other data, `Checkpoint` for a damaged state; as [`Session::begin`].
    pub fn resume(gpu: &'a Gpu, config: &Config, data: &'a Dataset, run: RunDir) -> Result<Session<'a>> {
        let began = run.record()?.run;
        same_data(&run, &began, data)?;
        // Killed while it began.
        run.write_splits(config, data)?;
        let mut config = config.clone();
        let trainer = match config.model()?.is_forest() {
            true => None,
            false => {
                if run.state().exists() {
                    // The weights have moved on from those; the file may be gone.
                    config.init = None;
                }
                let mut trainer = Trainer::new(gpu, &config, data)?;
                trainer.resume(&run)?;
                Some(trainer)
            }
        };
        Ok(Session { gpu, config, data, run, adapter: began.adapter, trainer })
    }

    /// The adapter that the run was begun on, if it is another one: there the last bits differ.
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

    /// Trains to the end, or until `stop` says so; `progress` hears how far it is. A network that was stopped has saved its state and
    /// can be resumed; a forest begins anew.
    ///
    /// # Errors
    /// As [`Trainer::train`].
    pub fn train(&mut self, stop: &(dyn Fn() -> bool + Sync), progress: &mut dyn FnMut(Event)) -> Result<End> {
        if let Some(trainer) = &mut self.trainer {
            return trainer.train(&self.run, &stop, progress);
        }
        let of = self.config.seeds.len() * self.data.classes.len();
        let mut grown = |done| progress(Event::Grown { done, of });
        let Some(forests) = grow(&self.config, self.data, stop, &mut grown)? else { return Ok(End::Interrupted) };
        forest::save(&self.run.model(), &forests, &About::new(&self.config, self.data, forest::INPUT))?;
        Ok(End::Finished)
    }

    /// Tunes the thresholds of a trained run, if it has any and clips to tune them on, and tests it.
    ///
    /// # Errors
    /// `Checkpoint` for a run without weights; those of prediction.
    pub fn finish(self) -> Result<Outcome> {
        let Session { gpu, data, run, trainer, .. } = self;
        // The dataset stays on the GPU; the memory of training is needed for the evaluation.
        let (corpus, history) = match trainer {
            Some(trainer) => (Some(trainer.corpus().clone()), Some(trainer.history().to_vec())),
            None => (None, None),
        };
        let mut trained = Trained::load(&run)?;
        let mut evaluator = Evaluator::new(gpu, &trained, data, corpus.as_ref())?;
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
        let answers = evaluator.predict_split(Split::Test)?;
        if let Some(validation) = validation {
            trained.tune(&validation);
            trained.save(&run.model())?;
            run.write_thresholds(&trained.about)?;
        }
        let evaluation = trained.score(gpu, data, &answers)?;
        let text = serde_json::to_string_pretty(&evaluation).expect("results serialise");
        write_atomic(run.test(), |out| writeln!(out, "{text}"))?;
        let (record, thresholds) = (run.record()?, trained.thresholds()?);
        Ok(Outcome { run, record, history, evaluation, answers, thresholds })
    }
}

/// # Errors
/// `Data` if the run was begun with other data.
pub fn same_data(run: &RunDir, began: &Environment, data: &Dataset) -> Result<()> {
    match fingerprint(data) == began.data {
        true => Ok(()),
        false => {
            let run = run.path().display();
            Err(Error::data(&data.path, format!("is not the dataset that {run} was begun with, or has changed since")))
        }
    }
}

fn fingerprint(data: &Dataset) -> String {
    format!("{:016x}", data.fingerprint())
}

/// # Errors
/// `Usage` if the settings ask for thresholds that validation must find, and there is none.
fn can_tune(config: &Config, data: &Dataset) -> Result<()> {
    match config.threshold == Level::Tuned && splits(config, data)?[0].1.is_empty() {
        true => Err(Error::Usage(
            "tuned thresholds need validation clips: give `val_fraction`, as 0.15, or `val_keys`".into(),
        )),
        false => Ok(()),
    }
}
