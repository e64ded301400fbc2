//! From sound files to features in an npz, and to datasets: made once, kept, and found again.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::Serialize;

use crate::audio::{Condition, Cut};
use crate::core::error::{Error, Result};
use crate::core::files::distinct_names;
use crate::data::{AudioSet, Dataset, FeatureScale, SplitConfig, load_features, write_npz};
use crate::features::extraction::{Extracted, Extraction, FrontEndRunner, Recipe, Row};
use crate::features::front_end::Weights;
use crate::gpu::Gpu;
use crate::nn::front_ends::kind::Kind;

/// Sound files whose features are wanted.
pub struct SoundFiles {
    pub files: Vec<PathBuf>,
    /// A name for each.
    pub keys: Vec<String>,
    /// Whole recordings, cut into excerpts; of the clips of a dataset only the first counts.
    pub whole: bool,
    /// Files of the training split, by which embeddings may be scaled; all, if there are none.
    pub train: Vec<u32>,
}

impl SoundFiles {
    /// The clips of a dataset, for features of that kind: of notes every second counts.
    pub fn of_set(set: &AudioSet, kind: Kind) -> SoundFiles {
        SoundFiles {
            files: set.files.clone(),
            keys: set.keys.clone(),
            whole: kind.is_of_notes(),
            train: set.train.clone(),
        }
    }

    /// Files, named as they are; see [`distinct_names`].
    pub fn of_files(files: Vec<PathBuf>) -> SoundFiles {
        let keys = distinct_names(&files);
        SoundFiles { files, keys, whole: true, train: vec![] }
    }

    fn cut(&self, kind: Kind) -> Cut {
        Cut { window: kind.window(), hop: self.whole.then_some(kind.window()), form: kind.form(), to_the_end: false }
    }

    /// Names the excerpts, which come file by file: after their file, and where in it they begin if it has several, or may have.
    fn names(&self, rows: &[Row], kind: Kind) -> Vec<String> {
        let of_file = |rows: &[Row]| -> Vec<String> {
            let key = &self.keys[rows[0].file];
            match rows {
                [_] if !kind.is_of_notes() => vec![key.clone()],
                several => several.iter().map(|row| format!("{key}@{:.2}", row.start)).collect(),
            }
        };
        rows.chunk_by(|a, b| a.file == b.file).flat_map(of_file).collect()
    }

    /// Tells these files, as they are now, from others.
    fn fingerprint(&self) -> u64 {
        // Not for security: a miss only means that features are made anew.
        let mut hash = DefaultHasher::new();
        (self.whole, &self.keys).hash(&mut hash);
        for file in &self.files {
            let about = fs::metadata(file).ok();
            let changed = about.as_ref().and_then(|a| a.modified().ok()?.duration_since(UNIX_EPOCH).ok());
            let file = file.canonicalize().unwrap_or_else(|_| file.clone());
            (file, about.map(|a| a.len()), changed).hash(&mut hash);
        }
        hash.finish()
    }
}

/// How features are made, and who is told.
pub struct ExtractionJob<'a> {
    pub gpu: &'a Gpu,
    /// With the fingerprint of its weights, see [`Recipe::load`].
    pub recipe: &'a Recipe,
    pub weights: Option<&'a Weights>,
    pub stop: &'a dyn Fn() -> bool,
    /// Hears how many files are done.
    pub tell: &'a mut dyn FnMut(usize),
}

/// What was made.
pub struct JobResult {
    pub rows: Vec<Row>,
    /// Files that could not be decoded, and why.
    pub failures: Vec<(usize, String)>,
    /// Files that were decoded but are not whole.
    pub odd: Vec<(usize, Condition)>,
    /// Files that are too short for an excerpt.
    pub short: usize,
    /// The recipe, with the minimum and maximum of the embeddings where they are scaled by them.
    pub recipe: Recipe,
}

impl JobResult {
    /// What is missing or odd about the files that were decoded, a line each.
    pub fn warnings(&self, sounds: &SoundFiles) -> Vec<String> {
        let lines = self.odd.iter().flat_map(|(file, condition)| condition.warnings.iter().map(move |w| (file, w)));
        lines.map(|(file, warning)| format!("warning: {}: {warning}", sounds.files[*file].display())).collect()
    }

    /// Whether something in the middle of a file could not be decoded.
    pub fn damaged(&self) -> bool {
        self.odd.iter().any(|(_, condition)| condition.damaged)
    }
}

#[derive(Serialize)]
struct Identity {
    recipe: String,
    files: u64,
}

