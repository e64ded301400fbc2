//! One file with the results of all recordings, one after the other, of formats without brackets around them.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::core::error::{Error, Result};
use crate::core::files::{open_to_append, write_atomic_via};
use crate::output::archive::entry::Record;
use crate::output::archive::journal::copy;
use crate::output::format::Format;

/// Largest result for a recording, bytes.
const MAX_RECORD: u64 = 1 << 30;

pub(super) struct Collected {
    path: PathBuf,
    file: File,
    format: &'static Format,
}

impl Collected {
    /// Opens or begins the file that holds `records`, in this order; returns how many of them it holds. What follows
    /// them is cut off: it is not in the journal.
    ///
    /// `sorted` is a complete new version, if the process was killed after it had replaced the journal.
    pub fn open(
        path: PathBuf,
        sorted: &Path,
        format: &'static Format,
        records: &[Record],
    ) -> Result<(Collected, usize)> {
        let io = |e| Error::io(&path)(e);
        let head = format.head.as_bytes();
        if sorted.is_file() {
            match held(sorted, head, records).map_err(Error::io(sorted))? {
                (all, _) if all == records.len() => fs::rename(sorted, &path).map_err(io)?,
                _ => fs::remove_file(sorted).map_err(Error::io(sorted))?,
            }
        }
        let mut file = open_to_append(&path)?;
        let (held, len) = held(&path, head, records).map_err(io)?;
        file.set_len(len).map_err(io)?;
        if len == 0 {
            file.write_all(head).map_err(io)?;
        }
        Ok((Collected { path, file, format }, held))
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io(&self.path))
    }

    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path))
    }

    /// Writes a version with these records (bytes after the head), in this order; `replace` then makes it known, before
    /// it takes the place of the old one.
    pub fn rewrite(
        mut self,
        records: &[Range<u64>],
        [scratch, sorted]: [&Path; 2],
        replace: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let head = self.format.head.as_bytes();
        write_atomic_via(scratch, sorted, |out| {
            out.write_all(head)?;
            let after = head.len() as u64;
            records.iter().try_for_each(|r| copy(&mut self.file, &(r.start + after..r.end + after), out))
        })?;
        replace()?;
        fs::rename(sorted, &self.path).map_err(Error::io(&self.path))
    }
}

/// How many of `records` a file begins with, after its head, and their length with the head; (0, 0) without the head.
fn held(path: &Path, head: &[u8], records: &[Record]) -> io::Result<(usize, u64)> {
    let mut file = BufReader::new(File::open(path)?);
    let mut bytes = vec![];
    file.by_ref().take(head.len() as u64).read_to_end(&mut bytes)?;
    if bytes != head {
        return Ok((0, 0));
    }
    let mut len = head.len() as u64;
    for (i, expected) in records.iter().enumerate() {
        bytes.clear();
        file.by_ref().take(expected.bytes.min(MAX_RECORD)).read_to_end(&mut bytes)?;
        if Record::of(&bytes) != *expected {
            return Ok((i, len));
        }
        len += expected.bytes;
    }
    Ok((records.len(), len))
}
