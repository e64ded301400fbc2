//! The clips of a run, with the features that its model takes: read from an archive, or extracted from audio.

use std::path::{Path, PathBuf};

use crate::core::error::{Error, Result};
use crate::data::{AudioSet, Dataset, features_npz, has_class_map, has_features, npz_note};
use crate::features::audio_files::{ExtractionJob, cache_folder, join};
use crate::features::feature_config::FeatureConfig;
use crate::features::front_end::FrontEnd;
use crate::gpu::Gpu;
use crate::nn::{self, FeatureKind};
use crate::run::config::Config;

/// Which labels are needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// The train and the test split must have labels.
    Required,
    /// Any labels will do.
    Any,
}

/// What happens while features are extracted.
#[derive(Clone, Copy, Debug)]
pub enum Loading<'a> {
    /// So many of the dataset's files are done.
    Files { done: usize, of: usize },
    /// A file that was skipped or is damaged: one line.
    Fault(&'a str),
}

/// Loads the clips of `config`, and adds the front end of their features to it. Features of audio are extracted into the
/// cache, where they are not in it yet: until all are done or `stop` returns true, with `progress` called for each file. `None` if
/// it was stopped; the next call continues there.
///
/// # Errors
/// `Data` for a damaged dataset, and for features that the model does not take; those of [`ExtractionJob::dataset`].
pub fn load_clips(
    gpu: &Gpu,
    config: &mut Config,
    labels: Labels,
    stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(Loading),
) -> Result<Option<Dataset>> {
    let kind = config.kind()?;
    let data = match (audio_of(config)?, features_of(config, kind)) {
        (Some(audio), _) => from_audio(gpu, config, audio, stop, progress)?,
        (None, Some(npz)) => {
            check_features(config, &npz)?;
            Some(match (has_class_map(&config.dataset), config.features.is_some()) {
                // The dataset's own archive has its labels, too.
                (true, false) => Dataset::load_labelled(&config.dataset, config.feature_scale)?,
                (true, true) if config.notes.is_none() => {
                    Dataset::load_with(&config.dataset, &npz, config.feature_scale)?
                }
                _ => join(&AudioSet::load(&config.dataset)?, &npz, config.split_config(), config.feature_scale)?,
            })
        }
        (None, None) => {
            reject_unknown(config, &config.dataset)?;
            Some(Dataset::load_labelled(&config.dataset, config.feature_scale)?)
        }
    };
    let Some(mut data) = data else { return Ok(None) };
    if let Some(keys) = &config.val_keys {
        data = data.with_validation_keys(keys)?;
    }
    if labels == Labels::Required {
        data.check_splits()?;
    }
    Ok(Some(data))
}

/// The archive of features to use: the one in the settings; else, for models on embeddings, the dataset's own.
fn features_of(config: &Config, kind: FeatureKind) -> Option<PathBuf> {
    let own = || {
        features_npz(&config.dataset)
            .or_else(|| Some(config.dataset.join("openmic-2018.npz")).filter(|npz| npz.is_file()))
    };
    config.features.clone().or_else(|| own().filter(|_| kind == FeatureKind::Vggish))
}

/// The audio from which [`load_clips`] extracts features, and how; `None` if it reads them from a file.
pub fn audio_of(config: &Config) -> Result<Option<(AudioSet, FeatureConfig)>> {
    let kind = config.kind()?;
    if features_of(config, kind).is_some() || kind == FeatureKind::Vggish && has_features(&config.dataset) {
        return Ok(None);
    }
    if !nn::find(&config.model)?.needs_vggish() {
        let feature_config = FeatureConfig { scale: config.notes.unwrap_or_default().scale, ..FeatureConfig::of(kind) };
        return Ok(Some((AudioSet::load(&config.dataset)?, feature_config)));
    }
    let Some(front_end) = &config.front_end else {
        let reason = "has audio, but no features; extract them with wmic features, or give VGGish weights \
                      (`front_end.weights` FILE or random)";
        return match AudioSet::load(&config.dataset) {
            Ok(_) => Err(Error::data(&config.dataset, reason)),
            Err(error) => Err(error),
        };
    };
    // Log-mel patches do not depend on VGGish's weights.
    let front_end = kind.row().weights.is_some().then(|| front_end.clone());
    Ok(Some((AudioSet::load(&config.dataset)?, FeatureConfig { front_end, ..FeatureConfig::of(kind) })))
}

