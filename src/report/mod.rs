//! What people read: tables for the terminal, plots, and benchmark files.

pub mod bench;
pub mod compare;
pub mod evaluation;
mod hidpi;
pub mod numbers;
pub mod plot;
mod plot_comparison;
pub mod table;

pub use table::{Align, Look, Table};

use std::path::Path;

use crate::{Error, Result};

/// Lets `write` fill a temporary file beside `path` (same extension) and renames it: `path` is written whole or not at all.
fn write_whole(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let extension = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    let mut part = tempfile::Builder::new();
    part.prefix(".wmic-").suffix(&extension);
    #[cfg(unix)]
    part.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask, as any new file
    let part = part.tempfile_in(folder).map_err(Error::io(path))?.into_temp_path();
    write(&part)?;
    part.persist(path).map_err(|e| Error::io(path)(e.error))
}
