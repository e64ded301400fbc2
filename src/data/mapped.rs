//! A memory-mapped part of a file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

use crate::core::error::{Error, Result};
use crate::core::files::open_file;

/// Size of a chunk in bytes.
const PIECE: usize = 16 << 20;

/// Clones share the mapping.
#[derive(Clone)]
pub struct Mapped {
    map: Arc<Mmap>,
    start: usize,
    len: usize,
}

impl Mapped {
    /// Maps `len` bytes from `start` on.
    ///
    /// # Errors
    /// `Io` if the file cannot be mapped, `Data` if it is shorter.
    pub fn open(path: &Path, start: u64, len: u64) -> Result<Mapped> {
        let file = open_file(path)?;
        // SAFETY: the bytes are only ever read as numbers, any of which is valid. If another program truncates
        // the mapped file, this one is killed (SIGBUS), as is every program that maps files.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        match start.checked_add(len) {
            Some(end) if end <= map.len() as u64 => {
                Ok(Mapped { map: Arc::new(map), start: start as usize, len: len as usize })
            }
            _ => Err(Error::data(path, "is truncated")),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map[self.start..self.start + self.len]
    }

    /// The same in chunks, for sequential reading: chunks are released from memory after use.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes().chunks(PIECE).enumerate().inspect(|(i, _)| self.forget(i * PIECE)).map(|(_, piece)| piece)
    }

    /// Releases the pages before `end`, which are read from the file again if necessary.
    fn forget(&self, end: usize) {
        // SAFETY: pages of a read-only shared mapping are reloaded unchanged.
        #[cfg(unix)]
        drop(unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, 0, self.start + end) });
        #[cfg(not(unix))]
        let _ = end;
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Mapped({} bytes)", self.len)
    }
}

impl PartialEq for Mapped {
    fn eq(&self, other: &Mapped) -> bool {
        self.bytes() == other.bytes()
    }
}
