//! The tilings that `wmic tune` has measured: kept in the user's cache folder for each adapter, and recorded in the
//! `run.toml` of a run, because another tiling adds in another order and gives other bits.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::core::files::{own_cache_folder, read_limited, sha256, write_atomic};
use crate::core::toml::one_line;
use crate::gpu::{Adapter, Precision, Tilings, Tuned};

/// Most bytes of a kept file.
const MOST: u64 = 4 << 20;
/// A kept file begins with this, the SHA-256 of the rest in hexadecimal, and a line break.
const HASH: &str = "# sha256 ";

/// Measured tilings, and the adapter that they hold for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    pub adapter: String,
    pub driver: String,
    #[serde(default)]
    pub tiles: Tilings,
}

impl Tuning {
    /// Without choices.
    pub fn none(adapter: &Adapter) -> Tuning {
        Tuning { adapter: adapter.name.clone(), driver: adapter.driver.clone(), tiles: Tilings::default() }
    }

    /// The kernels of `adapter` for a precision: with the tilings of `tuning` if it was measured there, also with
    /// another driver, so that a resumed run keeps its kernels.
    ///
    /// # Errors
    /// `Gpu` for a precision that the adapter does not have.
    pub fn kernels(tuning: Option<&Tuning>, adapter: &Adapter, precision: Precision) -> Result<Tuned> {
        let tilings = tuning.filter(|tuning| tuning.adapter == adapter.name).map(|tuning| tuning.tiles.clone());
        Ok(Tuned { tilings: tilings.unwrap_or_default(), ..adapter.target_of(precision)?.into() })
    }

    /// The choices of these problems only; `None` if there are none.
    pub(crate) fn of(&self, problems: &BTreeSet<String>) -> Option<Tuning> {
        let mut used = self.clone();
        used.tiles.0.retain(|problem, _| problems.contains(problem));
        (!used.tiles.0.is_empty()).then_some(used)
    }

    /// Where those of an adapter are kept; `None` without a cache folder of the user's own.
    pub fn file(adapter: &Adapter) -> Option<PathBuf> {
        let name = sha256(&mut format!("{}\n{}", adapter.name, adapter.driver).as_bytes()).ok()?;
        Some(own_cache_folder()?.join("tiles").join(&name[..16]).with_extension("toml"))
    }

    /// What is kept for an adapter; nothing if it was never tuned.
    ///
    /// # Errors
    /// `Data` for a file that is damaged, or not of this adapter.
    pub fn kept(adapter: &Adapter) -> Result<Tuning> {
        let kept = Tuning::file(adapter).map(|file| read(&file, adapter)).transpose()?.flatten();
        Ok(kept.unwrap_or_else(|| Tuning::none(adapter)))
    }

    /// Where those of an adapter can be kept.
    ///
    /// # Errors
    /// `Usage` without a cache folder of the user's own, `Data` for a folder in the file's place.
    pub fn writable(adapter: &Adapter) -> Result<PathBuf> {
        let file = Tuning::file(adapter).ok_or_else(|| Error::Usage("there is no cache folder of the user".into()))?;
        is_no_folder(&file).map(|()| file)
    }

    /// As [`Tuning::kept`], for new runs and predictions: of a damaged file `None`, and `tell` is called with a line.
    pub fn usable(adapter: &Adapter, tell: &mut dyn FnMut(&str)) -> Option<Tuning> {
        let damaged = |error| tell(&format!("warning: {error}; the default tiles are used"));
        Tuning::kept(adapter).map_err(damaged).ok()
    }

    /// Keeps these choices instead of earlier ones.
    ///
    /// # Errors
    /// `Io` if the file cannot be written; those of [`Tuning::writable`].
    pub fn keep(&self, adapter: &Adapter) -> Result<PathBuf> {
        let file = Tuning::writable(adapter)?;
        write(&file, self)?;
        Ok(file)
    }

    /// Forgets what is kept for an adapter; whether there was anything.
    ///
    /// # Errors
    /// `Io` if the file cannot be removed, `Data` for a folder in its place.
    pub fn clear(adapter: &Adapter) -> Result<bool> {
        let Some(file) = Tuning::file(adapter) else { return Ok(false) };
        is_no_folder(&file)?;
        match fs::remove_file(&file) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true).map_err(Error::io(file)),
        }
    }
}

/// # Errors
/// `Data` for a folder, which is nothing that wmic made.
fn is_no_folder(file: &Path) -> Result<()> {
    if file.is_dir() {
        Err(Error::data(file, "is a folder, in the place of a file of tiles; remove it"))
    } else {
        Ok(())
    }
}

fn read(file: &Path, adapter: &Adapter) -> Result<Option<Tuning>> {
    if !file.exists() {
        return Ok(None);
    }
    let damaged = |reason: &str| Error::data(file, format!("{reason}; measure again with wmic tune, or remove it"));
    is_no_folder(file)?;
    let bytes = read_limited(file, MOST).map_err(|error| match error {
        Error::Data { reason, .. } => damaged(&reason),
        other => other,
    })?;
    let text = String::from_utf8(bytes).map_err(|_| damaged("is not text"))?;
    let (hash, body) = text.strip_prefix(HASH).and_then(|rest| rest.split_once('\n')).unwrap_or_default();
    if sha256(&mut body.as_bytes()).map_err(Error::io(file))? != hash {
        return Err(damaged("is damaged"));
    }
    let tuning: Tuning =
        toml::from_str(body).map_err(|e| damaged(&format!("is damaged ({})", one_line(e.message()))))?;
    match tuning.adapter == adapter.name && tuning.driver == adapter.driver {
        true => Ok(Some(tuning)),
        false => Err(damaged("is of another adapter")),
    }
}

fn write(file: &Path, tuning: &Tuning) -> Result<()> {
    let body = toml::to_string(tuning).map_err(|e| Error::Usage(e.to_string()))?;
    let hash = sha256(&mut body.as_bytes()).map_err(Error::io(file))?;
    fs::create_dir_all(file.parent().expect("it is in a folder")).map_err(Error::io(file))?;
    write_atomic(file, |to| to.write_all(format!("{HASH}{hash}\n{body}").as_bytes()))
}
