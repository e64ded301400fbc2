//! Significance of a difference between two runs: paired over the seeds, and over the clips of a split.
//!
//! The two tests answer two questions. Over seeds: would other initial weights, other batches and another validation
//! split reverse the difference? Over clips: would other clips of the same kind? Corrections for many pairs are Holm's.

use std::thread;

use rand::RngExt;
use rand_pcg::Pcg64;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::core::array::Array;
use crate::metrics::counts::Counts;
use crate::metrics::scores::{self, Scores, Task, mean, quantile, std_dev};

/// Resamples of the clips.
pub const RESAMPLES: usize = 2000;
/// Coverage of intervals.
const COVERAGE: f64 = 0.95;
const SEED: u64 = 0;

/// A mean difference, its 95 % confidence interval, and its p-value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Test {
    pub low: f64,
    pub high: f64,
    pub p: f64,
    /// Corrected over all pairs ([`holm`]); `p` until then.
    pub p_holm: f64,
}

/// Student's t-test of paired differences, two-sided. `None` for fewer than two.
pub fn paired_t(differences: &[f64]) -> Option<Test> {
    let over = || differences.iter().copied().map(Some);
    let (centre, spread) = (mean(over())?, std_dev(over())?);
    let n = differences.len() as f64;
    let error = spread / n.sqrt();
    let student = StudentsT::new(0.0, 1.0, n - 1.0).expect("a positive number of degrees of freedom");
    let reach = student.inverse_cdf(0.5 + COVERAGE / 2.0) * error;
    let p = match error > 0.0 {
        true => 2.0 * student.sf((centre / error).abs()),
        // All seeds have the same difference.
        false => f64::from(u8::from(centre == 0.0)),
    };
    Some(Test { low: centre - reach, high: centre + reach, p, p_holm: p })
}

/// Holm's step-down correction: each p-value times the number of remaining tests, made monotone
/// (S. Holm, "A simple sequentially rejective multiple test procedure", 1979).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut corrected = vec![0.0; p.len()];
    let mut least = 0f64;
    for (rank, i) in order.into_iter().enumerate() {
        least = least.max((p[i] * (p.len() - rank) as f64).min(1.0));
        corrected[i] = least;
    }
    corrected
}

/// Scores of the bootstrap, in the order of its columns.
pub fn followed(task: Task) -> &'static [&'static str] {
    match task {
        Task::MultiLabel => &["f1_pn", "f1_pos", "map"],
        Task::SingleLabel => &["accuracy", "f1_macro"],
    }
}

/// A value for each of [`followed`].
type Followed = Vec<Option<f64>>;

fn columns(task: Task, scores: &Scores) -> Followed {
    followed(task).iter().map(|name| (task.metric(name).of)(scores)).collect()
}

/// Predictions of a seed for N clips and K classes.
#[derive(Clone, Debug)]
pub struct SeedPrediction {
    /// (N, K)
    pub probabilities: Array<f32>,
    /// (K): decision thresholds.
    pub thresholds: Vec<f64>,
}

impl SeedPrediction {
    /// [`followed`] where `observed` (N, K), against `targets` (N, K).
    pub fn scores(&self, task: Task, targets: &Array<f32>, observed: &Array<bool>) -> Vec<Option<f64>> {
        columns(task, &Resampler::new(task, self, targets, observed).scores(&vec![1; targets.dims()[0]]))
    }
}

/// One seed's predictions, prepared for fast scoring of resampled clips.
enum Resampler {
    MultiLabel(RankedLabels),
    SingleLabel(PredictedClasses),
}

impl Resampler {
    fn new(task: Task, prediction: &SeedPrediction, targets: &Array<f32>, observed: &Array<bool>) -> Resampler {
        match task {
            Task::MultiLabel => Resampler::MultiLabel(RankedLabels::new(prediction, targets, observed)),
            Task::SingleLabel => Resampler::SingleLabel(PredictedClasses::new(prediction, targets, observed)),
        }
    }

