//! MP4 and QuickTime: repair of the outer structure, and edit lists, which contain encoder delay and padding.

use std::io;

use super::gapless::Gapless;
use super::source::Source;
use super::stream::{Notes, Span, Trim};
use super::window::Window;

/// Boxes at the top of a file.
const TOP: [&[u8; 4]; 17] = [
    b"ftyp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pdin", b"mfra", b"uuid", b"meta", b"styp",
    b"sidx", b"ssix", b"prft", b"emsg", b"pnot",
];
/// Most boxes read.
const MAX_BOXES: usize = 100_000;
/// Bytes read of a box, and of metadata.
const READ: u64 = 4096;
const METADATA: u64 = 1 << 20;

#[derive(Default)]
struct Track {
    id: u32,
    timescale: u64,
    /// Duration, in the movie's time scale, and start in the track, in the track's.
    edits: Vec<(u64, i64)>,
    /// Of its first kind of samples.
    codec: [u8; 4],
}

/// What a file says of its tracks.
#[derive(Default)]
struct Movie {
    timescale: u64,
    tracks: Vec<Track>,
    gapless: Option<Gapless>,
}

/// Trimming of a track by its edit list, or else by the metadata, if there is either.
pub(super) fn edits(source: Source, track: u32, notes: &mut Notes) -> io::Result<Option<Trim>> {
    let movie = walk(source)?;
    let Some(track) = movie.tracks.into_iter().find(|t| t.id == track) else { return Ok(None) };
    let ticks = |count, per_second| Span::Ticks { count, per_second };
    // Empty edits delay a track against others.
    let edits: Vec<(u64, i64)> = track.edits.into_iter().filter(|(_, from)| *from >= 0).collect();
    if let ([] | [(_, 0)], Some(Gapless { delay, count, .. })) = (&edits[..], movie.gapless) {
        let part = (ticks(delay, track.timescale), Some(ticks(count, track.timescale)));
        return Ok(Some(Trim { parts: vec![part], padding: None }));
    }
    let part = |&(duration, from): &(u64, i64)| {
        let keep = Some(ticks(duration, movie.timescale)).filter(|_| duration > 0 && movie.timescale > 0);
        (ticks(from as u64, track.timescale), keep)
    };
    let parts: Vec<(Span, Option<Span>)> = edits.iter().map(part).collect();
    let end = |(from, keep): &(Span, Option<Span>)| keep.map(|keep| from.frames(ORDER) + keep.frames(ORDER));
    let in_order = parts.windows(2).all(|p| end(&p[0]).is_some_and(|end| end <= p[1].0.frames(ORDER) + 1));
    if !in_order {
        notes.odd("its edit list repeats or reorders parts of the audio; it was ignored");
    }
    Ok((in_order && !parts.is_empty()).then_some(Trim { parts, padding: None }))
}

/// Rate at which edits are compared, Hz.
const ORDER: u32 = 1000;

/// The codecs of all tracks, by their four characters.
pub(super) fn codecs(source: Source) -> io::Result<Vec<String>> {
    let tracks = walk(source)?.tracks.into_iter();
    Ok(tracks.map(|track| track.codec.escape_ascii().to_string()).collect())
}

/// Makes the boxes at the top follow each other again where bytes are missing, or were added, within one.
pub(super) fn repair(source: &mut Source, notes: &mut Notes) -> io::Result<()> {
    let mut file = Window::new(source.again());
    let len = file.len();
    let mut at = 0;
    // The latest box describes audio data that must follow.
    let mut is_open = false;
    for _ in 0..MAX_BOXES {
        if at >= len {
            break;
        }
        let head = head(&mut file, at)?.filter(|head| head.is_plausible());
        let end = head.as_ref().map_or(at, |head| at.saturating_add(head.size));
        let follows = end >= len || head_at(&mut file, end)?;
        is_open = head.as_ref().map_or(is_open, |head| head.kind == *b"moof");
        if end > at && end <= len && follows {
            at = end;
            continue;
        }
        // Within the audio data, or after it.
        let next = match &head {
            Some(head) if &head.kind != b"mdat" => None,
            _ => part(&mut file, at + 8)?,
        };
        match (next, head) {
            (Some(next), head) => {
                notes.lost("bytes are missing, or were added, within its audio data");
                let head = head.unwrap_or(Head { kind: *b"free", size: 0, body: 8 });
                source.lay_over(at, head.resized(next - at));
                at = next;
            }
            (None, Some(head)) if end > len => {
                notes.truncated(end - len);
                // What there is of the audio data can be read, but only of a box that ends with the file.
                if head.kind == *b"mdat" {
                    source.lay_over(at, head.resized(len - at));
                }
                break;
            }
            (None, _) => break,
        }
    }
    if is_open {
        notes.cut("is truncated: the audio data of its last fragment is missing");
    }
    Ok(())
}

