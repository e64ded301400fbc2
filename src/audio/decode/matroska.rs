//! Packets of Matroska and WebM files. symphonia reads the header; the clusters are read here, as damage must cost only
//! what is damaged.

use std::collections::VecDeque;
use std::io;

use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::source::{Source, cannot};
use super::stream::{End, Event, Notes, Span};
use super::window::Window;

const HEADER: u64 = 0x1a45_dfa3;
const SEGMENT: u64 = 0x1853_8067;
const INFO: u64 = 0x1549_a966;
const TRACKS: u64 = 0x1654_ae6b;
const TRACK: u64 = 0xae;
const NUMBER: u64 = 0xd7;
const DELAY: u64 = 0x56aa;
const ENCODINGS: u64 = 0x6d80;
const ENCODING: u64 = 0x6240;
const COMPRESSION: u64 = 0x5034;
const ALGORITHM: u64 = 0x4254;
const SETTINGS: u64 = 0x4255;
const ENCRYPTION: u64 = 0x5035;
const CLUSTER: u64 = 0x1f43_b675;
const TIME: u64 = 0xe7;
const GROUP: u64 = 0xa0;
const BLOCK: u64 = 0xa1;
const SIMPLE_BLOCK: u64 = 0xa3;
const PADDING: u64 = 0x75a2;
/// Others in a segment, in a cluster and in a group; those with a number or nothing in them are short.
const OTHERS: [u64; 15] = [
    0x114d_9b74,
    0x1c53_bb6b,
    0x1941_a469,
    0x1043_a770,
    0x1254_c367,
    0xec,
    0x5854,
    0xaf,
    0x75a1,
    0xa4,
    0x8e,
    0xa2,
    INFO,
    TRACKS,
    HEADER,
];
const NUMBERS: [u64; 9] = [TIME, 0xab, 0xa7, 0xbf, 0x9b, 0xfb, 0xfa, 0xc8, PADDING];
/// Most elements of a header.
const MAX_ELEMENTS: usize = 100_000;
/// Most bytes of a block of audio, and of what is stripped from each packet.
const MAX_BLOCK: u64 = 1 << 26;
const MAX_STRIPPED: u64 = 1 << 12;
/// Most bytes before the header.
const MAX_LEAD: usize = 1 << 20;

/// What the header says of a track.
#[derive(Default)]
struct About {
    /// Nanoseconds.
    delay: u64,
    /// Bytes removed from the beginning of each packet.
    stripped: Vec<u8>,
    /// Why it cannot be decoded.
    reason: Option<String>,
}

pub(super) struct Matroska {
    file: Window,
    track: u64,
    /// Hz.
    sr: u32,
    about: About,
    at: u64,
    /// Of the cluster, in ticks.
    time: u64,
    /// Bytes that were skipped as damaged since the latest element.
    skipped: u64,
    begun: bool,
    packets: VecDeque<Packet>,
}

/// An element: a header, and a body up to `end`, if that is known.
#[derive(Clone, Copy)]
struct Element {
    id: u64,
    body: u64,
    end: Option<u64>,
}

impl Element {
    /// Whether elements follow in its body.
    fn is_master(&self) -> bool {
        matches!(self.id, SEGMENT | CLUSTER)
    }
}

impl Matroska {
    /// # Errors
    /// The reason why the track cannot be decoded; the outer errors are of reading.
    pub fn open(mut source: Source, track: u32, sr: u32, notes: &mut Notes) -> io::Result<Result<Matroska, String>> {
        let lead = source.peek(0, MAX_LEAD)?;
        let start = lead.windows(4).position(|word| word == [0x1a, 0x45, 0xdf, 0xa3]).unwrap_or(0) as u64;
        let (file, track, about) = (Window::new(source), track.into(), About::default());
        let (packets, skipped, begun) = (VecDeque::new(), 0, false);
        let mut matroska = Matroska { file, track, sr, about, at: start, time: 0, skipped, begun, packets };
        matroska.header(notes)?;
        Ok(match matroska.about.reason.take() {
            Some(reason) => Err(reason),
            None => Ok(matroska),
        })
    }

    /// Delay of the encoder.
    pub fn delay(&self) -> Span {
        nanoseconds(self.about.delay)
    }