    /// The [`followed`] scores with clip i repeated `times[i]` times.
    fn scores(&self, times: &[u32]) -> Scores {
        match self {
            Resampler::MultiLabel(sorted) => sorted.scores(times),
            Resampler::SingleLabel(predicted) => predicted.scores(times),
        }
    }
}

/// One seed's predictions, single-label.
struct PredictedClasses {
    classes: usize,
    /// Clip, true class, predicted class.
    predictions: Vec<(usize, usize, usize)>,
}

impl PredictedClasses {
    fn new(prediction: &SeedPrediction, targets: &Array<f32>, observed: &Array<bool>) -> PredictedClasses {
        let p = &prediction.probabilities;
        let predicted =
            |(clip, truth): (usize, Option<usize>)| Some((clip, truth?, scores::predicted_class(p.row(clip))));
        let predictions = scores::truths(targets, observed).into_iter().enumerate().filter_map(predicted).collect();
        PredictedClasses { classes: targets.shape().last(), predictions }
    }

    fn scores(&self, times: &[u32]) -> Scores {
        let mut confusion = vec![vec![0; self.classes]; self.classes];
        self.predictions
            .iter()
            .for_each(|&(clip, truth, prediction)| confusion[truth][prediction] += u64::from(times[clip]));
        scores::scores_of(&confusion)
    }
}

/// One seed's predictions, multi-label, sorted so that the scores of a resample are cumulative sums.
struct RankedLabels {
    /// Per class, the highest probability first.
    classes: Vec<Class>,
}

struct Class {
    /// Clip, whether the next one has a different probability, and whether it is positive: `clip << 2 | last << 1 |
    /// positive`.
    entries: Vec<u32>,
    /// Entries predicted positive.
    taken: usize,
}

impl RankedLabels {
    fn new(prediction: &SeedPrediction, targets: &Array<f32>, observed: &Array<bool>) -> RankedLabels {
        let (p, k) = (&prediction.probabilities, targets.shape().last());
        let class = |class: usize| {
            let known = (class..p.data().len()).step_by(k).filter(|&i| observed[i]);
            let mut sorted: Vec<(f32, u32, bool)> = known.map(|i| (p[i], (i / k) as u32, targets[i] >= 0.5)).collect();
            sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
            let last = |i: usize| sorted.get(i + 1).is_none_or(|next| next.0 != sorted[i].0);
            let entry = |(i, &(_, clip, positive)): (usize, &(f32, u32, bool))| {
                clip << 2 | u32::from(last(i)) << 1 | u32::from(positive)
            };
            let taken = sorted.iter().take_while(|(p, ..)| f64::from(*p) >= prediction.thresholds[class]).count();
            Class { entries: sorted.iter().enumerate().map(entry).collect(), taken }
        };
        RankedLabels { classes: (0..k).map(class).collect() }
    }

    fn scores(&self, times: &[u32]) -> Scores {
        let (counts, precision): (Vec<Counts>, Vec<Option<f64>>) =
            self.classes.iter().map(|class| class.scores(times)).unzip();
        Scores {
            f1_pn: mean(counts.iter().map(Counts::f1_pn)),
            f1_pos: mean(counts.iter().map(Counts::f1_pos)),
            map: mean(precision),
            ..Scores::default()
        }
    }
}

impl Class {
    /// Decisions at the threshold, and the average precision.
    fn scores(&self, times: &[u32]) -> (Counts, Option<f64>) {
        // Entries so far, positives so far, and positives with the current probability.
        let (mut all, mut hits, mut tied, mut area) = (0u32, 0u32, 0u32, 0.0);
        let mut through = |entries: &[u32]| {
            for entry in entries {
                let n = times[(entry >> 2) as usize];
                all += n;
                tied += n * (entry & 1);
                if entry & 2 != 0 && tied > 0 {
                    hits += tied;
                    area += f64::from(tied) * f64::from(hits) / f64::from(all);
                    tied = 0;
                }
            }
            (u64::from(all), u64::from(hits))
        };
        let (taken, rest) = self.entries.split_at(self.taken);
        let (predicted, tp) = through(taken);
        let (all, positives) = through(rest);
        let (fp, fn_) = (predicted - tp, positives - tp);
        let counts = Counts { tp, fp, fn_, tn: all - positives - fp };
        (counts, (positives > 0).then(|| area / positives as f64))
    }
}

