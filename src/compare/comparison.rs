//! Comparison of runs on the same clips and seeds: scores, and pairwise differences with their significance.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::compare::experiment::Experiment;
use crate::compare::test_predictions::TestPredictions;
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::data::Dataset;
use crate::metrics::evaluation::Evaluation;
use crate::metrics::scores::{Metric, Task, mean};
use crate::metrics::significance::{Bootstrap, RESAMPLES, SeedPrediction, Test, followed, holm, paired_t};
use crate::run::config::Config;

/// The compared scores, in the order of the papers.
pub fn compared(task: Task) -> [Metric; 6] {
    let names = match task {
        Task::MultiLabel => ["f1_pn", "f1_pos", "micro_f1", "map", "precision", "recall"],
        Task::SingleLabel => ["accuracy", "precision", "recall", "micro_f1", "f1_macro", "map"],
    };
    names.map(|name| task.metric(name))
}

/// A run of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedRun {
    pub label: String,
    /// The run's directory, beside the comparison's files.
    pub folder: String,
    /// Scores reported in its paper, by metric.
    pub reported: BTreeMap<String, f64>,
    pub settings: Config,
    /// The content of its `test.json`.
    pub evaluation: Evaluation,
}

/// Serialises as `compare.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub experiment: Experiment,
    pub dataset: String,
    /// Number of test clips that all entries have in common, on which they are compared.
    pub clips: usize,
    /// Resamples of the bootstrap over clips.
    pub resamples: usize,
    pub entries: Vec<ComparedRun>,
    /// Skipped entries, which could not be trained, each with the reason.
    pub left_out: Vec<String>,
    /// Each entry against each later one.
    pub pairs: Vec<Pair>,
}

/// Two entries, by their labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    pub a: String,
    pub b: String,
    /// In the order of [`compared`].
    pub differences: Vec<Difference>,
}

/// The score of `a` minus that of `b`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub metric: &'static str,
    /// Of the means over the seeds; null where the metric is not defined.
    pub difference: Option<f64>,
    /// Paired over seeds; null for one seed.
    pub seeds: Option<Test>,
    /// Paired bootstrap over clips; only of some metrics.
    pub clips: Option<Test>,
}

impl Difference {
    /// With the sign reversed.
    fn negated(self) -> Difference {
        let negate = |test: Test| Test { low: -test.high, high: -test.low, ..test };
        let difference = self.difference.map(|d| -d);
        Difference { difference, seeds: self.seeds.map(negate), clips: self.clips.map(negate), ..self }
    }
}

impl Comparison {
    /// `predictions`: one per entry. `data` is the dataset of the first entry, whose labels are used.
    ///
    /// # Errors
    /// `Usage` when the entries have no test clip in common, their classes differ, or only some are single-label.
    pub fn new(
        experiment: Experiment,
        entries: Vec<ComparedRun>,
        left_out: Vec<String>,
        predictions: &[TestPredictions],
        data: &Dataset,
    ) -> Result<Comparison> {
        let first = &predictions[0].about;
        if predictions.iter().any(|p| p.about.classes != first.classes) {
            return Err(Error::Usage("the entries have different classes".into()));
        }
        let task = entries[0].evaluation.subject.task();
        if entries.iter().any(|e| e.evaluation.subject.task() != task) {
            return Err(Error::Usage("single-label and multi-label models cannot be compared".into()));
        }
        let rows: Vec<HashMap<&str, usize>> = predictions
            .iter()
            .map(|p| p.about.clips.iter().enumerate().map(|(row, clip)| (clip.as_str(), row)).collect())
            .collect();
        let common: Vec<&str> =
            first.clips.iter().map(String::as_str).filter(|clip| rows.iter().all(|r| r.contains_key(clip))).collect();
        if common.is_empty() {
            return Err(Error::Usage("the entries have no test clip in common".into()));
        }
        let k = data.classes.len();
        let answers: Vec<Vec<SeedPrediction>> = predictions
            .iter()
            .zip(&rows)
            .map(|(p, rows)| {
                let pick = |p: &Array<f32>| common.iter().flat_map(|clip| p.row(rows[clip]).to_vec()).collect();
                let answer = |(p, thresholds): (&Array<f32>, &Vec<f64>)| SeedPrediction {
                    probabilities: Array::new([common.len(), k], pick(p)),
                    thresholds: thresholds.clone(),
                };
                p.probabilities.iter().zip(&p.about.thresholds).map(answer).collect()
            })
            .collect();
        let clips: Vec<usize> = common.iter().map(|clip| data.test[rows[0][clip]] as usize).collect();
        let targets = Array::from_fn([clips.len(), k], |i| data.targets[clips[i / k] * k + i % k]);
        let observed = Array::from_fn([clips.len(), k], |i| data.observed[clips[i / k] * k + i % k]);
        let bootstrap = Bootstrap::new(task, &answers, &targets, &observed, RESAMPLES);

        let mut pairs = vec![];
        for (i, a) in entries.iter().enumerate() {
            for (j, b) in entries.iter().enumerate().skip(i + 1) {
                let differences = compared(task).map(|metric| difference(task, metric, (i, a), (j, b), &bootstrap));
                pairs.push(Pair { a: a.label.clone(), b: b.label.clone(), differences: differences.into() });
            }
        }
        let (dataset, clips) = (data.name(), clips.len());
        let mut comparison = Comparison { experiment, dataset, clips, resamples: RESAMPLES, entries, left_out, pairs };
        for m in 0..compared(task).len() {
            comparison.correct(m, |d| &mut d.seeds);
            comparison.correct(m, |d| &mut d.clips);
        }
        Ok(comparison)
    }

