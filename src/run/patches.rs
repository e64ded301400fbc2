//! The data of a pre-training run: log-mel patches of sounds, with the words or tags of their files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use crate::audio::audio_files;
use crate::core::error::{Error, Result};
use crate::core::files::cache_folder;
use crate::core::numbers;
use crate::data::{Dataset, FeatureValues, Features, Tagged, load_features, read_tags, validation_split, word_vectors};
use crate::features::audio_files::{AudioFiles, ExtractionJob};
use crate::features::feature_config::FeatureConfig;
use crate::gpu::Gpu;
use crate::nn::FeatureKind;
use crate::nn::front_ends::log_mel::OFFSET;
use crate::nn::models::pretraining::TEXTUAL;
use crate::run::clips::Loading;
use crate::run::config::Config;
use crate::run::pretraining::{needed, settings};

/// Magnitudes below this share of the loudest of their file are silence: -60 dB.
const SILENCE: f32 = 1e-3;
/// The same validation files for all seeds.
const SPLIT_SEED: u64 = 0;

/// Loads the patches of the sounds of `config`, one clip each, and their labels: of 0.96 s, not silent. Their features
/// are cached as those of [`crate::run::clips::load_clips`]. A tenth of the files is for validation. `None` if `stop`
/// returned true.
///
/// # Errors
/// `Data` for a damaged table of labels, words without vectors, and sounds of which none has labels; those of
/// extraction.
pub fn load_patches(
    gpu: &Gpu,
    config: &mut Config,
    stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(Loading),
) -> Result<Option<Dataset>> {
    let found = audio_files(&settings(config)?.sounds)?;
    let (mut warnings, needed) = (Vec::from_iter(found.note()), needed(&config.model));
    let labels = needed.map(|of| labels(config, &found.places, of, &mut warnings)).transpose()?;
    let audio = AudioFiles::of_files(found.files);
    let Some(excerpts) = Excerpts::load(gpu, config, &audio, stop, progress)? else { return Ok(None) };
    let mut patches = Patches::default();
    for &file in excerpts.of_files.keys() {
        if labels.as_ref().is_none_or(|labels| !labels[file].is_empty()) {
            patches.add(file, &excerpts);
        }
    }
    let classes = classes(config, &patches.files, labels.as_deref())?;
    let word_vectors = match config.model == TEXTUAL {
        true => word_vectors(settings(config)?.words.as_deref(), &classes)?,
        false => vec![],
    };
    if let (Some(pretrain), Some(vector)) = (&mut config.pretrain, word_vectors.first()) {
        pretrain.head.vector = vector.len();
    }
    let target = |file: &usize| -> Vec<f32> {
        let has = |class: &String| labels.as_ref().is_none_or(|labels| labels[*file].contains(class));
        classes.iter().map(|class| f32::from(has(class))).collect()
    };
    let n = patches.keys.len();
    let [train, validation] = patches.splits(config.val_fraction)?;
    Ok(Some(Dataset {
        path: config.dataset.clone(),
        targets: patches.files.iter().flat_map(target).collect(),
        observed: vec![true; n * classes.len()],
        keys: patches.keys,
        classes,
        word_vectors,
        features: Features {
            values: FeatureValues::F32(patches.values.into()),
            instances: 1,
            width: excerpts.features.width,
            lengths: vec![1; n],
            spectrum: None,
        },
        strong: None,
        mixer: None,
        train,
        validation: Some(validation),
        test: vec![],
        drawn: None,
        warnings,
    }))
}

