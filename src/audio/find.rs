//! Finds audio files: expands files, folders and patterns.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::decode::STDIN;
use crate::core::error::{Error, Result};

/// Extensions of audio files, videos included: all formats that can be decoded.
const EXTENSIONS: [&str; 43] = [
    "wav", "wave", "bwf", "rf64", "bw64", "w64", "aif", "aiff", "aifc", "afc", "au", "snd", "caf", "flac", "mp3",
    "mp2", "mp1", "mpa", "mpga", "ogg", "oga", "ogv", "ogx", "opus", "m4a", "m4b", "m4p", "m4r", "m4v", "mp4", "mov",
    "qt", "3gp", "3g2", "f4a", "f4v", "aac", "adts", "alac", "mka", "mkv", "webm", "weba",
];
/// Depth of the search.
const MAX_DEPTH: usize = 200;
/// Most files and folders of a search.
const MAX_ENTRIES: usize = 2_000_000;
const MATCH: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Result of a search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub files: Vec<PathBuf>,
    /// The place of each file in a tree that mirrors the folders: relative, without `.` and `..`. See [`audio_files`].
    pub places: Vec<PathBuf>,
    /// Other files in folders, counted by extension in lower case; under "" those without one.
    pub passed_over: BTreeMap<String, usize>,
    /// What else in folders was skipped: hidden files and folders, broken links and the like.
    pub unread: BTreeMap<&'static str, usize>,
}

impl Found {
    /// A line on what was skipped, of files the most frequent extensions first; `None` if nothing was.
    pub fn note(&self) -> Option<String> {
        let mut counts: Vec<_> = self.passed_over.iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let name = |name: &str| if name.is_empty() { "without extension".into() } else { format!(".{name}") };
        let mut parts: Vec<String> =
            counts.iter().take(NAMED).map(|(extension, count)| format!("{count} {}", name(extension))).collect();
        if let Some(rest) = counts.get(NAMED..).filter(|rest| !rest.is_empty()) {
            parts.push(format!("{} others", rest.iter().map(|(_, count)| **count).sum::<usize>()));
        }
        let unread: Vec<String> = self.unread.iter().map(|(what, count)| format!("{count} {what}")).collect();
        let others = (!parts.is_empty())
            .then(|| format!("skipped, without the extension of an audio file: {}", parts.join(", ")));
        let unread = (!unread.is_empty()).then(|| format!("skipped: {}", unread.join(", ")));
        let lines: Vec<String> = others.into_iter().chain(unread).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }

    fn skip(&mut self, what: &'static str) {
        *self.unread.entry(what).or_default() += 1;
    }
}

/// Most extensions named in that line.
const NAMED: usize = 8;

/// The audio files that `paths` stand for, in the order of `paths`, each once.
///
/// - `-` stands for standard input.
/// - A file stands for itself, whatever its extension.
/// - A folder stands for all files in it and in its subfolders with the extension of an audio file, sorted.
/// - Anything else is a pattern with `*`, `?`, `[...]` or `**` (any number of folders), and stands for the matching
///   files with such an extension, sorted. An existing file or folder of that exact name takes precedence.
///
/// Subfolders of a folder that must not be read are returned like files: reading them fails, as that of files without
/// permission. Hidden files and folders (`.name`) are skipped unless named. Links are followed, but no folder is
/// searched twice.
///
/// The place of a file is its path below the folder, or below the last folder of a pattern without wildcards; with
/// several `paths` it begins with that folder's name. The place of a named file is its name.
///
/// # Errors
/// `Data` for a path or pattern that stands for nothing, and for one with more than two million files to look at;
/// `Usage` for an invalid pattern; `Io` for a path that cannot be read.
pub fn audio_files(paths: &[PathBuf]) -> Result<Found> {
    let mut found = Found::default();
    let mut seen = HashSet::new();
    for path in paths {
        let (meant, root) = match fs::metadata(path) {
            _ if path.as_os_str() == STDIN => (vec![path.clone()], None),
            Ok(about) if about.is_dir() => {
                let Found { files, passed_over, unread, .. } = search(path, true)?;
                for (extension, count) in passed_over {
                    *found.passed_over.entry(extension).or_default() += count;
                }
                unread.into_iter().for_each(|(what, count)| *found.unread.entry(what).or_default() += count);
                (files, Some(path.clone()))
            }
            Ok(about) if about.is_file() => (vec![path.clone()], None),
            Ok(_) => return Err(Error::data(path, "is neither a file nor a folder")),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => return Err(Error::io(path)(e)),
            Err(_) => matches(path).map(|(files, root)| (files, Some(root)))?,
        };
        if meant.is_empty() {
            return Err(Error::data(path, format!("contains no audio files ({})", EXTENSIONS.join(", "))));
        }
        let root = root.as_deref();
        let own_name = root.and_then(Path::file_name).filter(|_| paths.len() > 1).map(Path::new);
        for file in meant.into_iter().filter(|file| seen.insert(file.clone())) {
            let below = match root {
                Some(root) => file.strip_prefix(root).unwrap_or(&file),
                None => file.file_name().map_or(file.as_path(), Path::new),
            };
            found.places.push(own_name.unwrap_or(Path::new("")).join(place(below)));
            found.files.push(file);
        }
    }
    Ok(found)
}