/// Rejects features without a recorded front end for a run with a known one.
fn reject_unknown(config: &Config, features: &Path) -> Result<()> {
    match config.front_end.as_ref().is_some_and(|f| f.fingerprint.is_some()) {
        true => Err(Error::data(
            features,
            "does not record its front end; this run was trained on features with a known one",
        )),
        false => Ok(()),
    }
}

/// Checks that the features in `npz` are those that the model of `config` takes, and adds their front end to `config`.
pub fn check_features(config: &mut Config, npz: &Path) -> Result<()> {
    let kind = config.kind()?;
    if npz_note(npz)?.is_none() {
        reject_unknown(config, npz)?;
        return match (kind, &mut config.front_end) {
            // The user gives the front end; its weights are recorded from now on.
            (FeatureKind::Vggish, Some(front_end)) => {
                front_end.pin()?;
                Ok(())
            }
            (FeatureKind::Vggish, None) => Ok(()),
            _ => Err(Error::data(npz, "does not record its front end; extract them with wmic features")),
        };
    }
    let fail = |reason: String| Err(Error::data(npz, reason));
    let feature_config = FeatureConfig::of_npz(npz)?;
    if feature_config.kind != kind {
        return fail(format!(
            "has {:?} features, but {} takes {:?}",
            feature_config.kind.name(),
            config.model,
            kind.name()
        ));
    }
    match (&config.front_end, &feature_config.front_end) {
        (Some(asked), Some(made)) if asked.width != made.width => {
            fail(format!("was extracted at `width` {}, not {}", made.width, asked.width))
        }
        (Some(asked), Some(made)) if asked.fingerprint.is_some() && asked.fingerprint != made.fingerprint => {
            fail("was extracted with VGGish weights other than the run's".into())
        }
        (Some(asked), Some(made)) if asked.fingerprint.is_some() && asked.last_relu != made.last_relu => {
            let how = |relu: bool| if relu { "with" } else { "without" };
            let (made, asked) = (how(made.last_relu), how(asked.last_relu));
            fail(format!("was extracted {made} VGGish's last ReLU, but the run's features {asked} it"))
        }
        (Some(asked), Some(made)) if kind.row().embedding && is_scaled_otherwise(asked, made) => fail(
            "has embeddings with another scaling (--scaling, or another minimum and maximum) than requested".into(),
        ),
        (Some(asked), Some(made)) if asked.fingerprint.is_none() => {
            // Given again: the same weights, possibly at another path.
            let front_end = FrontEnd { weights: asked.weights.clone(), ..made.clone() };
            front_end.load()?;
            config.front_end = Some(front_end);
            Ok(())
        }
        (None, Some(made)) => {
            config.front_end = Some(made.clone());
            Ok(())
        }
        // Log-mel patches do not depend on VGGish's weights.
        (Some(asked), None) if asked.fingerprint.is_none() => {
            let mut front_end = asked.clone();
            front_end.pin()?;
            config.front_end = Some(front_end);
            Ok(())
        }
        (None, None) if kind.is_single_note() && feature_config.scale != config.notes.unwrap_or_default().scale => {
            fail("was extracted with another `notes.scale`".into())
        }
        (None, None) if !nn::find(&config.model)?.needs_vggish() => Ok(()),
        (None, None) => {
            Err(Error::Usage(format!("{} needs VGGish weights: `front_end.weights` FILE or random", config.model)))
        }
        _ => Ok(()),
    }
}

/// Whether features have another scaling than the front end of a run, or the options.
fn is_scaled_otherwise(asked: &FrontEnd, made: &FrontEnd) -> bool {
    let decided = asked.fingerprint.is_some() || asked.scaling.is_some();
    decided && asked.scaling() != made.scaling() || asked.range.is_some() && asked.range != made.range
}

fn from_audio(
    gpu: &Gpu,
    config: &mut Config,
    (set, mut feature_config): (AudioSet, FeatureConfig),
    stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(Loading),
) -> Result<Option<Dataset>> {
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
    let Some((data, faults, made)) = job.dataset(&set, &cache, config.split_config())? else { return Ok(None) };
    faults.iter().for_each(|line| progress(Loading::Fault(line)));
    if let (Some(front_end), Some(made)) = (&mut config.front_end, made.front_end) {
        front_end.range = made.range;
    }
    Ok(Some(data))
}
