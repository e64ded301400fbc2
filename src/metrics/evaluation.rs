//! Evaluation of a trained model on a split: every seed, mean and spread, ensemble, and each class.

use serde::{Deserialize, Serialize};

use crate::Array;
use crate::metrics::calibration::Reliability;
use crate::metrics::scores::{ClassMetrics, Confusion, Scores, Task, mean, score_at, score_single_label, std_dev};
use crate::metrics::thresholds::{Threshold, common};

/// The model, data and device of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    pub model: String,
    /// Trainable parameters of one replica.
    pub parameters: u64,
    pub dataset: String,
    pub split: String,
    pub device: String,
    /// Decision thresholds of F1, precision and recall.
    #[serde(default)]
    pub threshold: Threshold,
    /// Whether each clip has one class, and the prediction is the most probable one.
    #[serde(default, rename = "exclusive", skip_serializing_if = "std::ops::Not::not")]
    pub single_label: bool,
}

impl Subject {
    /// The task, which determines the scores.
    pub fn task(&self) -> Task {
        Task::of(self.single_label)
    }
}

/// Predictions of one seed for the clips of a split.
#[derive(Clone, Copy, Debug)]
pub struct SeedPredictions<'a> {
    pub seed: u64,
    /// Epoch (from 0) whose weights predicted.
    pub best_epoch: usize,
    /// (N, K), in 0..=1.
    pub probabilities: &'a Array<f32>,
    /// (N, K), observed entries for this seed. The same array for all seeds, except where each seed has its own
    /// validation clips.
    pub observed: &'a Array<bool>,
    /// (K), decision thresholds.
    pub thresholds: &'a [f64],
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedScores {
    pub seed: u64,
    pub best_epoch: usize,
    #[serde(flatten)]
    pub scores: Scores,
}

/// Serialises as the object of `test.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    #[serde(flatten)]
    pub subject: Subject,
    pub per_seed: Vec<SeedScores>,
    /// Mean over the seeds.
    pub mean: Scores,
    /// Sample standard deviation (n - 1) over the seeds; null for one seed.
    pub std: Scores,
    /// Scores of the mean probability over the seeds.
    pub ensemble: Scores,
    /// Single-label: confusion matrix in class order, of the ensemble (of the seed if there is one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
    /// Of the ensemble, for runs with calibrations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reliability: Option<Reliability>,
    /// In class order: each metric is the mean over the seeds in which it is defined, with the standard deviation of
    /// the task's F1; the clip counts are the split's.
    #[serde(with = "ordered_map")]
    pub per_class: Vec<(String, ClassMetrics)>,
}

/// Evaluates all seeds against (N, K) `targets`, K = `classes.len()`. The ensemble averages each entry over the seeds
/// that observe it, so on validation clips it consists of the seeds that were not trained on them; its thresholds are
/// the seeds' mean. Single-label: the prediction is the most probable class, without thresholds
/// ([`score_single_label`]). Panics if the shapes differ.
pub fn evaluate(subject: Subject, classes: &[String], targets: &Array<f32>, seeds: &[SeedPredictions]) -> Evaluation {
    assert_eq!(targets.shape().last(), classes.len(), "columns of the targets");
    let single_label = subject.single_label;
    let score = |p: &Array<f64>, observed: &Array<bool>, thresholds: &[f64]| match single_label {
        true => {
            let (scores, per_class, confusion) = score_single_label(p, targets, observed);
            (scores, per_class, Some(confusion))
        }
        false => {
            let (scores, per_class) = score_at(p, targets, observed, thresholds);
            (scores, per_class, None)
        }
    };
    let mut per_seed = Vec::with_capacity(seeds.len());
    let mut class_scores = Vec::with_capacity(seeds.len());
    for s in seeds {
        let (scores, per_class, _) = score(&s.probabilities.map(f64::from), s.observed, s.thresholds);
        per_seed.push(SeedScores { seed: s.seed, best_epoch: s.best_epoch, scores });
        class_scores.push(per_class);
    }
    let (ensemble, ensemble_classes, confusion) = {
        let observers = |i: usize| seeds.iter().filter(move |s| s.observed[i]);
        let observed = Array::from_fn(targets.shape().clone(), |i| observers(i).next().is_some());
        let p = Array::from_fn(targets.shape().clone(), |i| {
            mean(observers(i).map(|s| Some(f64::from(s.probabilities[i])))).unwrap_or(0.0)
        });
        let thresholds: Vec<Vec<f64>> = seeds.iter().map(|s| s.thresholds.to_vec()).collect();
        score(&p, &observed, &common(&thresholds))
    };
    let per_class = classes.iter().zip(ensemble_classes).enumerate().map(|(k, (name, of_ensemble))| {
        let over = |field: fn(&ClassMetrics) -> Option<f64>| mean(class_scores.iter().map(|c| field(&c[k])));
        let metrics = ClassMetrics {
            f1_pn: over(|c| c.f1_pn),
            f1_pn_std: std_dev(class_scores.iter().map(|c| c[k].f1_pn)),
            f1_pos: over(|c| c.f1_pos),
            f1_pos_std: std_dev(class_scores.iter().map(|c| c[k].f1_pos).filter(|_| single_label)),
            ap: over(|c| c.ap),
            auc: over(|c| c.auc),
            precision: over(|c| c.precision),
            recall: over(|c| c.recall),
            positives: of_ensemble.positives,
            observed: of_ensemble.observed,
        };
        (name.clone(), metrics)
    });
    let all: Vec<Scores> = per_seed.iter().map(|s| s.scores).collect();
    Evaluation {
        subject,
        mean: Scores::over(&all, |v| mean(v.iter().copied())),
        std: Scores::over(&all, |v| std_dev(v.iter().copied())),
        ensemble,
        confusion,
        reliability: None,
        per_class: per_class.collect(),
        per_seed,
    }
}

/// Serialises a list of pairs as an ordered map.
mod ordered_map {
    use serde::de::{MapAccess, Visitor};
    use serde::{Deserializer, Serializer};

    use super::ClassMetrics;

    type Pairs = Vec<(String, ClassMetrics)>;

    pub fn serialize<S: Serializer>(pairs: &Pairs, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(pairs.iter().map(|(name, metrics)| (name, metrics)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Pairs, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Pairs;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a map from class to metrics")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        d.deserialize_map(Map)
    }
}
