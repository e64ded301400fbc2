//! Metrics per class and averaged over the classes, as scikit-learn defines them; all in f64. Multi-label
//! ([`score`]) and single-label ([`score_single_label`]).
//!
//! Multi-label: only observed entries of a (clip, class) matrix are scored. A clip is predicted positive if its
//! probability reaches the threshold (0.5 by default), and is positive if its target is >= 0.5. Where a ratio has a
//! zero denominator, F1, precision and recall are 0 (scikit-learn's `zero_division=0`). Undefined values are
//! `None` and excluded from means: all scores of a class without observed clips, average precision without a
//! positive clip, ROC-AUC with positives or negatives only.
//!
//! Single-label: the prediction is the most probable class, and the scores follow from the confusion matrix
//! ([`scores_of`]): Wise, Maida and Kumar, "Attention augmented CNNs for musical instrument identification"
//! (EUSIPCO 2020, published 2021). Precision, recall and F1 are those of the positive label there.

use serde::{Deserialize, Serialize};

use crate::Array;
use crate::metrics::counts::{Counts, ratio};

/// Mean of the defined values; `None` if there are none.
pub fn mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (n, sum) = values.into_iter().flatten().fold((0usize, 0.0), |(n, sum), v| (n + 1, sum + v));
    (n > 0).then(|| sum / n as f64)
}

/// Sample standard deviation (n - 1) of the defined values; `None` for fewer than two.
pub fn std_dev(values: impl IntoIterator<Item = Option<f64>> + Clone) -> Option<f64> {
    let centre = mean(values.clone())?;
    let (n, sum) = values.into_iter().flatten().fold((0usize, 0.0), |(n, s), v| (n + 1, s + (v - centre).powi(2)));
    (n > 1).then(|| (sum / (n - 1) as f64).sqrt())
}

/// The `q`-quantile (0 to 1) of ascending `values`, interpolated linearly. Panics without values.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let at = q * (values.len() - 1) as f64;
    let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// Average precision and ROC-AUC of `(score, positive)` pairs, sorted in place. Equal scores form one threshold:
/// AP = sum_n (R_n - R_{n-1}) P_n over the thresholds, AUC = the trapezoid rule (a tie counts one half).
/// `None`: AP without a positive, AUC without a positive or without a negative.
pub fn ranking(scored: &mut [(f64, bool)]) -> (Option<f64>, Option<f64>) {
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = scored.iter().filter(|s| s.1).count() as f64;
    let negatives = scored.len() as f64 - positives;
    let (mut tp, mut fp, mut ap, mut area) = (0.0, 0.0, 0.0, 0.0);
    for tied in scored.chunk_by(|a, b| a.0 == b.0) {
        let hits = tied.iter().filter(|s| s.1).count() as f64;
        let misses = tied.len() as f64 - hits;
        area += misses * (tp + hits / 2.0);
        tp += hits;
        fp += misses;
        ap += hits * tp / (tp + fp);
    }
    ((positives > 0.0).then(|| ap / positives), (positives * negatives > 0.0).then(|| area / (positives * negatives)))
}

/// Metrics of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    pub f1_pn: Option<f64>,
    /// Of a mean over seeds, the sample standard deviation of `f1_pn` over those where it is defined; null for fewer
    /// than two.
    #[serde(default)]
    pub f1_pn_std: Option<f64>,
    pub f1_pos: Option<f64>,
    /// As `f1_pn_std`, of `f1_pos` for single-label models, without `f1_pn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1_pos_std: Option<f64>,
    pub ap: Option<f64>,
    pub auc: Option<f64>,
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    /// Observed clips that are positive.
    pub positives: u64,
    /// Observed clips.
    pub observed: u64,
}

/// Metrics of a split: means over the classes where each is defined, the loss, and the pooled F1. Scores that the task
/// does not have are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// In nats, logarithms clamped at -100: mean binary cross-entropy over all observed entries of the split;
    /// single-label: the mean of -ln p of the true class.
    pub loss: Option<f64>,
    pub f1_pn: Option<f64>,
    pub f1_pos: Option<f64>,
    pub map: Option<f64>,
    pub auc: Option<f64>,
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    /// F1 of the positive label, counts pooled over all classes; the accuracy for single-label models.
    pub micro_f1: Option<f64>,
    /// Fraction of correctly predicted clips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Harmonic mean of the mean precision and the mean recall, for single-label models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1_macro: Option<f64>,
}

