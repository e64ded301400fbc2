//! Features of audio files as npz, and datasets with cached features.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::Serialize;

use crate::audio::{Condition, Windowing};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::files::{distinct_names, open_file};
use crate::data::{AudioSet, Dataset, Excerpts, FeatureScale, SplitConfig, load_features, write_npz};
use crate::features::extraction::{Extracted, Extraction, Row};
use crate::features::feature_config::FeatureConfig;
use crate::features::runner::FrontEndRunner;
use crate::features::weights::Weights;
use crate::gpu::Gpu;
use crate::nn::front_ends::kind::{FeatureKind, SpectrogramFrames};

/// Audio files for feature extraction.
pub struct AudioFiles {
    pub files: Vec<PathBuf>,
    /// A name for each.
    pub keys: Vec<String>,
    /// Whether whole recordings are split into excerpts; else only the first excerpt is used, as for the clips of a
    /// dataset.
    pub whole: bool,
    /// Files of the training split, for scaling by minimum and maximum; all, if there are none.
    pub train: Vec<u32>,
}

impl AudioFiles {
    /// The clips of a dataset, for features of that kind: of notes every second is used.
    pub fn of_set(set: &AudioSet, kind: FeatureKind) -> AudioFiles {
        AudioFiles {
            files: set.files.clone(),
            keys: set.keys.clone(),
            whole: kind.is_single_note() || set.own.is_some(),
            train: set.train.clone(),
        }
    }

    /// Files, named by their paths as given; equal names are numbered.
    pub fn of_files(files: Vec<PathBuf>) -> AudioFiles {
        let keys = distinct_names(&files);
        AudioFiles { files, keys, whole: true, train: vec![] }
    }

    fn cut(&self, kind: FeatureKind) -> Windowing {
        Windowing {
            window: kind.window(),
            hop: self.whole.then_some(kind.window()),
            format: kind.format(),
            align_last: false,
        }
    }

    /// Names of the excerpts, in the order of the files: the file's, with the start time if it has, or may have,
    /// several.
    fn names(&self, rows: &[Row], kind: FeatureKind) -> Vec<String> {
        let of_file = |rows: &[Row]| -> Vec<String> {
            let key = &self.keys[rows[0].file];
            match rows {
                [_] if !kind.is_single_note() => vec![key.clone()],
                several => several.iter().map(|row| format!("{key}@{:.2}", row.start)).collect(),
            }
        };
        rows.chunk_by(|a, b| a.file == b.file).flat_map(of_file).collect()
    }

    /// Fingerprint of the files, by path, size and modification time.
    fn fingerprint(&self) -> u64 {
        // Not for security: a miss only means that features are extracted again.
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

/// An extraction of features, with its callbacks.
pub struct ExtractionJob<'a> {
    pub gpu: &'a Gpu,
    /// With the fingerprint of its weights, see [`FeatureConfig::load`].
    pub feature_config: &'a FeatureConfig,
    pub weights: Option<&'a Weights>,
    pub stop: &'a dyn Fn() -> bool,
    /// Called with the number of files done.
    pub progress: &'a mut dyn FnMut(usize),
}

/// Result of an extraction.
pub struct JobResult {
    pub rows: Vec<Row>,
    /// Files that could not be decoded, and why.
    pub failures: Vec<(usize, String)>,
    /// Files that were decoded but are damaged or incomplete.
    pub odd: Vec<(usize, Condition)>,
    /// Files that are too short for an excerpt.
    pub short: usize,
    /// The configuration, with the minimum and maximum of the embeddings if they are scaled by them.
    pub feature_config: FeatureConfig,
}

impl JobResult {
    /// Warnings of the decoded files, a line each.
    pub fn warnings(&self, audio: &AudioFiles) -> Vec<String> {
        let lines = self.odd.iter().flat_map(|(file, condition)| condition.warnings.iter().map(move |w| (file, w)));
        lines.map(|(file, warning)| format!("warning: {}: {warning}", audio.files[*file].display())).collect()
    }

