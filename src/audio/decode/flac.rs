//! Repairs of FLAC files, before symphonia reads them: it takes nothing after the last frame.

use std::io;

use super::source::Source;
use super::stream::Notes;

/// Bytes at the end that are searched for the last frame.
const TAIL: u64 = 1 << 20;

/// Replaces an implausible but harmless header, and ends the file with its last frame.
pub(super) fn repair(source: &mut Source, notes: &mut Notes) -> io::Result<()> {
    let head = source.peek(0, 15)?;
    let [b'f', b'L', b'a', b'C', _, _, _, _, a, b, c, d, e, f, g] = head[..] else { return Ok(()) };
    let (least, most) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if least < 16 || most < least {
        notes.odd(format!("its header has blocks of {least} to {most} samples, which is impossible"));
        let most = if most < 16 { u16::MAX } else { most };
        let [c, d] = most.to_be_bytes();
        // Blocks are then of one size, except for the last.
        source.lay_over(8, vec![c, d, c, d]);
    }
    let from = source.len().saturating_sub(TAIL);
    let tail = source.peek(from, TAIL as usize)?;
    let Some(last) = (0..tail.len()).rev().find(|at| is_frame(&tail[*at..])) else { return Ok(()) };
    let smallest = (u32::from_be_bytes([0, e, f, g]) as usize).max(8);
    if let Some(size) = size(&tail[last..], smallest) {
        source.truncate(from + (last + size) as u64);
    }
    Ok(())
}

/// Whether a frame begins here: its header has a checksum.
fn is_frame(bytes: &[u8]) -> bool {
    let [0xff, 0xf8 | 0xf9, sizes, format, number, ..] = *bytes else { return false };
    // The number of the frame is coded as in UTF-8.
    let mut len = 4 + match number.leading_ones() {
        0 => 1,
        1 | 8 => return false,
        ones => ones as usize,
    };
    len += match sizes >> 4 {
        0 => return false,
        6 => 1,
        7 => 2,
        _ => 0,
    };
    len += match sizes & 15 {
        12 => 1,
        13 | 14 => 2,
        15 => return false,
        _ => 0,
    };
    format >> 4 < 11 && format & 1 == 0 && bytes.get(..=len).is_some_and(|head| crc(head, 8, 0x07).last() == Some(0))
}

/// Bytes of a frame of at least `smallest` bytes, after which its checksum is right.
fn size(frame: &[u8], smallest: usize) -> Option<usize> {
    (1..).zip(crc(frame, 16, 0x8005)).find(|(size, crc)| *size >= smallest && *crc == 0).map(|(size, _)| size)
}

/// The checksum of `width` bits after each byte; 0 after a message and its checksum.
fn crc(bytes: &[u8], width: u32, polynomial: u32) -> impl Iterator<Item = u32> {
    bytes.iter().scan(0u32, move |crc, byte| {
        *crc ^= u32::from(*byte) << (width - 8);
        for _ in 0..8 {
            let carry = *crc >> (width - 1) & 1;
            *crc = *crc << 1 & ((1 << width) - 1);
            *crc ^= if carry == 1 { polynomial } else { 0 };
        }
        Some(*crc)
    })
}
