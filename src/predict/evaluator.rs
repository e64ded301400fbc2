//! Evaluates a trained model on the splits of a dataset.

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::data::Dataset;
use crate::features::device_dataset::DeviceDataset;
use crate::gpu::Gpu;
use crate::metrics::calibration::{self, Calibration, Reliability};
use crate::metrics::evaluation::{Evaluation, SeedPredictions, Subject, evaluate};
use crate::metrics::scores::{Scores, Task, score};
use crate::metrics::thresholds;
use crate::nn;
use crate::predict::clips::ClipPredictor;
use crate::predict::forest;
use crate::predict::predictor::Detail;
use crate::predict::trained::{Split, Trained, TrainedModel};
use crate::run::run_dir::Environment;
use crate::run::splits::splits;
use crate::run::state::EpochRow;
use crate::run::weights::About;

/// A trained model and a dataset, which is uploaded once.
pub struct Evaluator<'a> {
    trained: &'a Trained,
    data: &'a Dataset,
    clips: ClipPredictor<'a>,
}

/// Predictions of the seeds for the clips of a split, in a common order: (clips, K) each.
pub struct SplitPredictions {
    pub split: Split,
    pub targets: Array<f32>,
    /// Probabilities, and the observed entries.
    pub seeds: Vec<(Array<f32>, Array<bool>)>,
}

/// Why a run's scores on a split of a dataset may be those of clips that it was trained on; `None` if they are not.
/// `trained_on`: what the run was trained on; `restored`: whether the splits of the dataset are those of the run's own
/// table.
pub fn overlap_with_training(
    trained_on: &Environment,
    data: &Dataset,
    restored: bool,
    split: Split,
) -> Option<&'static str> {
    let same = trained_on.has_clips_of(data);
    match split {
        Split::All if same || restored => Some("most of these clips are training clips of the run"),
        Split::Test | Split::Val if restored => None,
        Split::Test if same => None,
        Split::Val | Split::Train if trained_on.has_splits_of(data) => None,
        Split::Val | Split::Train if same => Some("the splits are not those of the run"),
        _ => Some("this is not the data that the run was trained on, which may share clips with it"),
    }
}

impl<'a> Evaluator<'a> {
    /// Uploads the dataset, or uses `uploaded`, the dataset on the GPU.
    ///
    /// # Errors
    /// `Data` for a dataset of other classes, or of several classes per clip for a single-label model; as
    /// [`Trained::predictor`].
    pub fn new(
        gpu: &Gpu,
        trained: &'a Trained,
        data: &'a Dataset,
        uploaded: Option<&DeviceDataset>,
    ) -> Result<Evaluator<'a>> {
        let About { classes, .. } = &trained.about;
        if data.classes != *classes {
            let reason = format!("has other classes than the run was trained on ({})", classes.join(", "));
            return Err(Error::data(&data.path, reason));
        }
        if trained.task()? == Task::SingleLabel {
            data.check_single_label(&trained.config.model)?;
        }
        let clips = match (&trained.model, uploaded) {
            (TrainedModel::Network(_), Some(dataset)) => {
                ClipPredictor::Network(Box::new(trained.predictor(gpu, dataset, Detail::Clips)?))
            }
            _ => ClipPredictor::new(gpu, trained, &data.features, Detail::Clips)?,
        };
        Ok(Evaluator { trained, data, clips })
    }

    /// Predictions of each seed for the clips of a split.
    ///
    /// # Errors
    /// `Data` for a dataset without clips in that split.
    pub(crate) fn predict_split(&mut self, split: Split) -> Result<SplitPredictions> {
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
            return Err(Error::data(&data.path, "has no clips in that split (`split` all includes all clips)"));
        }
        tracing::debug!(?split, clips = clips.len(), "predicting split");
        let predictions = self.clips.predict(&rows)?;

        // Predictions of every seed in a common order of clips; clips that are not in its split do not count.
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
        Ok(SplitPredictions { split, targets: Array::new([clips.len(), k], targets), seeds })
    }
}

impl SplitPredictions {
    /// The best threshold of each seed and class (R, K), for predictions of the validation clips.
    pub(crate) fn best_thresholds(&self) -> Vec<Vec<f64>> {
        self.per_class(|_, _, labelled| thresholds::tune(labelled))
    }

    /// Of each seed, the calibration of each class (R, K).
    pub fn calibrations(&self) -> Vec<Vec<Calibration>> {
        let of_seeds = self.per_class(|_, _, labelled| labelled.to_vec());
        of_seeds.iter().map(|classes| Calibration::of_classes(classes)).collect()
    }