/// Scores of several runs on the same resamples of the clips of a split.
pub struct Bootstrap {
    /// Per resample and run, the mean over the seeds of each of [`followed`].
    resampled: Vec<Vec<Followed>>,
}

impl Bootstrap {
    /// `runs`: predictions of each run's seeds; `targets` and `observed` are (N, K), too. Draws N of the N clips with
    /// replacement, `resamples` times, the same for all runs and at every call.
    pub fn new(
        task: Task,
        runs: &[Vec<SeedPrediction>],
        targets: &Array<f32>,
        observed: &Array<bool>,
        resamples: usize,
    ) -> Bootstrap {
        let clips = targets.dims()[0];
        let draw = |resample: usize| {
            let mut random = Pcg64::new(u128::from(SEED), resample as u128);
            let mut times = vec![0; clips];
            (0..clips).for_each(|_| times[random.random_range(0..clips)] += 1);
            times
        };
        Bootstrap::of_draws(task, runs, targets, observed, resamples, &draw)
    }

    /// As [`Bootstrap::new`], with resamples in which clip i occurs `draw(resample)[i]` times. Uses all cores.
    pub fn of_draws(
        task: Task,
        runs: &[Vec<SeedPrediction>],
        targets: &Array<f32>,
        observed: &Array<bool>,
        resamples: usize,
        draw: &(dyn Fn(usize) -> Vec<u32> + Sync),
    ) -> Bootstrap {
        let judged: Vec<Vec<Resampler>> = runs
            .iter()
            .map(|seeds| seeds.iter().map(|p| Resampler::new(task, p, targets, observed)).collect())
            .collect();
        let of_run = |seeds: &Vec<Resampler>, times: &[u32]| {
            let each: Vec<Scores> = seeds.iter().map(|seed| seed.scores(times)).collect();
            columns(task, &Scores::over(&each, |values| mean(values.iter().copied())))
        };
        let one = |resample: usize| -> Vec<Followed> {
            let times = draw(resample);
            judged.iter().map(|seeds| of_run(seeds, &times)).collect()
        };
        let cores = thread::available_parallelism().map_or(1, |n| n.get());
        let mut resampled = vec![vec![]; resamples];
        thread::scope(|scope| {
            for (i, part) in resampled.chunks_mut(resamples.div_ceil(cores).max(1)).enumerate() {
                let first = i * resamples.div_ceil(cores);
                let one = &one;
                scope.spawn(move || part.iter_mut().enumerate().for_each(|(j, into)| *into = one(first + j)));
            }
        });
        Bootstrap { resampled }
    }

    /// A run's [`followed`] on a resample, means over its seeds.
    pub fn scores(&self, resample: usize, run: usize) -> &[Option<f64>] {
        &self.resampled[resample][run]
    }

    /// Run `a` minus run `b` in a metric of [`followed`]: percentiles of the resampled differences, and twice the
    /// fraction on the less frequent side of 0. `None` where the metric is not defined.
    pub fn test(&self, a: usize, b: usize, metric: usize) -> Option<Test> {
        let difference = |runs: &Vec<Followed>| Some(runs[a][metric]? - runs[b][metric]?);
        let mut differences: Vec<f64> = self.resampled.iter().filter_map(difference).collect();
        if differences.is_empty() {
            return None;
        }
        differences.sort_by(f64::total_cmp);
        let n = differences.len();
        let beside = |count: usize| (count + 1) as f64 / (n + 1) as f64;
        let below = beside(differences.partition_point(|d| *d <= 0.0));
        let above = beside(n - differences.partition_point(|d| *d < 0.0));
        let p = (2.0 * below.min(above)).min(1.0);
        let [low, high] = [0.5 - COVERAGE / 2.0, 0.5 + COVERAGE / 2.0].map(|q| quantile(&differences, q));
        Some(Test { low, high, p, p_holm: p })
    }
}
