//! Random access to a file with few reads.

use std::io;

use super::source::Source;

/// Bytes read at a time.
const SIZE: usize = 1 << 16;

/// A window onto a file, moved where bytes are needed.
pub(super) struct Window {
    source: Source,
    at: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub fn new(source: Source) -> Window {
        Window { source, at: 0, bytes: vec![] }
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.source.len()
    }

    /// The `count` bytes at `at`; fewer at the end of the file.
    pub fn get(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let last = at.saturating_add(count as u64).min(self.len());
        if at < self.at || last > self.at + self.bytes.len() as u64 {
            self.bytes = self.source.peek(at, count.max(SIZE))?;
            self.at = at;
        }
        let begin = ((at - self.at) as usize).min(self.bytes.len());
        Ok(&self.bytes[begin..self.bytes.len().min(begin + count)])
    }

    /// The `N` bytes at `at`, unless the file ends before.
    pub fn array<const N: usize>(&mut self, at: u64) -> io::Result<Option<[u8; N]>> {
        Ok(self.get(at, N)?.try_into().ok())
    }

    /// The first position from `from` on at which one of `words` of the same length stands.
    pub fn find(&mut self, words: &[&[u8]], from: u64) -> io::Result<Option<u64>> {
        let size = words[0].len();
        let mut at = from;
        loop {
            let bytes = self.get(at, SIZE)?;
            if bytes.len() < size {
                return Ok(None);
            }
            if let Some(place) = bytes.windows(size).position(|part| words.contains(&part)) {
                return Ok(Some(at + place as u64));
            }
            at += (bytes.len() - size + 1) as u64;
        }
    }
}
