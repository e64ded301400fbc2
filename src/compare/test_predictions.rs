//! Predictions of a run for each test clip, stored beside its scores so that runs can be compared clip by clip.

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::tensors;
use crate::data::Dataset;
use crate::gpu::Gpu;
use crate::metrics::evaluation::Evaluation;
use crate::metrics::scores::Scores;
use crate::metrics::significance::{SeedPrediction, followed};
use crate::predict::evaluator::{Evaluator, SplitPredictions};
use crate::predict::trained::{Split, Trained};
use crate::run::run_dir::RunDir;

const TENSOR: &str = "probabilities";

/// Probabilities of R seeds for N test clips and K classes.
#[derive(Clone, Debug, PartialEq)]
pub struct TestPredictions {
    pub about: About,
    /// Per seed, (N, K).
    pub probabilities: Vec<Array<f32>>,
}

/// Labels of the axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    pub seeds: Vec<u64>,
    pub clips: Vec<String>,
    pub classes: Vec<String>,
    /// (R, K): decision thresholds of the seeds.
    pub thresholds: Vec<Vec<f64>>,
}

impl TestPredictions {
    /// Those that the run has stored; else they are computed, and stored in `test_predictions.safetensors`.
    ///
    /// # Errors
    /// `Checkpoint` if the file is damaged, of other test clips, or inconsistent with `scores`, the run's `test.json`;
    /// `Gpu` for errors of its predictions.
    pub fn of(gpu: &Gpu, run: &RunDir, data: &Dataset, scores: &Evaluation) -> Result<TestPredictions> {
        let clips: Vec<String> = data.test.iter().map(|&clip| data.keys[clip as usize].clone()).collect();
        let path = run.predictions();
        if path.exists() {
            let stored = TestPredictions::read(run)?;
            let About { clips: of, classes, .. } = &stored.about;
            return match *of == clips && *classes == data.classes && stored.matches_scores(scores, data) {
                true => Ok(stored),
                false => Err(Error::checkpoint(&path, "does not belong to the test.json beside it; remove it")),
            };
        }
        let trained = Trained::load(run)?;
        let predictions = Evaluator::new(gpu, &trained, data, None)?.predict_split(Split::Test)?;
        TestPredictions::store(run, data, &trained.about.seeds, &predictions, &trained.thresholds()?)
    }

    /// Stores predictions for the test clips.
    pub(crate) fn store(
        run: &RunDir,
        data: &Dataset,
        seeds: &[u64],
        predictions: &SplitPredictions,
        thresholds: &[Vec<f64>],
    ) -> Result<TestPredictions> {
        let probabilities = predictions.seeds.iter().map(|(probabilities, _)| probabilities.clone()).collect();
        let clips = data.test.iter().map(|&clip| data.keys[clip as usize].clone()).collect();
        let (seeds, classes, thresholds) = (seeds.to_vec(), data.classes.clone(), thresholds.to_vec());
        let result = TestPredictions { about: About { seeds, clips, classes, thresholds }, probabilities };
        result.write(run)?;
        Ok(result)
    }

    /// Whether these predictions have those scores, for the scores of the bootstrap.
    fn matches_scores(&self, scores: &Evaluation, data: &Dataset) -> bool {
        let (k, task) = (data.classes.len(), scores.subject.task());
        let at = |i: usize| data.test[i / k] as usize * k + i % k;
        let targets = Array::from_fn([data.test.len(), k], |i| data.targets[at(i)]);
        let observed = Array::from_fn([data.test.len(), k], |i| data.observed[at(i)]);
        let About { seeds, thresholds, .. } = &self.about;
        let score = |(p, of_seed): (&Array<f32>, &Vec<f64>)| {
            SeedPrediction { probabilities: p.clone(), thresholds: of_seed.clone() }.scores(task, &targets, &observed)
        };
        let computed: Vec<(u64, Vec<Option<f64>>)> =
            seeds.iter().copied().zip(self.probabilities.iter().zip(thresholds).map(score)).collect();
        let of = |scores: &Scores| followed(task).iter().map(|name| (task.metric(name).of)(scores)).collect();
        let expected: Vec<(u64, Vec<Option<f64>>)> = scores.per_seed.iter().map(|s| (s.seed, of(&s.scores))).collect();
        // Average precision is summed in another order here.
        let close = |(a, b): (&Option<f64>, &Option<f64>)| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-9,
            (a, b) => a == b,
        };
        let alike = |((one, a), (two, b)): (&(u64, Vec<_>), &(u64, Vec<_>))| one == two && a.iter().zip(b).all(close);
        computed.len() == expected.len() && computed.iter().zip(&expected).all(alike)
    }

    fn write(&self, run: &RunDir) -> Result<()> {
        let bytes = self.probabilities.iter().flat_map(|p| p.data().iter().flat_map(|v| v.to_le_bytes())).collect();
        let About { seeds, clips, classes, .. } = &self.about;
        let shape = vec![seeds.len(), clips.len(), classes.len()];
        tensors::save(&run.predictions(), &[(TENSOR.into(), Dtype::F32, shape, bytes)], &self.about)
    }

    fn read(run: &RunDir) -> Result<TestPredictions> {
        let path = run.predictions();
        let file = tensors::File::read(&path)?;
        let about: About = file.about(&path)?;
        let (seeds, clips, classes) = (about.seeds.len(), about.clips.len(), about.classes.len());
        let values = tensors::floats(&path, &file.tensors(), TENSOR, &[seeds, clips, classes])?;
        let thresholds = &about.thresholds;
        if thresholds.len() != seeds || thresholds.iter().any(|of_seed| of_seed.len() != classes) {
            return Err(Error::checkpoint(&path, "has inconsistent metadata"));
        }
        let each = values.chunks_exact((clips * classes).max(1));
        Ok(TestPredictions { probabilities: each.map(|p| Array::new([clips, classes], p.to_vec())).collect(), about })
    }
}
