//! The data of a pre-training run: log-mel patches of sounds, with the words or tags of their files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use crate::audio::audio_files;
use crate::core::error::{Error, Result};
use crate::core::hash::Fingerprint;
use crate::data::{Dataset, FeatureValues, Features, Tagged, load_features, read_tags, validation_split, word_vectors};
use crate::features::audio_files::{AudioFiles, ExtractionJob, cache_folder};
use crate::features::feature_config::FeatureConfig;
use crate::gpu::{Buffer, Gpu};
use crate::nn::FeatureKind;
use crate::nn::front_ends::log_mel::{BANDS, OFFSET};
use crate::nn::models::pretraining::{ALIGN, MARGIN, TAGS, TEXTUAL, WORDS};
use crate::run::clips::Loading;
use crate::run::config::{Config, Pretraining};

/// Magnitudes below this share of the loudest of their file are silence: -60 dB.
const SILENCE: f32 = 1e-3;
/// The same validation files for all seeds.
const SPLIT_SEED: u64 = 0;

fn settings(config: &Config) -> Result<&Pretraining> {
    config
        .pretrain
        .as_ref()
        .ok_or_else(|| Error::Usage(format!("{} is not an objective of pre-training", config.model)))
}

/// Whether an objective needs labels of its sounds.
pub fn needs_labels(objective: &str) -> bool {
    needed(objective).is_some()
}

/// File name of the front end of a seed, of a run of `seeds`.
pub fn front_end_file(seeds: &[u64], seed: u64) -> String {
    match seeds.len() {
        1 => "vggish.safetensors".to_owned(),
        _ => format!("vggish-{seed}.safetensors"),
    }
}

/// A name for a run of `config` on `data`, by what determines its front ends.
///
/// # Errors
/// As [`word_vectors`].
pub fn name(config: &Config, data: &Dataset) -> Result<String> {
    let mut fingerprint = Fingerprint::default();
    if config.model == TEXTUAL {
        vectors(config, data)?.iter().for_each(|vector| fingerprint.mix_bytes(bytemuck::cast_slice(vector)));
    }
    let mut config = config.clone();
    (config.dataset, config.cache) = (PathBuf::new(), None);
    config.pretrain.iter_mut().for_each(|of| (of.sounds, of.labels, of.words) = (vec![], None, None));
    fingerprint.mix_bytes(config.table()?.to_string().as_bytes());
    fingerprint.mix(data.fingerprint());
    Ok(format!("{}-{:016x}", config.model, fingerprint.finish()))
}

/// The labels that an objective needs of each sound; `None`: none.
fn needed(objective: &str) -> Option<fn(&Tagged) -> &Vec<String>> {
    match objective {
        TEXTUAL => Some(|tagged| &tagged.words),
        ALIGN | TAGS => Some(|tagged| &tagged.tags),
        _ => None,
    }
}

