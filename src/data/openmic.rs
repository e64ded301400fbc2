//! The layout of OpenMIC-2018: its files, and their consistency.

use super::dataset::{Dataset, Features, check_splits};
use super::features::FeatureScale;
use super::labels::{Labels, Splits, distinct, read_class_map};
use super::npz::Npz;
use super::split::{Partition, read_partitions};
use super::{features_npz as npz_features, json_features};
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

impl Dataset {
    /// Loads the dataset in the folder `path`, or in its subfolder `openmic-2018`.
    ///
    /// Features and labels come from `openmic-2018.npz`; without it, from `vggish/**/KEY.json` and
    /// `openmic-2018-aggregated-labels.csv`. Classes come from `class-map.json`, splits from `partitions/`.
    ///
    /// # Errors
    /// Anything missing, damaged or contradictory, with the file and what to do about it: features that are not (N, T,
    /// 128), not finite or outside 0..=255, or floats whose scale the archive does not note; labels of other classes
    /// than the class map's; a key twice or in both
    /// splits; an empty split, or one without any observed label.
    pub fn load(path: impl AsRef<Path>) -> Result<Dataset> {
        load(path.as_ref(), true, &mut None)
    }

    /// As [`Dataset::load`], but for evaluation on all clips: splits may be missing or empty, which is a warning, as
    /// long as any label is observed. [`Dataset::check_splits`] checks whether it can be used for training. `scale`:
    /// see [`load_features`].
    pub fn load_labelled(path: impl AsRef<Path>, scale: &mut Option<FeatureScale>) -> Result<Dataset> {
        load(path.as_ref(), false, scale)
    }

    /// Loads labels, classes and splits from the folder `path` and features from another archive, joined by
    /// `sample_key`.
    ///
    /// Labels come from the folder's `openmic-2018-aggregated-labels.csv`; without it from its `openmic-2018.npz`;
    /// without that from `npz` itself, which otherwise needs only `X` and `sample_key`. Clips keep the order of `npz`;
    /// those without features are skipped with a warning, and splits may be empty as in [`Dataset::load_labelled`].
    ///
    /// # Errors
    /// As [`Dataset::load`]; `Data` if `npz` has no `sample_key`.
    pub fn load_with(
        path: impl AsRef<Path>,
        npz: impl AsRef<Path>,
        scale: &mut Option<FeatureScale>,
    ) -> Result<Dataset> {
        load_with(path.as_ref(), npz.as_ref(), scale)
    }
}

/// Loads a dataset with features. `needed`: both splits must have clips with labels.
fn load(path: &Path, needed: bool, scale: &mut Option<FeatureScale>) -> Result<Dataset> {
    let layout = Layout::read(path, needed)?;
    let npz = layout.root.join(NPZ);
    let (labels, features) = if npz.is_file() {
        let mut archive = Npz::open(&npz)?;
        let mut labels = Labels::of_npz(&mut archive, &npz, layout.classes.len())?;
        let (features, remark) = npz_features::read_x(&mut archive, &npz, Some(&labels.keys), scale)?;
        labels.warnings.extend(remark);
        (labels, features)
    } else {
        read_json_and_csv(&layout, scale)?
    };
    layout.dataset(labels, features, needed)
}

/// Loads labels and splits from the folder `path`, features from the archive `npz`.
fn load_with(path: &Path, npz: &Path, scale: &mut Option<FeatureScale>) -> Result<Dataset> {
    let layout = Layout::read(path, false)?;
    let mut archive = Npz::open(npz)?;
    if !archive.contains("sample_key") {
        return Err(Error::data(npz, "has no array sample_key, so its features cannot be joined to labels"));
    }
    let (keys, features, remark) = npz_features::read(&mut archive, npz, scale)?;
    let (table, own) = (layout.root.join(LABELS), layout.root.join(NPZ));
    let (mut labels, source) = if table.is_file() {
        (Labels::of_table(&table, &layout.classes, keys, "features")?, table.as_path())
    } else if own.is_file() {
        let labels = Labels::of_npz(&mut Npz::open(&own)?, &own, layout.classes.len())?;
        (labels.join(keys, layout.classes.len()), own.as_path())
    } else {
        (Labels::of_npz(&mut archive, npz, layout.classes.len())?, npz)
    };
    if source != npz && !labels.observed.contains(&true) {
        return Err(Error::data(npz, format!("has features of other clips: none has a label in {}", source.display())));
    }
    labels.warnings.extend(remark);
    layout.dataset(labels, features, false)
}

/// Loads features alone, for prediction: from an npz with `X` (N, T, 128) and, optionally, `sample_key` (else the keys
/// are "0", "1", ...) and `lengths` (N, see [`write_npz`](super::write_npz)), or from a dataset folder, whose
/// labels and splits are then not needed. Returns the N keys and the features, and a remark on their scale if it was
/// given.
///
/// Integers are 8-bit codes, whatever their values, and `scale` is then `None` afterwards; floats have the scale in the
/// archive's note, else `scale`.
///
/// # Errors
/// As [`Dataset::load`]; `Data` for floats of unknown scale.
pub fn load_features(
    path: impl AsRef<Path>,
    scale: &mut Option<FeatureScale>,
) -> Result<(Vec<String>, Features, Option<String>)> {
    let path = path.as_ref();
    if path.is_file() {
        return npz_features::read(&mut Npz::open(path)?, path, scale);
    }
    for root in [path.to_path_buf(), path.join("openmic-2018")] {
        if root.join(NPZ).is_file() {
            return load_features(root.join(NPZ), scale);
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
fn read_json_and_csv(layout: &Layout, scale: &mut Option<FeatureScale>) -> Result<(Labels, Features)> {
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

/// Whether [`Dataset::load`] finds features in the folder.
pub fn has_features(path: impl AsRef<Path>) -> bool {
    find_root(path.as_ref()).is_ok_and(|root| root.join(NPZ).is_file() || root.join(JSON_FEATURES).is_dir())
}

/// The `openmic-2018.npz` that [`Dataset::load`] reads in the folder, if there is one.
pub fn features_npz(path: impl AsRef<Path>) -> Option<PathBuf> {
    find_root(path.as_ref()).ok().map(|root| root.join(NPZ)).filter(|npz| npz.is_file())
}

/// Whether the folder is meant as a dataset in OpenMIC-2018's layout.
pub fn has_class_map(path: impl AsRef<Path>) -> bool {
    find_root(path.as_ref()).is_ok()
}
