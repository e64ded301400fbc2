//! One trained model, or several whose answers are combined.
//!
//! A recording is analysed by each model on its own, from sound to calibrated probabilities. Their weighted mean in the
//! log-odds is the ensemble's, which can have a calibration of its own, as a mean of calibrated probabilities is too
//! cautious. Activity is the weighted mean of the models' activities.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::core::error::{Error, Result};
use crate::metrics::calibration::{self, Calibration, logit, sigmoid};
use crate::metrics::scores::std_dev;
use crate::metrics::thresholds::{self, Threshold};
use crate::predict::options::Options;
use crate::predict::recognition::{Instrument, Recognition};
use crate::predict::timeline::resample;
use crate::predict::trained::Trained;

/// Trained models of the same classes.
#[derive(Clone)]
pub struct Ensemble {
    /// In results, in the place of a model's name.
    pub name: String,
    /// At least one.
    members: Vec<Member>,
    /// From clips that none was trained on.
    pub fitted: Option<Fitted>,
}

/// A model of an ensemble.
#[derive(Clone)]
pub struct Member {
    pub trained: Trained,
    /// Its share in the mean, above 0, relative to the others.
    pub weight: f64,
}

/// What was fitted to an ensemble's probabilities, by class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// (K)
    pub calibrations: Vec<Calibration>,
    /// (K): tuned thresholds of calibrated probabilities.
    pub thresholds: Vec<f64>,
    /// (K, P): thresholds of calibrated probabilities for each of [`calibration::precisions`].
    pub precision_thresholds: Vec<Vec<f64>>,
}

impl Fitted {
    /// Fits the pairs of probability and label of each class. `prior`: how many of the recordings that will be heard
    /// have a class, of labelled clips that were chosen for it; between 0 and 1. `None`: as many as of these.
    pub fn of_classes(labelled: &[Vec<(f32, bool)>], prior: Option<f64>) -> Fitted {
        let mut fitted = Fitted::default();
        let mut weighted = vec![];
        for (class, curve) in labelled.iter().zip(Calibration::of_classes(labelled)) {
            let fraction = class.iter().filter(|(_, label)| *label).count() as f64 / class.len() as f64;
            // A class without both kinds of clips says nothing of how many there are.
            let change = prior.map(|prior| (fraction, prior)).filter(|_| fraction > 0.0 && fraction < 1.0);
            let (curve, [absent, present]) = match change {
                Some((from, to)) => {
                    // A curve that is near that of all classes expects another fraction than these few clips have.
                    let expected = class.iter().map(|(p, _)| curve.apply(f64::from(*p))).sum::<f64>();
                    let curve = curve.with_prior(expected / class.len() as f64, to);
                    (curve, [(1.0 - to) / (1.0 - from), to / from])
                }
                None => (curve, [1.0; 2]),
            };
            let calibrated: Vec<(f64, bool)> = class.iter().map(|(p, l)| (curve.apply(f64::from(*p)), *l)).collect();
            let tuned: Vec<(f32, bool)> = calibrated.iter().map(|(p, label)| (*p as f32, *label)).collect();
            fitted.thresholds.push(thresholds::tune(&tuned));
            weighted.extend(calibrated.iter().map(|(p, label)| (*p, if *label { present } else { absent })));
            fitted.calibrations.push(curve);
        }
        fitted.precision_thresholds = vec![calibration::precision_thresholds(&weighted); labelled.len()];
        fitted
    }

    /// Whether there are values for so many classes, within their ranges.
    pub(crate) fn is_valid(&self, classes: usize) -> bool {
        let threshold = |t: &f64| (0.0..=1.0).contains(t);
        let precisions = calibration::precisions().count();
        self.calibrations.len() == classes
            && self.calibrations.iter().all(Calibration::is_valid)
            && self.thresholds.len() == classes
            && self.thresholds.iter().all(threshold)
            && self.precision_thresholds.len() == classes
            && self.precision_thresholds.iter().all(|row| row.len() == precisions && row.iter().all(threshold))
    }
}

impl From<Trained> for Ensemble {
    fn from(trained: Trained) -> Ensemble {
        let name = trained.about.model.clone();
        Ensemble { name, members: vec![Member { trained, weight: 1.0 }], fitted: None }
    }
}

