//! The clips of a run, with the features that its model takes: read from an archive, or extracted from audio.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::note;
use wmic::data::{AudioSet, Dataset, features_npz, has_class_map, has_features};
use wmic::features::audio_files::{ExtractionJob, cache_folder, join};
use wmic::features::extraction::Recipe;
use wmic::gpu::Gpu;
use wmic::nn::{self, Kind};
use wmic::report::tables::table::printable;
use wmic::run::config::Config;
use wmic::run::front_end::Use;
use wmic::{Error, Result};

/// Which labels a command needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// The train and the test split must have labels.
    Required,
    /// Any labels will do.
    Any,
}

/// Loads the clips of `config`, and adds the front end of their features to it. `None` if the user interrupted.
pub fn load_clips(gpu: &Gpu, config: &mut Config, labels: Labels, purpose: Use) -> Result<Option<Dataset>> {
    let kind = config.kind()?;
    let data = match (audio_of(config)?, features_of(config, kind)) {
        (Some(sound), _) => from_audio(gpu, config, sound)?,
        (None, Some(npz)) => {
            config.check_features(&npz, purpose)?;
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
            let folder = config.dataset.clone();
            config.check_features(&folder, purpose)?;
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
    data.warnings.iter().for_each(|warning| note(&printable(&format!("warning: {warning}"))));
    Ok(Some(data))
}

/// The archive of features to use: the one in the settings; else, for models on embeddings, the dataset's own.
fn features_of(config: &Config, kind: Kind) -> Option<PathBuf> {
    let own = || {
        features_npz(&config.dataset)
            .or_else(|| Some(config.dataset.join("openmic-2018.npz")).filter(|npz| npz.is_file()))
    };
    config.features.clone().or_else(|| own().filter(|_| kind == Kind::Vggish))
}

/// The audio from which [`load_clips`] extracts features, and how; `None` if it reads them from a file.
pub fn audio_of(config: &Config) -> Result<Option<(AudioSet, Recipe)>> {
    let kind = config.kind()?;
    if features_of(config, kind).is_some() || kind == Kind::Vggish && has_features(&config.dataset) {
        return Ok(None);
    }
    if !nn::find(&config.model)?.needs_vggish() {
        let recipe = Recipe { scale: config.notes.unwrap_or_default().scale, ..Recipe::of(kind) };
        return Ok(Some((AudioSet::load(&config.dataset)?, recipe)));
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
    Ok(Some((AudioSet::load(&config.dataset)?, Recipe { front_end, ..Recipe::of(kind) })))
}

fn from_audio(gpu: &Gpu, config: &mut Config, (set, mut recipe): (AudioSet, Recipe)) -> Result<Option<Dataset>> {
    let weights = recipe.load()?;
    match (&recipe.front_end, &mut config.front_end) {
        (Some(pinned), front_end) => *front_end = Some(pinned.clone()),
        // A run that trains its front end on log-mel patches does not need the initial weights any more.
        (None, Some(front_end)) if front_end.fingerprint.is_none() => drop(front_end.pin()?),
        _ => {}
    }
    let stop = stop_on_interrupt();
    let bar = Bar::new(set.files.len(), "features of");
    let mut job = ExtractionJob {
        gpu,
        recipe: &recipe,
        weights: weights.as_ref(),
        stop: &|| stop.load(Ordering::Relaxed),
        progress: &mut |done| bar.show(done),
    };
    let cache = config.cache.clone().unwrap_or_else(cache_folder);
    let data = job.dataset(&set, &cache, config.split_config())?;
    bar.finish();
    let Some((data, failures, made)) = data else {
        note("wmic: interrupted; the features extracted so far are saved, run the same command to continue");
        return Ok(None);
    };
    failures.iter().for_each(|line| note(&printable(line)));
    if let (Some(front_end), Some(made)) = (&mut config.front_end, made.front_end) {
        front_end.range = made.range;
    }
    Ok(Some(data))
}

/// Progress bar over files.
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new(files: usize, what: &'static str) -> Bar {
        let style = "{msg} {pos}/{len} files {wide_bar:.cyan/238} {eta} left";
        let style = ProgressStyle::with_template(style).expect("a valid template").progress_chars("━━━");
        Bar(ProgressBar::new(files as u64).with_style(style).with_message(what))
    }

    /// Files done by an earlier run do not count for the time left.
    pub fn show(&self, done: usize) {
        if self.0.position() == 0 && done > 1 {
            self.0.set_position(done as u64);
            self.0.reset_eta();
        }
        self.0.set_position(done as u64);
    }

    /// Runs `work` with the bar hidden.
    pub fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.suspend(work)
    }

    /// Writes a line to stderr, above the bar.
    pub fn note(&self, text: &str) {
        self.suspend(|| note(&printable(text)));
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Set by the first Ctrl-C or SIGTERM: save and stop. A second one exits at once.
pub fn stop_on_interrupt() -> Arc<AtomicBool> {
    static STOP: std::sync::OnceLock<Arc<AtomicBool>> = std::sync::OnceLock::new();
    let handle = || {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        // Fails only when a handler is set already, and then that one is ours.
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        });
        stop
    };
    STOP.get_or_init(handle).clone()
}
