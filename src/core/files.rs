//! Atomic file output; size-limited input.

use crate::core::error::{Error, Result};
use crate::core::hash::Fingerprint;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

/// Prefix of the names of unfinished outputs.
const TEMPORARY: &str = ".wmic-";

/// Writes `path` atomically: into a temporary file beside it, flushed to disk, then renamed.
/// After an error, a full disk included, an older file of that name is unchanged and no temporary file is left.
pub fn write_atomic(path: impl AsRef<Path>, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let path = path.as_ref();
    let replace = || -> io::Result<()> {
        let mut file = temporary_file(path)?;
        write_durably(file.as_file_mut(), write)?;
        file.persist(path)?;
        sync_directory(parent(path))
    };
    replace().map_err(Error::io(path))
}

/// As [`write_atomic`] through the temporary file `part`, on the same file system, so that a killed process leaves
/// nothing but that.
pub(crate) fn write_atomic_via(
    part: &Path,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let make = || -> io::Result<()> {
        write_durably(&mut File::create(part)?, write)?;
        fs::rename(part, path)?;
        sync_directory(parent(path))
    };
    make().map_err(|e| {
        drop(fs::remove_file(part));
        Error::io(path)(e)
    })
}

fn write_durably(file: &mut File, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut buffered = BufWriter::with_capacity(1 << 16, &mut *file);
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.sync_all()
}

/// As [`write_atomic`], for writers that open the file themselves: `write` gets the temporary file's path, of the same
/// extension.
pub(crate) fn write_path_atomic(path: impl AsRef<Path>, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    let part = temporary_file(path).map_err(Error::io(path))?.into_temp_path();
    write(&part)?;
    part.persist(path).map_err(|e| Error::io(path)(e.error))
}

/// Checks before long work whether its result can be written to `path`.
pub fn writable(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    if path.is_dir() {
        return Err(Error::io(path)(io::ErrorKind::IsADirectory.into()));
    }
    temporary_file(path).map(drop).map_err(Error::io(path))
}

/// Creates the folder `path` and its missing parents, and checks before long work whether files can be written there.
///
/// # Errors
/// `Data` if it, or a parent, is a file; `Io`.
pub fn writable_folder(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    check_no_file(path)?;
    fs::create_dir_all(path).map_err(Error::io(path))?;
    writable(path.join(TEMPORARY)).map_err(|error| match error {
        Error::Io { source, .. } => Error::io(path)(source),
        other => other,
    })
}

/// Fails if a file is where the folder `path` or a parent is to be.
fn check_no_file(path: &Path) -> Result<()> {
    match path.ancestors().find(|folder| folder.exists() && !folder.is_dir()) {
        Some(file) => Err(Error::data(file, "is a file; a folder is expected")),
        None => Ok(()),
    }
}

/// Checks, also before long work, that the folder `path` does not exist or is empty.
///
/// # Errors
/// `Data` if it, or a parent, is a file, or if something is in it.
pub(crate) fn vacant_folder(path: &Path) -> Result<()> {
    check_no_file(path)?;
    let occupied = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) => e.kind() != io::ErrorKind::NotFound,
    };
    match occupied {
        true => Err(Error::data(path, "already exists; choose another directory, or remove this one first")),
        false => Ok(()),
    }
}

/// Creates the directory `path` atomically: `fill` writes into a temporary directory beside it, which is then renamed.
/// `path` must not exist, or be an empty directory; missing parents are created. After an error nothing is left, and
/// none names the temporary directory. What a killed process has left of the same directory is removed (on Unix).
pub fn write_dir_atomic(path: impl AsRef<Path>, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    vacant_folder(path)?;
    fs::create_dir_all(parent(path)).map_err(Error::io(path))?;
    let prefix = unfinished_prefix(path);
    remove_unfinished(parent(path), &prefix);
    let made = temporary(0o777).prefix(&prefix).tempdir_in(parent(path));
    let directory = made.map_err(|e| Error::io(path)(e.kind().into()))?;
    let _locked = lock(directory.path());
    let name = |mut of: PathBuf| {
        if let Ok(within) = of.strip_prefix(directory.path()) {
            of = path.join(within);
        }
        of
    };
    fill(directory.path()).map_err(|error| match error {
        Error::Io { path, source } => Error::Io { path: name(path), source },
        Error::Data { path, line, reason } => Error::Data { path: name(path), line, reason },
        other => other,
    })?;
    let publish = || -> io::Result<()> {
        sync_tree(directory.path())?;
        if path.is_dir() {
            fs::remove_dir(path)?;
        }
        fs::rename(directory.path(), path)?;
        sync_directory(parent(path))
    };
    publish().map_err(Error::io(path))
}