impl Ensemble {
    /// # Errors
    /// `Usage` for models of different classes, for several of which one is single-label, and for none.
    pub fn new(name: &str, members: Vec<Member>) -> Result<Ensemble> {
        let Some(first) = members.first() else { return Err(Error::Usage("an ensemble needs a model".into())) };
        let classes = &first.trained.about.classes;
        if let Some(other) = members.iter().find(|member| member.trained.about.classes != *classes) {
            let [one, other] = [&first.trained, &other.trained].map(|trained| &trained.about);
            let (one, other, here, there) = (&one.model, &other.model, one.classes.len(), other.classes.len());
            return Err(Error::Usage(format!(
                "{one} and {other} know different instruments ({here} and {there}): answers of models of the same \
                 instruments can be combined"
            )));
        }
        if members.len() > 1 {
            for Member { trained, .. } in &members {
                if let Some(error) = trained.config.unsupported("threshold") {
                    return Err(error);
                }
            }
        }
        Ok(Ensemble { name: name.into(), members, fitted: None })
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn models_mut(&mut self) -> impl Iterator<Item = &mut Trained> {
        self.members.iter_mut().map(|member| &mut member.trained)
    }

    /// The first model, whose spectrogram is displayed.
    pub fn leader(&self) -> &Trained {
        &self.members[0].trained
    }

    /// In the order of the probabilities.
    pub fn classes(&self) -> &[String] {
        &self.leader().about.classes
    }

    /// Replaces the thresholds of all models.
    ///
    /// # Errors
    /// `Usage` for a single-label model.
    pub fn set_threshold(&mut self, level: Threshold) -> Result<()> {
        self.models_mut().try_for_each(|trained| trained.set_threshold(level))
    }

    /// (K): decision thresholds.
    ///
    /// # Errors
    /// As [`Trained::thresholds`].
    pub(crate) fn thresholds(&self) -> Result<Vec<f64>> {
        let level = self.leader().config.threshold;
        match (level, self.fitted()) {
            (Threshold::Tuned, Some(fitted)) => Ok(fitted.thresholds.clone()),
            (Threshold::Precision(wanted), Some(fitted)) => {
                let index = calibration::precision_index(wanted);
                Ok(fitted.precision_thresholds.iter().map(|of_class| of_class[index]).collect())
            }
            (_, _) => {
                let of_each = self.members.iter().map(|member| member.trained.common_thresholds());
                Ok(thresholds::common(&of_each.collect::<Result<Vec<_>>>()?))
            }
        }
    }

    fn fitted(&self) -> Option<&Fitted> {
        self.fitted.as_ref().filter(|_| self.leader().calibrated)
    }

    /// All that determines the recognition of a recording, apart from the models' weights.
    ///
    /// # Errors
    /// `Usage` for an unknown model.
    pub fn settings(&self, options: &Options) -> Result<Map<String, Value>> {
        let [Member { trained, .. }] = &self.members[..] else {
            let each = self.members.iter().map(|member| {
                let mut settings = options.settings(&member.trained)?;
                settings.insert("weight".into(), member.weight.into());
                Ok(Value::Object(settings))
            });
            let members = each.collect::<Result<Vec<_>>>()?;
            let fitted = serde_json::to_value(&self.fitted).expect("numbers serialise");
            return Ok(Map::from_iter([
                ("model".into(), self.name.clone().into()),
                ("members".into(), members.into()),
                ("fitted".into(), fitted),
            ]));
        };
        options.settings(trained)
    }

    /// How the answers of the models are combined, in their order.
    pub(super) fn combination(&self) -> Result<Combination> {
        Ok(Combination {
            name: self.name.clone(),
            weights: self.members.iter().map(|member| member.weight).collect(),
            calibrations: self.fitted().map(|fitted| fitted.calibrations.clone()),
            thresholds: self.thresholds()?,
        })
    }

    /// Splits it into models of the same features, and how their answers are combined.
    pub(super) fn split(mut self) -> Result<(Vec<Vec<Trained>>, Combination)> {
        let mut groups: Vec<(String, Vec<Member>)> = vec![];
        for member in std::mem::take(&mut self.members) {
            let key = member.trained.feature_config()?.key();
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, group)) => group.push(member),
                None => groups.push((key, vec![member])),
            }
        }
        let sizes: Vec<usize> = groups.iter().map(|(_, group)| group.len()).collect();
        self.members = groups.into_iter().flat_map(|(_, group)| group).collect();
        let combination = self.combination()?;
        let mut models = self.members.into_iter().map(|member| member.trained);
        Ok((sizes.into_iter().map(|size| models.by_ref().take(size).collect()).collect(), combination))
    }
}

/// How the answers of models are combined.
#[derive(Serialize)]
pub(crate) struct Combination {
    name: String,
    /// By model.
    weights: Vec<f64>,
    /// (K)
    calibrations: Option<Vec<Calibration>>,
    /// (K) decision thresholds.
    pub thresholds: Vec<f64>,
}

impl Combination {
    /// The weighted mean of ensembles that are calibrated, and of their thresholds.
    pub fn of_calibrated(name: &str, weights: Vec<f64>, parts: &[Combination]) -> Combination {
        let mut whole = Combination { name: name.into(), weights, calibrations: None, thresholds: vec![] };
        whole.thresholds = match parts {
            [only] => only.thresholds.clone(),
            parts => {
                let of_class =
                    |k: usize| whole.mean_of(&parts.iter().map(|part| part.thresholds[k]).collect::<Vec<_>>());
                (0..parts[0].thresholds.len()).map(of_class).collect()
            }
        };
        whole
    }

