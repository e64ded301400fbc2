//! Streams of self-contained frames, MPEG audio and ADTS: the length is that of the frames; tags are not trusted.

use std::io::{self, Read, Seek, SeekFrom};

use super::codec::may_be_he_aac;
use super::gapless::Gapless;
use super::header::{HEADER, Header, Kind, SHORTEST};
use super::mpeg::{DECODER_DELAY, tag};
use super::source::Source;
use super::stream::{Demux, End, Event, Notes, Span, Stream, Trim};

/// Most bytes before the first frame.
const MAX_LEAD: usize = 1 << 16;
/// Consecutive frames that identify a stream of MPEG audio, if it does not end before.
const PROOF: usize = 3;
/// Bytes that are read at a time.
const PORTION: usize = 1 << 16;
/// Most bytes of a tag that are searched.
const MAX_TAG: u64 = 1 << 20;

pub(super) struct Frames {
    source: Source,
    /// End of the stream in the file.
    end: u64,
    /// Buffered bytes, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    /// The stream that the latest frame was of.
    current: Option<Header>,
    /// The first frame of the next stream, until that is announced.
    waiting: Option<Header>,
    begun: bool,
    /// From the latest tag.
    gapless: Option<Gapless>,
}

impl Frames {
    /// A stream between two bytes of a file; `None` if none begins there.
    pub fn find(mut source: Source, start: u64, end: u64) -> io::Result<Option<Frames>> {
        source.seek(SeekFrom::Start(start))?;
        let (current, waiting, gapless) = (None, None, None);
        let mut frames = Frames { source, end, buffer: vec![], at: 0, current, waiting, begun: false, gapless };
        frames.skip_tags()?;
        let lead = frames.seek(PROOF, MAX_LEAD)?;
        Ok(lead.map(|_| frames))
    }

    /// Buffers `count` bytes, or the remaining ones.
    fn fill(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.at < count {
            self.buffer.drain(..self.at);
            self.at = 0;
            let missing = (count - self.buffer.len()).max(PORTION) as u64;
            let left = self.end.saturating_sub(self.source.stream_position()?);
            (&mut self.source).take(missing.min(left)).read_to_end(&mut self.buffer)?;
        }
        Ok(&self.buffer[self.at..])
    }

