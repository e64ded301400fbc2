//! What a trained run says about the splits of a dataset, and how good that is.

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::data::Dataset;
use crate::features::device_dataset::DeviceDataset;
use crate::gpu::Gpu;
use crate::metrics::evaluation::{Evaluation, SeedPredictions, Subject, evaluate};
use crate::metrics::scores::{Scores, Task, score};
use crate::metrics::thresholds;
use crate::nn;
use crate::predict::clips::ClipPredictor;
use crate::predict::forest;
use crate::predict::predictor::Detail;
use crate::predict::trained::{Fitted, Split, Trained};
use crate::run::splits::splits;
use crate::run::state::EpochRow;
use crate::run::weights::About;

/// A trained run on a dataset, which is uploaded once.
pub struct Evaluator<'a> {
    trained: &'a Trained,
    data: &'a Dataset,
    clips: ClipPredictor<'a>,
}

/// What the seeds say about the clips of a split, in one common order: (clips, K) each.
pub struct Answers {
    pub split: Split,
    pub targets: Array<f32>,
    /// Probabilities, and which entries count.
    pub seeds: Vec<(Array<f32>, Array<bool>)>,
}

/// Why a run's scores on a split of a dataset may be those of clips that it was trained on; `None` if they are not.
/// `trained_on` is the fingerprint of the data that the run was trained on, `data` that of the dataset; `kept`: whether
/// the run's own table of splits says which of the dataset's clips are for what.
pub fn overlap_with_training(trained_on: &str, data: &str, kept: bool, split: Split) -> Option<&'static str> {
    match split {
        Split::All if trained_on == data || kept => Some("most of all clips are those that the run was trained on"),
        _ if trained_on == data => None,
        Split::Test | Split::Val if kept => None,
        _ => Some("this is not the data that the run was trained on, which may share clips with it"),
    }
}

impl<'a> Evaluator<'a> {
    /// Uploads the dataset, or takes `corpus` for it, which is on the GPU already.
    ///
    /// # Errors
    /// `Data` for a dataset of other classes, or of several classes a clip where the model names one; as
    /// [`ClipPredictor::new`].
    pub fn new(
        gpu: &Gpu,
        trained: &'a Trained,
        data: &'a Dataset,
        corpus: Option<&DeviceDataset>,
    ) -> Result<Evaluator<'a>> {
        let About { classes, .. } = &trained.about;
        if data.classes != *classes {
            let reason = format!("has other classes than the run was trained on ({})", classes.join(", "));
            return Err(Error::data(&data.path, reason));
        }
        if trained.task()? == Task::OneClass {
            data.has_one_class_each(&trained.config.model)?;
        }
        let clips = match (&trained.fitted, corpus) {
            (Fitted::Network(_), Some(corpus)) => {
                ClipPredictor::Network(Box::new(trained.predictor(gpu, corpus, Detail::Clips)?))
            }
            _ => ClipPredictor::new(gpu, trained, &data.features, Detail::Clips)?,
        };
        Ok(Evaluator { trained, data, clips })
    }

    /// What each seed says about the clips of a split, without a judgement.
    ///
    /// # Errors
    /// `Data` for a dataset without clips in that split.
    pub fn answers(&mut self, split: Split) -> Result<Answers> {
        let (trained, data) = (self.trained, self.data);
        let replicas = trained.about.seeds.len();
        let rows: Vec<Vec<u32>> = match split {
            Split::Test => vec![data.test.clone(); replicas],
            Split::Val => splits(&trained.config, data)?.into_iter().map(|s| s.1).collect(),
            Split::Train => splits(&trained.config, data)?.into_iter().map(|s| s.0).collect(),
            Split::All => vec![(0..data.keys.len() as u32).collect(); replicas],
        };
        let clips = match split {
            Split::Val | Split::Train if data.validation.is_none() => &data.train,
            _ => &rows[0],
        };
        if clips.is_empty() || rows[0].is_empty() {
            return Err(Error::data(&data.path, "has no clips in that split (`split` all takes every clip)"));
        }
        let predictions = self.clips.predict(&rows)?;

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
        Ok(Answers { split, targets: Array::new([clips.len(), k], targets), seeds })
    }
}

impl Answers {
    /// Of each seed, the threshold of each class that suits its answers best (R, K), if these are about its validation
    /// clips.
    pub fn best_thresholds(&self) -> Vec<Vec<f64>> {
        let k = self.targets.shape().last();
        let of_class = |(probabilities, observed): &(Array<f32>, Array<bool>), class: usize| {
            let known = (class..self.targets.data().len()).step_by(k).filter(|&i| observed[i]);
            thresholds::tune(&known.map(|i| (probabilities[i], self.targets[i] >= 0.5)).collect::<Vec<_>>())
        };
        self.seeds.iter().map(|seed| (0..k).map(|class| of_class(seed, class)).collect()).collect()
    }

    fn scores(&self) -> Vec<Scores> {
        self.seeds.iter().map(|(p, observed)| score(&p.map(f64::from), &self.targets, observed).0).collect()
    }
}

impl Trained {
    /// Scores every seed, and their ensemble, on a split.
    pub fn evaluate(&self, gpu: &Gpu, data: &Dataset, split: Split) -> Result<Evaluation> {
        self.judge(gpu, data, &Evaluator::new(gpu, self, data, None)?.answers(split)?)
    }

    /// Scores what an [`Evaluator`] has said about a split of `data`.
    pub fn judge(&self, gpu: &Gpu, data: &Dataset, answers: &Answers) -> Result<Evaluation> {
        let thresholds = self.thresholds()?;
        let Answers { split, targets, seeds } = answers;
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
            exclusive: nn::find(&self.config.model)?.single_label,
        };
        Ok(evaluate(subject, &data.classes, targets, &seeds))
    }

    /// From now on the thresholds of each seed are those that suit its answers about its validation clips best. For
    /// labels: where a clip has one class, no threshold is asked for.
    pub fn tune(&mut self, validation: &Answers) {
        self.about.thresholds = Some(validation.best_thresholds());
    }

    /// What there is to say of growing a forest: a row for each seed, as of an only epoch. `val` only if clips were set aside.
    pub fn only_epoch(&self, train: &Answers, val: Option<&Answers>) -> Vec<EpochRow> {
        let (train, val) = (train.scores(), val.map(Answers::scores));
        // As in an epoch: where there is no known label there is no loss, and it counts as zero.
        let loss = |scores: &Scores| scores.loss.unwrap_or(0.0) as f32;
        let row = |(r, &seed): (usize, &u64)| EpochRow {
            epoch: 0,
            seed,
            train_loss: loss(&train[r]),
            val_loss: val.as_ref().map_or(0.0, |val| loss(&val[r])),
            val_f1_pn: val.as_ref().and_then(|val| val[r].f1_pn),
            train_accuracy: None,
            val_accuracy: None,
            best: true,
        };
        self.about.seeds.iter().enumerate().map(row).collect()
    }
}