/// One of the scores of a split.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its key in `test.json`.
    pub name: &'static str,
    pub meaning: &'static str,
    pub of: fn(&Scores) -> Option<f64>,
}

/// The F1 of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassF1 {
    /// Its key in `test.json`.
    pub name: &'static str,
    /// Mean over the seeds, and standard deviation.
    pub of: fn(&ClassMetrics) -> (Option<f64>, Option<f64>),
    /// Over all classes.
    pub mean: fn(&Scores) -> Option<f64>,
}

/// Multi-label or single-label classification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Each class is present or absent.
    MultiLabel,
    /// Each clip has exactly one class.
    SingleLabel,
}

/// Multi-label scores, the most informative first.
const OF_MULTI_LABEL: [Metric; 8] = [
    Metric { name: "map", meaning: "mean average precision", of: |s| s.map },
    Metric { name: "f1_pn", meaning: "F1, mean of present and absent", of: |s| s.f1_pn },
    Metric { name: "f1_pos", meaning: "F1 of present", of: |s| s.f1_pos },
    Metric { name: "precision", meaning: "mean of present and absent", of: |s| s.precision },
    Metric { name: "recall", meaning: "mean of present and absent", of: |s| s.recall },
    Metric { name: "auc", meaning: "area under the ROC curve", of: |s| s.auc },
    Metric { name: "micro_f1", meaning: "F1 of present, all classes pooled", of: |s| s.micro_f1 },
    Metric { name: "loss", meaning: "binary cross-entropy in nats", of: |s| s.loss },
];

/// Single-label scores, the most informative first.
const OF_SINGLE_LABEL: [Metric; 8] = [
    Metric { name: "accuracy", meaning: "fraction of correct predictions", of: |s| s.accuracy },
    Metric { name: "f1_macro", meaning: "harmonic mean of precision and recall", of: |s| s.f1_macro },
    Metric { name: "precision", meaning: "mean over the classes", of: |s| s.precision },
    Metric { name: "recall", meaning: "mean over the classes", of: |s| s.recall },
    Metric { name: "micro_f1", meaning: "F1, all classes pooled: the accuracy", of: |s| s.micro_f1 },
    Metric { name: "map", meaning: "mean average precision, each class against the rest", of: |s| s.map },
    Metric { name: "auc", meaning: "area under the ROC curve, each class against the rest", of: |s| s.auc },
    Metric { name: "loss", meaning: "cross-entropy in nats", of: |s| s.loss },
];

impl Task {
    pub fn of(single_label: bool) -> Task {
        if single_label { Task::SingleLabel } else { Task::MultiLabel }
    }

    /// Its scores, the most informative first.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Task::MultiLabel => &OF_MULTI_LABEL,
            Task::SingleLabel => &OF_SINGLE_LABEL,
        }
    }

    /// The F1 of a class, by which classes are ordered.
    pub(crate) fn class_f1(self) -> ClassF1 {
        match self {
            Task::MultiLabel => ClassF1 { name: "f1_pn", of: |c| (c.f1_pn, c.f1_pn_std), mean: |s| s.f1_pn },
            Task::SingleLabel => ClassF1 { name: "f1_pos", of: |c| (c.f1_pos, c.f1_pos_std), mean: |s| s.f1_pos },
        }
    }

    /// The metric of that name. Panics if there is none.
    pub fn metric(self, name: &str) -> Metric {
        *self.metrics().iter().find(|m| m.name == name).expect("a metric's name")
    }
}