    /// Skips tags before, after and between streams.
    fn skip_tags(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.fill(32)?;
            let syncsafe = |b: &[u8]| b.iter().fold(0u64, |sum, v| sum << 7 | u64::from(v & 0x7f));
            let size = match bytes {
                [b'T', b'A', b'G', ..] => 128,
                [b'I', b'D', b'3', _, _, flags, size @ ..] if size.len() >= 4 => {
                    let size = 10 + syncsafe(&size[..4]) + if flags & 0x10 != 0 { 10 } else { 0 };
                    let searched = size.min(MAX_TAG) as usize;
                    let tag = self.fill(searched)?;
                    self.gapless = Gapless::find(&tag[..tag.len().min(searched)]);
                    size
                }
                [b'A', b'P', b'E', b'T', b'A', b'G', b'E', b'X', ..] if bytes.len() >= 24 => {
                    let size = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
                    // A header's size excludes itself; a footer's includes the whole tag, which ends with it.
                    if bytes[23] & 0x20 != 0 { 32 + u64::from(size) } else { 32 }
                }
                _ => return Ok(()),
            };
            self.skip(size)?;
        }
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let here = (self.buffer.len() - self.at) as u64;
        if count <= here {
            self.at += count as usize;
            return Ok(());
        }
        (self.buffer, self.at) = (vec![], 0);
        let to = self.source.stream_position()?.saturating_add(count - here).min(self.end);
        self.source.seek(SeekFrom::Start(to))?;
        Ok(())
    }

    /// Advances to `proof` consecutive frames of one stream, or to its remainder. Returns the number of skipped
    /// bytes.
    fn seek(&mut self, proof: usize, most: usize) -> io::Result<Option<usize>> {
        for lead in 0..most {
            if self.fill(HEADER)?.len() < SHORTEST {
                return Ok(None);
            }
            if self.proven(proof)? {
                return Ok(Some(lead));
            }
            self.at += 1;
        }
        Ok(None)
    }

    fn proven(&mut self, proof: usize) -> io::Result<bool> {
        let Some(first) = Header::parse(&self.buffer[self.at..]) else { return Ok(false) };
        let mut offset = first.bytes;
        for _ in 1..proof {
            let bytes = self.fill(offset + HEADER)?;
            // The stream may end with its tag, or be truncated.
            let Some(rest) = bytes.get(offset..).filter(|rest| rest.len() >= SHORTEST) else {
                return Ok(bytes.len() >= first.bytes);
            };
            match Header::parse(rest) {
                Some(next) if next.continues(&first) => offset += next.bytes,
                _ => return Ok(rest.starts_with(b"TAG") || rest.starts_with(b"ID3") || rest.starts_with(b"APET")),
            }
        }
        Ok(true)
    }

    /// The stream that begins with this frame, and whether that is only a tag.
    fn stream(&mut self, header: Header) -> io::Result<(Stream, bool)> {
        let tag = tag(&header, self.fill(header.bytes)?);
        let gapless = self.gapless.take().filter(|_| matches!(header.kind, Kind::Mpeg { layer: 3, .. }));
        let (trim, promise) = match (&tag, gapless) {
            (Some(tag), _) if tag.delay > 0 => {
                let frames = tag.count.map(|count| count * header.frames);
                let trim = Trim { padding: Some(Span::Frames(tag.padding)), ..Trim::delay(Span::Frames(tag.delay)) };
                (trim, frames.map(|frames| frames.saturating_sub(tag.delay + tag.padding)))
            }
            (_, Some(Gapless { delay, count, .. })) => {
                let part = (Span::Frames(delay + DECODER_DELAY), Some(Span::Frames(count)));
                (Trim { parts: vec![part], padding: None }, Some(count))
            }
            (tag, None) => (Trim::default(), tag.as_ref().and_then(|tag| tag.count).map(|count| count * header.frames)),
        };
        let promise = promise.map(|frames| (frames, header.frames));
        Ok((Stream { params: header.params(), trim, promise, timed: true, clock: None }, tag.is_some()))
    }
}

impl Demux for Frames {
    fn next(&mut self, notes: &mut Notes) -> io::Result<Event> {
        loop {
            self.skip_tags()?;
            let bytes = self.fill(HEADER)?;
            if bytes.len() < SHORTEST {
                return Ok(Event::End(End::Whole));
            }
            let header = Header::parse(bytes);
            let known = header.filter(|h| self.current.is_some_and(|c| c.continues(h)));
            let Some(header) = known.or(if self.proven(2)? { header } else { None }) else {
                // Streams extracted from longer ones begin and end within a frame.
                match self.seek(2, usize::MAX)? {
                    Some(0) => {}
                    Some(lost) if self.begun => {
                        return Ok(Event::Damage(format!("{lost} bytes are not frames of audio")));
                    }
                    Some(_) => {}
                    None => return Ok(Event::End(End::Whole)),
                }
                continue;
            };
            if self.fill(header.bytes)?.len() < header.bytes {
                notes.cut("ends within a frame");
                return Ok(Event::End(End::Whole));
            }
            let (stream, tagged) = match self.waiting.take() {
                Some(_) => (None, false),
                None => {
                    let (stream, tagged) = self.stream(header)?;
                    (Some(stream).filter(|_| tagged || known.is_none()), tagged)
                }
            };
            if let Some(stream) = stream {
                if self.begun && known.is_none() {
                    notes.odd("consists of streams of different formats");
                } else if self.begun {
                    notes.odd("consists of several files");
                }
                if matches!(header.kind, Kind::Adts(_))
                    && let Some(remark) = may_be_he_aac(header.sr)
                {
                    notes.odd(remark);
                }
                self.current = Some(header);
                match tagged {
                    true => self.at += header.bytes,
                    false => self.waiting = Some(header),
                }
                self.begun = true;
                return Ok(Event::Stream(Box::new(stream)));
            }
            self.fill(header.bytes)?;
            let data = self.buffer[self.at + header.before..self.at + header.bytes].to_vec();
            self.at += header.bytes;
            return Ok(Event::packet(data, header.frames));
        }
    }
}
