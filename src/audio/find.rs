//! Which files on the disk are meant: files, folders and patterns to a list of sound files.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::decode::STDIN;
use crate::core::error::{Error, Result};

/// What files with sound are called, films among them: whatever can be decoded when it is named is found in a folder.
const EXTENSIONS: [&str; 39] = [
    "wav", "wave", "bwf", "rf64", "bw64", "w64", "aif", "aiff", "aifc", "afc", "au", "snd", "caf", "flac", "mp3",
    "mp2", "mp1", "mpa", "mpga", "ogg", "oga", "ogv", "ogx", "opus", "m4a", "m4b", "m4p", "m4r", "m4v", "mp4", "mov",
    "qt", "3gp", "aac", "adts", "alac", "mka", "mkv", "webm",
];
/// Folders within folders that are searched.
const MAX_DEPTH: usize = 32;
/// Most files and folders that one search looks at.
const MAX_ENTRIES: usize = 2_000_000;
const MATCH: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub files: Vec<PathBuf>,
    /// Files in folders that are not called as sound files are, counted by extension, in small letters; of those
    /// without one under "".
    pub passed_over: BTreeMap<String, usize>,
}

impl Found {
    /// What was passed over, in a line, the most frequent first; `None` if nothing was.
    pub fn note(&self) -> Option<String> {
        let mut counts: Vec<_> = self.passed_over.iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let name = |name: &str| if name.is_empty() { "without extension".into() } else { format!(".{name}") };
        let mut parts: Vec<String> =
            counts.iter().take(NAMED).map(|(extension, count)| format!("{count} {}", name(extension))).collect();
        if let Some(rest) = counts.get(NAMED..).filter(|rest| !rest.is_empty()) {
            parts.push(format!("{} others", rest.iter().map(|(_, count)| **count).sum::<usize>()));
        }
        (!parts.is_empty())
            .then(|| format!("passed over, as they are not called as sound files are: {}", parts.join(", ")))
    }
}

/// Extensions that are named of what is passed over.
const NAMED: usize = 8;

/// The sound files that `paths` stand for, in the order of `paths`, each once.
///
/// - `-` stands for standard input.
/// - A file stands for itself, whatever its extension.
/// - A folder stands for all files in it and in its subfolders that have an extension of sound files, sorted.
/// - Anything else is a pattern with `*`, `?`, `[...]` or `**` (any number of folders), and stands for the files with
///   such an extension that match, sorted. A file or folder that exists under the very name wins.
///
/// Hidden files and folders (`.name`) are passed over unless named. Links are followed, but no folder is searched
/// twice.
///
/// # Errors
/// `Data` for a path or pattern that stands for nothing, and for one with more than two million files to look at;
/// `Usage` for a pattern that is none; `Io` for a folder that cannot be read.
pub fn sound_files(paths: &[PathBuf]) -> Result<Found> {
    let mut found = Found::default();
    for path in paths {
        let meant = match fs::metadata(path) {
            _ if path.as_os_str() == STDIN => vec![path.clone()],
            Ok(about) if about.is_dir() => {
                let Found { files, passed_over } = search(path)?;
                for (extension, count) in passed_over {
                    *found.passed_over.entry(extension).or_default() += count;
                }
                files
            }
            Ok(about) if about.is_file() => vec![path.clone()],
            Ok(_) => return Err(Error::data(path, "is neither a file nor a folder")),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => return Err(Error::io(path)(e)),
            Err(_) => matches(path)?,
        };
        if meant.is_empty() {
            return Err(Error::data(path, format!("holds no sound files ({})", EXTENSIONS.join(", "))));
        }
        found.files.extend(meant);
    }
    let mut seen = HashSet::new();
    found.files.retain(|file| seen.insert(file.clone()));
    Ok(found)
}

/// The sound files in `folder` and its subfolders, sorted; perhaps none. Errors as [`sound_files`].
pub(crate) fn sound_files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    search(folder).map(|found| found.files)
}

fn search(folder: &Path) -> Result<Found> {
    let mut search = Search { root: folder, seen: HashSet::new(), entries: 0, found: Found::default() };
    search.folder(folder, MAX_DEPTH)?;
    search.found.files.sort();
    Ok(search.found)
}

fn matches(path: &Path) -> Result<Vec<PathBuf>> {
    let missing = || Error::data(path, "does not exist");
    let is_pattern = |part: &Component| part.as_os_str().as_encoded_bytes().iter().any(|b| b"*?[".contains(b));
    // Without `.` and doubled separators, as the paths that are found have none either.
    let parts: Vec<Component> = path.components().collect();
    let first = parts.iter().position(is_pattern).ok_or_else(missing)?;
    let text = parts.iter().collect::<PathBuf>();
    let pattern = Pattern::new(text.to_str().ok_or_else(missing)?)
        .map_err(|e| Error::Usage(format!("{}: is neither a file nor a pattern ({})", path.display(), e.msg)))?;
    let within = parts[..first].iter().collect::<PathBuf>();
    let any_depth = parts.iter().any(|part| part.as_os_str() == "**");
    let depth = if any_depth { MAX_DEPTH } else { parts.len() - first - 1 };
    let mut search = Search { root: path, seen: HashSet::new(), entries: 0, found: Found::default() };
    if within.as_os_str().is_empty() || within.is_dir() {
        search.folder(&within, depth)?;
    }
    let mut files = search.found.files;
    files.retain(|file| pattern.matches_path_with(file, MATCH));
    if files.is_empty() {
        return Err(Error::data(path, format!("matches no sound file ({})", EXTENSIONS.join(", "))));
    }
    files.sort();
    Ok(files)
}

struct Search<'a> {
    /// What was asked for, for messages.
    root: &'a Path,
    /// Folders already entered, under their real names: links may lead back to one.
    seen: HashSet<PathBuf>,
    entries: usize,
    found: Found,
}

impl Search<'_> {
    /// Collects the sound files in `folder` (the current one if empty) and `depth` levels of subfolders.
    fn folder(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        if !self.seen.insert(place.canonicalize().map_err(Error::io(place))?) {
            return Ok(());
        }
        // Sorted, so that of two ways to a folder always the same is taken.
        let names: io::Result<Vec<_>> =
            fs::read_dir(place).map_err(Error::io(place))?.map(|entry| Ok(entry?.file_name())).collect();
        let mut names = names.map_err(Error::io(place))?;
        names.sort();
        self.entries += names.len();
        if self.entries > MAX_ENTRIES {
            return Err(Error::data(self.root, format!("holds more than {MAX_ENTRIES} files; name a smaller folder")));
        }
        for name in names.into_iter().filter(|name| !name.as_encoded_bytes().starts_with(b".")) {
            let path = folder.join(name);
            // A link that leads nowhere is no file.
            match fs::metadata(&path) {
                Ok(about) if about.is_dir() && depth > 0 => self.folder(&path, depth - 1)?,
                Ok(about) if about.is_file() => self.file(path),
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf) {
        if is_sound(&path) {
            return self.found.files.push(path);
        }
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        *self.found.passed_over.entry(extension).or_default() += 1;
    }
}

/// Whether it is called like a file with sound.
pub fn is_sound(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(e)))
}