/// How the names of unfinished directories begin that are to become `path`: of one length, as that of `path` may be the
/// longest that there is.
fn unfinished_prefix(path: &Path) -> String {
    let mut name = Fingerprint::default();
    name.mix_bytes(path.file_name().unwrap_or_default().as_encoded_bytes());
    format!("{TEMPORARY}{:016x}-", name.finish())
}

/// Removes the directories in `folder` that no living process is filling. Only Unix can lock a directory, which tells
/// that; what cannot be locked or removed stays.
fn remove_unfinished(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes());
        if is_ours && lock(&entry.path()).is_some() {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Locks a directory until the result is dropped; `None` where that cannot be done, or another process has it locked.
fn lock(directory: &Path) -> Option<File> {
    let directory = if cfg!(unix) { File::open(directory).ok()? } else { return None };
    directory.try_lock().ok().map(|()| directory)
}

/// Creates `path` and its missing parents, then does `work`; if that fails, removes the created directories that are
/// still empty.
pub(crate) fn create_directories<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    let mut made = vec![];
    let make = || -> io::Result<()> {
        for directory in missing.into_iter().rev() {
            match fs::create_dir(directory) {
                Ok(()) => made.push(directory),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    };
    let done = make().map_err(Error::io(path)).and_then(|()| work());
    if done.is_err() {
        // From the innermost outwards; one that is now in use stays.
        made.iter().rev().for_each(|directory| drop(fs::remove_dir(directory)));
    }
    done
}

static CACHE: OnceLock<PathBuf> = OnceLock::new();

/// Where features are kept from now on, if no run says so: in place of `wmic` in the user's cache directory. The first
/// call decides.
pub fn set_cache_folder(path: PathBuf) {
    CACHE.get_or_init(|| path);
}

/// The folder of [`set_cache_folder`]; else `wmic` in the user's cache directory, or one for temporary files: what can
/// be made again.
pub(crate) fn cache_folder() -> PathBuf {
    if let Some(chosen) = CACHE.get() {
        return chosen.clone();
    }
    own_cache_folder().unwrap_or_else(|| std::env::temp_dir().join("wmic"))
}

/// `wmic` in the user's cache directory: nowhere that others can write to.
pub(crate) fn own_cache_folder() -> Option<PathBuf> {
    Some(dirs::cache_dir()?.join("wmic"))
}

/// Locks a directory until the result is dropped, or the process ends. `user`: what else may be using it, for the
/// message. Only Unix can lock a directory; elsewhere, and on network file systems without locks, nothing is locked.
///
/// # Errors
/// `Usage` if another process has it locked, `Io` if it cannot be opened.
pub(crate) fn try_lock_directory(path: &Path, user: &str) -> Result<Option<File>> {
    if cfg!(not(unix)) {
        return Ok(None);
    }
    let directory = File::open(path).map_err(Error::io(path))?;
    match directory.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Err(Error::Usage(format!("{} is in use: {user}", path.display()))),
        _ => Ok(Some(directory)),
    }
}

/// Whether a file is the unfinished output of a killed process.
pub(crate) fn is_leftover(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())) && path.is_file()
}