/// The place of a file that is given by its path: its named parts, without its root, `.` and `..`.
pub fn place(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// The audio files in `folder` and its subfolders, sorted, possibly none. Errors as [`audio_files`].
pub(crate) fn audio_files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    search(folder, false).map(|found| found.files)
}

fn search(folder: &Path, keeps_closed: bool) -> Result<Found> {
    let mut search = Search { root: folder, keeps_closed, seen: HashSet::new(), entries: 0, found: Found::default() };
    search.folder(folder, MAX_DEPTH)?;
    search.found.files.sort();
    Ok(search.found)
}

/// The files that match a pattern, and the folder before its first wildcard.
fn matches(path: &Path) -> Result<(Vec<PathBuf>, PathBuf)> {
    let missing = || Error::data(path, "does not exist");
    let is_pattern = |part: &Component| part.as_os_str().as_encoded_bytes().iter().any(|b| b"*?[".contains(b));
    // Without `.` and repeated separators, as in the paths found.
    let parts: Vec<Component> = path.components().collect();
    let first = parts.iter().position(is_pattern).ok_or_else(missing)?;
    let text = parts.iter().collect::<PathBuf>();
    let pattern = Pattern::new(text.to_str().ok_or_else(missing)?)
        .map_err(|e| Error::Usage(format!("{}: is neither a file nor a pattern ({})", path.display(), e.msg)))?;
    let within = parts[..first].iter().collect::<PathBuf>();
    let any_depth = parts.iter().any(|part| part.as_os_str() == "**");
    let depth = if any_depth { MAX_DEPTH } else { parts.len() - first - 1 };
    let mut search =
        Search { root: path, keeps_closed: false, seen: HashSet::new(), entries: 0, found: Found::default() };
    if within.as_os_str().is_empty() || within.is_dir() {
        search.folder(&within, depth)?;
    }
    let mut files = search.found.files;
    files.retain(|file| pattern.matches_path_with(file, MATCH));
    if files.is_empty() {
        return Err(Error::data(path, format!("matches no audio file ({})", EXTENSIONS.join(", "))));
    }
    files.sort();
    Ok((files, within))
}

struct Search<'a> {
    /// The path searched, for messages.
    root: &'a Path,
    /// Whether subfolders that must not be read are among the files, whose reading then fails, rather than an error.
    keeps_closed: bool,
    /// Folders already visited, by their canonical paths: links may form cycles.
    seen: HashSet<PathBuf>,
    entries: usize,
    found: Found,
}

impl Search<'_> {
    /// Collects the audio files in `folder` (the current one if empty) and `depth` levels of subfolders.
    fn folder(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        if !self.seen.insert(place.canonicalize().map_err(Error::io(place))?) {
            return Ok(());
        }
        // Sorted, so that of two paths to a folder always the same is used.
        let names: io::Result<Vec<_>> =
            fs::read_dir(place).map_err(Error::io(place))?.map(|entry| Ok(entry?.file_name())).collect();
        let mut names = names.map_err(Error::io(place))?;
        names.sort();
        self.entries += names.len();
        if self.entries > MAX_ENTRIES {
            return Err(Error::data(
                self.root,
                format!("contains more than {MAX_ENTRIES} files; choose a smaller folder"),
            ));
        }
        for name in names {
            let path = folder.join(&name);
            match fs::metadata(&path) {
                _ if name.as_encoded_bytes().starts_with(b".") => self.found.skip("hidden"),
                Ok(about) if about.is_dir() && depth == 0 => self.found.skip("folders that are too deep"),
                Ok(about) if about.is_dir() => match self.folder(&path, depth - 1) {
                    Err(Error::Io { source, .. })
                        if self.keeps_closed && source.kind() == ErrorKind::PermissionDenied =>
                    {
                        self.found.files.push(path);
                    }
                    searched => searched?,
                },
                Ok(about) if about.is_file() => self.file(path),
                Ok(_) => self.found.skip("neither files nor folders"),
                Err(_) => self.found.skip("broken links"),
            }
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf) {
        if is_audio(&path) {
            return self.found.files.push(path);
        }
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        *self.found.passed_over.entry(extension).or_default() += 1;
    }
}

/// Whether it has the extension of an audio file.
pub fn is_audio(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(e)))
}
