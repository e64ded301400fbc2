//! Delay and padding of Matroska and WebM files, and whether they are complete.

use std::io::{self, BufReader, Read};

use super::source::Source;
use super::stream::{Notes, Span, Trim};

const SEGMENT: u64 = 0x1853_8067;
const TRACKS: u64 = 0x1654_ae6b;
const TRACK: u64 = 0xae;
const NUMBER: u64 = 0xd7;
const DELAY: u64 = 0x56aa;
const CLUSTER: u64 = 0x1f43_b675;
const GROUP: u64 = 0xa0;
const BLOCK: u64 = 0xa1;
const SIMPLE_BLOCK: u64 = 0xa3;
const PADDING: u64 = 0x75a2;
const NANOSECONDS: u64 = 1_000_000_000;
/// Most elements read.
const MAX_ELEMENTS: u64 = 100_000_000;

/// Trimming of a track. Children follow their parents' headers, so a single pass without nesting visits all.
pub(super) fn delays(source: Source, track: u32, notes: &mut Notes) -> io::Result<Trim> {
    let len = source.len();
    let mut walk = Walk { source: BufReader::new(source), at: 0 };
    let (mut number, mut delays) = (0, vec![]);
    // Of the latest block of the track; used if no other follows.
    let (mut group, mut padding, mut delay) = ((0, 0), 0, 0);
    for _ in 0..MAX_ELEMENTS {
        let (Some(id), Some(size)) = (walk.vint(false)?, walk.vint(true)?) else { break };
        let unknown = size == u64::MAX;
        if id == SEGMENT && !unknown && walk.at.saturating_add(size) > len {
            notes.odd(format!(
                "is truncated: {} bytes of the length in its header are missing",
                walk.at.saturating_add(size) - len
            ));
        }
        match id {
            TRACK => number = 0,
            GROUP => group = (0, 0),
            _ => {}
        }
        if matches!(id, SEGMENT | TRACKS | TRACK | CLUSTER | GROUP) {
            continue;
        }
        if unknown {
            break;
        }
        let body = walk.at;
        match id {
            NUMBER => number = walk.int(size)?,
            DELAY => delay = walk.int(size)?,
            BLOCK | SIMPLE_BLOCK => {
                let of = walk.vint(true)?.unwrap_or(0);
                if of == u64::from(track) {
                    padding = if id == BLOCK { group.1 } else { 0 };
                }
                group.0 = of;
            }
            PADDING => {
                // Signed; padding before the audio is negative.
                let shift = 64 - 8 * size.min(8) as u32;
                let value = (walk.int(size)? << (shift % 64)) as i64 >> (shift % 64);
                group.1 = value.max(0) as u64;
                if group.0 == u64::from(track) {
                    padding = group.1;
                }
            }
            _ => {}
        }
        if delay > 0 {
            delays.push((number, std::mem::take(&mut delay)));
        }
        if !walk.go(body.saturating_add(size), len)? {
            break;
        }
    }
    let ticks = |count| Span::Ticks { count, per_second: NANOSECONDS };
    let delay = delays.iter().find(|(of, _)| *of == u64::from(track)).map_or(0, |(_, delay)| *delay);
    Ok(Trim { delay: ticks(delay), keep: None, padding: ticks(padding) })
}

struct Walk {
    source: BufReader<Source>,
    at: u64,
}

impl Walk {
    fn byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let count = self.source.read(&mut byte)?;
        self.at += count as u64;
        Ok((count == 1).then_some(byte[0]))
    }

    /// A variable-length integer; of sizes the marker is removed, and all ones means unknown.
    fn vint(&mut self, size: bool) -> io::Result<Option<u64>> {
        let Some(first) = self.byte()? else { return Ok(None) };
        let more = first.leading_zeros();
        if more > 7 {
            return Ok(None);
        }
        let mut value = u64::from(if size { first & (0x7f_u8.checked_shr(more).unwrap_or(0)) } else { first });
        for _ in 0..more {
            let Some(byte) = self.byte()? else { return Ok(None) };
            value = value << 8 | u64::from(byte);
        }
        let ones = (1u64 << (7 * (more + 1))) - 1;
        Ok(Some(if size && value == ones { u64::MAX } else { value }))
    }

    fn int(&mut self, size: u64) -> io::Result<u64> {
        let mut value = 0;
        for _ in 0..size.min(8) {
            value = value << 8 | u64::from(self.byte()?.unwrap_or(0));
        }
        Ok(value)
    }

    /// Advances to a later byte; false if the file ends before.
    fn go(&mut self, to: u64, len: u64) -> io::Result<bool> {
        if to >= len {
            return Ok(false);
        }
        self.source.seek_relative(to as i64 - self.at as i64)?;
        self.at = to;
        Ok(true)
    }
}
