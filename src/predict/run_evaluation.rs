//! Evaluates a run on a split of a dataset, its own or another one of the same classes.

use std::path::PathBuf;

use crate::core::error::{Error, Result};
use crate::core::numbers;
use crate::data::{Dataset, FeatureScale};
use crate::features::front_end::Source;
use crate::gpu::{Gpu, Precision};
use crate::metrics::evaluation::Evaluation;
use crate::metrics::thresholds::Threshold;
use crate::predict::evaluator::overlap_with_training;
use crate::predict::trained::{Split, Trained};
use crate::run::config::Config;
use crate::run::run_dir::RunDir;

/// On what a run is evaluated, and how.
pub struct RunEvaluation {
    /// With the classes that the run was trained on.
    pub dataset: PathBuf,
    /// An archive in place of the dataset's own.
    pub features: Option<PathBuf>,
    /// In place of the run's, as all below.
    pub feature_scale: Option<FeatureScale>,
    pub front_end: Option<Source>,
    pub split: Split,
    pub threshold: Option<Threshold>,
    pub precision: Option<Precision>,
    /// Whether clips count that the run may have been trained on.
    pub force: bool,
}

impl RunEvaluation {
    /// Scores every seed of a run, their ensemble, and each class. `load` loads the clips of the settings, see
    /// [`load_clips`](crate::run::clips::load_clips); `None` if it was stopped. `note` is called with remarks.
    ///
    /// # Errors
    /// `Data` for a dataset of other classes, without clips in the split, or, without `force`, that the run may have
    /// been trained on; `Checkpoint` for a run without weights.
    pub fn of(
        self,
        gpu: &Gpu,
        run: &RunDir,
        load: &mut dyn FnMut(&mut Config) -> Result<Option<Dataset>>,
        note: &mut dyn FnMut(&str),
    ) -> Result<Option<Evaluation>> {
        let mut trained = Trained::load(run)?;
        if let Some(weights) = &self.front_end {
            trained.config.locate_front_end(weights, None, None)?;
        }
        self.threshold.map_or(Ok(()), |level| trained.set_threshold(level))?;
        trained.config.precision = self.precision.unwrap_or(trained.config.precision);
        // Test clips do not depend on them.
        let val_keys = trained.config.val_keys.clone().filter(|_| matches!(self.split, Split::Val | Split::Train));
        let mut config = Config { dataset: self.dataset, features: self.features, val_keys, ..trained.config.clone() };
        // Only training uses them.
        config.times = None;
        config.feature_scale = self.feature_scale.or(config.feature_scale);
        let Some(mut data) = load(&mut config)? else { return Ok(None) };
        let trained_on = run.record()?.run;
        let restores = data.validation.is_some() && run.has_split_table();
        let unknown = run.restore_splits(&mut data)?;
        if unknown > 0 {
            let clips = numbers::of(unknown, "clip is", "clips are");
            note(&format!("warning: {clips} not in the run's splits.csv; only `split` all includes them"));
        }
        match overlap_with_training(&trained_on, &data, restores, self.split) {
            Some(why) if !self.force => {
                let why = format!("{why}, and the scores would be too high; `force` scores them anyway");
                return Err(Error::data(&data.path, why));
            }
            Some(why) => note(&format!("warning: {why}: the scores may be too high")),
            None if self.split == Split::Train => note("these are the clips that the run was trained on"),
            None => {}
        }
        trained.evaluate(gpu, &data, self.split).map(Some)
    }
}