/// The labels of each sound, those `of` its row in the table; `places`: the sounds from their folders on.
fn labels(
    config: &Config,
    places: &[PathBuf],
    of: fn(&Tagged) -> &Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Vec<String>>> {
    let Some(table) = &settings(config)?.labels else {
        let reason = "needs `labels`: a table of the sounds' words and tags";
        return Err(Error::Usage(format!("{} {reason}", config.model)));
    };
    let mut known = read_tags(table)?;
    let folder = config.dataset.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut of_place = |place: &PathBuf| {
        let place = place.to_string_lossy().replace('\\', "/");
        // As given, or with the name of the folder in front.
        let in_folder = folder.as_ref().map(|folder| format!("{folder}/{place}"));
        let name = [Some(place), in_folder].into_iter().flatten().find(|name| known.contains_key(name));
        let tagged = name.and_then(|name| known.remove(&name));
        tagged.map_or(vec![], |tagged| of(&tagged).clone())
    };
    let labels: Vec<Vec<String>> = places.iter().map(&mut of_place).collect();
    let without = labels.iter().filter(|labels| labels.is_empty()).count();
    if without == labels.len() {
        return Err(Error::data(table, "has no labels for any of the sounds (files are named from their folder on)"));
    }
    if without > 0 {
        let are = if without == 1 { "is" } else { "are" };
        warnings.push(format!("{without} of {} sounds {are} left out: no labels", labels.len()));
    }
    if let Some((first, _)) = known.first_key_value() {
        let files = numbers::of(known.len(), "file is", "files are");
        warnings.push(format!("{}: {files} not among the sounds, e.g. {first}", table.display()));
    }
    Ok(labels)
}

/// The log-mel patches of the sounds, by excerpts of up to 10 s.
struct Excerpts {
    /// Names of the excerpts.
    keys: Vec<String>,
    features: Features,
    /// Of each file, in order.
    of_files: BTreeMap<usize, Vec<usize>>,
}

impl Excerpts {
    /// `None` if `stop` returned true.
    fn load(
        gpu: &Gpu,
        config: &Config,
        audio: &AudioFiles,
        stop: &dyn Fn() -> bool,
        progress: &mut dyn FnMut(Loading),
    ) -> Result<Option<Excerpts>> {
        let (feature_config, files) = (FeatureConfig::of(FeatureKind::LogMel), audio.files.len());
        let mut job = ExtractionJob {
            gpu,
            feature_config: &feature_config,
            weights: None,
            stop,
            progress: &mut |done| progress(Loading::Files { done, of: files }),
        };
        let cache = config.cache.clone().unwrap_or_else(cache_folder);
        let Some((npz, faults)) = job.cached(audio, &cache)? else { return Ok(None) };
        faults.iter().for_each(|line| progress(Loading::Fault(line)));
        let (keys, features, _) = load_features(&npz, &mut None)?;
        let at: HashMap<&str, usize> = audio.keys.iter().map(String::as_str).zip(0..).collect();
        let file_of = |key: &str| at.get(key).or_else(|| at.get(key.rsplit_once('@')?.0)).copied();
        let mut of_files: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, key) in keys.iter().enumerate() {
            let file =
                file_of(key).ok_or_else(|| Error::data(&npz, format!("has features of another sound, {key:?}")))?;
            of_files.entry(file).or_default().push(i);
        }
        Ok(Some(Excerpts { keys, features, of_files }))
    }
}

/// The patches that are used, each with its name and its file.
#[derive(Default)]
struct Patches {
    values: Vec<f32>,
    keys: Vec<String>,
    files: Vec<usize>,
}

impl Patches {
    /// Adds those of a file that are not silent beside the loudest one.
    fn add(&mut self, file: usize, source: &Excerpts) {
        let clips: Vec<_> = source.of_files[&file].iter().map(|&i| (i, source.features.clip(i))).collect();
        let width = source.features.width;
        let rows = || clips.iter().flat_map(|(i, clip)| clip.data().chunks_exact(width).map(move |row| (*i, row)));
        let loudness = |patch: &[f32]| patch.iter().copied().fold(f32::NEG_INFINITY, f32::max).exp() - OFFSET;
        let loudest = rows().map(|(_, row)| loudness(row)).fold(0.0, f32::max);
        for (place, (excerpt, row)) in rows().enumerate().filter(|(_, (_, row))| loudness(row) > SILENCE * loudest) {
            self.values.extend_from_slice(row);
            self.keys.push(format!("{}#{place}", source.keys[excerpt]));
            self.files.push(file);
        }
    }

    /// Those to train on and those for validation: never patches of one file in both.
    fn splits(&self, validation: f64) -> Result<[Vec<u32>; 2]> {
        let files: Vec<u32> = self.files.iter().map(|&file| file as u32).collect::<BTreeSet<_>>().into_iter().collect();
        let held: BTreeSet<u32> = validation_split(&files, validation, SPLIT_SEED)?.1.into_iter().collect();
        let is_held = |patch: &u32| held.contains(&(self.files[*patch as usize] as u32));
        let (validation, train) = (0..self.files.len() as u32).partition(is_held);
        Ok([train, validation])
    }
}

/// The distinct `labels` of the `files`; of sounds alone a single class.
fn classes(config: &Config, files: &[usize], labels: Option<&[Vec<String>]>) -> Result<Vec<String>> {
    let Some(labels) = labels else { return Ok(vec!["sound".into()]) };
    let distinct: BTreeSet<&String> = files.iter().flat_map(|&file| &labels[file]).collect();
    if distinct.len() < 2 {
        let (of, got) = (if config.model == TEXTUAL { "word" } else { "tag" }, distinct.len());
        return Err(Error::Usage(format!("{} needs at least two different {of}s, got {got}", config.model)));
    }
    Ok(distinct.into_iter().cloned().collect())
}
