//! The tag in the first frame of an MP3.

use super::header::{Header, Kind};

/// The delay of every layer 3 decoder, which is not included in the encoder's.
pub(super) const DECODER_DELAY: u64 = 528 + 1;

/// The information that encoders write into a first frame without audio.
#[derive(Clone, Debug)]
pub(super) struct Tag {
    /// Frames of the stream.
    pub count: Option<u64>,
    /// Encoder delay and padding, in samples.
    pub delay: u64,
    pub padding: u64,
}

/// The tag of a stream that begins with this frame; `None` if it is audio.
pub(super) fn tag(header: &Header, frame: &[u8]) -> Option<Tag> {
    let Kind::Mpeg { layer: 3, low } = header.kind else { return None };
    let frame = frame.get(..header.bytes)?;
    let be32 = |at: usize| frame.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let silent = |to: usize| frame.get(4 + header.check..to).is_some_and(|side| side.iter().all(|b| *b == 0));
    // Fraunhofer's, at a fixed offset.
    if frame.get(36..40) == Some(b"VBRI") && silent(36) {
        return Some(Tag { count: be32(50).map(u64::from), delay: 0, padding: 0 });
    }
    // Behind the side information.
    let at = 4 + match (low, header.channels) {
        (false, 2) => 32,
        (true, 1) => 9,
        _ => 17,
    };
    let at =
        [at, at + header.check].into_iter().find(|at| matches!(frame.get(*at..at + 4), Some(b"Xing" | b"Info")))?;
    if !silent(at) {
        return None;
    }
    let flags = be32(at + 4)?;
    let mut place = at + 8;
    let count = if flags & 1 != 0 { be32(place).map(u64::from) } else { None };
    for (flag, size) in [(1, 4), (2, 4), (4, 100), (8, 4)] {
        place += if flags & flag != 0 { size } else { 0 };
    }
    let mut tag = Tag { count: count.filter(|count| *count > 0), delay: 0, padding: 0 };
    if let (Some(encoder), Some(&[a, b, c])) = (frame.get(place..place + 4), frame.get(place + 21..place + 24))
        && matches!(encoder, b"LAME" | b"Lavf" | b"Lavc" | b"L3.9" | b"GOGO")
    {
        let (delay, padding) = (u64::from(a) << 4 | u64::from(b) >> 4, (u64::from(b) & 15) << 8 | u64::from(c));
        (tag.delay, tag.padding) = (delay + DECODER_DELAY, padding.saturating_sub(DECODER_DELAY));
    }
    Some(tag)
}
