//! The layout of OpenMIC-2018: which file holds what, and whether the files agree with each other.

use super::features::{FeatureBuilder, MAX_VALUES};
use super::npz::Npz;
use super::split::{Partition, read_partitions};
use super::{Dataset, Features, WIDTH, json_features};
use crate::error::{Error, Result};
use crate::files::read_limited;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

const CLASS_MAP: &str = "class-map.json";
const NPZ: &str = "openmic-2018.npz";
const JSON_FEATURES: &str = "vggish";
const LABELS: &str = "openmic-2018-aggregated-labels.csv";
const MAX_CLASS_MAP: u64 = 1 << 20;
/// OpenMIC-2018's label table takes 1.6 MB.
const MAX_LABELS: u64 = 256 << 20;

/// Clips with labels, before they are split.
struct Clips {
    keys: Vec<String>,
    features: Features,
    targets: Vec<f32>,
    observed: Vec<bool>,
    warnings: Vec<String>,
}

pub(super) fn load(path: &Path) -> Result<Dataset> {
    let root = find_root(path)?;
    let classes = read_class_map(&root.join(CLASS_MAP))?;
    let (train, test) = read_partitions(&root)?;
    let npz = root.join(NPZ);
    let clips = if npz.is_file() { read_npz(&npz, classes.len())? } else { read_json_and_csv(&root, &classes)? };
    let Clips { keys, features, targets, observed, mut warnings } = clips;

    let rows: HashMap<&str, u32> = keys.iter().zip(0..).map(|(key, row)| (key.as_str(), row)).collect();
    let mut unsplit = vec![true; keys.len()];
    let mut locate = |partition: &Partition, split: &str| -> Result<Vec<u32>> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for key in &partition.keys {
            match rows.get(key.as_str()) {
                Some(&row) => found.push(row),
                None => missing.push(key.as_str()),
            }
        }
        if found.is_empty() {
            let reason = format!("the {split} split is empty: none of its {} keys has features", partition.keys.len());
            return Err(Error::data(&partition.path, reason));
        }
        let any = |&row: &u32| observed[row as usize * classes.len()..][..classes.len()].contains(&true);
        if !found.iter().any(any) {
            return Err(Error::data(
                &root,
                format!("the {split} split has no observed label at all; nothing can be learnt or measured"),
            ));
        }
        if !missing.is_empty() {
            warnings.push(format!(
                "{} keys of the {split} split have no features ({})",
                missing.len(),
                examples(&missing)
            ));
        }
        found.iter().for_each(|&row| unsplit[row as usize] = false);
        Ok(found)
    };
    let (train, test) = (locate(&train, "train")?, locate(&test, "test")?);

    let unsplit: Vec<&str> = keys.iter().zip(&unsplit).filter(|&(_, &u)| u).map(|(key, _)| key.as_str()).collect();
    if !unsplit.is_empty() {
        warnings.push(format!("{} clips are in no split and stay unused ({})", unsplit.len(), examples(&unsplit)));
    }
    for (split, rows) in [("train", &train), ("test", &test)] {
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
                warnings.push(format!(
                    "{} classes have no {label} in the {split} split ({})",
                    lacking.len(),
                    examples(&lacking)
                ));
            }
        }
    }
    Ok(Dataset { path: root, classes, keys, features, targets, observed, train, test, warnings })
}

pub(super) fn load_features(path: &Path) -> Result<(Vec<String>, Features)> {
    if path.is_file() {
        return read_npz_features(&mut Npz::open(path)?, path);
    }
    for root in [path.to_path_buf(), path.join("openmic-2018")] {
        if root.join(NPZ).is_file() {
            return load_features(&root.join(NPZ));
        }
        if root.join(JSON_FEATURES).is_dir() {
            return json_features::load(&root.join(JSON_FEATURES));
        }
    }
    let reason = if path.exists() { "has no features" } else { "does not exist" };
    Err(Error::data(path, format!("{reason}; an npz file, or a folder with {NPZ} or {JSON_FEATURES}/ is expected")))
}

fn find_root(path: &Path) -> Result<PathBuf> {
    let roots = [path.to_path_buf(), path.join("openmic-2018")];
    roots.into_iter().find(|root| root.join(CLASS_MAP).is_file()).ok_or_else(|| {
        let what = match path {
            _ if !path.exists() => "does not exist",
            _ if !path.is_dir() => "is not a folder",
            _ => "is not a dataset: it has no class-map.json",
        };
        let expected = format!("{CLASS_MAP}, partitions/, and {NPZ} or {JSON_FEATURES}/ with {LABELS}");
        Error::data(path, format!("{what}; a folder in the layout of OpenMIC-2018 is expected: {expected}"))
    })
}

/// Reads `{"accordion": 0, ...}`; the K indices must be 0..K, each once.
fn read_class_map(path: &Path) -> Result<Vec<String>> {
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
        return Err(Error::data(path, "names no classes"));
    }
    Ok(classes.into_iter().flatten().collect())
}