    /// Whether something in the middle of a file could not be decoded.
    pub fn damaged(&self) -> bool {
        self.odd.iter().any(|(_, condition)| condition.damaged)
    }
}

#[derive(Serialize)]
struct JobKey {
    #[serde(rename = "recipe")]
    feature_config: String,
    files: u64,
}

impl ExtractionJob<'_> {
    /// Writes the features of `audio` to `out`, with labels ((targets, observed), K for each file) if there are any. An
    /// interrupted call resumes from the folder `OUT.partial` beside it. `None` if `stop` returned true.
    ///
    /// # Errors
    /// `Data` if no file can be decoded, `Io` for a full disk, `Gpu` for a lost device.
    pub fn npz(
        &mut self,
        audio: &AudioFiles,
        labels: Option<(&[f32], &[bool])>,
        out: &Path,
    ) -> Result<Option<JobResult>> {
        let frames =
            if self.feature_config.has_spectrum() { SpectrogramFrames::Patches } else { SpectrogramFrames::None };
        let runner = FrontEndRunner::new(self.gpu, self.feature_config, self.weights, frames)?;
        let mut folder = out.as_os_str().to_owned();
        folder.push(".partial");
        let key = JobKey { feature_config: self.feature_config.key(), files: audio.fingerprint() };
        let extraction = Extraction::new(folder.into(), &runner, &key)?;
        let kind = self.feature_config.kind;
        let Extracted { rows, failures, odd, short, files } =
            extraction.run(&runner, &audio.files, audio.cut(kind), self.stop, self.progress)?;
        if files < audio.files.len() {
            return Ok(None);
        }
        if rows.is_empty() {
            extraction.remove()?;
            let reason = match failures.into_iter().next() {
                // It names the file.
                Some((_, reason)) if audio.files.len() == 1 => return Err(Error::Usage(reason)),
                Some((_, reason)) => reason,
                None if short > 0 => format!("all are shorter than {} s", kind.window()),
                None => "there are none".into(),
            };
            return Err(Error::Usage(format!("none of {} audio files can be used: {reason}", audio.files.len())));
        }
        let keys = audio.names(&rows, kind);
        let labels = labels.map(|(targets, observed)| {
            let k = targets.len() / audio.files.len();
            let of = |row: &Row| row.file * k..(row.file + 1) * k;
            let targets: Vec<f32> = rows.iter().flat_map(|row| targets[of(row)].to_vec()).collect();
            let observed: Vec<bool> = rows.iter().flat_map(|row| observed[of(row)].to_vec()).collect();
            (targets, observed)
        });
        let labels = labels.as_ref().map(|(targets, observed)| (targets.as_slice(), observed.as_slice()));
        let (mut features, mut feature_config) = (extraction.features(&runner, &rows)?, self.feature_config.clone());
        if let Some(front_end) = feature_config.front_end.as_mut().filter(|_| self.feature_config.is_scaled()) {
            let train: HashSet<usize> = audio.train.iter().map(|&file| file as usize).collect();
            let is_train = |row: usize| train.contains(&rows[row].file);
            let (scaled, range) = extraction.scaled(&features, front_end.range.take(), is_train)?;
            (features, front_end.range) = (scaled, Some(range));
        }
        write_npz(out, &keys, &features, &feature_config.instance(), labels, Some(&feature_config.note()))?;
        drop(features);
        extraction.remove()?;
        Ok(Some(JobResult { rows, failures, odd, short, feature_config }))
    }

    /// The features of a whole recording as model inputs, a row for each instance: (instances, F). `None` if `stop`
    /// returned true.
    ///
    /// # Errors
    /// As [`ExtractionJob::npz`].
    pub fn recording(&mut self, file: &Path) -> Result<Option<Array<f32>>> {
        open_file(file)?;
        let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let npz = folder.path().join(self.feature_config.kind.row().file);
        if self.npz(&AudioFiles::of_files(vec![file.to_owned()]), None, &npz)?.is_none() {
            return Ok(None);
        }
        let (keys, features, _) = load_features(&npz, &mut None)?;
        let rows: Vec<f32> = (0..keys.len()).flat_map(|clip| features.clip(clip).data().to_vec()).collect();
        Ok(Some(Array::new([rows.len() / features.width, features.width], rows)))
    }

