//! Features as one JSON file a clip: `vggish/000/KEY.json` = `{"time": [...], "features": [[128 numbers], ...]}`.

use super::dataset::{Features, WIDTH};
use super::features::{FeatureBuilder, FeatureScale, MAX_VALUES};
use super::labels::by_key;
use crate::core::error::{Error, Result};
use crate::core::files::read_limited;
use serde::Deserialize;
use serde_json::Number;
use std::fs;
use std::path::{Path, PathBuf};

/// 10 s of features are 5 kB; this is over an hour.
const MAX_FILE: u64 = 8 << 20;
/// Folders below `vggish/` that are searched: one level in OpenMIC-2018.
const MAX_DEPTH: usize = 4;

#[derive(Deserialize)]
struct Clip {
    features: Vec<Vec<Number>>,
}

/// Loads every `KEY.json` below `folder`, sorted by key. Returns the N keys and the features, and a remark on
/// their scale. `scale`: scale of numbers with a decimal point.
pub(super) fn load(folder: &Path, scale: &mut Option<FeatureScale>) -> Result<(Vec<String>, Features, Option<String>)> {
    let mut files = vec![];
    find(folder, MAX_DEPTH, &mut files)?;
    let files = by_key(files)?;
    if files.is_empty() {
        return Err(Error::data(folder, "contains no KEY.json feature files"));
    }
    let mut builder = FeatureBuilder::with_capacity(0);
    let mut lengths = Vec::with_capacity(files.len());
    let (mut longest, mut is_float) = (0, false);
    for path in files.values() {
        let bytes = read_limited(path, MAX_FILE)?;
        let clip: Clip = serde_json::from_slice(&bytes).map_err(|e| {
            Error::data_at(
                path,
                e.line() as u64,
                format!("is not a feature file ({e}); {{\"features\": [[{WIDTH} numbers], ...]}} is expected"),
            )
        })?;
        longest = longest.max(clip.features.len());
        if clip.features.is_empty() {
            return Err(Error::data(path, "has no instances"));
        }
        if longest * WIDTH > MAX_VALUES / files.len() {
            return Err(Error::data(
                path,
                format!("has {longest} instances: too many for a set of {} clips", files.len()),
            ));
        }
        for (instance, row) in clip.features.iter().enumerate() {
            if row.len() != WIDTH {
                return Err(Error::data(
                    path,
                    format!("instance {instance} has {} values instead of {WIDTH}", row.len()),
                ));
            }
            for (band, value) in row.iter().enumerate() {
                is_float |= value.is_f64();
                builder
                    .push(value.as_f64().unwrap_or(f64::NAN))
                    .map_err(|reason| Error::data(path, format!("instance {instance}, value {band}: {reason}")))?;
            }
        }
        lengths.push(clip.features.len() as u32);
    }
    let instances = lengths.iter().copied().max().unwrap_or(0) as usize;
    let (scale, remark) = builder.scale(is_float, None, scale).map_err(|reason| Error::data(folder, reason))?;
    let remark = remark.map(|what| format!("{} has {what}", folder.display()));
    Ok((files.into_keys().collect(), builder.finish(lengths, instances, scale), remark))
}

/// Collects the files. Links to folders are not followed, so there are no loops.
fn find(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let path = entry.path();
        if entry.file_type().map_err(Error::io(&path))?.is_dir() {
            if depth > 0 {
                find(&path, depth - 1, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "json") {
            files.push(path);
        }
    }
    Ok(())
}