    /// Reads up to the first cluster. Children follow their parents' headers, so a single pass visits all.
    fn header(&mut self, notes: &mut Notes) -> io::Result<()> {
        let mut tracks: Vec<(u64, About)> = vec![];
        let mut at = self.at;
        for _ in 0..MAX_ELEMENTS {
            let Some(Element { id, body, end }) = self.head(at)? else { break };
            match (id, end) {
                (CLUSTER, _) => break,
                (SEGMENT, Some(end)) if end > self.file.len() => notes.truncated(end - self.file.len()),
                (TRACK, _) => tracks.push((0, About::default())),
                _ => {}
            }
            if matches!(id, SEGMENT | INFO | TRACKS | TRACK | ENCODINGS | ENCODING | COMPRESSION) {
                at = body;
                if let (COMPRESSION, Some((_, about))) = (id, tracks.last_mut()) {
                    about.reason = Some(cannot("Matroska packets with compression"));
                }
                continue;
            }
            let Some(end) = end else { break };
            let value = self.int(body, end)?;
            if let Some((number, about)) = tracks.last_mut() {
                match id {
                    NUMBER => *number = value,
                    DELAY => about.delay = value,
                    // Only bytes that are the same in all packets were removed.
                    ALGORITHM if value == 3 => about.reason = None,
                    SETTINGS if end - body <= MAX_STRIPPED => {
                        about.stripped = self.file.get(body, (end - body) as usize)?.to_vec();
                    }
                    ENCRYPTION => about.reason = Some("is encrypted".into()),
                    _ => {}
                }
            }
            at = end;
        }
        self.about = tracks.into_iter().find(|(number, _)| *number == self.track).unwrap_or_default().1;
        Ok(())
    }

    /// The next packet.
    pub fn next(&mut self, notes: &mut Notes) -> io::Result<Event> {
        loop {
            // Damage is reported before the packet that follows it.
            if !self.packets.is_empty() && self.skipped > 0 {
                let skipped = std::mem::take(&mut self.skipped);
                return Ok(Event::Damage(format!("{skipped} bytes cannot be read")));
            }
            if let Some(packet) = self.packets.pop_front() {
                return Ok(Event::Packet(packet));
            }
            if self.at >= self.file.len() {
                return Ok(Event::End(End::Whole));
            }
            let at = self.at;
            let element = self.element(at)?;
            let follows = match element {
                Some(Element { end: Some(end), .. }) => end == self.file.len() || self.element(end)?.is_some(),
                Some(_) => true,
                None => false,
            };
            match element.filter(|element| follows || element.is_master()) {
                Some(element) => {
                    if element.id == HEADER && self.begun {
                        notes.odd("consists of several files");
                    }
                    self.begun = true;
                    self.take(element)?;
                }
                // Damaged is this element, or what follows it.
                None => {
                    let next = self.search(element.map_or(at + 1, |element| element.body))?;
                    let end = element.and_then(|element| element.end);
                    match (element, next) {
                        (Some(element), _) if end.is_some_and(|end| end <= next.unwrap_or(u64::MAX)) => {
                            self.take(element)?;
                        }
                        (_, Some(next)) => (self.skipped, self.at) = (self.skipped + next - at, next),
                        (_, None) => {
                            notes.cut(format!("its last {} bytes cannot be read", self.file.len() - at));
                            self.at = self.file.len();
                        }
                    }
                }
            }
        }
    }

