//! The journal of a folder of results: a line for each recording that was recognised or failed, in the order in which
//! they were.

use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::core::error::{Error, Result};
use crate::core::files::{open_to_append, write_atomic_via};
use crate::output::archive::entry::{Entry, Header};

/// The settings that tell a model from another.
const MODEL: [&str; 2] = ["model", "weights"];
/// Longest line, bytes.
const MAX_LINE: u64 = 16 << 20;

/// A journal that no other process writes.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes.
    len: u64,
}

impl Journal {
    /// Opens or begins the journal of results with the settings in `header`, and passes its lines with their places in
    /// the file to `each`. A last line that was not completed is cut off.
    ///
    /// # Errors
    /// `Io`; `Usage` if it is in use, has other settings, or exists without `resume`; `Data` if it is damaged.
    pub fn open(
        path: PathBuf,
        header: &Header,
        resume: bool,
        each: &mut dyn FnMut(Range<u64>, Entry),
    ) -> Result<Journal> {
        let mut journal = Journal { file: open_to_append(&path)?, path, len: 0 };
        if let Err(TryLockError::WouldBlock) = journal.file.try_lock() {
            let reason = format!("{} is in use: another process is writing results there", journal.path.display());
            return Err(Error::Usage(reason));
        }
        // Without any recording nothing has begun.
        let (mut before, mut begun) = (None, false);
        let len = journal.read(|number, range, line| {
            let damaged = |e: serde_json::Error| {
                let reason = format!("is damaged ({e}); choose another folder for the results");
                Error::data_at(&journal.path, number, reason)
            };
            if number == 1 {
                before = Some(serde_json::from_slice(line).map_err(damaged)?);
                return Ok(());
            }
            if let Some(before) = before.take() {
                journal.check(&before, header, resume)?;
                begun = true;
            }
            each(range, serde_json::from_slice(line).map_err(damaged)?);
            Ok(())
        })?;
        journal.cut(if begun { len } else { 0 })?;
        if !begun {
            journal.write(header)?;
        }
        Ok(journal)
    }

    fn check(&self, before: &Header, header: &Header, resume: bool) -> Result<()> {
        let fail = |reason: String| Err(Error::Usage(format!("{}: {reason}", self.path.display())));
        if !resume {
            return fail("results of an earlier run are there; `resume` continues it, or choose another folder".into());
        }
        let value = |of: &Header, key: &str| of.settings.get(key).cloned().unwrap_or(Value::Null);
        // Another model has other settings, too.
        let all = header.settings.keys().chain(before.settings.keys()).map(String::as_str);
        let other = MODEL.into_iter().chain(all).find(|key| value(before, key) != value(header, key));
        let Some(key) = other else { return Ok(()) };
        let differs = match (value(before, key), value(header, key)) {
            (Value::Null, is) => format!("without {key}, not with {is}"),
            (was, Value::Null) => format!("with {key} {was}, not without"),
            (was, is) => format!("with {key} {was}, not {is}"),
        };
        fail(format!("was begun {differs}; use the same, or choose another folder"))
    }

    /// Passes number (from 1), place and text of each complete line to `each`; returns their length.
    fn read(&self, mut each: impl FnMut(u64, Range<u64>, &[u8]) -> Result<()>) -> Result<u64> {
        let io = |e| Error::io(&self.path)(e);
        let mut lines = BufReader::new(&self.file);
        lines.seek(SeekFrom::Start(0)).map_err(io)?;
        let (mut line, mut len) = (vec![], 0);
        for number in 1.. {
            line.clear();
            let read = lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(io)? as u64;
            if read == MAX_LINE {
                return Err(Error::data_at(&self.path, number, "is too long for a line of a journal"));
            }
            if line.last() != Some(&b'\n') {
                break;
            }
            each(number, len..len + read, &line)?;
            len += read;
        }
        Ok(len)
    }

    /// Passes all recordings to `each`.
    pub fn entries(&self, each: &mut dyn FnMut(Entry)) -> Result<()> {
        let read = self.read(|number, _, line| {
            if number > 1 {
                let entry = serde_json::from_slice(line);
                each(entry.map_err(|e| Error::data_at(&self.path, number, e.to_string()))?);
            }
            Ok(())
        });
        read.map(drop)
    }

    /// Adds a line; returns its place.
    pub(crate) fn append(&mut self, entry: &Entry) -> Result<Range<u64>> {
        self.write(entry)
    }

    fn write(&mut self, line: &impl serde::Serialize) -> Result<Range<u64>> {
        let mut bytes = serde_json::to_vec(line).expect("a line serialises");
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(Error::io(&self.path))?;
        let start = self.len;
        self.len += bytes.len() as u64;
        Ok(start..self.len)
    }

    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path))
    }

    /// Removes the lines from `start` on.
    pub fn cut(&mut self, start: u64) -> Result<()> {
        self.len = start;
        self.file.set_len(start).map_err(Error::io(&self.path))
    }

    /// Replaces the journal by its header and these of its lines, in this order.
    pub fn rewrite(self, lines: &[Range<u64>], scratch: &Path) -> Result<Journal> {
        let Journal { path, mut file, .. } = self;
        write_atomic_via(scratch, &path, |out| {
            file.rewind()?;
            let mut header = vec![];
            BufReader::new(&file).read_until(b'\n', &mut header)?;
            out.write_all(&header)?;
            lines.iter().try_for_each(|line| copy(&mut file, line, out))
        })?;
        let file = open_to_append(&path)?;
        let len = file.metadata().map_err(Error::io(&path))?.len();
        Ok(Journal { path, file, len })
    }
}

/// Copies a range of bytes of a file.
pub(super) fn copy(file: &mut File, range: &Range<u64>, out: &mut dyn Write) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(range.start))?;
    std::io::copy(&mut file.take(range.end - range.start), out).map(drop)
}
