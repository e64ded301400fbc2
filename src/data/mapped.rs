//! A part of a file, mapped into memory.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::error::{Error, Result};

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
        let file = File::open(path).map_err(Error::io(path))?;
        // SAFETY: the bytes are only ever read as numbers, any of which is valid. A file that another program cuts short while it
        // is mapped ends this one (SIGBUS), as for every program that maps files.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        match start.checked_add(len) {
            Some(end) if end <= map.len() as u64 => {
                Ok(Mapped { map: Arc::new(map), start: start as usize, len: len as usize })
            }
            _ => Err(Error::data(path, "is cut off")),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map[self.start..self.start + self.len]
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