    /// Applies Holm's correction to one test of one metric, over all pairs.
    fn correct(&mut self, metric: usize, test: fn(&mut Difference) -> &mut Option<Test>) {
        let mut tests: Vec<&mut Test> =
            self.pairs.iter_mut().filter_map(|pair| test(&mut pair.differences[metric]).as_mut()).collect();
        let corrected = holm(&tests.iter().map(|test| test.p).collect::<Vec<_>>());
        tests.iter_mut().zip(corrected).for_each(|(test, p)| test.p_holm = p);
    }

    /// Entry `a` against entry `b` in a metric of [`compared`]; `None` for an entry against itself.
    pub fn difference(&self, a: usize, b: usize, metric: usize) -> Option<Difference> {
        let (low, high) = (a.min(b), a.max(b));
        let (of_low, of_high) = (&self.entries[low].label, &self.entries[high].label);
        let pair = self.pairs.iter().find(|pair| pair.a == *of_low && pair.b == *of_high)?;
        let difference = pair.differences[metric];
        Some(if a < b { difference } else { difference.negated() })
    }

    /// The entry with the highest mean.
    pub fn best(&self, metric: &Metric) -> Option<usize> {
        let scores = self.entries.iter().enumerate().filter_map(|(i, e)| Some((i, (metric.of)(&e.evaluation.mean)?)));
        // The first among equals.
        scores.rev().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
    }

    /// Indices into `per_class`, by the experiment's metric averaged over the entries, best first.
    pub(crate) fn classes_best_first(&self) -> Vec<usize> {
        let of = |class: usize| {
            let scores =
                self.entries.iter().map(|e| self.experiment.metric.of_class(&e.evaluation.per_class[class].1).0);
            mean(scores).unwrap_or(-1.0)
        };
        let scores: Vec<f64> = (0..self.entries[0].evaluation.per_class.len()).map(of).collect();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        order
    }

    /// The task of the entries.
    pub fn task(&self) -> Task {
        self.entries[0].evaluation.subject.task()
    }

    /// The compared scores.
    pub fn compared(&self) -> [Metric; 6] {
        compared(self.task())
    }

    /// Seeds of each entry.
    pub fn seeds(&self) -> usize {
        self.entries[0].evaluation.per_seed.len()
    }
}

fn difference(
    task: Task,
    metric: Metric,
    a: (usize, &ComparedRun),
    b: (usize, &ComparedRun),
    bootstrap: &Bootstrap,
) -> Difference {
    let [of_a, of_b] = [a.1, b.1].map(|e| e.evaluation.per_seed.iter().map(|s| (metric.of)(&s.scores)));
    let each: Vec<f64> = of_a.zip(of_b).filter_map(|(a, b)| Some(a? - b?)).collect();
    let column = followed(task).iter().position(|name| *name == metric.name);
    Difference {
        metric: metric.name,
        difference: mean(each.iter().copied().map(Some)),
        seeds: paired_t(&each),
        clips: column.and_then(|column| bootstrap.test(a.0, b.0, column)),
    }
}