    /// How many answers it combines.
    pub fn models(&self) -> usize {
        self.weights.len()
    }

    fn share(&self, model: usize) -> f64 {
        // Relative to the largest, whose sum is finite.
        let most = self.weights.iter().copied().fold(0.0, f64::max);
        self.weights[model] / most / self.weights.iter().map(|weight| weight / most).sum::<f64>()
    }

    /// The mean of the models' probabilities in the log-odds; 0 in silence, where all are.
    fn mean_of(&self, each: &[f64]) -> f64 {
        let log_odds: f64 = each.iter().enumerate().map(|(m, p)| self.share(m) * logit(*p)).sum();
        if each.iter().all(|p| *p == 0.0) { 0.0 } else { sigmoid(log_odds) }
    }

    /// The probability of a class; silence has none that is calibrated.
    fn calibrated(&self, class: usize, mean: f64) -> f64 {
        match &self.calibrations {
            Some(calibrations) if mean > 0.0 => calibrations[class].apply(mean),
            _ => mean,
        }
    }

    /// The probability of a class, from those of the models.
    pub fn probability(&self, class: usize, each: &[f64]) -> f64 {
        self.calibrated(class, self.mean_of(each))
    }

    /// The answer of all models to a recording, of those of `each`, in the order of the weights.
    pub fn combine(&self, each: &[Recognition], options: &Options) -> Recognition {
        let mut answer = match each {
            [only] => Recognition { model: self.name.clone(), ..only.clone() },
            _ => self.mean(each),
        };
        if each.len() == 1 && self.calibrations.is_none() {
            // It has decided for itself.
            return answer;
        }
        let (cell, duration, reliable) = (answer.cell, answer.duration, !answer.is_unreliable());
        for (class, instrument) in answer.instruments.iter_mut().enumerate() {
            instrument.probability = self.calibrated(class, instrument.probability);
            let (threshold, heard) = (self.thresholds[class], instrument.activity.iter().any(|a| *a > 0.0));
            let present = (reliable || options.keep_unreliable) && instrument.probability >= threshold && heard;
            (instrument.threshold, instrument.present) = (Some(threshold), present);
            let segments = || options.segmentation.of_present(&instrument.activity, cell, duration);
            instrument.segments = if present { segments() } else { vec![] };
        }
        answer
    }

    /// The mean of several answers, without decisions.
    fn mean(&self, each: &[Recognition]) -> Recognition {
        let (first, cell) = (&each[0], each[0].cell);
        let cells = ((first.duration / cell).ceil() as usize).max(1);
        // Of curves, on the cells of the first.
        let mean = |curve: &dyn Fn(&Instrument) -> Option<Vec<f32>>, class: usize| -> Option<Vec<f32>> {
            let mut sums = vec![0.0; cells];
            for (m, r) in each.iter().enumerate() {
                let curve = resample(&curve(&r.instruments[class])?, r.cell, 0.0..cells as f64 * cell, cells);
                sums.iter_mut().zip(curve).for_each(|(sum, v)| *sum += self.share(m) as f32 * v);
            }
            Some(sums)
        };
        let instrument = |class: usize| {
            let probabilities: Vec<f64> = each.iter().map(|r| r.instruments[class].probability).collect();
            Instrument {
                name: first.instruments[class].name.clone(),
                probability: self.mean_of(&probabilities),
                spread: std_dev(probabilities.into_iter().map(Some)),
                threshold: None,
                present: false,
                activity: mean(&|i| Some(i.activity.clone()), class).expect("every model has activities"),
                attention: mean(&|i| i.attention.clone(), class),
                attention_map: None,
                segments: vec![],
            }
        };
        let instruments = (0..first.instruments.len()).map(instrument).collect();
        let mut condition = first.condition.clone();
        for warning in each.iter().skip(1).flat_map(|r| &r.condition.warnings) {
            if !condition.warnings.contains(warning) {
                condition.warnings.push(warning.clone());
            }
        }
        // Of all models, each seed once.
        let seeds: BTreeSet<u64> = each.iter().flat_map(|r| r.seeds.iter().copied()).collect();
        Recognition {
            file: first.file.clone(),
            duration: first.duration,
            condition,
            // What one model cannot judge, the others were not made for either.
            distance: each.iter().filter_map(|r| r.distance).max_by(f64::total_cmp),
            model: self.name.clone(),
            seeds: seeds.into_iter().collect(),
            cell,
            instruments,
            paths: vec![],
            bands: vec![],
            patches: vec![],
            tags: vec![],
        }
    }
}