impl ExtractionJob<'_> {
    /// Writes the features of `sounds` to `out`, with labels ((targets, observed), K for each file) if there are any. Beside it grows
    /// a folder `OUT.partial`, from which an interrupted call goes on. `None` if `stop` said so.
    ///
    /// # Errors
    /// `Data` if no file can be decoded, `Io` for a full disk, `Gpu` for a lost device.
    pub fn npz(
        &mut self,
        sounds: &SoundFiles,
        labels: Option<(&[f32], &[bool])>,
        out: &Path,
    ) -> Result<Option<JobResult>> {
        let runner = FrontEndRunner::new(self.gpu, self.recipe, self.weights, false)?;
        let mut folder = out.as_os_str().to_owned();
        folder.push(".partial");
        let identity = Identity { recipe: self.recipe.identity(), files: sounds.fingerprint() };
        let extraction = Extraction::new(folder.into(), &runner, &identity)?;
        let kind = self.recipe.kind;
        let Extracted { rows, failures, odd, short, files } =
            extraction.run(&runner, &sounds.files, sounds.cut(kind), self.stop, self.tell)?;
        if files < sounds.files.len() {
            return Ok(None);
        }
        if rows.is_empty() {
            extraction.remove()?;
            let reason = match failures.into_iter().next() {
                Some((_, reason)) => reason,
                None if short > 0 => format!("all are shorter than {} s", kind.window()),
                None => "there are none".into(),
            };
            return Err(Error::Usage(format!("none of {} sound files can be used: {reason}", sounds.files.len())));
        }
        let keys = sounds.names(&rows, kind);
        let labels = labels.map(|(targets, observed)| {
            let k = targets.len() / sounds.files.len();
            let of = |row: &Row| row.file * k..(row.file + 1) * k;
            let targets: Vec<f32> = rows.iter().flat_map(|row| targets[of(row)].to_vec()).collect();
            let observed: Vec<bool> = rows.iter().flat_map(|row| observed[of(row)].to_vec()).collect();
            (targets, observed)
        });
        let labels = labels.as_ref().map(|(targets, observed)| (targets.as_slice(), observed.as_slice()));
        let (mut features, mut recipe) = (extraction.features(&runner, &rows)?, self.recipe.clone());
        if let Some(front_end) = recipe.front_end.as_mut().filter(|_| self.recipe.is_scaled()) {
            let train: HashSet<usize> = sounds.train.iter().map(|&file| file as usize).collect();
            let is_train = |row: usize| train.contains(&rows[row].file);
            let (scaled, range) = extraction.scaled(&features, front_end.range.take(), is_train)?;
            (features, front_end.range) = (scaled, Some(range));
        }
        write_npz(out, &keys, &features, &recipe.instance(), labels, Some(&recipe.note()))?;
        drop(features);
        extraction.remove()?;
        Ok(Some(JobResult { rows, failures, odd, short, recipe }))
    }

    /// A dataset of sound files: its features are taken from `cache`, where they are made if need be. With what was wrong with the files
    /// that are not whole or had to be left out, a line each, if they were made now, and the recipe by which they were made. `None` if
    /// `stop` said so. `notes`: see [`join`].
    ///
    /// # Errors
    /// As [`ExtractionJob::npz`] and [`join`].
    pub fn dataset(
        &mut self,
        set: &AudioSet,
        cache: &Path,
        notes: Option<SplitConfig>,
    ) -> Result<Option<(Dataset, Vec<String>, Recipe)>> {
        let sounds = SoundFiles::of_set(set, self.recipe.kind);
        let name = |recipe: &Recipe| {
            let mut hash = DefaultHasher::new();
            (sounds.fingerprint(), recipe.identity()).hash(&mut hash);
            if recipe.is_scaled() && recipe.range().is_none() {
                sounds.train.hash(&mut hash);
            }
            cache.join(format!("{}-{:016x}.npz", recipe.kind, hash.finish()))
        };
        // A run that goes on knows by what its embeddings were scaled, which they were not when they were made for it.
        let first = name(&self.recipe.without_range());
        let path = match self.recipe.range() {
            Some(range) if !first.is_file() || Recipe::of_npz(&first)?.range() != Some(range) => name(self.recipe),
            _ => first,
        };
        let mut failures = vec![];
        if !path.is_file() {
            fs::create_dir_all(cache).map_err(Error::io(cache))?;
            let Some(made) = self.npz(&sounds, None, &path)? else { return Ok(None) };
            failures.extend(made.warnings(&sounds));
            failures.extend(made.failures.into_iter().map(|(_, reason)| format!("left out: {reason}")));
        }
        let damaged = |e: Error| match e {
            Error::Data { path: of, reason, .. } if of == path => {
                Error::data(of, format!("{reason}; it was made here: remove it, and it is made anew"))
            }
            other => other,
        };
        let data = join(set, &path, notes, None).map_err(damaged)?;
        Ok(Some((data, failures, Recipe::of_npz(&path).map_err(damaged)?)))
    }
}

/// The clips of `set` with the features that `npz` has for them. `notes`: how segments of single notes are divided, whose names are
/// those of their files with `@` and a time. `scale`: what floats stand for, see [`load_features`].
///
/// # Errors
/// `Data` if it has features of other clips, and for whatever is wrong with it; as [`AudioSet::with_features`] and
/// [`AudioSet::with_segments`].
pub fn join(set: &AudioSet, npz: &Path, notes: Option<SplitConfig>, scale: Option<FeatureScale>) -> Result<Dataset> {
    let (keys, features, remark) = load_features(npz, scale)?;
    let at: HashMap<&str, u32> = set.keys.iter().map(String::as_str).zip(0..).collect();
    let row = |key: &String| {
        let stranger = || Error::data(npz, format!("has a clip {key:?} that {} has not", set.path.display()));
        let file = if notes.is_some() { key.rsplit_once('@').map_or(key.as_str(), |(file, _)| file) } else { key };
        at.get(file).copied().ok_or_else(stranger)
    };
    let rows = keys.iter().map(row).collect::<Result<Vec<u32>>>()?;
    let mut data = match notes {
        Some(split_config) => set.with_segments(features, keys, &rows, split_config),
        None => set.with_features(features, &rows),
    }?;
    data.warnings.extend(remark);
    Ok(data)
}

/// Where features are kept from run to run: `wmic` in the user's folder for caches.
pub fn cache_folder() -> PathBuf {
    dirs::cache_dir().unwrap_or_else(std::env::temp_dir).join("wmic")
}
