//! Containers that symphonia reads: FLAC, Ogg, MP4 and QuickTime, Matroska and WebM, CAF, ADTS. Delays and edits that it
//! does not report are read separately.

use std::io::{self, ErrorKind};
use std::path::Path;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_OPUS};
use symphonia::core::errors::Error as Fault;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatReader, Track, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::packet::Packet;

use super::codec::Codec;
use super::source::Source;
use super::stream::{Clock, Demux, End, Event, Notes, Span, Stream, Trim};
use super::{matroska, mp4, opus};

/// Tolerance in frames of containers with inexact lengths.
const SLACK: u64 = 4096;
/// Most packets of other tracks in a row.
const MAX_OTHERS: usize = 10_000_000;

pub(super) struct Container {
    reader: Box<dyn FormatReader>,
    /// For delays and edits, read separately.
    source: Source,
    track: u32,
    stream: Option<Box<Stream>>,
    /// The first packet, read ahead to check that there is one.
    first: Option<Packet>,
}

impl Container {
    /// # Errors
    /// The reason why it cannot be decoded; the outer errors are of reading.
    pub fn open(
        mut source: Source,
        path: &Path,
        known: bool,
        notes: &mut Notes,
    ) -> io::Result<Result<Container, String>> {
        repair(&mut source, notes)?;
        let first = Self::probe(source.again(), source.again(), path, known, notes)?;
        if matches!(&first, Ok(container) if container.first.is_some()) {
            return Ok(first);
        }
        // A truncated file may still be readable from the beginning.
        Ok(match Self::probe(source.as_pipe(), source, path, known, notes)? {
            Ok(second) if second.first.is_some() => Ok(second),
            _ => first,
        })
    }

