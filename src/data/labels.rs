//! Labels and splits, common to all datasets.

use super::dataset::{Dataset, Features};
use super::names::{examples, shorten};
use super::npz::Npz;
use super::split::Partition;
use crate::core::error::{Error, Result};
use crate::core::files::read_limited;
use crate::core::numbers;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

const MAX_CLASS_MAP: u64 = 1 << 20;
/// Maximum size of a label table; OpenMIC-2018's has 1.6 MB.
const MAX_LABELS: u64 = 256 << 20;

/// Labels of N clips for K classes, as in [`Dataset`].
pub(super) struct Labels {
    pub keys: Vec<String>,
    pub targets: Vec<f32>,
    pub observed: Vec<bool>,
    pub warnings: Vec<String>,
}

/// Clip indices of the splits.
pub(super) struct Splits {
    pub train: Vec<u32>,
    /// `None`: each seed draws its own from `train`.
    pub validation: Option<Vec<u32>>,
    pub test: Vec<u32>,
}

/// Reads `{"accordion": 0, ...}`; the K indices must be 0..K, each once.
pub(super) fn read_class_map(path: &Path) -> Result<Vec<String>> {
    let bytes = read_limited(path, MAX_CLASS_MAP)?;
    let map: BTreeMap<String, u64> = serde_json::from_slice(&bytes).map_err(|e| {
        Error::data_at(path, e.line() as u64, format!("is not a class map ({e}); {{\"name\": index, ...}} is expected"))
    })?;
    let mut classes = vec![None; map.len()];
    for (name, &index) in &map {
        let slot = usize::try_from(index).ok().and_then(|i| classes.get_mut(i));
        match slot {
            Some(slot @ None) => *slot = Some(name.clone()),
            _ => {
                let reason = format!(
                    "class {name:?} has index {index}; the {} classes need the indices 0 to {}, each once",
                    map.len(),
                    map.len() - 1
                );
                return Err(Error::data(path, reason));
            }
        }
    }
    if map.is_empty() {
        return Err(Error::data(path, "has no classes"));
    }
    Ok(classes.into_iter().flatten().collect())
}

impl Labels {
    /// Reads the labels of the clips `keys` from the table of relevances; `what` describes them in messages.
    pub fn of_table(table: &Path, classes: &[String], keys: Vec<String>, what: &str) -> Result<Labels> {
        let rows: HashMap<&str, usize> = keys.iter().enumerate().map(|(row, key)| (key.as_str(), row)).collect();
        let columns: HashMap<&str, usize> = classes.iter().enumerate().map(|(k, name)| (name.as_str(), k)).collect();
        let mut targets = vec![0.0; keys.len() * classes.len()];
        let mut observed = vec![false; targets.len()];
        let mut unknown = 0;
        let bytes = read_limited(table, MAX_LABELS)?;
        let mut reader = csv::Reader::from_reader(&bytes[..]);
        let fail = |e: &csv::Error| {
            Error::data_at(table, e.position().map_or(1, |p| p.line()), format!("is not a label table ({e})"))
        };
        let header = reader.headers().map_err(|e| fail(&e))?;
        let column = |name| {
            let found = header.iter().position(|h| h.trim_start_matches('\u{feff}').trim() == name);
            found.ok_or_else(|| {
                Error::data_at(table, 1, format!("has no column {name}; sample_key,instrument,relevance are expected"))
            })
        };
        let (key, instrument, relevance) = (column("sample_key")?, column("instrument")?, column("relevance")?);
        for record in reader.records() {
            let record = record.map_err(|e| fail(&e))?;
            let line = record.position().map_or(0, |p| p.line());
            let name = record[instrument].trim();
            let value: Option<f64> = record[relevance].trim().parse().ok().filter(|v| (0.0..=1.0).contains(v));
            let Some(value) = value else {
                let reason = format!("relevance {:?} is not a number in 0..1", shorten(&record[relevance]));
                return Err(Error::data_at(table, line, reason));
            };
            let Some(&k) = columns.get(name) else {
                let reason = format!("instrument {:?} is not in the class map", shorten(name));
                return Err(Error::data_at(table, line, reason));
            };
            let Some(&row) = rows.get(record[key].trim()) else {
                unknown += 1;
                continue;
            };
            let entry = row * classes.len() + k;
            if observed[entry] {
                let reason = format!("{} of clip {} is listed twice", name, keys[row]);
                return Err(Error::data_at(table, line, reason));
            }
            observed[entry] = true;
            targets[entry] = target(value);
        }
        let mut warnings = Vec::new();
        if unknown > 0 {
            let labels = numbers::of(unknown, "label belongs to a clip", "labels belong to clips");
            warnings.push(format!("{labels} without {what}"));
        }
        Ok(Labels { keys, targets, observed, warnings })
    }

