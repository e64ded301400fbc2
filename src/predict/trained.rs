//! A trained model: the settings and weights of a run.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::data::{FeatureScale, Features, features_npz, load_features};
use crate::features::feature_config::FeatureConfig;
use crate::graph::Layout;
use crate::metrics::calibration::{self, Calibration};
use crate::metrics::domain::Domain;
use crate::metrics::scores::Task;
use crate::metrics::thresholds::{self, Threshold};
use crate::nn;
use crate::predict::forest::{self, Forest};
use crate::predict::predictor::layout;
use crate::run::config::Config;
use crate::run::front_end::Use;
use crate::run::run_dir::RunDir;
use crate::run::weights::{self, About, Block, ModelFile};

/// Clips of a dataset to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    Test,
    /// Each seed's own validation clips.
    Val,
    /// Each seed's own training clips.
    Train,
    /// All clips, with and without a split.
    All,
}

/// A trained model, on the CPU; see [`crate::predict`] for its uses.
#[derive(Clone)]
pub struct Trained {
    pub config: Config,
    pub about: About,
    /// Whether probabilities of recordings are calibrated, where the run has calibrations.
    pub calibrated: bool,
    pub model: TrainedModel,
    /// What its training clips are like, if the run has recorded it.
    pub domain: Option<Domain>,
}

/// The weights of all seeds.
#[derive(Clone)]
pub enum TrainedModel {
    Network(Network),
    /// One for each seed.
    Forest(Vec<Forest>),
}

/// The best weights of a network.
#[derive(Clone)]
pub struct Network {
    pub layout: Layout,
    /// One for each seed.
    pub blocks: Vec<Block>,
}

impl Trained {
    /// # Errors
    /// `Checkpoint` when the run has no weights yet, or damaged ones, and for a pre-training run.
    pub fn load(run: &RunDir) -> Result<Trained> {
        let config = run.recogniser_record()?.config;
        let path = run.model();
        if !path.exists() {
            let reason = "does not exist: the run has not saved any weights yet; continue it with `resume`";
            return Err(Error::checkpoint(&path, reason));
        }
        let file = ModelFile::open(&path)?;
        let about = &file.about;
        if about.model != config.model || about.seeds != config.seeds {
            return Err(Error::checkpoint(&path, "does not belong to the run.toml beside it"));
        }
        let model = match nn::find(&config.model)?.is_forest() {
            true => TrainedModel::Forest(forest::load(&file)?),
            false => {
                let layout = layout(&config, about.instances, about.width, about.classes.len())?;
                let blocks = file.blocks(&layout)?;
                TrainedModel::Network(Network { layout, blocks })
            }
        };
        Ok(Trained { config, about: file.about, calibrated: true, model, domain: run.domain()? })
    }

    /// Writes all seeds, as [`Trained::load`] reads them.
    pub fn save(&self, path: &Path) -> Result<()> {
        match &self.model {
            TrainedModel::Network(network) => weights::save_model(path, &network.layout, &network.blocks, &self.about),
            TrainedModel::Forest(forests) => forest::save(path, forests, &self.about),
        }
    }

    /// Adds the seeds of another model with the same settings. Its thresholds and calibrations are to be found anew.
    ///
    /// # Errors
    /// `Usage` for a model of another kind or shape.
    pub(crate) fn append(&mut self, other: Trained) -> Result<()> {
        let (about, of) = (&mut self.about, other.about);
        let alike = about.model == of.model && about.classes == of.classes && about.input == of.input;
        match (&mut self.model, other.model) {
            (TrainedModel::Network(one), TrainedModel::Network(two)) if alike && one.layout == two.layout => {
                one.blocks.extend(two.blocks);
            }
            (TrainedModel::Forest(one), TrainedModel::Forest(two)) if alike => one.extend(two),
            _ => return Err(Error::Usage(format!("{} is not the model of the other seeds", of.model))),
        }
        about.seeds.extend(of.seeds);
        about.best_epochs.extend(of.best_epochs);
        (about.thresholds, about.calibrations, about.precision_thresholds) = (None, None, None);
        Ok(())
    }

    /// Exports one seed: a network with PyTorch's names and shapes, a forest as in run directories.
    pub fn export(&self, path: &Path, r: usize) -> Result<()> {
        let about = self.about.of_seed(r);
        match &self.model {
            TrainedModel::Network(network) => weights::export(path, &network.layout, &network.blocks[r], &about),
            TrainedModel::Forest(forests) => forest::save(path, &forests[r..=r], &about),
        }
    }

    /// Number of trainable parameters of a seed; 0 for a forest.
    pub fn parameters(&self) -> usize {
        match &self.model {
            TrainedModel::Network(network) => network.layout.count(),
            TrainedModel::Forest(_) => 0,
        }
    }

