//! Pages of Ogg that are missing or damaged, which symphonia passes over.

use std::collections::HashMap;
use std::io;

use super::source::Source;
use super::stream::Notes;
use super::window::Window;

const MAGIC: &[u8; 4] = b"OggS";
/// Bytes of a header, and of the longest table of segments behind it.
const HEADER: usize = 27;
const TABLE: usize = 255;
/// Streams whose pages are counted at a time.
const MAX_STREAMS: usize = 1024;
/// Bit of the flags: the first page of a stream.
const FIRST: u8 = 2;

/// Notes where pages are missing or damaged. What follows the last page is not audio.
pub(super) fn check(source: Source, notes: &mut Notes) -> io::Result<()> {
    let mut file = Window::new(source);
    let (mut at, mut places) = (0, 0);
    // What was found since the last good page, and the numbers of the next pages, by stream.
    let (mut is_wrong, mut is_strange, mut next) = (false, false, HashMap::<u32, u32>::new());
    let mut beyond = 0;
    loop {
        let page = page(&mut file, at)?;
        let Some(Page { flags, stream, number, size }) = page else {
            match size(&mut file, at)? {
                Some(size) if at + size <= file.len() => is_wrong = true,
                Some(size) => beyond = at + size - file.len(),
                None => is_strange = true,
            }
            match file.find(&[&MAGIC[..]], at + 1)? {
                Some(place) => at = place,
                None => break,
            }
            continue;
        };
        if next.len() >= MAX_STREAMS {
            next.clear();
        }
        let expected = next.insert(stream, number.wrapping_add(1));
        let missing = flags & FIRST == 0 && expected.is_some_and(|expected| expected != number);
        places += u64::from(is_wrong || is_strange || beyond > 0 || missing);
        (is_wrong, is_strange, beyond) = (false, false, 0);
        at += size;
    }
    if beyond > 0 {
        notes.truncated(beyond);
    }
    match places + u64::from(is_wrong) {
        0 => {}
        1 => notes.lost("is damaged: pages of its audio are missing"),
        n => notes.lost(format!("is damaged in {n} places: pages of its audio are missing")),
    }
    Ok(())
}

struct Page {
    flags: u8,
    stream: u32,
    number: u32,
    /// With the header.
    size: u64,
}

/// Bytes of the page at `at`, by its header.
fn size(file: &mut Window, at: u64) -> io::Result<Option<u64>> {
    let head = file.get(at, HEADER + TABLE)?;
    if head.len() < HEADER || !head.starts_with(MAGIC) {
        return Ok(None);
    }
    let count = usize::from(head[HEADER - 1]);
    let table = head.get(HEADER..HEADER + count);
    Ok(table.map(|table| (HEADER + count) as u64 + table.iter().map(|size| u64::from(*size)).sum::<u64>()))
}

/// The page at `at`, if its checksum is right.
fn page(file: &mut Window, at: u64) -> io::Result<Option<Page>> {
    let Some(size) = size(file, at)? else { return Ok(None) };
    let bytes = file.get(at, size as usize)?;
    if bytes.len() < size as usize {
        return Ok(None);
    }
    let le32 = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let sum = [&bytes[..22], &[0; 4][..], &bytes[26..]]
        .into_iter()
        .flatten()
        .fold(0u32, |sum, byte| sum << 8 ^ CRC[usize::from((sum >> 24) as u8 ^ byte)]);
    Ok((sum == le32(22)).then(|| Page { flags: bytes[5], stream: le32(14), number: le32(18), size }))
}

/// Of the polynomial 0x04c11db7, the highest bit first.
const CRC: [u32; 256] = {
    let (mut table, mut i) = ([0; 256], 0);
    while i < 256 {
        let (mut sum, mut bit) = ((i as u32) << 24, 0);
        while bit < 8 {
            sum = if sum >> 31 == 1 { sum << 1 ^ 0x04c1_1db7 } else { sum << 1 };
            bit += 1;
        }
        table[i] = sum;
        i += 1;
    }
    table
};
