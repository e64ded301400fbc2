//! Streams of MPEG audio, layers 1 to 3: the length is that of the frames; tags are not trusted.

use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3};

use super::source::Source;
use super::stream::{Demux, End, Event, Notes, Span, Stream, Trim};

/// Most bytes before the first frame.
const MAX_LEAD: usize = 1 << 16;
/// Consecutive frames that identify a stream of MPEG audio, if it does not end before.
const PROOF: usize = 3;
/// Bytes that are read at a time.
const PORTION: usize = 1 << 16;
/// The delay of every layer 3 decoder, which is not included in the encoder's.
const DECODER_DELAY: u64 = 528 + 1;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Header {
    layer: u8,
    /// MPEG-2 and 2.5 have half the samples in a frame.
    low: bool,
    sr: u32,
    mono: bool,
    /// Bytes of the frame, and of its checksum.
    bytes: usize,
    check: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Header> {
        let &[0xff, b, c, d, ..] = bytes else { return None };
        let (version, layer) = (b >> 3 & 3, 4 - (b >> 1 & 3));
        let (rate, speed) = (c >> 4, c >> 2 & 3);
        if b & 0xe0 != 0xe0 || version == 1 || layer == 4 || rate == 0 || rate == 15 || speed == 3 || d & 3 == 2 {
            return None;
        }
        let low = version != 3;
        let sr = [44_100, 48_000, 32_000][usize::from(speed)] >> [2, 0, 1, 0][usize::from(version)];
        #[rustfmt::skip]
        const KBPS: [[u16; 14]; 5] = [
            [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
            [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
            [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
            [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
            [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
        ];
        let row = match (low, layer) {
            (false, layer) => usize::from(layer) - 1,
            (true, 1) => 3,
            (true, _) => 4,
        };
        let bps = usize::from(KBPS[row][usize::from(rate) - 1]) * 1000;
        let padding = usize::from(c >> 1 & 1);
        let header = Header { layer, low, sr, mono: d >> 6 == 3, bytes: 0, check: if b & 1 == 0 { 2 } else { 0 } };
        let bytes = match layer {
            1 => (12 * bps / sr as usize + padding) * 4,
            _ => header.frames() as usize / 8 * bps / sr as usize + padding,
        };
        Some(Header { bytes, ..header })
    }

    /// Samples of each channel.
    fn frames(&self) -> u64 {
        match self.layer {
            1 => 384,
            3 if self.low => 576,
            _ => 1152,
        }
    }

    /// Whether both can be frames of one stream.
    fn continues(&self, other: &Header) -> bool {
        (self.layer, self.low, self.sr, self.mono) == (other.layer, other.low, other.sr, other.mono)
    }

    /// Bytes of the side information of layer 3.
    fn side(&self) -> usize {
        match (self.low, self.mono) {
            (false, false) => 32,
            (false, true) | (true, false) => 17,
            (true, true) => 9,
        }
    }
}

pub(super) struct Mpeg {
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
}

impl Mpeg {
    /// A stream between two bytes of a file; `None` if none begins there.
    pub fn find(mut source: Source, start: u64, end: u64) -> io::Result<Option<Mpeg>> {
        source.seek(SeekFrom::Start(start))?;
        let mut mpeg = Mpeg { source, end, buffer: vec![], at: 0, current: None, waiting: None, begun: false };
        mpeg.skip_tags()?;
        let lead = mpeg.seek(PROOF, MAX_LEAD)?;
        Ok(lead.map(|_| mpeg))
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
                    10 + syncsafe(&size[..4]) + if flags & 0x10 != 0 { 10 } else { 0 }
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
            if self.fill(4)?.len() < 4 {
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
            let bytes = self.fill(offset + 4)?;
            // The stream may end with its tag, or be truncated.
            let Some(rest) = bytes.get(offset..).filter(|rest| rest.len() >= 4) else {
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
        let codec = [CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3][usize::from(header.layer) - 1];
        let mut params = AudioCodecParameters::new();
        let channels = Channels::Discrete(if header.mono { 1 } else { 2 });
        params.for_codec(codec).with_sample_rate(header.sr).with_channels(channels);
        let tag = tag(&header, self.fill(header.bytes)?);
        let (trim, promise) = tag.clone().map_or((Trim::NONE, None), |tag| {
            let spare = tag.delay + tag.padding;
            let promise = tag.count.map(|count| ((count * header.frames()).saturating_sub(spare), header.frames()));
            let trim = Trim { delay: Span::Frames(tag.delay), padding: Span::Frames(tag.padding), keep: None };
            (trim, promise)
        });
        Ok((Stream { params, trim, promise, timed: true, clock: None }, tag.is_some()))
    }
}

impl Demux for Mpeg {
    fn next(&mut self, notes: &mut Notes) -> io::Result<Event> {
        loop {
            self.skip_tags()?;
            let bytes = self.fill(4)?;
            if bytes.len() < 4 {
                return Ok(Event::End(End::Whole));
            }
            let header = Header::parse(bytes);
            let known = header.filter(|h| self.current.is_some_and(|c| c.continues(h)));
            let Some(header) = known.or(if self.proven(2)? { header } else { None }) else {
                // Streams extracted from longer ones begin and end within a frame.
                match self.seek(2, usize::MAX)? {
                    Some(0) => {}
                    Some(lost) if self.begun => {
                        notes.lost(format!("has {lost} bytes between its frames that are not MPEG audio"));
                    }
                    Some(_) => {}
                    None => return Ok(Event::End(End::Whole)),
                }
                continue;
            };
            if self.fill(header.bytes)?.len() < header.bytes {
                notes.odd("ends within a frame");
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
                self.current = Some(header);
                match tagged {
                    true => self.at += header.bytes,
                    false => self.waiting = Some(header),
                }
                self.begun = true;
                return Ok(Event::Stream(Box::new(stream)));
            }
            self.fill(header.bytes)?;
            let data = self.buffer[self.at..self.at + header.bytes].to_vec();
            self.at += header.bytes;
            return Ok(Event::Packet(super::packet(data, header.frames())));
        }
    }
}

/// The information that encoders write into a first frame without audio.
#[derive(Clone, Debug)]
struct Tag {
    /// Frames of the stream.
    count: Option<u64>,
    /// Encoder delay and padding, in samples.
    delay: u64,
    padding: u64,
}

fn tag(header: &Header, frame: &[u8]) -> Option<Tag> {
    let frame = frame.get(..header.bytes).filter(|_| header.layer == 3)?;
    let be32 = |at: usize| frame.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let silent = |to: usize| frame.get(4 + header.check..to).is_some_and(|side| side.iter().all(|b| *b == 0));
    // Fraunhofer's, at a fixed offset.
    if frame.get(36..40) == Some(b"VBRI") && silent(36) {
        return Some(Tag { count: be32(50).map(u64::from), delay: 0, padding: 0 });
    }
    let at = 4 + header.side();
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