/// Loads the patches of the sounds of `config`, one clip each, and their labels: of 0.96 s, not silent. Their features are cached as
/// those of [`crate::run::clips::load_clips`]. A tenth of the files is for validation. `None` if `stop` returned true.
///
/// # Errors
/// `Data` for a damaged table of labels, words without vectors, and sounds of which none has labels; those of extraction.
pub fn load_patches(
    gpu: &Gpu,
    config: &mut Config,
    stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(Loading),
) -> Result<Option<Dataset>> {
    let pretrain = settings(config)?;
    let found = audio_files(&pretrain.sounds)?;
    let needed = needed(&config.model);
    let (mut warnings, mut labels) = (Vec::from_iter(found.note()), vec![vec![]; found.files.len()]);
    if let Some(of) = needed {
        let Some(table) = &pretrain.labels else {
            return Err(Error::Usage(format!(
                "{} needs `labels`: a table of the sounds' words and tags",
                config.model
            )));
        };
        let mut known = read_tags(table)?;
        for (labels, place) in labels.iter_mut().zip(&found.places) {
            let place = place.to_string_lossy().replace('\\', "/");
            // As given, or with the name of the folder in front.
            let folder = config.dataset.file_name().map(|name| format!("{}/{place}", name.to_string_lossy()));
            let name = [Some(place), folder].into_iter().flatten().find(|name| known.contains_key(name));
            if let Some(tagged) = name.and_then(|name| known.remove(&name)) {
                *labels = of(&tagged).clone();
            }
        }
        let without = labels.iter().filter(|labels| labels.is_empty()).count();
        if without > 0 {
            warnings.push(format!("{without} of {} sounds have no labels and are left out", labels.len()));
        }
        if let Some((first, _)) = known.first_key_value() {
            warnings.push(format!("{}: {} files are not among the sounds, e.g. {first}", table.display(), known.len()));
        }
        if without == labels.len() {
            return Err(Error::data(
                table,
                "has no labels for any of the sounds (files are named from their folder on)",
            ));
        }
    }
    let audio = AudioFiles::of_files(found.files);
    let (feature_config, files) = (FeatureConfig::of(FeatureKind::LogMel), audio.files.len());
    let mut job = ExtractionJob {
        gpu,
        feature_config: &feature_config,
        weights: None,
        stop,
        progress: &mut |done| progress(Loading::Files { done, of: files }),
    };
    let cache = config.cache.clone().unwrap_or_else(cache_folder);
    let Some((npz, faults)) = job.cached(&audio, &cache)? else { return Ok(None) };
    faults.iter().for_each(|line| progress(Loading::Fault(line)));
    let (keys, features, _) = load_features(&npz, &mut None)?;
    let at: HashMap<&str, usize> = audio.keys.iter().map(String::as_str).zip(0..).collect();
    let file_of = |key: &str| at.get(key).or_else(|| at.get(key.rsplit_once('@')?.0)).copied();
    let mut excerpts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (excerpt, key) in keys.iter().enumerate() {
        let file = file_of(key).ok_or_else(|| Error::data(&npz, format!("has features of another sound, {key:?}")))?;
        if needed.is_none() || !labels[file].is_empty() {
            excerpts.entry(file).or_default().push(excerpt);
        }
    }
    let loudness = |patch: &[f32]| patch.iter().copied().fold(f32::NEG_INFINITY, f32::max).exp() - OFFSET;
    let (mut values, mut patches): (Vec<f32>, Vec<(String, usize)>) = (vec![], vec![]);
    for (&file, excerpts) in &excerpts {
        let clips: Vec<_> = excerpts.iter().map(|&excerpt| (excerpt, features.clip(excerpt))).collect();
        let rows = || {
            clips
                .iter()
                .flat_map(|(excerpt, clip)| clip.data().chunks_exact(features.width).map(move |row| (*excerpt, row)))
        };
        let loudest = rows().map(|(_, row)| loudness(row)).fold(0.0, f32::max);
        for (place, (excerpt, row)) in rows().enumerate().filter(|(_, (_, row))| loudness(row) > SILENCE * loudest) {
            values.extend_from_slice(row);
            patches.push((format!("{}#{place}", keys[excerpt]), file));
        }
    }
    let used: BTreeSet<usize> = patches.iter().map(|(_, file)| *file).collect();
    let classes: Vec<String> = match needed {
        Some(_) => used.iter().flat_map(|&file| &labels[file]).collect::<BTreeSet<_>>().into_iter().cloned().collect(),
        // Sounds alone.
        None => vec!["sound".into()],
    };
    if needed.is_some() && classes.len() < 2 {
        let of = if config.model == TEXTUAL { "word" } else { "tag" };
        return Err(Error::Usage(format!(
            "{} needs at least two different {of}s, got {}",
            config.model,
            classes.len()
        )));
    }
    let files: Vec<u32> = used.iter().map(|&file| file as u32).collect();
    let held: BTreeSet<u32> = validation_split(&files, config.val_fraction, SPLIT_SEED)?.1.into_iter().collect();
    let (validation, train) = (0..patches.len() as u32).partition(|&p| held.contains(&(patches[p as usize].1 as u32)));
    let target = |(_, file): &(String, usize)| -> Vec<f32> {
        classes.iter().map(|class| f32::from(labels[*file].contains(class))).collect()
    };
    if config.model == TEXTUAL {
        let words = pretrain.words.clone();
        let width = word_vectors(words.as_deref(), &classes)?[0].len();
        config.pretrain.iter_mut().for_each(|pretrain| pretrain.head.vector = width);
    }
    let features = Features {
        values: FeatureValues::F32(values.into()),
        instances: 1,
        width: features.width,
        lengths: vec![1; patches.len()],
        spectrum: None,
    };
    Ok(Some(Dataset {
        path: config.dataset.clone(),
        targets: patches.iter().flat_map(target).collect(),
        observed: vec![true; patches.len() * classes.len()],
        keys: patches.into_iter().map(|(key, _)| key).collect(),
        classes,
        features,
        strong: None,
        train,
        validation: Some(validation),
        test: vec![],
        drawn: None,
        warnings,
    }))
}

/// The word vectors of the classes of `data`.
///
/// # Errors
/// As [`word_vectors`].
pub fn vectors(config: &Config, data: &Dataset) -> Result<Vec<Vec<f32>>> {
    word_vectors(settings(config)?.words.as_deref(), &data.classes)
}

/// The word vectors of the classes of `data`, (D, K), by the name under which a graph binds them; none for other objectives.
pub(crate) fn words(gpu: &Gpu, config: &Config, data: &Dataset) -> Result<Vec<(String, Buffer)>> {
    if config.model != TEXTUAL {
        return Ok(vec![]);
    }
    let vectors = vectors(config, data)?;
    let width = vectors[0].len();
    let columns: Vec<f32> = (0..width).flat_map(|d| vectors.iter().map(move |vector| vector[d])).collect();
    Ok(vec![(WORDS.into(), gpu.upload(WORDS, &columns)?)])
}

/// The validation loss of the best constant output for the training patches: what a model must beat. For `align` that of chance.
///
/// # Errors
/// As [`word_vectors`].
pub fn constant_loss(config: &Config, data: &Dataset) -> Result<f64> {
    let (pretrain, k) = (settings(config)?, data.classes.len());
    let validation = data.validation.as_deref().unwrap_or_default();
    let targets = |patch: &u32| data.targets[*patch as usize * k..][..k].iter().map(|v| f64::from(*v));
    let mean_of = |rows: &[Vec<f64>]| -> Vec<f64> {
        (0..rows[0].len()).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / rows.len() as f64).collect()
    };
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    Ok(match config.model.as_str() {
        TAGS => {
            let rate = mean_of(&data.train.iter().map(|p| targets(p).collect()).collect::<Vec<_>>());
            // PyTorch's clamp of logarithms.
            let ln = |p: f64| p.ln().max(-100.0);
            let loss = |(t, p): (f64, &f64)| -(t * ln(*p) + (1.0 - t) * ln(1.0 - p));
            mean(validation.iter().flat_map(|p| targets(p).zip(&rate).map(loss).collect::<Vec<_>>()).collect())
        }
        TEXTUAL => {
            let vectors = vectors(config, data)?;
            let unit = |p: &u32| -> Vec<f64> {
                let mut sum = vec![0.0; vectors[0].len()];
                for (t, vector) in targets(p).zip(&vectors) {
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
        ALIGN => (2.0 * config.batch as f64 - 1.0).ln(),
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
