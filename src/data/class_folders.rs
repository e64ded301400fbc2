//! A folder of audio files for each class.

use std::fs;
use std::path::{Path, PathBuf};

use super::names::examples;
use crate::audio::audio_files_in;
use crate::core::error::{Error, Result};
use crate::core::files::distinct_names;

/// Audio files by class.
pub(super) struct ClassFolders {
    /// Names of the folders, sorted.
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
    /// `Data` for fewer than two folders with audio files, `Io` for what cannot be read.
    pub fn read(root: &Path, others: &str) -> Result<ClassFolders> {
        let (mut classes, mut warnings, mut files) = (vec![], vec![], vec![]);
        for name in folders(root)? {
            let of_class = audio_files_in(&root.join(&name))?;
            if of_class.is_empty() {
                warnings.push(format!("folder {} contains no audio files and is not a class", examples(&[&name])));
                continue;
            }
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
            warnings.push(format!("{stray} audio files are in no class folder and are unused"));
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
    for entry in fs::read_dir(root).map_err(Error::io(root))? {
        let entry = entry.map_err(Error::io(root))?;
        let name = entry.file_name();
        if entry.path().is_dir() && !name.as_encoded_bytes().starts_with(b".") {
            names.push(name.into_string().map_err(|_| Error::data(entry.path(), "has a name that is not UTF-8"))?);
        }
    }
    names.sort();
    Ok(names)
}
