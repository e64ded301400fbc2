//! The layout of OpenMIC-2018: its files, and their consistency.

use super::labels::{Labels, Splits, check_splits, distinct, read_class_map};
use super::npz::Npz;
use super::split::{Partition, read_partitions};
use super::{Dataset, FeatureScale, Features, features_npz, json_features};
use crate::core::error::{Error, Result};
use std::path::{Path, PathBuf};

const CLASS_MAP: &str = "class-map.json";
const NPZ: &str = "openmic-2018.npz";
const JSON_FEATURES: &str = "vggish";
pub(super) const LABELS: &str = "openmic-2018-aggregated-labels.csv";

/// Classes and splits of a dataset.
pub(super) struct Layout {
    pub root: PathBuf,
    pub classes: Vec<String>,
    pub partitions: [Partition; 2],
}

impl Layout {
    /// Reads class map and partitions. A partition that is missing is an error if the splits are `needed`, else empty.
    pub fn read(path: &Path, needed: bool) -> Result<Layout> {
        let root = find_root(path)?;
        let classes = read_class_map(&root.join(CLASS_MAP))?;
        let partitions = read_partitions(&root, needed)?;
        Ok(Layout { root, classes, partitions })
    }

    fn dataset(self, mut labels: Labels, features: Features, needed: bool) -> Result<Dataset> {
        let Layout { root, classes, partitions } = self;
        let splits = Splits::locate(&partitions, &labels.keys, "features", needed, &mut labels.warnings)?;
        if needed {
            check_splits(&root, &labels.observed, classes.len(), &splits.train, &splits.test)?;
        }
        labels.with_features(root, classes, features, splits)
    }
}

/// Loads a dataset with features. `needed`: both splits must have clips with labels.
pub(super) fn load(path: &Path, needed: bool, scale: Option<FeatureScale>) -> Result<Dataset> {
    let layout = Layout::read(path, needed)?;
    let npz = layout.root.join(NPZ);
    let (labels, features) = if npz.is_file() {
        let mut archive = Npz::open(&npz)?;
        let mut labels = Labels::of_npz(&mut archive, &npz, layout.classes.len())?;
        let (features, remark) = features_npz::read_x(&mut archive, &npz, Some(&labels.keys), scale)?;
        labels.warnings.extend(remark);
        (labels, features)
    } else {
        read_json_and_csv(&layout, scale)?
    };
    layout.dataset(labels, features, needed)
}

/// Loads labels and splits from the folder `path`, features from the archive `npz`.
pub(super) fn load_with(path: &Path, npz: &Path, scale: Option<FeatureScale>) -> Result<Dataset> {
    let layout = Layout::read(path, false)?;
    let mut archive = Npz::open(npz)?;
    if !archive.contains("sample_key") {
        return Err(Error::data(npz, "has no array sample_key, so its features cannot be joined to labels"));
    }
    let (keys, features, remark) = features_npz::read(&mut archive, npz, scale)?;
    let (table, own) = (layout.root.join(LABELS), layout.root.join(NPZ));
    let mut labels = if table.is_file() {
        Labels::of_table(&table, &layout.classes, keys, "features")?
    } else if own.is_file() {
        Labels::of_npz(&mut Npz::open(&own)?, &own, layout.classes.len())?.join(keys, layout.classes.len())
    } else {
        Labels::of_npz(&mut archive, npz, layout.classes.len())?
    };
    labels.warnings.extend(remark);
    layout.dataset(labels, features, false)
}

pub(super) fn load_features(
    path: &Path,
    scale: Option<FeatureScale>,
) -> Result<(Vec<String>, Features, Option<String>)> {
    if path.is_file() {
        return features_npz::read(&mut Npz::open(path)?, path, scale);
    }
    for root in [path.to_path_buf(), path.join("openmic-2018")] {
        if root.join(NPZ).is_file() {
            return load_features(&root.join(NPZ), scale);
        }
        if root.join(JSON_FEATURES).is_dir() {
            return json_features::load(&root.join(JSON_FEATURES), scale);
        }
    }
    let reason = if path.exists() { "has no features" } else { "does not exist" };
    Err(Error::data(path, format!("{reason}; an npz file, or a folder with {NPZ} or {JSON_FEATURES}/ is expected")))
}

pub(super) fn find_root(path: &Path) -> Result<PathBuf> {
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

/// Features from `vggish/`, labels from the table of relevances.
fn read_json_and_csv(layout: &Layout, scale: Option<FeatureScale>) -> Result<(Labels, Features)> {
    let Layout { root, classes, .. } = layout;
    let (folder, table) = (root.join(JSON_FEATURES), root.join(LABELS));
    if !folder.is_dir() || !table.is_file() {
        return Err(Error::data(
            root,
            format!("has neither {NPZ} nor {JSON_FEATURES}/ with {LABELS}; one of them is needed"),
        ));
    }
    let (keys, features, remark) = json_features::load(&folder, scale)?;
    let keys = distinct(&folder, keys)?;
    let mut labels = Labels::of_table(&table, classes, keys, "features")?;
    labels.warnings.extend(remark);
    Ok((labels, features))
}

/// Whether the folder, or its subfolder `openmic-2018`, has features that [`load`] finds.
pub(super) fn has_features(path: &Path) -> bool {
    find_root(path).is_ok_and(|root| root.join(NPZ).is_file() || root.join(JSON_FEATURES).is_dir())
}

/// The archive that [`load`] would read.
pub(super) fn npz_of(path: &Path) -> Option<PathBuf> {
    find_root(path).ok().map(|root| root.join(NPZ)).filter(|npz| npz.is_file())
}
