//! Ensembles that are calibrated by themselves, and whose answers are averaged.
//!
//! The probability is the weighted mean of theirs in the log-odds, and so is the decision threshold.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::core::error::{Error, Result};
use crate::features::front_end::Source;
use crate::gpu::Precision;
use crate::metrics::thresholds::Threshold;
use crate::nn::front_ends::vggish::Width;
use crate::predict::ensemble::{Combination, Ensemble};
use crate::predict::options::Options;
use crate::predict::recognition::Recognition;
use crate::predict::trained::Trained;
use crate::run::tuning::Tuning;

/// Ensembles of the same classes.
#[derive(Clone)]
pub struct Mixture {
    /// In results, in the place of a model's name.
    pub name: String,
    /// At least one.
    parts: Vec<Part>,
}

/// An ensemble of a mixture.
#[derive(Clone)]
pub struct Part {
    pub ensemble: Ensemble,
    /// Its share in the mean, above 0, relative to the others.
    pub weight: f64,
}

impl<E: Into<Ensemble>> From<E> for Mixture {
    fn from(ensemble: E) -> Mixture {
        let ensemble = ensemble.into();
        Mixture { name: ensemble.name.clone(), parts: vec![Part { ensemble, weight: 1.0 }] }
    }
}

impl Mixture {
    /// # Errors
    /// `Usage` for ensembles of different classes, and for none.
    pub fn new(name: &str, parts: Vec<Part>) -> Result<Mixture> {
        let Some(first) = parts.first() else { return Err(Error::Usage("a mixture needs a model".into())) };
        let classes = first.ensemble.classes();
        if let Some(other) = parts.iter().find(|part| part.ensemble.classes() != classes) {
            let (one, other) = (&first.ensemble.name, &other.ensemble.name);
            return Err(Error::Usage(format!("{one} and {other} know different instruments")));
        }
        Ok(Mixture { name: name.into(), parts })
    }

    /// All models.
    pub fn models(&self) -> impl Iterator<Item = &Trained> {
        self.parts.iter().flat_map(|part| part.ensemble.members()).map(|member| &member.trained)
    }

    /// All models, to set what a run does not know.
    pub fn models_mut(&mut self) -> impl Iterator<Item = &mut Trained> {
        self.parts.iter_mut().flat_map(|part| part.ensemble.models_mut())
    }

    /// The first model, whose spectrogram is displayed.
    pub fn leader(&self) -> &Trained {
        self.parts[0].ensemble.leader()
    }

    /// Says where the weights of the models' front ends are now, of those that need any.
    ///
    /// # Errors
    /// As [`Config::locate_front_end`](crate::Config::locate_front_end).
    pub fn locate_front_ends(&mut self, weights: &Source, width: Option<Width>, pca: Option<&PathBuf>) -> Result<()> {
        let needs = self.models().map(|trained| trained.config.needs_weights()).collect::<Result<Vec<_>>>()?;
        // Where none does, the first says so.
        let is_meant = |m: &usize| needs[*m] || !needs.contains(&true);
        let meant = self.models_mut().enumerate().filter(|(m, _)| is_meant(m));
        meant.map(|(_, trained)| trained).try_for_each(|trained| trained.config.locate_front_end(weights, width, pca))
    }

    /// Replaces the thresholds of all models.
    ///
    /// # Errors
    /// `Usage` for a single-label model.
    pub fn set_threshold(&mut self, level: Threshold) -> Result<()> {
        self.models_mut().try_for_each(|trained| trained.set_threshold(level))
    }

    /// Replaces the tilings of all models, and, if one is given, the precision of their products.
    pub fn set_kernels(&mut self, tuning: Option<&Tuning>, precision: Option<Precision>) {
        for trained in self.models_mut() {
            trained.config.tuning = tuning.cloned();
            trained.config.precision = precision.unwrap_or(trained.config.precision);
        }
    }

    /// Sets whether probabilities are calibrated.
    pub fn set_calibrated(&mut self, calibrated: bool) {
        self.models_mut().for_each(|trained| trained.calibrated = calibrated);
    }

    /// All that determines the recognition of a recording, apart from the models' weights.
    ///
    /// # Errors
    /// `Usage` for an unknown model.
    pub fn settings(&self, options: &Options) -> Result<Map<String, Value>> {
        if let [Part { ensemble, .. }] = &self.parts[..] {
            let mut settings = ensemble.settings(options)?;
            settings.insert("model".into(), self.name.clone().into());
            return Ok(settings);
        }
        let each = self.parts.iter().map(|part| {
            let mut settings = part.ensemble.settings(options)?;
            settings.insert("weight".into(), part.weight.into());
            Ok(Value::Object(settings))
        });
        let parts = each.collect::<Result<Vec<_>>>()?;
        Ok(Map::from_iter([("model".into(), self.name.clone().into()), ("parts".into(), parts.into())]))
    }

    /// Splits it into models of the same features, and how their answers are combined.
    pub(crate) fn split(self) -> Result<(Vec<Vec<Trained>>, Combinations)> {
        let weights: Vec<f64> = self.parts.iter().map(|part| part.weight).collect();
        let (mut models, mut parts) = (vec![], vec![]);
        for Part { ensemble, .. } in self.parts {
            let (of_part, combination) = ensemble.split()?;
            models.extend(of_part);
            parts.push(combination);
        }
        let whole = Combination::of_calibrated(&self.name, weights, &parts);
        Ok((models, Combinations { whole, parts }))
    }
}

/// How the answers of the models of each part, and then those of the parts, are combined.
#[derive(Serialize)]
pub(crate) struct Combinations {
    parts: Vec<Combination>,
    whole: Combination,
}

impl Combinations {
    /// (K) decision thresholds.
    pub fn thresholds(&self) -> &[f64] {
        &self.whole.thresholds
    }

    /// The answer of all models to a recording, of those of `each`.
    pub fn combine(&self, mut each: &[Recognition], options: &Options) -> Recognition {
        let of_part = |part: &Combination| {
            let (of_part, others) = each.split_at(part.models());
            each = others;
            part.combine(of_part, options)
        };
        let of_parts: Vec<Recognition> = self.parts.iter().map(of_part).collect();
        self.whole.combine(&of_parts, options)
    }
}
