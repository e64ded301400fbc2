//! A trained run, ready to be evaluated and to predict.

use std::cell::OnceCell;

use super::config::Config;
use super::corpus::Corpus;
use super::evaluation::{Evaluation, SeedPredictions, Subject, evaluate};
use super::front_end::{self, Source};
use super::predictor::{Detail, Predictions, layout, predict};
use super::run::RunDir;
use super::thresholds;
use super::trainer::splits;
use super::weights::{About, Block, ModelFile};
use crate::array::Array;
use crate::data::{Dataset, Features};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu};
use crate::graph::Layout;
use crate::nn;

/// Which clips of a dataset to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Split {
    Test,
    /// Each seed's own validation clips.
    Val,
    /// Each seed's own training clips.
    Train,
    /// Every clip.
    All,
}

/// The best weights of a run.
pub struct Trained {
    pub config: Config,
    pub about: About,
    pub layout: Layout,
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
            let reason = "does not exist: the run has not saved any weights yet (continue it with wmic train --resume)";
            return Err(Error::checkpoint(&path, reason));
        }
        let file = ModelFile::open(&path)?;
        let about = &file.about;
        if about.model != config.model || about.seeds != config.seeds {
            return Err(Error::checkpoint(&path, "does not belong to the run.toml beside it"));
        }
        let layout = layout(&config, about.instances, about.width, about.classes.len())?;
        let blocks = file.blocks(&layout)?;
        Ok(Trained { config, about: file.about, layout, blocks, frozen: OnceCell::new() })
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

    fn frozen(&self, gpu: &Gpu) -> Result<&[(String, Buffer)]> {
        match self.frozen.get() {
            Some(known) => Ok(known),
            None => {
                let loaded = front_end::frozen(gpu, &self.config)?;
                Ok(self.frozen.get_or_init(|| loaded))
            }
        }
    }

    /// Predicts clips without looking at labels.
    pub fn predict(&self, gpu: &Gpu, features: &Features) -> Result<Predictions> {
        self.predict_some(gpu, features, &(0..features.lengths.len() as u32).collect::<Vec<_>>())
    }

    /// Predicts some of the clips.
    pub fn predict_some(&self, gpu: &Gpu, features: &Features, clips: &[u32]) -> Result<Predictions> {
        self.accept(features)?;
        let corpus = Corpus::unlabelled(gpu, features, self.about.classes.len())?;
        let rows = vec![clips.to_vec(); self.blocks.len()];
        predict(gpu, &self.config, &self.blocks, &corpus, self.frozen(gpu)?, &rows, Detail::Places)
    }

    /// Scores every seed, and their ensemble, on a split.
    pub fn evaluate(&self, gpu: &Gpu, data: &Dataset, split: Split) -> Result<Evaluation> {
        let Answers { targets, seeds } = self.answers(gpu, data, split)?;
        let seeds: Vec<SeedPredictions> = seeds
            .iter()
            .enumerate()
            .map(|(r, (probabilities, observed))| SeedPredictions {
                seed: self.about.seeds[r],
                best_epoch: self.about.best_epochs[r],
                probabilities,
                observed,
            })
            .collect();
        let subject = Subject {
            model: self.about.model.clone(),
            parameters: self.layout.count() as u64,
            dataset: data.name(),
            split: format!("{split:?}").to_lowercase(),
            device: gpu.adapter().name.clone(),
        };
        Ok(evaluate(subject, &data.classes, &targets, &seeds))
    }

    /// The threshold of each class that suits the seeds' answers on their validation clips best.
    pub fn tune(&self, gpu: &Gpu, data: &Dataset) -> Result<Vec<f64>> {
        let Answers { targets, seeds } = self.answers(gpu, data, Split::Val)?;
        let k = data.classes.len();
        let of_class = |class: usize| {
            let entries = |(probabilities, observed): &(Array<f32>, Array<bool>)| {
                let known = (class..targets.data().len()).step_by(k).filter(|&i| observed.data()[i]);
                known.map(|i| (probabilities.data()[i], targets.data()[i] >= 0.5)).collect::<Vec<_>>()
            };
            thresholds::tune(&seeds.iter().flat_map(entries).collect::<Vec<_>>())
        };
        Ok((0..k).map(of_class).collect())
    }

    fn answers(&self, gpu: &Gpu, data: &Dataset, split: Split) -> Result<Answers> {
        if data.classes != self.about.classes {
            let reason = format!("has other classes than the run was trained on ({})", self.about.classes.join(", "));
            return Err(Error::data(&data.path, reason));
        }
        self.accept(&data.features)?;
        let rows: Vec<Vec<u32>> = match split {
            Split::Test => vec![data.test.clone(); self.blocks.len()],
            Split::Val => splits(&self.config, data)?.into_iter().map(|s| s.1).collect(),
            Split::Train => splits(&self.config, data)?.into_iter().map(|s| s.0).collect(),
            Split::All => vec![(0..data.keys.len() as u32).collect(); self.blocks.len()],
        };
        let clips = match split {
            Split::Test | Split::All => &rows[0],
            Split::Val | Split::Train => &data.train,
        };
        if clips.is_empty() {
            return Err(Error::data(&data.path, "has no clips in that split (--split all takes every clip)"));
        }
        let corpus = Corpus::of_dataset(gpu, data)?;
        let predictions = predict(gpu, &self.config, &self.blocks, &corpus, self.frozen(gpu)?, &rows, Detail::Clips)?;

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

/// What the seeds say about the clips of a split, in one common order: (clips, K) each.
struct Answers {
    targets: Array<f32>,
    /// Probabilities, and which entries count.
    seeds: Vec<(Array<f32>, Array<bool>)>,
}
