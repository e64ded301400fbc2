//! The clips of a run, with the features that its model takes: read from an archive, or extracted from audio.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::error::{Error, Result};
use crate::core::files::cache_folder;
use crate::data::{AudioSet, Dataset, Mixer, Notes, class_named, features_npz, has_class_map, has_features};
use crate::features::audio_files::{ExtractionJob, join};
use crate::features::feature_config::FeatureConfig;
use crate::features::front_end::FrontEnd;
use crate::gpu::Gpu;
use crate::nn::FeatureKind;
use crate::run::config::Config;
use crate::run::front_end::Use;

/// Which labels are needed, and for what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// For training: the train and the test split must have labels.
    Required,
    /// For a trained run: any labels will do.
    Any,
}

/// What happens while features are extracted.
#[derive(Clone, Copy, Debug)]
pub enum Loading<'a> {
    /// So many of the dataset's files are done.
    Files { done: usize, of: usize },
    /// So many of the notes of mixtures are decoded.
    Notes { done: usize, of: usize },
    /// A file that was skipped or is damaged: one line.
    Fault(&'a str),
}

/// Loads the clips of `config`, and adds the front end of their features to it. Features of audio are extracted into
/// the cache, where they are not in it yet: until all are done or `stop` returns true, with `progress` called for each
/// file. `None` if it was stopped; the next call continues there.
///
/// # Errors
/// `Data` for a damaged dataset, and for features that the model does not take; `Usage` for an objective of
/// pre-training, whose data are [patches](crate::run::patches::load_patches); those of [`ExtractionJob::dataset`].
pub fn load_clips(
    gpu: &Gpu,
    config: &mut Config,
    labels: Labels,
    stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(Loading),
) -> Result<Option<Dataset>> {
    config.check_recogniser()?;
    let kind = config.kind()?;
    let purpose = if labels == Labels::Any { Use::Input } else { Use::Training };
    let data = match (audio_of(config)?, features_of(config, kind)) {
        (Some(audio), _) => from_audio(gpu, config, audio, stop, progress)?,
        (None, Some(npz)) => {
            config.check_features(&npz, purpose)?;
            Some(match (has_class_map(&config.dataset), config.features.is_some()) {
                // The dataset's own archive has its labels, too.
                (true, false) => Dataset::load_labelled(&config.dataset, &mut config.feature_scale)?,
                (true, true) if config.notes.is_none() => {
                    Dataset::load_with(&config.dataset, &npz, &mut config.feature_scale)?
                }
                _ => join(&audio_set(config)?, &npz, config.clips()?, &mut config.feature_scale)?,
            })
        }
        (None, None) => {
            let folder = config.dataset.clone();
            config.check_features(&folder, purpose)?;
            Some(Dataset::load_labelled(&config.dataset, &mut config.feature_scale)?)
        }
    };
    let Some(mut data) = data else { return Ok(None) };
    if let Some(times) = &config.times {
        data = data.with_times(times, kind.row().seconds)?;
    }
    if let Some(keys) = &config.val_keys {
        data = data.with_validation_keys(keys)?;
    }
    if labels == Labels::Required {
        if let Some(folder) = &config.mix {
            let Some(mixer) = mixer(config, folder, &data, stop, progress)? else { return Ok(None) };
            data.warnings.extend(mixer.notes().warnings.iter().cloned());
            data.mixer = Some(Arc::new(mixer));
        }
        data.check_splits()?;
        data.warnings.extend(unused_times(config, &data));
    }
    Ok(Some(data))
}

/// The mixer of the notes in `folder`; `None` if `stop` returned true.
fn mixer(
    config: &Config,
    folder: &Path,
    data: &Dataset,
    stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(Loading),
) -> Result<Option<Mixer>> {
    let kind = config.kind()?;
    features_of_mixtures(config)?;
    let Some(notes) = Notes::load(folder, stop, &mut |done, of| progress(Loading::Notes { done, of }))? else {
        return Ok(None);
    };
    let is_other = |class: &&String| class_named(&data.classes, class).is_none();
    let others: Vec<&str> = notes.classes.iter().filter(is_other).map(String::as_str).collect();
    if !others.is_empty() {
        let reason = format!("has notes of {}, which the dataset does not have", others.join(", "));
        return Err(Error::data(folder, reason));
    }
    Mixer::new(notes, config.mix_seconds.unwrap_or(kind.window()), 0).map(Some)
}