    fn probe(
        stream: Source,
        source: Source,
        path: &Path,
        known: bool,
        notes: &mut Notes,
    ) -> io::Result<Result<Container, String>> {
        let mut hint = Hint::new();
        if let Some(extension) = path.extension().and_then(|e| e.to_str()) {
            hint.with_extension(extension);
        }
        let stream = MediaSourceStream::new(Box::new(stream), Default::default());
        let reader = symphonia::default::get_probe().probe(&hint, stream, Default::default(), Default::default());
        let reader = match reader {
            Ok(reader) => reader,
            Err(Fault::IoError(e)) if !matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::Other) => {
                return Err(e);
            }
            Err(_) if known => {
                return Ok(Err("is damaged or truncated: the description of its audio cannot be read".into()));
            }
            Err(_) => {
                let kinds = "wav, w64, aiff, au, caf, flac, mp3, ogg, opus, m4a, mp4, mov, aac, mkv, webm";
                return Ok(Err(format!("is not an audio file of a known format ({kinds})")));
            }
        };
        let mut container = Container { reader, source, track: 0, stream: None, first: None };
        match container.begin(notes)? {
            Ok(stream) => container.stream = Some(stream),
            Err(reason) => return Ok(Err(reason)),
        }
        if let Event::Packet(packet) = container.packet(notes)? {
            container.first = Some(packet);
        }
        Ok(Ok(container))
    }

    fn is(&self, format: &str) -> bool {
        self.reader.format_info().short_name == format
    }

    /// The stream of the first audio track that can be decoded.
    fn begin(&mut self, notes: &mut Notes) -> io::Result<Result<Box<Stream>, String>> {
        let params = |track: &Track| track.codec_params.as_ref().and_then(|p| p.audio()).cloned();
        let default = self.reader.default_track(TrackType::Audio).map(|track| track.id);
        let mut tracks: Vec<&Track> = self.reader.tracks().iter().filter(|track| params(track).is_some()).collect();
        tracks.sort_by_key(|track| Some(track.id) != default);
        let mut reason = "has no audio track".to_string();
        let mut found = None;
        for track in tracks.iter().rev() {
            let params = params(track).expect("others are skipped");
            match Codec::new(&params) {
                Ok(_) => found = Some((params, (*track).clone())),
                Err(why) => reason = why,
            }
        }
        let Some((params, track)) = found else { return Ok(Err(reason)) };
        self.track = track.id;
        self.stream(params, &track, notes).map(|stream| Ok(Box::new(stream)))
    }

    fn stream(&self, params: AudioCodecParameters, track: &Track, notes: &mut Notes) -> io::Result<Stream> {
        let sr = params.sample_rate.unwrap_or(0);
        let timed = track.time_base.is_some_and(|base| base.numer.get() == 1 && base.denom.get() == sr);
        let head = params.extra_data.as_deref().unwrap_or(&[]);
        if params.codec == CODEC_ID_AAC && is_he_aac(head) {
            notes
                .odd("is HE-AAC, decoded without its spectral band replication: the upper half of its band is missing");
        }
        // For Opus the header is used; the containers' values are not always right.
        let pre_skip = if params.codec == CODEC_ID_OPUS { opus::delay(head) } else { 0 };
        let mut count = track.num_frames.filter(|&count| timed && count > 0);
        let mut trim = Trim { delay: Span::Frames(pre_skip), ..Trim::NONE };
        let mut slack = SLACK;
        if self.is("isomp4") {
            if let Some(edits) = mp4::edits(self.source.again(), self.track, notes)? {
                trim = edits;
            }
            // A shortened last packet is more exact than the edit list, which may be in milliseconds.
            count = count.map(|count| count.saturating_sub(trim.delay.frames(sr)));
            count = match (count, trim.keep.map(|keep| keep.frames(sr))) {
                (Some(count), Some(keep)) => Some(count.min(keep)),
                (count, keep) => count.or(keep.filter(|_| timed)),
            };
            if let Some(count) = count {
                trim.keep = Some(Span::Frames(count));
            }
        } else if self.is("matroska") {
            let named = matroska::delays(self.source.again(), self.track, notes)?;
            trim.padding = named.padding;
            if pre_skip == 0 {
                trim.delay = named.delay;
            }
            count = None;
        } else if self.is("ogg") {
            // Its packets contain their trimming, except for the first ones of Opus.
            count = count.map(|count| count.saturating_sub(pre_skip));
            slack = 0;
        } else {
            trim.delay = Span::Frames(track.delay.unwrap_or(0).into());
            trim.padding = Span::Frames(track.padding.unwrap_or(0).into());
            slack = if self.is("flac") { 0 } else { SLACK };
            // An estimate from the first frames.
            count = count.filter(|_| !self.is("aac"));
        }
        let tick = track.time_base.map(|base| f64::from(base.numer.get()) / f64::from(base.denom.get()));
        // MP4 has durations instead of times.
        let tick = tick.filter(|_| self.is("flac") || self.is("ogg") || self.is("matroska"));
        let clock = tick.map(|tick| Clock::new(tick, timed));
        Ok(Stream { params, trim, promise: count.map(|count| (count, slack)), timed, clock })
    }

    fn packet(&mut self, notes: &mut Notes) -> io::Result<Event> {
        for _ in 0..MAX_OTHERS {
            return Ok(match self.reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track => Event::Packet(packet),
                Ok(Some(_)) => continue,
                Ok(None) => Event::End(End::Whole),
                Err(Fault::ResetRequired) => match self.begin(notes)? {
                    Ok(stream) => {
                        notes.odd("consists of several streams");
                        Event::Stream(stream)
                    }
                    Err(reason) => Event::End(End::Damaged(reason)),
                },
                // Truncation is detected from its sizes.
                Err(Fault::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof && self.is("matroska") => {
                    Event::End(End::Whole)
                }
                Err(Fault::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof => Event::End(End::BreaksOff),
                Err(Fault::IoError(e)) if e.kind() != ErrorKind::Other => return Err(e),
                Err(fault) => Event::End(End::Damaged(fault.to_string())),
            });
        }
        Ok(Event::End(End::Damaged("no further packet of its audio track".into())))
    }
}

impl Demux for Container {
    fn next(&mut self, notes: &mut Notes) -> io::Result<Event> {
        match (self.stream.take(), self.first.take()) {
            (Some(stream), first) => {
                self.first = first;
                Ok(Event::Stream(stream))
            }
            (None, Some(packet)) => Ok(Event::Packet(packet)),
            (None, None) => self.packet(notes),
        }
    }
}

/// Replaces an implausible but harmless header.
fn repair(source: &mut Source, notes: &mut Notes) -> io::Result<()> {
    let head = source.peek(0, 12)?;
    let [b'f', b'L', b'a', b'C', _, _, _, _, a, b, c, d] = head[..] else { return Ok(()) };
    let (least, most) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if least < 16 || most < least {
        notes.odd(format!("its header has blocks of {least} to {most} samples, which is impossible"));
        let most = if most < 16 { u16::MAX } else { most };
        let [c, d] = most.to_be_bytes();
        // Blocks are then of one size, except for the last.
        source.lay_over(8, vec![c, d, c, d]);
    }
    Ok(())
}

/// Whether AAC's configuration signals spectral band replication, which is not decoded.
fn is_he_aac(config: &[u8]) -> bool {
    let kind = config.first().map_or(0, |a| a >> 3);
    // Signalled at the start, or after the part that older decoders read.
    let behind = config.windows(3).skip(2).any(|w| w[0] == 0x56 && w[1] == 0xe5 && w[2] & 0x80 != 0);
    kind == 5 || kind == 29 || kind == 2 && behind
}