    /// Of each seed, the thresholds of calibrated probabilities for each of [`calibration::precisions`], (R, K, P), the
    /// same for all classes.
    pub fn precision_thresholds(&self, calibrations: &[Vec<Calibration>]) -> Vec<Vec<Vec<f64>>> {
        let calibrated = self.per_class(|r, class, labelled| {
            labelled.iter().map(|(p, _)| (calibrations[r][class].apply(f64::from(*p)), 1.0)).collect::<Vec<_>>()
        });
        let of_seed = |classes: &Vec<Vec<_>>| vec![calibration::precision_thresholds(&classes.concat()); classes.len()];
        calibrated.iter().map(of_seed).collect()
    }

    /// The probabilities of the ensemble, the mean of the seeds that observe an entry, before and after calibration.
    fn reliability(&self, calibrations: &[Vec<Calibration>]) -> Reliability {
        let k = self.targets.shape().last();
        let entry = |i: usize| {
            let of_seed = |(r, (p, observed)): (usize, &(Array<f32>, Array<bool>))| {
                let p = f64::from(p[i]);
                observed[i].then(|| (p, calibrations[r][i % k].apply(p)))
            };
            let known: Vec<(f64, f64)> = self.seeds.iter().enumerate().filter_map(of_seed).collect();
            let n = known.len() as f64;
            let sum = known.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
            let present = self.targets[i] >= 0.5;
            (n > 0.0).then_some(((sum.0 / n, present), (sum.1 / n, present)))
        };
        let (before, after): (Vec<_>, Vec<_>) = (0..self.targets.data().len()).filter_map(entry).unzip();
        Reliability::new(&before, &after)
    }

    /// `of` each seed, class and its pairs of probability and known label.
    fn per_class<T>(&self, of: impl Fn(usize, usize, &[(f32, bool)]) -> T) -> Vec<Vec<T>> {
        let k = self.targets.shape().last();
        let of_class = |r: usize, class: usize| {
            let (probabilities, observed) = &self.seeds[r];
            let known = (class..self.targets.data().len()).step_by(k).filter(|&i| observed[i]);
            of(r, class, &known.map(|i| (probabilities[i], self.targets[i] >= 0.5)).collect::<Vec<_>>())
        };
        (0..self.seeds.len()).map(|r| (0..k).map(|class| of_class(r, class)).collect()).collect()
    }

    fn scores(&self) -> Vec<Scores> {
        self.seeds.iter().map(|(p, observed)| score(&p.map(f64::from), &self.targets, observed).0).collect()
    }
}

impl Trained {
    /// Scores every seed, and their ensemble, on a split.
    pub fn evaluate(&self, gpu: &Gpu, data: &Dataset, split: Split) -> Result<Evaluation> {
        self.score(gpu, data, &Evaluator::new(gpu, self, data, None)?.predict_split(split)?)
    }

    /// Scores the predictions of an [`Evaluator`] for a split of `data`.
    pub fn score(&self, gpu: &Gpu, data: &Dataset, predictions: &SplitPredictions) -> Result<Evaluation> {
        let thresholds = self.thresholds()?;
        let SplitPredictions { split, targets, seeds } = predictions;
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
            device: match &self.model {
                TrainedModel::Network(_) => gpu.adapter().name.clone(),
                TrainedModel::Forest(_) => forest::DEVICE.into(),
            },
            threshold: self.config.threshold,
            single_label: nn::find(&self.config.model)?.single_label,
        };
        let mut evaluation = evaluate(subject, &data.classes, targets, &seeds);
        evaluation.reliability = self.about.calibrations.as_ref().map(|of| predictions.reliability(of));
        Ok(evaluation)
    }

    /// Sets the thresholds of each seed to the best ones on its validation clips, and its calibrations to those that
    /// fit them. Single-label models have neither.
    pub(crate) fn tune(&mut self, validation: &SplitPredictions) {
        let calibrations = validation.calibrations();
        self.about.thresholds = Some(validation.best_thresholds());
        self.about.precision_thresholds = Some(validation.precision_thresholds(&calibrations));
        self.about.calibrations = Some(calibrations);
    }

    /// The history of a forest: a row for each seed, as of a single epoch. `val` only if there are validation clips.
    pub(crate) fn only_epoch(&self, train: &SplitPredictions, val: Option<&SplitPredictions>) -> Vec<EpochRow> {
        let (train, val) = (train.scores(), val.map(SplitPredictions::scores));
        // As in an epoch: without known labels the loss is zero.
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
