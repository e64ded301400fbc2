//! A trained run: its settings, and what its seeds have become.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::features::extraction::Recipe;
use crate::features::front_end::Source;
use crate::graph::Layout;
use crate::metrics::scores::Task;
use crate::metrics::thresholds::{self, Level};
use crate::nn;
use crate::predict::forest::{self, Forest};
use crate::predict::predictor::layout;
use crate::run::config::Config;
use crate::run::run_dir::RunDir;
use crate::run::weights::{self, About, Block, ModelFile};

/// Which clips of a dataset to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    Test,
    /// Each seed's own validation clips.
    Val,
    /// Each seed's own training clips.
    Train,
    /// Every clip.
    All,
}

/// What a run has learnt, on the CPU; see [`crate::predict`] for what works with it.
pub struct Trained {
    pub config: Config,
    pub about: About,
    pub fitted: Fitted,
}

/// What the seeds of a run have become.
pub enum Fitted {
    Network(Network),
    /// One for each seed.
    Forest(Vec<Forest>),
}

/// The best weights of a network.
pub struct Network {
    pub layout: Layout,
    /// One for each seed.
    pub blocks: Vec<Block>,
}

impl Trained {
    /// # Errors
    /// `Checkpoint` when the run has no weights yet, or damaged ones.
    pub fn load(run: &RunDir) -> Result<Trained> {
        let config = run.record()?.config;
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
        let fitted = match nn::find(&config.model)?.is_forest() {
            true => Fitted::Forest(forest::load(&file)?),
            false => {
                let layout = layout(&config, about.instances, about.width, about.classes.len())?;
                let blocks = file.blocks(&layout)?;
                Fitted::Network(Network { layout, blocks })
            }
        };
        Ok(Trained { config, about: file.about, fitted })
    }

    /// Writes all seeds, as [`Trained::load`] reads them.
    pub fn save(&self, path: &Path) -> Result<()> {
        match &self.fitted {
            Fitted::Network(network) => weights::save_model(path, &network.layout, &network.blocks, &self.about),
            Fitted::Forest(forests) => forest::save(path, forests, &self.about),
        }
    }

    /// Writes one seed by itself: a network with PyTorch's names and shapes, a forest as runs hold it.
    pub fn export(&self, path: &Path, r: usize) -> Result<()> {
        let about = self.about.of_seed(r);
        match &self.fitted {
            Fitted::Network(network) => weights::export(path, &network.layout, &network.blocks[r], &about),
            Fitted::Forest(forests) => forest::save(path, &forests[r..=r], &about),
        }
    }

    /// Trainable parameters of a seed; a forest has none.
    pub fn parameters(&self) -> usize {
        match &self.fitted {
            Fitted::Network(network) => network.layout.count(),
            Fitted::Forest(_) => 0,
        }
    }

    /// The front end's weights lie there by now; that they are the same is seen when they are loaded.
    ///
    /// # Errors
    /// `Usage` if the run has no front end.
    pub fn relocate_front_end(&mut self, weights: &Source) -> Result<()> {
        match &mut self.config.front_end {
            Some(front_end) => {
                front_end.weights = weights.clone();
                Ok(())
            }
            None => Err(Error::Usage("the run has no front end whose weights could lie elsewhere".into())),
        }
    }

    /// How the model's input is made of sound.
    ///
    /// # Errors
    /// `Usage` for a run on features that did not say how they were made.
    pub fn recipe(&self) -> Result<Recipe> {
        let kind = self.config.kind()?;
        let front_end = self.config.front_end.clone();
        if front_end.is_none() && nn::find(&self.config.model)?.needs_vggish() {
            let reason =
                "the run was trained on features that do not say how they were made; name the VGGish that made them";
            return Err(Error::Usage(reason.into()));
        }
        Ok(Recipe { kind, front_end, scale: self.config.notes.unwrap_or_default().scale })
    }

    /// What the model is asked about a clip.
    pub fn task(&self) -> Result<Task> {
        Ok(Task::of(nn::find(&self.config.model)?.single_label))
    }

    /// From now on these thresholds count instead of the run's own.
    ///
    /// # Errors
    /// `Usage` for a model that names one class per clip.
    pub fn set_threshold(&mut self, level: Level) -> Result<()> {
        if let Some(error) = self.config.lacks("threshold") {
            return Err(error);
        }
        self.config.threshold = level;
        Ok(())
    }

    /// (R, K): from which probability on each seed takes a class for present, by the setting `threshold`.
    ///
    /// # Errors
    /// `Usage` when tuned ones are asked for, and the run has none yet.
    pub fn thresholds(&self) -> Result<Vec<Vec<f64>>> {
        match (self.config.threshold, &self.about.thresholds) {
            (Level::Fixed(v), _) => Ok(vec![vec![v; self.about.classes.len()]; self.about.seeds.len()]),
            (Level::Tuned, Some(tuned)) => Ok(tuned.clone()),
            (Level::Tuned, None) => Err(Error::Usage(
                "the run has no tuned thresholds: its training has not ended, or had no validation clips; give a number, `threshold` 0.5"
                    .into(),
            )),
        }
    }

    /// (K): from which probability on the seeds together take a class for present.
    ///
    /// # Errors
    /// As [`Trained::thresholds`].
    pub fn common_thresholds(&self) -> Result<Vec<f64>> {
        Ok(thresholds::common(&self.thresholds()?))
    }
}
