//! Datasets of audio files, before feature extraction.

use super::class_folders::{ClassFolders, keys_within};
use super::dataset::{Dataset, Drawn, Features, check_splits};
use super::labels::{Labels, Splits, by_key, check_any};
use super::names::examples;
use super::openmic::{LABELS, Layout, find_root};
use super::own_labels::{self, OwnLabels, Part, Unlisted};
use super::split::{SegmentSplit, SplitConfig, TEST_FRACTION, validation_by_keys, validation_split};
use crate::audio::audio_files_in;
use crate::core::error::{Error, Result};
use crate::core::numbers;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;
use std::path::{Path, PathBuf};

/// Layouts that are read besides a folder for each class.
const OTHER_LAYOUTS: &str =
    ", or class-map.json and audio/ as in OpenMIC-2018, or labels.csv or annotation files beside the recordings,";

/// N audio files with labels for K classes, and a train/test split.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioSet {
    /// The folder.
    pub path: PathBuf,
    /// K names.
    pub classes: Vec<String>,
    /// N distinct clip keys: names without extension in OpenMIC-2018's layout, else paths within the folder, with
    /// slashes.
    pub keys: Vec<String>,
    /// N audio files, which may turn out to be damaged.
    pub files: Vec<PathBuf>,
    /// (N, K) row-major, as in [`Dataset`].
    pub targets: Vec<f32>,
    /// (N, K) row-major, as in [`Dataset`].
    pub observed: Vec<bool>,
    /// Clip indices.
    pub train: Vec<u32>,
    /// Clip indices.
    pub test: Vec<u32>,
    /// Warnings about files, labels and splits, one line each, with counts.
    pub warnings: Vec<String>,
    /// The user's own labels, from which the others are; of whole recordings, which may be longer than a clip.
    pub own: Option<OwnLabels>,
}

impl AudioSet {
    /// As [`AudioSet::load_with`].
    ///
    /// # Errors
    /// As [`AudioSet::load_with`].
    pub fn load(path: impl AsRef<Path>) -> Result<AudioSet> {
        AudioSet::load_with(path, None)
    }

    /// Finds the clips and labels of the folder `path`, which is one of
    /// - recordings with a table `labels.csv`: columns file, instrument, present (1, 0 or empty), and optionally start
    ///   and end (seconds), group, split (train, validation, test); or columns file and one for each instrument;
    /// - OpenMIC-2018's layout (also in the subfolder `openmic-2018`): `audio/**/KEY.ogg`, or any other audio format,
    ///   with `class-map.json`, `openmic-2018-aggregated-labels.csv` and `partitions/`, which may be missing;
    /// - a folder per class: its name, in lower case with underscores for spaces and hyphens, is the class, and the
    ///   audio files in it (and below) have that class and no other.
    ///   Of each class's n sorted files a tenth, rounded, but at least one if there are two, is drawn for the test,
    ///   always the same ones. Excerpts of one recording may be in both splits: store such data in the other layout,
    ///   with its own splits;
    /// - recordings with annotation files beside them: `song.jams` (`tag_open`, `segment_open`), or a label track of
    ///   Audacity, `song.txt`.
    ///
    /// Of recordings with a table or annotation files a tenth is drawn for the test by group, always the same ones,
    /// unless the table says which. `unlisted`: what holds for an instrument that the labels of a recording do not
    /// mention; by default it is unknown with a table, absent with annotation files.
    ///
    /// # Errors
    /// `Data` for a folder that is none of them; damaged or contradictory labels; a key twice; labels of other classes
    /// than the class map's; no audio file or no label at all; fewer than two classes with audio files. `Io` for what
    /// cannot be read. Empty splits are not an error: see [`AudioSet::check_splits`].
    pub fn load_with(path: impl AsRef<Path>, unlisted: Option<Unlisted>) -> Result<AudioSet> {
        let path = path.as_ref();
        let has_layout = find_root(path);
        let own = match path.is_dir() && (has_layout.is_err() || own_labels::has_table(path)) {
            true => own_labels::load(path, unlisted)?,
            false => None,
        };
        match (own, has_layout) {
            (Some(own), _) => Ok(of_own(path, own)),
            (None, _) if unlisted.is_some() => {
                let reason = "has neither labels.csv nor annotation files: remove `unlisted`";
                Err(Error::data(path, reason))
            }
            (None, Ok(_)) => of_layout(path),
            (None, Err(_)) if path.is_dir() => of_folders(path),
            (None, Err(neither)) => Err(neither),
        }
    }

    /// # Errors
    /// `Data` if the train or the test split has no clips or no observed label.
    pub fn check_splits(&self) -> Result<()> {
        check_splits(&self.path, &self.observed, self.classes.len(), &self.train, &self.test)
    }