    /// Reads `sample_key`, `Y_true` and `Y_mask` of an archive.
    pub(crate) fn of_npz(npz: &mut Npz, path: &Path, classes: usize) -> Result<Labels> {
        let keys = distinct(path, npz.member("sample_key")?.strings()?)?;
        let clips = keys.len();
        let entries = |npz: &mut Npz, name: &str, allowed: fn(f64) -> bool, range: &str| -> Result<Vec<f64>> {
            let member = npz.member(name)?;
            if member.shape() != [clips, classes] {
                let reason = format!(
                    "has shape {:?}, but there are {clips} clips and the class map has {classes} classes",
                    member.shape()
                );
                return Err(member.error(reason));
            }
            let mut values = Vec::new();
            member.numbers(|index, value| {
                if !allowed(value) {
                    let (row, class) = (index / classes, index % classes);
                    let clip = format!("clip {:?} (row {row}), class {class}", keys[row]);
                    return Err(Error::data(path, format!("{name}.npy of {clip}: {value} is not {range}")));
                }
                values.push(value);
                Ok(())
            })?;
            Ok(values)
        };
        let observed: Vec<bool> =
            entries(npz, "Y_mask", |v| v == 0.0 || v == 1.0, "0 or 1")?.iter().map(|&v| v == 1.0).collect();
        let relevance = entries(npz, "Y_true", |v| (0.0..=1.0).contains(&v) || v.is_nan(), "in 0..1")?;
        if let Some(entry) = (0..relevance.len()).find(|&i| observed[i] && relevance[i].is_nan()) {
            let clip = format!("clip {:?} (row {})", keys[entry / classes], entry / classes);
            return Err(Error::data(path, format!("Y_true.npy of {clip} is NaN where it counts as observed")));
        }
        let targets = relevance.iter().map(|&v| target(v)).collect();
        Ok(Labels { keys, targets, observed, warnings: vec![] })
    }

    /// The labels of the clips `keys`, in that order. Clips without labels get none.
    pub fn join(mut self, keys: Vec<String>, classes: usize) -> Labels {
        let rows: HashMap<&str, usize> = self.keys.iter().enumerate().map(|(row, key)| (key.as_str(), row)).collect();
        let (mut targets, mut observed) = (vec![0.0; keys.len() * classes], vec![false; keys.len() * classes]);
        for (to, from) in keys.iter().enumerate().filter_map(|(to, key)| Some((to, *rows.get(key.as_str())?))) {
            let (to, from) = (to * classes..(to + 1) * classes, from * classes..(from + 1) * classes);
            targets[to.clone()].copy_from_slice(&self.targets[from.clone()]);
            observed[to].copy_from_slice(&self.observed[from]);
        }
        let kept: HashSet<&str> = keys.iter().map(|key| key.as_str()).collect();
        let lost: Vec<&str> = self.keys.iter().map(|key| key.as_str()).filter(|key| !kept.contains(key)).collect();
        if !lost.is_empty() {
            let clips = numbers::of(lost.len(), "clip has no features and is", "clips have no features and are");
            self.warnings.push(format!("{clips} skipped ({})", examples(&lost)));
        }
        Labels { keys, targets, observed, warnings: self.warnings }
    }

