//! The edit lists of MP4 and QuickTime files, which contain encoder delay and padding.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::source::Source;
use super::stream::{Notes, Span, Trim};

/// Most boxes read.
const MAX_BOXES: usize = 100_000;
/// Bytes read of a box.
const READ: u64 = 4096;

#[derive(Default)]
struct Track {
    id: u32,
    timescale: u64,
    /// Duration, in the movie's time scale, and start in the track, in the track's.
    edits: Vec<(u64, i64)>,
}

/// Trimming by the edit list of a track, if there is one.
pub(super) fn edits(source: Source, track: u32, notes: &mut Notes) -> io::Result<Option<Trim>> {
    let (movie, tracks) = walk(source)?;
    let Some(track) = tracks.into_iter().find(|t| t.id == track) else { return Ok(None) };
    // Empty edits delay a track against others.
    let edits: Vec<(u64, i64)> = track.edits.into_iter().filter(|(_, from)| *from >= 0).collect();
    let &[(duration, from), ref more @ ..] = edits.as_slice() else { return Ok(None) };
    let delay = Span::Ticks { count: from as u64, per_second: track.timescale };
    if !more.is_empty() {
        notes.odd(format!("has an edit list of {} parts; it was ignored", edits.len()));
        return Ok(None);
    }
    let keep = Some(Span::Ticks { count: duration, per_second: movie }).filter(|_| duration > 0 && movie > 0);
    Ok(Some(Trim { delay, keep, padding: Span::Frames(0) }))
}

/// The movie's time scale and its tracks. Children follow their parents' headers, so a single pass without nesting visits
/// all.
fn walk(source: Source) -> io::Result<(u64, Vec<Track>)> {
    let len = source.len();
    let mut source = BufReader::new(source);
    let (mut movie, mut tracks, mut at) = (0, Vec::<Track>::new(), 0u64);
    for _ in 0..MAX_BOXES {
        if at.saturating_add(8) > len {
            break;
        }
        source.seek(SeekFrom::Start(at))?;
        let mut head = [0; 16];
        source.read_exact(&mut head[..8])?;
        let kind = [head[4], head[5], head[6], head[7]];
        let size = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        let (size, body) = match size {
            0 => (len - at, 8),
            1 if at.saturating_add(16) <= len => {
                source.read_exact(&mut head[8..])?;
                (u64::from_be_bytes(head[8..].try_into().expect("eight bytes")), 16)
            }
            size => (size, 8),
        };
        if size < body {
            break;
        }
        if kind == *b"trak" {
            tracks.push(Track::default());
        }
        if matches!(&kind, b"moov" | b"trak" | b"edts" | b"mdia") {
            at += body;
            continue;
        }
        if matches!(&kind, b"mvhd" | b"tkhd" | b"mdhd" | b"elst") {
            let mut bytes = vec![];
            (&mut source).take((size - body).min(READ)).read_to_end(&mut bytes)?;
            let wide = bytes.first() == Some(&1);
            let be32 = |at: usize| bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
            let timescale = be32(if wide { 20 } else { 12 });
            match (&kind, tracks.last_mut()) {
                (b"mvhd", _) => movie = timescale.into(),
                (b"tkhd", Some(track)) => track.id = timescale,
                (b"mdhd", Some(track)) => track.timescale = timescale.into(),
                (b"elst", Some(track)) => {
                    let (count, long) = (be32(4) as usize, |at| u64::from(be32(at)) << 32 | u64::from(be32(at + 4)));
                    let entry = if wide { 20 } else { 12 };
                    let entries = count.min(bytes.len().saturating_sub(8) / entry);
                    let edit = |at| match wide {
                        true => (long(at), long(at + 8) as i64),
                        false => (be32(at).into(), i64::from(be32(at + 4) as i32)),
                    };
                    track.edits = (0..entries).map(|i| edit(8 + i * entry)).collect();
                }
                _ => {}
            }
        }
        at = at.saturating_add(size);
    }
    Ok((movie, tracks))
}