impl Scores {
    /// Applies `f` to each metric over all of `scores`.
    pub fn over(scores: &[Scores], f: impl Fn(&[Option<f64>]) -> Option<f64>) -> Scores {
        let over = |field: fn(&Scores) -> Option<f64>| f(&scores.iter().map(field).collect::<Vec<_>>());
        Scores {
            loss: over(|s| s.loss),
            f1_pn: over(|s| s.f1_pn),
            f1_pos: over(|s| s.f1_pos),
            map: over(|s| s.map),
            auc: over(|s| s.auc),
            precision: over(|s| s.precision),
            recall: over(|s| s.recall),
            micro_f1: over(|s| s.micro_f1),
            accuracy: over(|s| s.accuracy),
            f1_macro: over(|s| s.f1_macro),
        }
    }
}

/// Scores (N, K) probabilities against (N, K) targets where `observed` (N, K), with 0.5 as the threshold of all
/// classes. Returns the split's scores and each class's. Panics if the shapes differ.
pub fn score(p: &Array<f64>, targets: &Array<f32>, observed: &Array<bool>) -> (Scores, Vec<ClassMetrics>) {
    score_at(p, targets, observed, &vec![0.5; p.shape().last()])
}

/// As [`score`], with a threshold for each class.
pub(crate) fn score_at(
    p: &Array<f64>,
    targets: &Array<f32>,
    observed: &Array<bool>,
    thresholds: &[f64],
) -> (Scores, Vec<ClassMetrics>) {
    assert_eq!(p.dims(), targets.dims(), "probabilities against targets");
    assert_eq!(p.dims(), observed.dims(), "probabilities against observed");
    let classes = p.shape().last();
    let (mut loss, mut pooled) = (0.0, Counts::default());
    let mut per_class = Vec::with_capacity(classes);
    assert_eq!(thresholds.len(), classes, "thresholds of the classes");
    for (class, &threshold) in thresholds.iter().enumerate() {
        let mut counts = Counts::default();
        let mut scored = Vec::new();
        for i in (class..p.data().len()).step_by(classes).filter(|&i| observed[i]) {
            let (p, y) = (p[i], f64::from(targets[i]));
            loss -= y * p.ln().max(-100.0) + (1.0 - y) * (1.0 - p).ln().max(-100.0);
            match (y >= 0.5, p >= threshold) {
                (true, true) => counts.tp += 1,
                (true, false) => counts.fn_ += 1,
                (false, true) => counts.fp += 1,
                (false, false) => counts.tn += 1,
            }
            scored.push((p, y >= 0.5));
        }
        let (ap, auc) = ranking(&mut scored);
        pooled += counts;
        per_class.push(ClassMetrics {
            f1_pn: counts.f1_pn(),
            f1_pn_std: None,
            f1_pos: counts.f1_pos(),
            f1_pos_std: None,
            ap,
            auc,
            precision: counts.precision(),
            recall: counts.recall(),
            positives: counts.positives(),
            observed: counts.observed(),
        });
    }
    let over = |field: fn(&ClassMetrics) -> Option<f64>| mean(per_class.iter().map(field));
    let scores = Scores {
        loss: (pooled.observed() > 0).then(|| loss / pooled.observed() as f64),
        f1_pn: over(|c| c.f1_pn),
        f1_pos: over(|c| c.f1_pos),
        map: over(|c| c.ap),
        auc: over(|c| c.auc),
        precision: over(|c| c.precision),
        recall: over(|c| c.recall),
        micro_f1: pooled.f1_pos(),
        ..Scores::default()
    };
    (scores, per_class)
}

/// (K, K) counts: a row per true class, a column per predicted class.
pub type Confusion = Vec<Vec<u64>>;

/// The most probable class, the first among equals. 0 for no classes.
pub(crate) fn predicted_class<P: PartialOrd>(probabilities: &[P]) -> usize {
    (1..probabilities.len()).fold(0, |best, k| if probabilities[k] > probabilities[best] { k } else { best })
}

/// Each class's counts in a confusion matrix, that class against the rest.
pub(crate) fn counts_of(confusion: &Confusion) -> Vec<Counts> {
    let total: u64 = confusion.iter().flatten().sum();
    let of_class = |(k, row): (usize, &Vec<u64>)| {
        let (tp, truths) = (row[k], row.iter().sum::<u64>());
        let answers: u64 = confusion.iter().map(|row| row[k]).sum();
        Counts { tp, fp: answers - tp, fn_: truths - tp, tn: total + tp - truths - answers }
    };
    confusion.iter().enumerate().map(of_class).collect()
}