    /// Makes a dataset of clips with features, with warnings about its splits.
    pub fn with_features(
        self,
        path: PathBuf,
        classes: Vec<String>,
        features: Features,
        splits: Splits,
    ) -> Result<Dataset> {
        let Labels { keys, targets, observed, mut warnings } = self;
        check_any(&path, &observed)?;
        let Splits { train, validation, test } = splits;
        let mut unsplit = vec![true; keys.len()];
        train.iter().chain(validation.iter().flatten()).chain(&test).for_each(|&row| unsplit[row as usize] = false);
        let unsplit: Vec<&str> = keys.iter().zip(&unsplit).filter(|&(_, &u)| u).map(|(key, _)| key.as_str()).collect();
        if !unsplit.is_empty() {
            let clips = numbers::of(unsplit.len(), "clip is in no split and is", "clips are in no split and are");
            warnings.push(format!("{clips} unused ({})", examples(&unsplit)));
        }
        for (split, rows) in [("train", &train), ("test", &test)].into_iter().filter(|(_, rows)| !rows.is_empty()) {
            for (label, present) in [("positive", true), ("negative", false)] {
                let lacks = |k: &usize| {
                    let matches = |row: u32| {
                        let entry = row as usize * classes.len() + k;
                        observed[entry] && (targets[entry] == 1.0) == present
                    };
                    !rows.iter().any(|&row| matches(row))
                };
                let lacking: Vec<&str> = (0..classes.len()).filter(lacks).map(|k| classes[k].as_str()).collect();
                if !lacking.is_empty() {
                    let classes = numbers::of(lacking.len(), "class has", "classes have");
                    warnings.push(format!("{classes} no {label} in the {split} split ({})", examples(&lacking)));
                }
            }
        }
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
            validation,
            test,
            drawn: None,
            word_vectors: vec![],
            warnings,
        })
    }
}

impl Splits {
    /// Finds the clips of the two partitions among `keys`, which have `what`. Warns of missing keys.
    ///
    /// A split without any clip is an error if it is `needed`, else a warning.
    pub(crate) fn locate(
        partitions: &[Partition; 2],
        keys: &[String],
        what: &str,
        needed: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Splits> {
        let rows: HashMap<&str, u32> = keys.iter().zip(0..).map(|(key, row)| (key.as_str(), row)).collect();
        let mut locate = |partition: &Partition| -> Result<Vec<u32>> {
            let (mut found, mut missing) = (Vec::new(), Vec::new());
            for key in &partition.keys {
                match rows.get(key.as_str()) {
                    Some(&row) => found.push(row),
                    None => missing.push(key.as_str()),
                }
            }
            let (split, all) = (partition.split, partition.keys.len());
            if found.is_empty() {
                let reason = format!("the {split} split is empty: none of its {all} keys has {what}");
                let empty = Error::data(&partition.path, reason);
                if needed {
                    return Err(empty);
                }
                warnings.push(empty.to_string());
            } else if !missing.is_empty() {
                let [keys, have] = if missing.len() == 1 { ["key", "has"] } else { ["keys", "have"] };
                let count = missing.len();
                warnings.push(format!("{count} {keys} of the {split} split {have} no {what} ({})", examples(&missing)));
            }
            Ok(found)
        };
        Ok(Splits { train: locate(&partitions[0])?, validation: None, test: locate(&partitions[1])? })
    }
}

/// Fails if no label is known.
pub(super) fn check_any(path: &Path, observed: &[bool]) -> Result<()> {
    if observed.contains(&true) {
        return Ok(());
    }
    Err(Error::data(path, "has no known label; it cannot be used for training or evaluation"))
}

/// Maps the key of each file, its name without the extension, to its path. Fails on a key that occurs twice.
pub(super) fn by_key(files: impl IntoIterator<Item = PathBuf>) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for path in files {
        let key = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(other) = found.insert(key, path.clone()) {
            let reason = format!("is the same clip as {}; remove one of them", other.display());
            return Err(Error::data(path, reason));
        }
    }
    Ok(found)
}

/// Returns the keys if they are distinct and not empty.
pub(super) fn distinct(path: &Path, keys: Vec<String>) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    for (row, key) in keys.iter().enumerate() {
        if key.is_empty() {
            return Err(Error::data(path, format!("the key of clip {row} is empty")));
        }
        if !seen.insert(key) {
            return Err(Error::data(path, format!("the key {:?} occurs twice (row {row})", shorten(key))));
        }
    }
    Ok(keys)
}

/// Whether a relevance counts as present.
fn target(relevance: f64) -> f32 {
    if relevance >= 0.5 { 1.0 } else { 0.0 }
}
