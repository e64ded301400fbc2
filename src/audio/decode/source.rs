//! The bytes of an audio file: a file, or standard input spooled to a temporary one.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use symphonia::core::io::MediaSource;

use crate::core::error::{Error, Result};
use crate::core::files::open_file;

/// The path that stands for standard input.
pub(in crate::audio) const STDIN: &str = "-";
/// Most bytes of standard input.
const MAX_SPOOL: u64 = 64 << 30;

/// The reason for an unsupported codec.
pub(super) fn cannot(what: &str) -> String {
    format!("contains {what}, which is not supported; convert it: ffmpeg -i FILE OUT.wav")
}

/// The bytes of an audio file, with optional corrections.
pub(super) struct Source {
    /// Shared, as standard input can be read from its pipe only once; each reader has its own position.
    file: Arc<Mutex<File>>,
    at: u64,
    len: u64,
    overlays: Vec<(u64, Vec<u8>)>,
    /// Whether symphonia may seek: then it looks for data beyond the end of a truncated
    /// file.
    seekable: bool,
}

impl Source {
    /// # Errors
    /// `Io` if it cannot be read; `Data` if it is not a file or empty, or standard input does not end.
    pub fn open(path: &Path) -> Result<Source> {
        let (file, len) = if path == Path::new(STDIN) { spool(path)? } else { regular(path)? };
        if len == 0 {
            return Err(Error::data(path, "is empty"));
        }
        Ok(Source { file, at: 0, len, overlays: vec![], seekable: true })
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// Another reader of the same bytes, at their beginning.
    pub fn again(&self) -> Source {
        Source {
            file: self.file.clone(),
            at: 0,
            len: self.len,
            overlays: self.overlays.clone(),
            seekable: self.seekable,
        }
    }

    /// The same, read as if it came out of a pipe.
    pub(crate) fn as_pipe(&self) -> Source {
        Source { seekable: false, ..self.again() }
    }

    /// Replaces the bytes at `offset` by `bytes`.
    pub(crate) fn lay_over(&mut self, offset: u64, bytes: Vec<u8>) {
        self.overlays.push((offset, bytes));
    }

    /// Ends the file after `len` bytes.
    pub fn truncate(&mut self, len: u64) {
        self.len = self.len.min(len);
    }

    /// Up to `most` bytes at `offset`; fewer at the end of the file.
    pub fn peek(&mut self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        self.at = offset;
        let mut bytes = vec![];
        self.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn regular(path: &Path) -> Result<(Arc<Mutex<File>>, u64)> {
    let file = open_file(path)?;
    let len = file.metadata().map_err(Error::io(path))?.len();
    Ok((Arc::new(Mutex::new(file)), len))
}

/// Standard input, spooled at the first use. The file has no name and is removed with the process.
fn spool(path: &Path) -> Result<(Arc<Mutex<File>>, u64)> {
    type Spool = Option<(Arc<Mutex<File>>, u64)>;
    static SPOOL: Mutex<Spool> = Mutex::new(None);
    let mut spool = SPOOL.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(done) = &*spool {
        return Ok(done.clone());
    }
    let mut file = tempfile::tempfile().map_err(Error::io(std::env::temp_dir()))?;
    let len = io::copy(&mut io::stdin().lock().take(MAX_SPOOL + 1), &mut file).map_err(Error::io(path))?;
    file.flush().map_err(Error::io(path))?;
    if len > MAX_SPOOL {
        return Err(Error::data(path, format!("is longer than {} GiB; save it as a file", MAX_SPOOL >> 30)));
    }
    Ok(spool.insert((Arc::new(Mutex::new(file)), len)).clone())
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.len.saturating_sub(self.at)).unwrap_or(usize::MAX).min(into.len());
        let count = {
            let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
            file.seek(SeekFrom::Start(self.at))?;
            file.read(&mut into[..most])?
        };
        for (offset, bytes) in &self.overlays {
            for (place, byte) in (*offset..).zip(bytes) {
                if (self.at..self.at + count as u64).contains(&place) {
                    into[(place - self.at) as usize] = *byte;
                }
            }
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

impl MediaSource for Source {
    fn is_seekable(&self) -> bool {
        self.seekable
    }

    fn byte_len(&self) -> Option<u64> {
        self.seekable.then_some(self.len)
    }
}