    /// A dataset of audio files, with features from `cache`, extracted if necessary. Also returns warnings on damaged
    /// and skipped files, a line each, if features were extracted now, and their configuration. `None` if
    /// `stop` returned true. `how`: see [`join`].
    ///
    /// # Errors
    /// As [`ExtractionJob::npz`] and [`join`].
    pub fn dataset(
        &mut self,
        set: &AudioSet,
        cache: &Path,
        how: Clips,
    ) -> Result<Option<(Dataset, Vec<String>, FeatureConfig)>> {
        let audio = AudioFiles::of_set(set, self.feature_config.kind);
        let Some((path, failures)) = self.cached(&audio, cache)? else { return Ok(None) };
        let damaged = |e: Error| match e {
            Error::Data { path: of, reason, .. } if of == path => {
                Error::data(of, format!("{reason}; it is a cache file: remove it and it is extracted again"))
            }
            other => other,
        };
        let data = join(set, &path, how, &mut None).map_err(damaged)?;
        Ok(Some((data, failures, FeatureConfig::of_npz(&path).map_err(damaged)?)))
    }

    /// The archive in `cache` with the features of `audio`, extracted if necessary, and warnings on damaged and skipped
    /// files, a line each, if they were extracted now. `None` if `stop` returned true.
    ///
    /// # Errors
    /// As [`ExtractionJob::npz`].
    pub(crate) fn cached(&mut self, audio: &AudioFiles, cache: &Path) -> Result<Option<(PathBuf, Vec<String>)>> {
        let name = |feature_config: &FeatureConfig| {
            let mut hash = DefaultHasher::new();
            (audio.fingerprint(), feature_config.key()).hash(&mut hash);
            if feature_config.is_scaled() && feature_config.range().is_none() {
                audio.train.hash(&mut hash);
            }
            cache.join(format!("{}-{:016x}.npz", feature_config.kind, hash.finish()))
        };
        // A resumed run knows the range of its embeddings, which was not known when they were extracted.
        let first = name(&self.feature_config.without_range());
        let path = match self.feature_config.range() {
            Some(range) if !first.is_file() || FeatureConfig::of_npz(&first)?.range() != Some(range) => {
                name(self.feature_config)
            }
            _ => first,
        };
        let mut failures = vec![];
        if !path.is_file() {
            fs::create_dir_all(cache).map_err(Error::io(cache))?;
            let Some(extracted) = self.npz(audio, None, &path)? else { return Ok(None) };
            failures.extend(extracted.warnings(audio));
            failures.extend(extracted.failures.into_iter().map(|(_, reason)| format!("skipped: {reason}")));
        }
        Ok(Some((path, failures)))
    }
}

/// How the recordings of a set become clips.
#[derive(Clone, Copy, Debug)]
pub struct Clips {
    /// How segments of single notes are split; `None` for other clips.
    pub notes: Option<SplitConfig>,
    /// For labels of one's own.
    pub excerpts: Excerpts,
}

/// The clips of `set` with the features that `npz` has for them. Segments of single notes, and excerpts of recordings
/// with several, are named after their files, with `@` and a time. `scale`: see [`load_features`].
///
/// # Errors
/// `Data` if it has features of other clips, and for invalid files.
pub fn join(set: &AudioSet, npz: &Path, how: Clips, scale: &mut Option<FeatureScale>) -> Result<Dataset> {
    let (keys, features, remark) = load_features(npz, scale)?;
    let at: HashMap<&str, u32> = set.keys.iter().map(String::as_str).zip(0..).collect();
    let parts = how.notes.is_some() || set.own.is_some();
    let row = |key: &String| {
        let unknown = || Error::data(npz, format!("has a clip {key:?} that is not in {}", set.path.display()));
        let part = || {
            let (file, start) = key.rsplit_once('@').filter(|_| parts)?;
            Some((*at.get(file)?, start.parse().ok()?))
        };
        at.get(key.as_str()).map(|file| (*file, 0.0)).or_else(part).ok_or_else(unknown)
    };
    let rows = keys.iter().map(row).collect::<Result<Vec<(u32, f64)>>>()?;
    let files: Vec<u32> = rows.iter().map(|row| row.0).collect();
    let mut data = match (how.notes, &set.own) {
        (Some(split_config), _) => set.with_segments(features, keys, &files, split_config),
        (None, Some(_)) => set.with_excerpts(features, keys, &rows, how.excerpts),
        (None, None) => set.with_features(features, &files),
    }?;
    data.warnings.extend(remark);
    Ok(data)
}