    /// Reads an element, and advances past it, or into it.
    fn take(&mut self, element: Element) -> io::Result<()> {
        let Element { id, body, end } = element;
        let (true, Some(end)) = (!element.is_master(), end) else {
            self.at = body;
            return Ok(());
        };
        self.at = end;
        match id {
            TIME => self.time = self.int(body, end)?,
            SIMPLE_BLOCK => self.block(body, end, 0)?,
            GROUP => {
                let (mut block, mut padding, mut at) = (None, 0, body);
                while let Some(child) = self.head(at)? {
                    let Some(last) = child.end.filter(|last| *last <= end) else { break };
                    match child.id {
                        BLOCK => block = Some((child.body, last)),
                        PADDING => {
                            let unused = 64 - 8 * (last - child.body).clamp(1, 8) as u32;
                            padding = (self.int(child.body, last)? << unused) as i64 >> unused;
                        }
                        _ => {}
                    }
                    at = last;
                }
                if let Some((body, end)) = block {
                    self.block(body, end, padding)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The packets of a block. `padding`: nanoseconds to be removed at its end, or before its beginning if negative.
    fn block(&mut self, body: u64, end: u64, padding: i64) -> io::Result<()> {
        let Some((track, start)) = self.vint(body, true)? else { return Ok(()) };
        if track != self.track || end - body > MAX_BLOCK {
            return Ok(());
        }
        let bytes = self.file.get(start, (end - start) as usize)?;
        let Some((&[a, b, flags], data)) = bytes.split_first_chunk() else { return Ok(()) };
        let time = self.time as i64 + i64::from(i16::from_be_bytes([a, b]));
        let Some(parts) = unlace(flags, data) else {
            self.skipped += end - body;
            return Ok(());
        };
        let last = parts.len() - 1;
        for (i, part) in parts.into_iter().enumerate() {
            let data = [&self.about.stripped[..], part].concat();
            let mut packet = Packet::new(self.track as u32, Timestamp::new(time), Duration::ZERO, data);
            let trim = Duration::new(nanoseconds(padding.unsigned_abs()).frames(self.sr));
            if padding > 0 && i == last {
                packet.trim_end = trim;
            } else if padding < 0 && i == 0 {
                packet.trim_start = trim;
            }
            self.packets.push_back(packet);
        }
        Ok(())
    }

    /// The element at `at`, if it can be one of a segment, a cluster or a group.
    fn element(&mut self, at: u64) -> io::Result<Option<Element>> {
        let Some(element) = self.head(at)? else { return Ok(None) };
        let Element { id, body, end } = element;
        let fits = end.is_some_and(|end| end <= self.file.len());
        let size = end.map_or(u64::MAX, |end| end - body);
        let possible = match id {
            SEGMENT | CLUSTER => true,
            SIMPLE_BLOCK | BLOCK => fits && self.is_block(body, size)?,
            GROUP => {
                // A block is the first element of nearly all groups.
                let first = if fits { self.head(body)? } else { None };
                first.is_some_and(|first| {
                    first.end.is_some_and(|end| end <= body + size)
                        && (first.id == BLOCK || NUMBERS.contains(&first.id))
                })
            }
            id if NUMBERS.contains(&id) => fits && size <= 8,
            id => fits && OTHERS.contains(&id),
        };
        Ok(Some(element).filter(|_| possible))
    }

    /// Whether a block is of a possible track, without impossible flags.
    fn is_block(&mut self, body: u64, size: u64) -> io::Result<bool> {
        let Some((track, start)) = self.vint(body, true)? else { return Ok(false) };
        let flags = self.file.get(start, 3)?.get(2).copied();
        Ok(size >= 4 && (1..128).contains(&track) && flags.is_some_and(|flags| flags & 0x70 == 0))
    }

    /// The first position from `from` on at which an element begins for certain.
    fn search(&mut self, from: u64) -> io::Result<Option<u64>> {
        const FIRST: [&[u8]; 3] = [&[SIMPLE_BLOCK as u8], &[GROUP as u8], &[(CLUSTER >> 24) as u8]];
        let mut at = from;
        while let Some(place) = self.file.find(&FIRST, at)? {
            if let Some(element) = self.element(place)? {
                let certain = match element.end {
                    _ if element.id == CLUSTER => true,
                    Some(end) => end == self.file.len() || self.element(end)?.is_some(),
                    None => false,
                };
                if certain {
                    return Ok(Some(place));
                }
            }
            at = place + 1;
        }
        Ok(None)
    }

    /// Identifier and extent of the element at `at`, whatever it is.
    fn head(&mut self, at: u64) -> io::Result<Option<Element>> {
        let Some((id, size_at)) = self.vint(at, false)? else { return Ok(None) };
        let Some((size, body)) = self.vint(size_at, true)? else { return Ok(None) };
        let end = if size == u64::MAX { None } else { Some(body.saturating_add(size)) };
        Ok(Some(Element { id, body, end }))
    }

    /// A variable-length integer, and its end; of `size`s the marker is removed, and all ones means unknown.
    fn vint(&mut self, at: u64, size: bool) -> io::Result<Option<(u64, u64)>> {
        Ok(vint(self.file.get(at, 8)?, size).map(|(value, len)| (value, at + len as u64)))
    }

    fn int(&mut self, body: u64, end: u64) -> io::Result<u64> {
        let bytes = self.file.get(body, (end - body).min(8) as usize)?;
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
}

fn nanoseconds(count: u64) -> Span {
    Span::Ticks { count, per_second: 1_000_000_000 }
}

/// A variable-length integer and the number of its bytes.
fn vint(bytes: &[u8], size: bool) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = first.leading_zeros() as usize + 1;
    let rest = bytes.get(1..len)?;
    let first = if size { first & 0x7f_u8.checked_shr(len as u32 - 1).unwrap_or(0) } else { first };
    let value = rest.iter().fold(u64::from(first), |value, byte| value << 8 | u64::from(*byte));
    let unknown = size && value == (1 << (7 * len)) - 1;
    Some((if unknown { u64::MAX } else { value }, len))
}

/// The packets of a block, by its flags; `None` if their sizes contradict that of the block.
fn unlace(flags: u8, data: &[u8]) -> Option<Vec<&[u8]>> {
    let lacing = flags >> 1 & 3;
    if lacing == 0 {
        return Some(vec![data]);
    }
    let (&count, mut data) = data.split_first()?;
    let mut sizes = vec![];
    for i in 0..usize::from(count) {
        let size = match lacing {
            // Bytes to be added, of which the last is not 255.
            1 => {
                let len = data.iter().position(|byte| *byte != 255)? + 1;
                let (bytes, rest) = data.split_at(len);
                data = rest;
                bytes.iter().map(|byte| usize::from(*byte)).sum()
            }
            2 => data.len() / (usize::from(count) + 1),
            // The first one, then differences.
            _ => {
                let (value, len) = vint(data, true)?;
                data = &data[len..];
                let value = i64::try_from(value).ok()?;
                let middle = (1i64 << (7 * len - 1)) - 1;
                let last = sizes.last().map_or(0, |size: &usize| *size as i64);
                usize::try_from(if i == 0 { value } else { last + value - middle }).ok()?
            }
        };
        sizes.push(size);
    }
    let mut packets = vec![];
    for size in sizes {
        let (packet, rest) = data.split_at_checked(size)?;
        packets.push(packet);
        data = rest;
    }
    packets.push(data);
    Some(packets)
}