    /// Training and validation files, as far as they are known before decoding: those whose keys are in the file
    /// `val_keys`, else a fraction.
    ///
    /// # Errors
    /// As [`Dataset::with_validation_keys`] and [`validation_split`].
    pub fn splits(&self, val_fraction: f64, val_keys: Option<&Path>) -> Result<(Vec<u32>, Vec<u32>)> {
        match (&self.own, val_keys) {
            (_, Some(path)) => validation_by_keys(path, &self.keys, &self.train, &self.test, true),
            (Some(own), None) => {
                let parts = own.parts(val_fraction);
                let of = |wanted| (0..self.files.len() as u32).filter(|&i| parts[i as usize] == Some(wanted)).collect();
                Ok((of(Part::Train), of(Part::Validation)))
            }
            (None, None) if val_fraction == 0.0 => Ok((self.train.clone(), vec![])),
            (None, None) => validation_split(&self.train, val_fraction, 0),
        }
    }

    /// Whether there are times of labels.
    pub(crate) fn has_times(&self) -> bool {
        self.own.as_ref().is_some_and(|own| !own.times.is_empty())
    }

    /// Joins features to the labels. `rows[i]`: the clip that row i of `features` belongs to. Clips without features
    /// (of files that could not be decoded) are skipped and counted in the warnings; the dataset has the clips in the
    /// order of `rows`.
    ///
    /// # Errors
    /// `Usage` if `rows` are not distinct clips, one for each row of features; `Data` if no label is left.
    pub fn with_features(&self, features: Features, rows: &[u32]) -> Result<Dataset> {
        let (n, k) = (self.keys.len(), self.classes.len());
        let mut place: Vec<Option<u32>> = vec![None; n];
        let distinct = rows
            .iter()
            .zip(0..)
            .all(|(&clip, row)| place.get_mut(clip as usize).is_some_and(|p| p.replace(row).is_none()));
        if !distinct || rows.len() != features.lengths.len() {
            let count = features.lengths.len();
            return Err(Error::Usage(format!("{count} rows of features need as many distinct clips of the {n}")));
        }
        let kept = |split: &[u32]| split.iter().filter_map(|&clip| place[clip as usize]).collect();
        let splits = Splits { train: kept(&self.train), validation: None, test: kept(&self.test) };
        let AudioSet { path, classes, keys, targets, observed, warnings, .. } = self.clone();
        let kept = rows.iter().map(|&clip| keys[clip as usize].clone()).collect();
        let labels = Labels { keys, targets, observed, warnings }.join(kept, k);
        labels.with_features(path, classes, features, splits)
    }

    /// The class of each file.
    ///
    /// # Errors
    /// `Data` unless every file has exactly one class.
    fn only_classes(&self) -> Result<Vec<usize>> {
        let k = self.classes.len();
        let rows = self.targets.chunks_exact(k).zip(self.observed.chunks_exact(k)).zip(&self.files);
        let only = |((targets, observed), file): ((&[f32], &[bool]), &PathBuf)| {
            let mut present = targets.iter().enumerate().filter(|(_, target)| **target >= 0.5).map(|(class, _)| class);
            match (present.next(), present.next(), observed.iter().all(|o| *o)) {
                (Some(class), None, true) => Ok(class),
                _ => {
                    let reason = "is not known to have exactly one class, as a single-label model requires; \
                                  put the files into a folder per class";
                    Err(Error::data(file, reason))
                }
            }
        };
        rows.map(only).collect()
    }