/// Opens a file to read it. Folders, devices and pipes are rejected before they are opened: that, or reading them, may
/// never end.
///
/// # Errors
/// `Io` if it cannot be opened, `Data` if it is not a file.
pub(crate) fn open_file(path: &Path) -> Result<File> {
    match fs::metadata(path).map_err(Error::io(path))? {
        about if about.is_file() => File::open(path).map_err(Error::io(path)),
        about if about.is_dir() => Err(Error::data(path, "is a folder; a file is expected")),
        _ => Err(Error::data(path, "is not a file")),
    }
}

/// As [`open_file`], to append to it, too; makes it if there is none.
pub(crate) fn open_to_append(path: &Path) -> Result<File> {
    if path.exists() {
        open_file(path)?;
    }
    File::options().read(true).append(true).create(true).open(path).map_err(Error::io(path))
}

/// Reads a whole file, rejecting one of more than `limit` bytes.
pub(crate) fn read_limited(path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    open_file(path)?.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::data(path, format!("is larger than the {limit} bytes allowed for such a file")));
    }
    Ok(bytes)
}

/// The first `length` bytes of a file, or all that it has: what tells formats apart.
pub(crate) fn read_start(path: &Path, length: usize) -> Result<Vec<u8>> {
    let mut start = vec![];
    open_file(path)?.take(length as u64).read_to_end(&mut start).map_err(Error::io(path))?;
    Ok(start)
}

/// SHA-256 of all that is read, in hexadecimal.
///
/// # Errors
/// Those of reading.
pub fn sha256(from: &mut dyn Read) -> io::Result<String> {
    let (mut hash, mut block) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match from.read(&mut block)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hash.update(&block[..count]),
        }
    }
}

/// Fingerprint of a file's bytes, in hexadecimal.
pub fn fingerprint(path: impl AsRef<Path>) -> Result<String> {
    let (path, mut fingerprint, mut block) = (path.as_ref(), Fingerprint::default(), vec![]);
    let mut file = open_file(path)?;
    while (&mut file).take(1 << 20).read_to_end(&mut block).map_err(Error::io(path))? > 0 {
        fingerprint.mix_bytes(&block);
        block.clear();
    }
    Ok(format!("{:016x}", fingerprint.finish()))
}

/// A path as files of settings hold it: as text, and good from any working directory. Whether it exists is seen by
/// whoever reads it.
///
/// # Errors
/// `Data` for a path that is not UTF-8, `Io` without a working directory.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    match path.canonicalize().or_else(|_| std::path::absolute(path)).map_err(Error::io(path))? {
        path if path.to_str().is_some() => Ok(path),
        path => Err(Error::data(path, "is not a UTF-8 path, as run.toml needs it; rename the folder")),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new file beside `path`, removed when dropped.
fn temporary_file(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let extension = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    let folder = parent(path);
    temporary(0o666).suffix(&extension).tempfile_in(folder).map_err(|e| match e.kind() {
        kind @ io::ErrorKind::NotFound => {
            io::Error::new(kind, format!("the folder {} does not exist", folder.display()))
        }
        // The error's own text would name the temporary file, which tells the user nothing.
        kind => kind.into(),
    })
}

/// Temporary files are private by default; ours become outputs, so they get the usual `mode` (less the umask).
fn temporary<'a>(mode: u32) -> tempfile::Builder<'a, 'a> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// Flushes every file below `directory`, so that the rename cannot reach the disk before their contents.
fn sync_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_tree(&entry.path())?,
            false => File::options().write(true).open(entry.path())?.sync_all()?,
        }
    }
    sync_directory(directory)
}

/// Makes a rename durable. Only Unix can open a directory to flush it.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Names of paths as text. Paths that are not UTF-8 and read the same are numbered.
pub(crate) fn distinct_names(paths: &[impl AsRef<Path>]) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut distinct = |path: &Path| {
        let name = path.to_string_lossy().into_owned();
        // Only lossy names can coincide with others.
        let lossy = path.to_str().is_none();
        let numbered = (2..).map(|n| format!("{name}~{n}"));
        let mut candidates = std::iter::once(name.clone()).chain(numbered);
        candidates.find(|name| seen.insert(name.clone()) || !lossy).expect("there is always a free number")
    };
    paths.iter().map(|path| distinct(path.as_ref())).collect()
}
