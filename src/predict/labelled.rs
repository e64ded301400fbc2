//! Answers to labelled recordings, or to clips with known features, to calibrate and to judge an ensemble.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::data::{AudioSet, Dataset};
use crate::gpu::Gpu;
use crate::metrics::evaluation::{Evaluation, SeedPredictions, Subject, evaluate};
use crate::metrics::thresholds::Threshold;
use crate::predict::ensemble::{Ensemble, Fitted, Member};
use crate::predict::recogniser::{Options, Recogniser, recognise_some};
use crate::predict::recognition::Recognition;

/// Probabilities of recordings, with their labels.
pub struct Answered {
    pub classes: Vec<String>,
    /// (N, K) of each model, in the ensemble's order, and last of the ensemble.
    pub probabilities: Vec<Array<f32>>,
    /// (N, K)
    pub targets: Array<f32>,
    pub observed: Array<bool>,
}

/// Recognises the recordings `rows` of `set`, and calls `progress` with the number of those done and the error of the
/// last, which is then left out; `None` as soon as it returns false.
///
/// # Errors
/// `Usage` if the dataset has other classes; errors of [`Recogniser::new`]; `Gpu` for a lost device.
pub fn answer(
    gpu: &Gpu,
    ensemble: Ensemble,
    set: &AudioSet,
    rows: &[u32],
    progress: &mut dyn FnMut(usize, Option<&Error>) -> bool,
) -> Result<Option<Answered>> {
    check_classes(&ensemble, &set.classes, &set.path)?;
    let files: Vec<PathBuf> = rows.iter().map(|&row| set.files[row as usize].clone()).collect();
    let models = ensemble.members().len();
    let mut recogniser = Recogniser::new(gpu, ensemble, Options::default())?;
    let (mut probabilities, mut known) = (vec![vec![]; models + 1], vec![]);
    let (mut done, stopped) = (0, Cell::new(false));
    let ended = recogniser.recognise_files(&files, &|| stopped.get(), &mut |n, recognised| {
        done += 1;
        let failed = match recognised {
            Ok(recognised) => {
                known.push(rows[n]);
                for (of, answer) in
                    probabilities.iter_mut().zip(recognised.models.iter().chain([&recognised.recognition]))
                {
                    of.extend(answer.instruments.iter().map(|instrument| instrument.probability));
                }
                None
            }
            Err(error @ (Error::Data { .. } | Error::Io { .. })) => Some(error),
            Err(error) => return Err(error),
        };
        stopped.set(!progress(done, failed.as_ref()));
        Ok(())
    })?;
    if !ended || stopped.get() {
        return Ok(None);
    }
    Ok(Some(Answered::new(&set.classes, (&set.targets, &set.observed), &known, probabilities)))
}

/// As [`answer`], of the clips `rows` of a dataset with the features that all models take.
///
/// # Errors
/// `Usage` if the dataset has other classes; errors of [`recognise_clips`](super::recogniser::recognise_clips).
pub fn answer_clips(gpu: &Gpu, ensemble: Ensemble, data: &Dataset, rows: &[u32]) -> Result<Answered> {
    check_classes(&ensemble, &data.classes, &data.path)?;
    let combination = ensemble.combination()?;
    let mut probabilities: Vec<Vec<f64>> = vec![];
    for Member { trained, .. } in ensemble.members() {
        let mut of_model = vec![];
        let take = &mut |recognition: Recognition| {
            of_model.extend(recognition.instruments.iter().map(|instrument| instrument.probability));
            Ok(())
        };
        recognise_some(gpu, trained, (&data.keys, rows), &data.features, &Options::default(), take)?;
        probabilities.push(of_model);
    }
    let k = data.classes.len();
    let of_all = |i: usize| {
        let each: Vec<f64> = probabilities.iter().map(|of_model| of_model[i]).collect();
        combination.probability(i % k, &each)
    };
    let of_all = (0..rows.len() * k).map(of_all).collect();
    probabilities.push(of_all);
    Ok(Answered::new(&data.classes, (&data.targets, &data.observed), rows, probabilities))
}

fn check_classes(ensemble: &Ensemble, classes: &[String], path: &Path) -> Result<()> {
    if ensemble.classes() != classes {
        let path = path.display();
        return Err(Error::Usage(format!("{path} has labels of other instruments than the models know")));
    }
    Ok(())
}

impl Answered {
    /// `labels`: targets and whether they are known, (all clips, K). `probabilities`: of each model, (rows, K).
    fn new(classes: &[String], labels: (&[f32], &[bool]), rows: &[u32], probabilities: Vec<Vec<f64>>) -> Answered {
        let (n, k) = (rows.len(), classes.len());
        let of = |i: usize| rows[i / k] as usize * k + i % k;
        Answered {
            probabilities: probabilities.into_iter().map(|of| Array::from_fn([n, k], |i| of[i] as f32)).collect(),
            targets: Array::from_fn([n, k], |i| labels.0[of(i)]),
            observed: Array::from_fn([n, k], |i| labels.1[of(i)]),
            classes: classes.to_vec(),
        }
    }

    /// Calibrations and thresholds for the ensemble, from its probabilities before these; `prior` as in
    /// [`Fitted::of_classes`].
    pub fn fit(&self, prior: Option<f64>) -> Fitted {
        let all = &self.probabilities[self.probabilities.len() - 1];
        let k = self.classes.len();
        let of_class = |class: usize| {
            let clips = (0..all.dims()[0]).map(|n| n * k + class).filter(|&i| self.observed.data()[i]);
            clips.map(|i| (all.data()[i], self.targets.data()[i] > 0.5)).collect()
        };
        Fitted::of_classes(&(0..k).map(of_class).collect::<Vec<_>>(), prior)
    }

    /// The scores of a model, or of the ensemble, at the threshold 0.5.
    pub fn evaluation(&self, model: usize, name: &str, dataset: &str, device: &str) -> Evaluation {
        let subject = Subject {
            model: name.into(),
            parameters: 0,
            dataset: dataset.into(),
            split: "test".into(),
            device: device.into(),
            threshold: Threshold::default(),
            single_label: false,
        };
        let thresholds = vec![0.5; self.classes.len()];
        let probabilities = &self.probabilities[model];
        let observed = &self.observed;
        let seed = SeedPredictions { seed: 0, best_epoch: 0, probabilities, observed, thresholds: &thresholds };
        evaluate(subject, &self.classes, &self.targets, &[seed])
    }
}