/// The scores of a confusion matrix: all but those of the probabilities (loss, map and auc) and those of absent
/// labels (f1_pn).
///
/// A class without clips is excluded from the mean recall. Its precision and F1 are 0 if it was predicted, else they
/// are excluded from the means; a class with clips that was never predicted has precision 0.
pub fn scores_of(confusion: &Confusion) -> Scores {
    let counts = counts_of(confusion);
    let pooled: Counts = counts.iter().copied().sum();
    let accuracy = (pooled.positives() > 0).then(|| ratio(pooled.tp, pooled.positives()));
    let (precision, recall) =
        (mean(counts.iter().map(Counts::precision_pos)), mean(counts.iter().map(Counts::recall_pos)));
    let f1_macro = precision.zip(recall).map(|(p, r)| if p + r > 0.0 { 2.0 * p * r / (p + r) } else { 0.0 });
    let f1_pos = mean(counts.iter().map(f1_where_defined));
    Scores { f1_pos, precision, recall, micro_f1: accuracy, accuracy, f1_macro, ..Scores::default() }
}

/// As [`Counts::precision_pos`].
fn f1_where_defined(counts: &Counts) -> Option<f64> {
    counts.precision_pos().and_then(|_| counts.f1_pos())
}

/// Scores (N, K) probabilities of single-label clips, whose class is the first positive of their (N, K) targets.
/// Clips without one, and those with an unobserved entry, are skipped. Returns the split's scores, each
/// class's, and the confusion matrix. Panics if the shapes differ.
pub fn score_single_label(
    p: &Array<f64>,
    targets: &Array<f32>,
    observed: &Array<bool>,
) -> (Scores, Vec<ClassMetrics>, Confusion) {
    assert_eq!(p.dims(), targets.dims(), "probabilities against targets");
    assert_eq!(p.dims(), observed.dims(), "probabilities against observed");
    let k = p.shape().last();
    let clips: Vec<(usize, usize)> =
        truths(targets, observed).into_iter().enumerate().filter_map(|(i, t)| Some((i, t?))).collect();
    let mut confusion = vec![vec![0; k]; k];
    let mut loss = 0.0;
    for &(clip, truth) in &clips {
        confusion[truth][predicted_class(p.row(clip))] += 1;
        loss -= p.row(clip)[truth].ln().max(-100.0);
    }
    let of_class = |(class, counts): (usize, Counts)| {
        let mut scored: Vec<(f64, bool)> = clips.iter().map(|&(clip, t)| (p.row(clip)[class], t == class)).collect();
        let (ap, auc) = ranking(&mut scored);
        ClassMetrics {
            f1_pos: f1_where_defined(&counts),
            ap,
            auc,
            precision: counts.precision_pos(),
            recall: counts.recall_pos(),
            positives: counts.positives(),
            observed: counts.observed(),
            ..ClassMetrics::default()
        }
    };
    let per_class: Vec<ClassMetrics> = counts_of(&confusion).into_iter().enumerate().map(of_class).collect();
    let scores = Scores {
        loss: (!clips.is_empty()).then(|| loss / clips.len() as f64),
        map: mean(per_class.iter().map(|c| c.ap)),
        auc: mean(per_class.iter().map(|c| c.auc)),
        ..scores_of(&confusion)
    };
    (scores, per_class, confusion)
}

/// The class of each clip, by (N, K) targets: the first positive one, if all of its entries are `observed`.
pub(crate) fn truths(targets: &Array<f32>, observed: &Array<bool>) -> Vec<Option<usize>> {
    let truth = |clip: usize| {
        let known = observed.row(clip).iter().all(|&seen| seen);
        targets.row(clip).iter().position(|&y| y >= 0.5).filter(|_| known)
    };
    (0..targets.dims()[0]).map(truth).collect()
}
