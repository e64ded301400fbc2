//! What an objective of pre-training needs, what its best constant output loses, and the names of its files.

use std::path::PathBuf;

use crate::core::error::{Error, Result};
use crate::core::hash::Fingerprint;
use crate::data::{Dataset, Tagged};
use crate::gpu::{Buffer, Gpu};
use crate::nn::front_ends::log_mel::BANDS;
use crate::nn::models::pretraining::{ALIGN, MARGIN, TAGS, TEXTUAL, WORDS};
use crate::run::config::{Config, Pretraining};

pub(super) fn settings(config: &Config) -> Result<&Pretraining> {
    config
        .pretrain
        .as_ref()
        .ok_or_else(|| Error::Usage(format!("{} is not an objective of pre-training", config.model)))
}

/// Whether an objective needs labels of its sounds.
pub(crate) fn needs_labels(objective: &str) -> bool {
    needed(objective).is_some()
}

/// A name for a run of `config` on `data`, by what determines its front ends.
///
/// # Errors
/// `Usage` for settings that cannot be written.
pub fn name(config: &Config, data: &Dataset) -> Result<String> {
    let mut fingerprint = Fingerprint::default();
    let mut config = config.clone();
    (config.dataset, config.cache) = (PathBuf::new(), None);
    config.pretrain.iter_mut().for_each(|of| (of.sounds, of.labels, of.words) = (vec![], None, None));
    fingerprint.mix_bytes(config.table()?.to_string().as_bytes());
    fingerprint.mix(data.fingerprint());
    Ok(format!("{}-{:016x}", config.model, fingerprint.finish()))
}

/// The labels that an objective needs of each sound; `None`: none.
pub(super) fn needed(objective: &str) -> Option<fn(&Tagged) -> &Vec<String>> {
    match objective {
        TEXTUAL => Some(|tagged| &tagged.words),
        ALIGN | TAGS => Some(|tagged| &tagged.tags),
        _ => None,
    }
}

/// The word vectors of the classes of `data`, (D, K), by the name under which a graph binds them; none for other
/// objectives.
pub(crate) fn words(gpu: &Gpu, data: &Dataset) -> Result<Vec<(String, Buffer)>> {
    let Some(first) = data.word_vectors.first() else { return Ok(vec![]) };
    let columns: Vec<f32> =
        (0..first.len()).flat_map(|d| data.word_vectors.iter().map(move |vector| vector[d])).collect();
    Ok(vec![(WORDS.into(), gpu.upload(WORDS, &columns)?)])
}

/// The validation loss of the best constant output for the training patches: what a model must beat. For `align` that
/// of chance.
///
/// # Errors
/// `Usage` for a model that is not an objective.
pub(crate) fn constant_loss(config: &Config, data: &Dataset) -> Result<f64> {
    let (pretrain, k) = (settings(config)?, data.classes.len());
    let validation = data.validation.as_deref().unwrap_or_default();
    let targets = |patch: &u32| data.targets[*patch as usize * k..][..k].iter().map(|v| f64::from(*v));
    let mean_of = |rows: &[Vec<f64>]| -> Vec<f64> {
        (0..rows[0].len()).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / rows.len() as f64).collect()
    };
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    Ok(match config.model.as_str() {
        TAGS => {
            let (n, rates) = (
                data.train.len() as f64,
                mean_of(&data.train.iter().map(|p| targets(p).collect()).collect::<Vec<_>>()),
            );
            let loss = |(t, rate): (f64, &f64)| {
                // As if of two patches more one had the tag: it may be that of none, or of all.
                let p = (rate * n + 1.0) / (n + 2.0);
                -(t * p.ln() + (1.0 - t) * (1.0 - p).ln())
            };
            mean(validation.iter().flat_map(|p| targets(p).zip(&rates).map(loss).collect::<Vec<_>>()).collect())
        }
        TEXTUAL => {
            let unit = |p: &u32| -> Vec<f64> {
                let mut sum = vec![0.0; data.word_vectors[0].len()];
                for (t, vector) in targets(p).zip(&data.word_vectors) {
                    sum.iter_mut().zip(vector).for_each(|(s, v)| *s += t * f64::from(*v));
                }
                let norm = sum.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
                sum.into_iter().map(|v| v / norm).collect()
            };
            let constant = mean_of(&data.train.iter().map(unit).collect::<Vec<_>>());
            let norm = constant.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
            let cosine = |p| unit(p).iter().zip(&constant).map(|(a, b)| a * b / norm).sum::<f64>();
            let differ = |cos: f64| if pretrain.head.negatives { (cos - MARGIN).max(0.0) } else { 0.0 };
            mean(validation.iter().map(cosine).map(|cos| 1.0 - cos + differ(cos)).collect())
        }
        ALIGN => {
            // Among all others of a batch, which the last may have fewer of.
            let chance = |batch: &[u32]| batch.len() as f64 * (2.0 * batch.len() as f64 - 1.0).ln();
            validation.chunks(config.batch).map(chance).sum::<f64>() / validation.len() as f64
        }
        _ => {
            let bands = |p: &u32| -> Vec<f64> {
                let clip = data.features.clip(*p as usize);
                let frames = clip.data().len() / BANDS;
                (0..BANDS)
                    .map(|band| clip.data().iter().skip(band).step_by(BANDS).map(|v| f64::from(*v)).sum::<f64>())
                    .map(|sum| sum / frames as f64)
                    .collect()
            };
            let constant = mean_of(&data.train.iter().map(bands).collect::<Vec<_>>());
            let error = |(i, v): (usize, &f32)| {
                let d = f64::from(*v) - constant[i % BANDS];
                if pretrain.head.absolute { d.abs() } else { d * d }
            };
            let loss = |p: &u32| mean(data.features.clip(*p as usize).data().iter().enumerate().map(error).collect());
            mean(validation.iter().map(loss).collect())
        }
    })
}
