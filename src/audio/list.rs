//! Files named in a list, as other programs write it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use super::decode::STDIN;
use super::find::{Found, place};
use crate::core::error::{Error, Result};

/// Largest list, bytes.
const MAX_LIST: u64 = 1 << 30;

/// The files named in `list` (`-`: standard input), in its order, each once: a path per line, or with `null` paths that
/// each end with a NUL byte, as `find -print0` writes them. Empty lines are skipped. Whether the files exist is seen
/// when they are decoded. Paths are any bytes on Unix, and UTF-8 elsewhere. The place of a file is its path without the
/// root, `.` and `..`.
///
/// # Errors
/// `Io`; `Data` for a list without paths, one of more than 1 GiB, and paths that are not possible.
pub fn listed_files(list: &Path, null: bool) -> Result<Found> {
    let source: Box<dyn Read> = match list.as_os_str() == STDIN {
        true => Box::new(stdin().lock()),
        false => Box::new(File::open(list).map_err(Error::io(list))?),
    };
    let mut bytes = vec![];
    source.take(MAX_LIST + 1).read_to_end(&mut bytes).map_err(Error::io(list))?;
    if bytes.len() as u64 > MAX_LIST {
        return Err(Error::data(list, format!("is larger than the {MAX_LIST} bytes allowed for a list of files")));
    }
    let (mut found, mut seen) = (Found::default(), HashSet::new());
    for (line, name) in (1..).zip(bytes.split(|b| *b == if null { 0 } else { b'\n' })) {
        let name = if null { name } else { name.strip_suffix(b"\r").unwrap_or(name) };
        if name.is_empty() || !seen.insert(name) {
            continue;
        }
        let fail = |reason: &str| Error::data_at(list, line, reason);
        if name.contains(&0) {
            return Err(fail("has a NUL byte: the paths are separated by NUL bytes, not lines"));
        }
        let path = path_of(name).ok_or_else(|| fail("is not UTF-8"))?;
        // A file of that name, not standard input.
        let path = if path.as_os_str() == STDIN { Path::new(".").join(path) } else { path };
        found.places.push(place(&path));
        found.files.push(path);
    }
    if found.files.is_empty() {
        return Err(Error::data(list, "names no files"));
    }
    Ok(found)
}

#[cfg(unix)]
fn path_of(name: &[u8]) -> Option<PathBuf> {
    Some(std::os::unix::ffi::OsStrExt::from_bytes(name)).map(|name: &std::ffi::OsStr| name.into())
}

#[cfg(not(unix))]
fn path_of(name: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(name).ok().map(PathBuf::from)
}