/// Reads keys, labels and features from the npz, the small arrays first: they fix what `X` may claim.
fn read_npz(path: &Path, classes: usize) -> Result<Clips> {
    let mut npz = Npz::open(path)?;
    let keys = distinct(path, npz.member("sample_key")?.strings()?)?;
    let clips = keys.len();

    let labels = |npz: &mut Npz, name: &str, allowed: fn(f64) -> bool, range: &str| -> Result<Vec<f64>> {
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
                let reason =
                    format!("{name}.npy of clip {:?} (row {row}), class {class}: {value} is not {range}", keys[row]);
                return Err(Error::data(path, reason));
            }
            values.push(value);
            Ok(())
        })?;
        Ok(values)
    };
    let observed: Vec<bool> =
        labels(&mut npz, "Y_mask", |v| v == 0.0 || v == 1.0, "0 or 1")?.iter().map(|&v| v == 1.0).collect();
    let relevance = labels(&mut npz, "Y_true", |v| (0.0..=1.0).contains(&v) || v.is_nan(), "in 0..1")?;
    if let Some(entry) = (0..relevance.len()).find(|&i| observed[i] && relevance[i].is_nan()) {
        let reason = format!(
            "Y_true.npy of clip {:?} (row {}) is NaN where it counts as observed",
            keys[entry / classes],
            entry / classes
        );
        return Err(Error::data(path, reason));
    }
    let targets = relevance.iter().map(|&v| if v >= 0.5 { 1.0 } else { 0.0 }).collect();
    let features = read_x(&mut npz, path, Some(&keys))?;
    Ok(Clips { keys, features, targets, observed, warnings: Vec::new() })
}

fn read_npz_features(npz: &mut Npz, path: &Path) -> Result<(Vec<String>, Features)> {
    let keys = match npz.contains("sample_key") {
        true => Some(distinct(path, npz.member("sample_key")?.strings()?)?),
        false => None,
    };
    let features = read_x(npz, path, keys.as_deref())?;
    let keys = keys.unwrap_or_else(|| (0..features.lengths.len()).map(|row| row.to_string()).collect());
    Ok((keys, features))
}

/// Streams `X` (N, T, 128). `keys`, when known, fix N and name the clips in messages.
fn read_x(npz: &mut Npz, path: &Path, keys: Option<&[String]>) -> Result<Features> {
    let member = npz.member("X")?;
    let &[clips, instances, WIDTH] = member.shape() else {
        let reason = format!("has shape {:?}; (clips, instances, {WIDTH}) is expected", member.shape());
        return Err(member.error(reason));
    };
    if let Some(keys) = keys.filter(|keys| keys.len() != clips) {
        return Err(member.error(format!("has {clips} clips, but there are {} keys", keys.len())));
    }
    let count = clips * instances * WIDTH;
    if count == 0 || count > MAX_VALUES {
        return Err(
            member.error(format!("has {clips} clips of {instances} instances; 1 to {MAX_VALUES} values are supported"))
        );
    }
    let is_float = member.is_float();
    let mut builder = FeatureBuilder::with_capacity(count);
    member.numbers(|index, value| {
        builder.push(value).map_err(|reason| {
            let (row, instance, band) = (index / WIDTH / instances, index / WIDTH % instances, index % WIDTH);
            let clip = keys.map_or(format!("row {row}"), |keys| format!("clip {:?} (row {row})", keys[row]));
            Error::data(path, format!("X.npy of {clip}, instance {instance}, value {band}: {reason}"))
        })
    })?;
    Ok(builder.finish(vec![instances as u32; clips], is_float))
}

/// Features from `vggish/`, labels from the table of relevances.
fn read_json_and_csv(root: &Path, classes: &[String]) -> Result<Clips> {
    let (folder, table) = (root.join(JSON_FEATURES), root.join(LABELS));
    if !folder.is_dir() || !table.is_file() {
        return Err(Error::data(
            root,
            format!("has neither {NPZ} nor {JSON_FEATURES}/ with {LABELS}; one of them is needed"),
        ));
    }
    let (keys, features) = json_features::load(&folder)?;
    let keys = distinct(&folder, keys)?;
    let rows: HashMap<&str, usize> = keys.iter().enumerate().map(|(row, key)| (key.as_str(), row)).collect();
    let columns: HashMap<&str, usize> = classes.iter().enumerate().map(|(k, name)| (name.as_str(), k)).collect();
    let mut targets = vec![0.0; keys.len() * classes.len()];
    let mut observed = vec![false; targets.len()];
    let mut without_features = 0;
    let bytes = read_limited(&table, MAX_LABELS)?;
    let mut reader = csv::Reader::from_reader(&bytes[..]);
    let fail = |e: &csv::Error| {
        Error::data_at(&table, e.position().map_or(1, |p| p.line()), format!("is not a label table ({e})"))
    };
    let header = reader.headers().map_err(|e| fail(&e))?;
    let column = |name| {
        let found = header.iter().position(|h| h.trim_start_matches('\u{feff}').trim() == name);
        found.ok_or_else(|| {
            Error::data_at(&table, 1, format!("has no column {name}; sample_key,instrument,relevance are expected"))
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
            return Err(Error::data_at(&table, line, reason));
        };
        let Some(&k) = columns.get(name) else {
            return Err(Error::data_at(
                &table,
                line,
                format!("instrument {:?} is not in the class map", shorten(name)),
            ));
        };
        let Some(&row) = rows.get(record[key].trim()) else {
            without_features += 1;
            continue;
        };
        let entry = row * classes.len() + k;
        if observed[entry] {
            return Err(Error::data_at(
                &table,
                line,
                format!("{} of clip {} is listed a second time", name, keys[row]),
            ));
        }
        observed[entry] = true;
        targets[entry] = if value >= 0.5 { 1.0 } else { 0.0 };
    }
    let mut warnings = Vec::new();
    if without_features > 0 {
        warnings.push(format!("{without_features} labels belong to clips without features"));
    }
    Ok(Clips { keys, features, targets, observed, warnings })
}

/// Passes keys on if they are distinct and not empty.
fn distinct(path: &Path, keys: Vec<String>) -> Result<Vec<String>> {
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

fn examples(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(3).map(|name| shorten(name).escape_debug().to_string()).collect();
    if names.len() > shown.len() { format!("{}, ...", shown.join(", ")) } else { shown.join(", ") }
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}
