//! A trained run, ready to be evaluated and to predict.

use std::cell::OnceCell;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::data::{Dataset, Features};
use crate::features::corpus::Corpus;
use crate::features::front_end::Source;
use crate::gpu::{Buffer, Gpu};
use crate::graph::Layout;
use crate::metrics::evaluation::{Evaluation, SeedPredictions, Subject, evaluate};
use crate::metrics::scores::{Scores, Task, score};
use crate::metrics::thresholds::{self, Level};
use crate::nn;
use crate::predict::forest::{self, Forest};
use crate::predict::predictor::{Detail, Predictions, layout, predict};
use crate::run::config::Config;
use crate::run::network;
use crate::run::run_dir::RunDir;
use crate::run::splits::splits;
use crate::run::state::EpochRow;
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

/// What a run has learnt.
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
    /// What of the front end the model asks for, once it has been loaded.
    frozen: OnceCell<Vec<(String, Buffer)>>,
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
                Fitted::Network(Network { layout, blocks, frozen: OnceCell::new() })
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

    /// # Errors
    /// `Shape` when the features are not what the model was trained on.
    fn accept(&self, features: &Features) -> Result<()> {
        let About { instances, width, model, .. } = &self.about;
        let fixed = nn::find(model)?.fixed_instances;
        if features.width != *width || (fixed && features.instances != *instances) {
            let expected = format!("clips of {instances} instances of {width} values, as it was trained on");
            let got = format!("{} of {}", features.instances, features.width);
            return Err(Error::shape(nn::find(model)?.name, expected, got));
        }
        Ok(())
    }

    /// Predicts clips without looking at labels.
    pub fn predict(&self, gpu: &Gpu, features: &Features) -> Result<Predictions> {
        self.predict_some(gpu, features, &(0..features.lengths.len() as u32).collect::<Vec<_>>())
    }

    /// Predicts some of the clips.
    pub fn predict_some(&self, gpu: &Gpu, features: &Features, clips: &[u32]) -> Result<Predictions> {
        let rows = vec![clips.to_vec(); self.about.seeds.len()];
        self.ask(gpu, features, &rows, Detail::Places)
    }

    /// What each seed says about clips of its own, `rows[r]`.
    fn ask(&self, gpu: &Gpu, features: &Features, rows: &[Vec<u32>], detail: Detail) -> Result<Predictions> {
        self.accept(features)?;
        match &self.fitted {
            Fitted::Network(network) => {
                let corpus = Corpus::unlabelled(gpu, features, self.about.classes.len())?;
                let frozen = network.frozen(gpu, &self.config)?;
                predict(gpu, &self.config, &network.blocks, &corpus, frozen, rows, detail)
            }
            Fitted::Forest(forests) => {
                let of_seed =
                    |(forest, rows): (&Forest, &Vec<u32>)| forest.predict(&forest::time_means(features, rows));
                Ok(Predictions {
                    probabilities: forests.iter().zip(rows).map(of_seed).collect(),
                    instances: None,
                    glimpses: vec![],
                })
            }
        }
    }

    /// What the model is asked about a clip.
    pub fn task(&self) -> Result<Task> {
        Ok(Task::of(nn::find(&self.config.model)?.exclusive))
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
                "the run has no tuned thresholds: its training has not ended; give a number, `threshold` 0.5".into(),
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

    /// Scores every seed, and their ensemble, on a split.
    pub fn evaluate(&self, gpu: &Gpu, data: &Dataset, split: Split) -> Result<Evaluation> {
        self.judge(gpu, data, split, &self.answers(gpu, data, split)?)
    }

    /// Scores what [`Trained::answers`] has said about a split.
    pub fn judge(&self, gpu: &Gpu, data: &Dataset, split: Split, answers: &Answers) -> Result<Evaluation> {
        let thresholds = self.thresholds()?;
        let Answers { targets, seeds } = answers;
        let seeds: Vec<SeedPredictions> = seeds
            .iter()
            .enumerate()
            .map(|(r, (probabilities, observed))| SeedPredictions {
                seed: self.about.seeds[r],
                best_epoch: self.about.best_epochs[r],
                probabilities,
                observed,
                thresholds: &thresholds[r],
            })
            .collect();
        let subject = Subject {
            model: self.about.model.clone(),
            parameters: self.parameters() as u64,
            dataset: data.name(),
            split: format!("{split:?}").to_lowercase(),
            device: match &self.fitted {
                Fitted::Network(_) => gpu.adapter().name.clone(),
                Fitted::Forest(_) => forest::DEVICE.into(),
            },
            threshold: self.config.threshold,
            exclusive: nn::find(&self.config.model)?.exclusive,
        };
        Ok(evaluate(subject, &data.classes, targets, &seeds))
    }

    /// What there is to say of growing a forest: a row for each seed, as of an only epoch.
    pub fn only_epoch(&self, gpu: &Gpu, data: &Dataset) -> Result<Vec<EpochRow>> {
        let scores = |split: Split| -> Result<Vec<Scores>> {
            let Answers { targets, seeds } = self.answers(gpu, data, split)?;
            Ok(seeds.iter().map(|(p, observed)| score(&p.map(f64::from), &targets, observed).0).collect())
        };
        let (train, val) = (scores(Split::Train)?, scores(Split::Val)?);
        // As in an epoch: clips without any known label have no loss, and count as zero.
        let loss = |scores: &Scores| scores.loss.unwrap_or(0.0) as f32;
        let row = |(r, &seed): (usize, &u64)| EpochRow {
            epoch: 0,
            seed,
            train_loss: loss(&train[r]),
            val_loss: loss(&val[r]),
            val_f1_pn: val[r].f1_pn,
            val_accuracy: None,
            best: true,
        };
        Ok(self.about.seeds.iter().enumerate().map(row).collect())
    }

    /// Finds the threshold of each class that suits each seed's answers on its validation clips best. For labels: where a clip has one
    /// class, no threshold is asked for.
    pub fn tune(&mut self, gpu: &Gpu, data: &Dataset) -> Result<()> {
        let Answers { targets, seeds } = self.answers(gpu, data, Split::Val)?;
        let k = data.classes.len();
        let of_class = |(probabilities, observed): &(Array<f32>, Array<bool>), class: usize| {
            let known = (class..targets.data().len()).step_by(k).filter(|&i| observed[i]);
            thresholds::tune(&known.map(|i| (probabilities[i], targets[i] >= 0.5)).collect::<Vec<_>>())
        };
        let of_seed = |seed| (0..k).map(|class| of_class(seed, class)).collect();
        self.about.thresholds = Some(seeds.iter().map(of_seed).collect());
        Ok(())
    }

    /// What each seed says about the clips of a split, without a judgement.
    ///
    /// # Errors
    /// `Data` for a dataset of other classes, or without clips in that split, or of several classes where the model names one.
    pub fn answers(&self, gpu: &Gpu, data: &Dataset, split: Split) -> Result<Answers> {
        if data.classes != self.about.classes {
            let reason = format!("has other classes than the run was trained on ({})", self.about.classes.join(", "));
            return Err(Error::data(&data.path, reason));
        }
        if self.task()? == Task::OneClass {
            data.has_one_class_each(&self.config.model)?;
        }
        let replicas = self.about.seeds.len();
        let rows: Vec<Vec<u32>> = match split {
            Split::Test => vec![data.test.clone(); replicas],
            Split::Val => splits(&self.config, data)?.into_iter().map(|s| s.1).collect(),
            Split::Train => splits(&self.config, data)?.into_iter().map(|s| s.0).collect(),
            Split::All => vec![(0..data.keys.len() as u32).collect(); replicas],
        };
        let clips = match split {
            Split::Val | Split::Train if data.validation.is_none() => &data.train,
            _ => &rows[0],
        };
        if clips.is_empty() {
            return Err(Error::data(&data.path, "has no clips in that split (`split` all takes every clip)"));
        }
        let predictions = self.ask(gpu, &data.features, &rows, Detail::Clips)?;

        // Every seed's answers in one common order of clips; those it was not asked about do not count.
        let k = data.classes.len();
        let mut at = vec![usize::MAX; data.keys.len()];
        clips.iter().enumerate().for_each(|(i, &clip)| at[clip as usize] = i);
        let mut seeds = vec![];
        for (rows, p) in rows.iter().zip(&predictions.probabilities) {
            let mut probabilities = Array::zeros([clips.len(), k]);
            let mut observed = Array::zeros([clips.len(), k]);
            for (i, &clip) in rows.iter().enumerate() {
                let clip = clip as usize;
                probabilities.row_mut(at[clip]).copy_from_slice(p.row(i));
                observed.row_mut(at[clip]).copy_from_slice(&data.observed[clip * k..(clip + 1) * k]);
            }
            seeds.push((probabilities, observed));
        }
        let targets = clips.iter().flat_map(|&c| data.targets[c as usize * k..(c as usize + 1) * k].to_vec()).collect();
        Ok(Answers { targets: Array::new([clips.len(), k], targets), seeds })
    }
}

impl Network {
    fn frozen(&self, gpu: &Gpu, config: &Config) -> Result<&[(String, Buffer)]> {
        match self.frozen.get() {
            Some(known) => Ok(known),
            None => {
                let loaded = network::frozen(gpu, config)?;
                Ok(self.frozen.get_or_init(|| loaded))
            }
        }
    }
}

/// What the seeds say about the clips of a split, in one common order: (clips, K) each.
pub struct Answers {
    pub targets: Array<f32>,
    /// Probabilities, and which entries count.
    pub seeds: Vec<(Array<f32>, Array<bool>)>,
}