    /// Joins the features of segments to the classes of their files. `keys[i]`, `files[i]`: the name and the file of
    /// row i of `features`. Files without a segment are counted in the warnings.
    ///
    /// # Errors
    /// `Data` if a file does not have exactly one class, fewer than two classes have segments, or none is left for
    /// validation or test; `Usage` if the numbers of rows, keys and files differ, or files are unknown.
    pub(crate) fn with_segments(
        &self,
        features: Features,
        keys: Vec<String>,
        files: &[u32],
        how: SplitConfig,
    ) -> Result<Dataset> {
        if let Some(own) = &self.own {
            let reason = "has labels of recordings; single-label models need a folder per class";
            return Err(Error::data(&own.source, reason));
        }
        let of_file = self.only_classes()?;
        if keys.len() != files.len()
            || features.lengths.len() != files.len()
            || files.iter().any(|f| *f as usize >= of_file.len())
        {
            return Err(Error::Usage("segments need a row of features, a key and a known file each".into()));
        }
        let k = self.classes.len();
        let classes: Vec<usize> = files.iter().map(|&file| of_file[file as usize]).collect();
        let mut warnings = self.warnings.clone();
        let mut extracted = vec![false; of_file.len()];
        files.iter().for_each(|&file| extracted[file as usize] = true);
        let silent: Vec<&str> = self
            .keys
            .iter()
            .zip(&extracted)
            .filter(|(_, extracted)| !**extracted)
            .map(|(key, _)| key.as_str())
            .collect();
        if !silent.is_empty() {
            let (n, all, are) = (silent.len(), of_file.len(), if silent.len() == 1 { "is" } else { "are" });
            warnings.push(format!(
                "{n} of {all} files {are} skipped: shorter than a second, or not decodable ({})",
                examples(&silent)
            ));
        }
        let SegmentSplit { train, validation, test } = how.split_segments(files, &classes);
        for (split, clips) in [("train", &train), ("validation", &validation), ("test", &test)] {
            let lacking: Vec<&str> = (0..k)
                .filter(|class| !clips.iter().any(|&clip| classes[clip as usize] == *class))
                .map(|class| self.classes[class].as_str())
                .collect();
            if lacking.len() + 1 >= k && split == "train" {
                let reason =
                    format!("has segments of fewer than two classes to train on (none of {})", examples(&lacking));
                return Err(Error::data(&self.path, reason));
            }
            if clips.is_empty() {
                let reason = format!("leaves no segment for the {split} split: each class needs at least three files");
                return Err(Error::data(&self.path, reason));
            }
            if !lacking.is_empty() {
                warnings.push(format!(
                    "{} no segment in the {split} split ({})",
                    numbers::of(lacking.len(), "class has", "classes have"),
                    examples(&lacking)
                ));
            }
        }
        let targets =
            classes.iter().flat_map(|&own| (0..k).map(move |class| f32::from(u8::from(class == own)))).collect();
        let observed = vec![true; classes.len() * k];
        let (path, classes) = (self.path.clone(), self.classes.clone());
        Ok(Dataset {
            path,
            classes,
            keys,
            features,
            targets,
            observed,
            strong: None,
            mixer: None,
            train,
            validation: Some(validation),
            test,
            drawn: Some(Drawn::Notes),
            word_vectors: vec![],
            warnings,
        })
    }
}

fn of_layout(path: &Path) -> Result<AudioSet> {
    let Layout { root, classes, partitions } = Layout::read(path, false)?;
    let (audio, table) = (root.join("audio"), root.join(LABELS));
    if !audio.is_dir() || !table.is_file() {
        return Err(Error::data(root, format!("has no audio/ with {LABELS}; both are needed to train on audio files")));
    }
    let (keys, files): (Vec<String>, Vec<PathBuf>) = by_key(audio_files_in(&audio)?)?.into_iter().unzip();
    if files.is_empty() {
        return Err(Error::data(audio, "contains no audio files"));
    }
    let Labels { keys, targets, observed, mut warnings } = Labels::of_table(&table, &classes, keys, "audio")?;
    check_any(&root, &observed)?;
    let Splits { train, test, .. } = Splits::locate(&partitions, &keys, "audio", false, &mut warnings)?;
    Ok(AudioSet { path: root, classes, keys, files, targets, observed, train, test, warnings, own: None })
}

fn of_folders(root: &Path) -> Result<AudioSet> {
    let ClassFolders { classes, keys, files, warnings } = ClassFolders::read(root, OTHER_LAYOUTS)?;
    let (mut train, mut test) = (vec![], vec![]);
    for files in files.chunk_by(|a, b| a.0 == b.0) {
        // The same seed for each class: its split does not depend on the other classes.
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.shuffle(&mut Pcg64::seed_from_u64(0));
        let count = (files.len() as f64 * TEST_FRACTION).round().max(1.0) as usize;
        let mut tested = vec![false; files.len()];
        order[..if files.len() < 2 { 0 } else { count }].iter().for_each(|&i| tested[i] = true);
        for tested in tested {
            let clip = (train.len() + test.len()) as u32;
            if tested { test.push(clip) } else { train.push(clip) }
        }
    }
    let k = classes.len();
    let targets =
        files.iter().flat_map(|&(own, _)| (0..k).map(move |class| f32::from(u8::from(class == own)))).collect();
    let observed = vec![true; files.len() * k];
    let files = files.into_iter().map(|(_, file)| file).collect();
    Ok(AudioSet { path: root.into(), classes, keys, files, targets, observed, train, test, warnings, own: None })
}

fn of_own(root: &Path, own: OwnLabels) -> AudioSet {
    let parts = own.parts(0.0);
    let files = |test: bool| {
        let is = |part: &Option<Part>| part.is_some_and(|part| (part == Part::Test) == test);
        parts.iter().zip(0..).filter(|(part, _)| is(part)).map(|(_, file)| file).collect()
    };
    AudioSet {
        path: root.into(),
        classes: own.classes.clone(),
        keys: keys_within(root, own.files.iter()),
        files: own.files.clone(),
        targets: own.targets.clone(),
        observed: own.observed.clone(),
        train: files(false),
        test: files(true),
        warnings: own.warnings.clone(),
        own: Some(own),
    }
}