/// How mixtures become the features of a model.
///
/// # Errors
/// `Usage` if the front end that made the dataset's features is not known.
pub(crate) fn features_of_mixtures(config: &Config) -> Result<FeatureConfig> {
    let reason = "mixtures need the front end that made the dataset's features: give `front_end.weights`";
    feature_config(config)?.ok_or_else(|| Error::Usage(reason.into()))
}

/// How sound becomes the features of a model; `None` if the front end that it needs is not known.
fn feature_config(config: &Config) -> Result<Option<FeatureConfig>> {
    let kind = config.kind()?;
    if !config.needs_weights()? {
        let scale = config.notes.unwrap_or_default().scale;
        return Ok(Some(FeatureConfig { scale, ..FeatureConfig::of(kind) }));
    }
    // Log-mel patches do not depend on VGGish's weights.
    let front_end = |front_end: &FrontEnd| kind.row().weights.is_some().then(|| front_end.clone());
    let known = config.front_end.clone().or_else(|| FrontEnd::of_stored(kind));
    Ok(known.map(|of_run| FeatureConfig { front_end: front_end(&of_run), ..FeatureConfig::of(kind) }))
}

/// The archive of features to use: the one in the settings; else, for models on embeddings, the dataset's own.
fn features_of(config: &Config, kind: FeatureKind) -> Option<PathBuf> {
    let own = || {
        features_npz(&config.dataset)
            .or_else(|| Some(config.dataset.join(kind.row().file)).filter(|npz| npz.is_file()))
            .filter(|_| kind.row().published)
    };
    config.features.clone().or_else(own)
}

/// The audio from which [`load_clips`] extracts features, and how; `None` if it reads them from a file.
pub(crate) fn audio_of(config: &Config) -> Result<Option<(AudioSet, FeatureConfig)>> {
    let kind = config.kind()?;
    if features_of(config, kind).is_some() || kind.row().published && has_features(&config.dataset) {
        return Ok(None);
    }
    let Some(feature_config) = feature_config(config)? else {
        let reason = "has audio, but no features; extract them, or give VGGish weights \
                      (`front_end.weights` FILE or random)";
        return match audio_set(config) {
            Ok(_) => Err(Error::data(&config.dataset, reason)),
            Err(error) => Err(error),
        };
    };
    Ok(Some((audio_set(config)?, feature_config)))
}

/// Why the times of a dataset are not used in training, if that was not asked for.
fn unused_times(config: &Config, data: &Dataset) -> Option<String> {
    let is_used = config.weight_of_instances(true) > 0.0 || config.strong_weight == Some(0.0);
    let why = match config.augment.is_empty() {
        true => format!("{} has no probabilities of instances", config.model),
        false => "mixed clips have none".into(),
    };
    (data.strong.is_some() && !is_used).then(|| format!("times only say in which clips an instrument plays ({why})"))
}

fn audio_set(config: &Config) -> Result<AudioSet> {
    AudioSet::load_with(&config.dataset, config.unlisted).map_err(|error| match config.notes {
        Some(_) if has_class_map(&config.dataset) => {
            let reason = "takes single notes: a folder of audio files for each class is expected";
            Error::data(&config.dataset, format!("is a dataset of longer clips, but {} {reason}", config.model))
        }
        _ => error,
    })
}

fn from_audio(
    gpu: &Gpu,
    config: &mut Config,
    (set, mut feature_config): (AudioSet, FeatureConfig),
    stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(Loading),
) -> Result<Option<Dataset>> {
    if let Some(keys) = config.val_keys.as_ref().filter(|_| config.notes.is_none()) {
        // What is wrong with them is said before the extraction.
        set.splits(config.val_fraction, Some(keys))?;
    }
    let weights = feature_config.load()?;
    match (&feature_config.front_end, &mut config.front_end) {
        (Some(pinned), front_end) => *front_end = Some(pinned.clone()),
        // A run that trains its front end on log-mel patches does not need the initial weights any more.
        (None, Some(front_end)) if front_end.fingerprint.is_none() => drop(front_end.pin()?),
        _ => {}
    }
    let mut job = ExtractionJob {
        gpu,
        feature_config: &feature_config,
        weights: weights.as_ref(),
        stop,
        progress: &mut |done| progress(Loading::Files { done, of: set.files.len() }),
    };
    let cache = config.cache.clone().unwrap_or_else(cache_folder);
    let Some((data, faults, made)) = job.dataset(&set, &cache, config.clips()?)? else { return Ok(None) };
    faults.iter().for_each(|line| progress(Loading::Fault(line)));
    if let (Some(front_end), Some(made)) = (&mut config.front_end, made.front_end) {
        front_end.range = made.range;
    }
    Ok(Some(data))
}