/// The next movie or fragment from `from` on, each of which begins with its header.
fn part(file: &mut Window, from: u64) -> io::Result<Option<u64>> {
    let mut at = from;
    while let Some(place) = file.find(&[b"moov", b"moof"], at)? {
        if matches!(file.get(place + 8, 4)?, b"mvhd" | b"mfhd") {
            return Ok(Some(place - 4));
        }
        at = place + 4;
    }
    Ok(None)
}

/// The header of a box.
struct Head {
    kind: [u8; 4],
    /// With the header, and the size of that.
    size: u64,
    body: u64,
}

impl Head {
    fn is_plausible(&self) -> bool {
        self.size >= self.body && TOP.contains(&&self.kind)
    }

    /// The bytes of the header for another size.
    fn resized(&self, size: u64) -> Vec<u8> {
        match (self.body, u32::try_from(size)) {
            (8, Ok(size)) => [size.to_be_bytes(), self.kind].concat(),
            // 0: to the end of the file.
            (8, Err(_)) => [[0; 4], self.kind].concat(),
            _ => [&1u32.to_be_bytes()[..], &self.kind, &size.to_be_bytes()].concat(),
        }
    }
}

fn head_at(file: &mut Window, at: u64) -> io::Result<bool> {
    Ok(head(file, at)?.is_some_and(|head| head.is_plausible()))
}

fn head(file: &mut Window, at: u64) -> io::Result<Option<Head>> {
    let Some([a, b, c, d, kind @ ..]) = file.array::<8>(at)? else { return Ok(None) };
    let (size, body) = match u64::from(u32::from_be_bytes([a, b, c, d])) {
        0 => (file.len() - at, 8),
        1 => match file.array(at + 8)? {
            Some(size) => (u64::from_be_bytes(size), 16),
            None => return Ok(None),
        },
        size => (size, 8),
    };
    Ok(Some(Head { kind, size, body }))
}

/// Reads the tracks. Children follow their parents' headers, so a single pass without nesting visits all.
fn walk(source: Source) -> io::Result<Movie> {
    let mut file = Window::new(source);
    let (mut movie, mut at) = (Movie::default(), 0u64);
    for _ in 0..MAX_BOXES {
        let Some(Head { kind, size, body }) = head(&mut file, at)?.filter(|head| head.size >= head.body) else { break };
        if kind == *b"trak" {
            movie.tracks.push(Track::default());
        }
        if matches!(&kind, b"moov" | b"trak" | b"edts" | b"mdia" | b"minf" | b"stbl") {
            at += body;
            continue;
        }
        if kind == *b"udta" && movie.gapless.is_none() {
            movie.gapless = Gapless::find(file.get(at + body, (size - body).min(METADATA) as usize)?);
        }
        if matches!(&kind, b"mvhd" | b"tkhd" | b"mdhd" | b"elst" | b"stsd") {
            let bytes = file.get(at + body, (size - body).min(READ) as usize)?;
            let wide = bytes.first() == Some(&1);
            let be32 = |at: usize| bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
            let timescale = be32(if wide { 20 } else { 12 });
            match (&kind, movie.tracks.last_mut()) {
                (b"mvhd", _) => movie.timescale = timescale.into(),
                (b"tkhd", Some(track)) => track.id = timescale,
                (b"mdhd", Some(track)) => track.timescale = timescale.into(),
                (b"stsd", Some(track)) => track.codec = be32(12).to_be_bytes(),
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
    Ok(movie)
}
