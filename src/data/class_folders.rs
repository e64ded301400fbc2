//! A folder of audio files for each class.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::names::{examples, normalised};
use crate::audio::audio_files_in;
use crate::core::error::{Error, Result};
use crate::core::files::distinct_names;
use crate::core::numbers;

const EXPECTED: &str = "a folder with a folder of audio files for each class is expected";

/// Audio files by class.
pub(super) struct ClassFolders {
    /// Names of the folders, [`normalised`] and sorted.
    pub classes: Vec<String>,
    /// N paths within the folder, with slashes.
    pub keys: Vec<String>,
    /// N files with their classes, class after class.
    pub files: Vec<(usize, PathBuf)>,
    /// Warnings, one line each.
    pub warnings: Vec<String>,
}

impl ClassFolders {
    /// `others`: what the caller accepts besides, for the error.
    ///
    /// # Errors
    /// `Data` for fewer than two folders with audio files, a name that no class can have, and two folders of one class;
    /// `Io` for what cannot be read.
    pub fn read(root: &Path, others: &str) -> Result<ClassFolders> {
        let mut of_classes: BTreeMap<String, (String, Vec<PathBuf>)> = BTreeMap::new();
        let mut warnings = vec![];
        for folder in folders(root)? {
            let path = root.join(&folder);
            let of_class = audio_files_in(&path)?;
            if of_class.is_empty() {
                warnings.push(format!("folder {} contains no audio files and is not a class", examples(&[&folder])));
                continue;
            }
            let name = normalised(&folder).map_err(|reason| Error::data(path, reason))?;
            if let Some((other, _)) = of_classes.get(&name) {
                let both = examples(&[other, &folder]);
                let reason = format!("has two folders of the class {name} ({both}); put their files into one");
                return Err(Error::data(root, reason));
            }
            of_classes.insert(name, (folder, of_class));
        }
        let (mut classes, mut files) = (vec![], vec![]);
        for (name, (_, of_class)) in of_classes {
            files.extend(of_class.into_iter().map(|file| (classes.len(), file)));
            classes.push(name);
        }
        if classes.len() < 2 {
            let found = match classes.first() {
                None => "no folder with audio files".into(),
                Some(only) => format!("audio files in one folder only ({})", examples(&[only])),
            };
            let reason = format!("has {found}; a folder for each of two or more classes{others} is expected");
            return Err(Error::data(root, reason));
        }
        let stray = audio_files_in(root)?.len().saturating_sub(files.len());
        if stray > 0 {
            let stray = numbers::of(
                stray,
                "audio file is in no class folder and is",
                "audio files are in no class folder and are",
            );
            warnings.push(format!("{stray} unused"));
        }
        let keys = keys_within(root, files.iter().map(|(_, file)| file));
        Ok(ClassFolders { classes, keys, files, warnings })
    }
}

/// Paths within the folder, with slashes.
pub(super) fn keys_within<'a>(root: &Path, files: impl Iterator<Item = &'a PathBuf>) -> Vec<String> {
    let within: Vec<&Path> = files.map(|file| file.strip_prefix(root).unwrap_or(file)).collect();
    distinct_names(&within).into_iter().map(|name| name.replace(std::path::MAIN_SEPARATOR, "/")).collect()
}

/// The names of the folders in `root`, sorted, without hidden ones.
fn folders(root: &Path) -> Result<Vec<String>> {
    let mut names = vec![];
    let entries = fs::read_dir(root).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::data(root, format!("does not exist; {EXPECTED}")),
        ErrorKind::NotADirectory => Error::data(root, format!("is a file; {EXPECTED}")),
        _ => Error::io(root)(e),
    })?;
    for entry in entries {
        let entry = entry.map_err(Error::io(root))?;
        let name = entry.file_name();
        if entry.path().is_dir() && !name.as_encoded_bytes().starts_with(b".") {
            names.push(name.into_string().map_err(|_| Error::data(entry.path(), "has a name that is not UTF-8"))?);
        }
    }
    names.sort();
    Ok(names)
}