    /// How the model's input is extracted from audio.
    ///
    /// # Errors
    /// `Usage` for a run that does not record its front end.
    pub fn feature_config(&self) -> Result<FeatureConfig> {
        let kind = self.config.kind()?;
        let front_end = self.config.front_end.clone();
        if front_end.is_none() && self.config.needs_weights()? {
            let reason = "the run does not record the front end of its features; give the VGGish weights: \
                          `front_end.weights` FILE";
            return Err(Error::Usage(reason.into()));
        }
        Ok(FeatureConfig { kind, front_end, scale: self.config.notes.unwrap_or_default().scale })
    }

    /// Reads the features of clips, an archive or a dataset with features: their keys, the features, and a remark on
    /// their scale. `scale`: in place of the run's.
    ///
    /// # Errors
    /// `Data` for an invalid file, and for features that the model does not take.
    pub fn load_features(
        &self,
        input: &Path,
        scale: Option<FeatureScale>,
    ) -> Result<(Vec<String>, Features, Option<String>)> {
        let archive = if input.is_dir() { features_npz(input) } else { None };
        self.config.clone().check_features(archive.as_deref().unwrap_or(input), Use::Input)?;
        load_features(input, &mut scale.or(self.config.feature_scale))
    }

    /// Multi-label or single-label classification.
    pub fn task(&self) -> Result<Task> {
        Ok(Task::of(nn::find(&self.config.model)?.single_label))
    }

    /// Replaces the run's thresholds.
    ///
    /// # Errors
    /// `Usage` for a single-label model.
    pub fn set_threshold(&mut self, level: Threshold) -> Result<()> {
        if let Some(error) = self.config.unsupported("threshold") {
            return Err(error);
        }
        self.config.threshold = level;
        Ok(())
    }

    /// (R, K): decision thresholds of each seed's probabilities before calibration, by the setting `threshold`.
    ///
    /// # Errors
    /// `Usage` when tuned ones are requested, and the run has none yet.
    pub fn thresholds(&self) -> Result<Vec<Vec<f64>>> {
        self.thresholds_at(self.config.threshold)
    }

    fn thresholds_at(&self, level: Threshold) -> Result<Vec<Vec<f64>>> {
        match (level, &self.about.thresholds) {
            (Threshold::Fixed(v), _) => Ok(vec![vec![v; self.about.classes.len()]; self.about.seeds.len()]),
            (Threshold::Tuned, Some(tuned)) => Ok(tuned.clone()),
            (Threshold::Precision(wanted), _) => {
                let fitted = self.about.calibrations.iter().flatten();
                let of_seed = |(row, fitted): (Vec<f64>, &Vec<Calibration>)| {
                    row.into_iter().zip(fitted).map(|(t, fitted)| fitted.invert(t)).collect()
                };
                Ok(self.precision_thresholds(wanted)?.into_iter().zip(fitted).map(of_seed).collect())
            }
            (Threshold::Tuned, None) => Err(not_tuned()),
        }
    }

    /// (R, K): the lowest threshold of each seed's calibrated probabilities with this expected precision; of
    /// runs that older versions trained one for each class.
    fn precision_thresholds(&self, wanted: f64) -> Result<Vec<Vec<f64>>> {
        let index = calibration::precision_index(wanted);
        let table = self.about.precision_thresholds.as_ref().ok_or_else(not_tuned)?;
        Ok(table.iter().map(|row| row.iter().map(|of_class| of_class[index]).collect()).collect())
    }

    /// (R, K): calibrations of the seeds' probabilities; the identity for runs without.
    pub fn calibrations(&self) -> Vec<Vec<Calibration>> {
        let none = || vec![vec![Calibration::IDENTITY; self.about.classes.len()]; self.about.seeds.len()];
        self.about.calibrations.clone().filter(|_| self.calibrated).unwrap_or_else(none)
    }

    /// (K): decision thresholds of the ensemble's probabilities of recordings. A fixed one is of calibrated
    /// probabilities if these are calibrated.
    ///
    /// # Errors
    /// As [`Trained::thresholds`].
    pub(crate) fn common_thresholds(&self) -> Result<Vec<f64>> {
        self.common_at(self.config.threshold)
    }

    /// As [`Trained::common_thresholds`], at another level.
    pub(crate) fn common_at(&self, level: Threshold) -> Result<Vec<f64>> {
        let of_seeds = match level {
            Threshold::Precision(wanted) if self.calibrated => self.precision_thresholds(wanted)?,
            Threshold::Tuned => {
                let calibrated = |(row, fitted): (Vec<f64>, Vec<Calibration>)| {
                    row.into_iter().zip(fitted).map(|(t, fitted)| fitted.apply(t)).collect()
                };
                self.thresholds_at(level)?.into_iter().zip(self.calibrations()).map(calibrated).collect()
            }
            Threshold::Fixed(_) | Threshold::Precision(_) => self.thresholds_at(level)?,
        };
        Ok(thresholds::common(&of_seeds))
    }
}

fn not_tuned() -> Error {
    Error::Usage(
        "the run has no tuned thresholds (training not finished, or without validation clips); \
         give a number, `threshold` 0.5"
            .into(),
    )
}
