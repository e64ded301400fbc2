//! Containers that symphonia reads: FLAC, Ogg, MP4 and QuickTime, and the header of Matroska and WebM. Delays and edits
//! that it does not report are read separately.

use std::io::{self, ErrorKind};
use std::path::Path;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::errors::Error as Fault;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatReader, Track, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::packet::Packet;

use super::codec::{Codec, HE_AAC, is_he_aac};
use super::matroska::Matroska;
use super::source::{Source, cannot};
use super::stream::{Clock, Demux, End, Event, Notes, Span, Stream, Trim};
use super::{flac, mp4, ogg, opus};

/// Tolerance in frames of containers with inexact lengths.
const SLACK: u64 = 4096;
/// Most packets of other tracks in a row.
const MAX_OTHERS: usize = 10_000_000;

/// Codecs of tracks without audio, in MP4.
const VIDEO: [&str; 12] =
    ["avc1", "avc3", "hev1", "hvc1", "av01", "vp09", "mp4v", "jpeg", "tx3g", "text", "tmcd", "mp4s"];
pub(super) struct Container {
    reader: Box<dyn FormatReader>,
    /// For delays and edits, read separately.
    source: Source,
    /// Reads the packets instead of symphonia.
    matroska: Option<Matroska>,
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
        flac::repair(&mut source, notes)?;
        if source.peek(4, 4)?.eq_ignore_ascii_case(b"ftyp") {
            mp4::repair(&mut source, notes)?;
        } else if source.peek(0, 4)? == b"OggS" {
            ogg::check(source.again(), notes)?;
        }
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
                if source.again().peek(0, 64)?.windows(8).any(|part| part == b"Speex   ") {
                    return Ok(Err(cannot("Speex")));
                }
                return Ok(Err("is damaged or truncated: the description of its audio cannot be read".into()));
            }
            Err(_) => {
                let kinds = "wav, w64, aiff, au, caf, flac, mp3, ogg, opus, m4a, mp4, mov, aac, mkv, webm";
                return Ok(Err(format!("is not an audio file of a known format ({kinds})")));
            }
        };
        let mut container = Container { reader, source, matroska: None, track: 0, stream: None, first: None };
        match container.begin(notes)? {
            Ok(stream) => container.stream = Some(stream),
            Err(reason) => return Ok(Err(reason)),
        }
        loop {
            match container.packet(notes)? {
                Event::Packet(packet) => container.first = Some(packet),
                Event::Damage(what) => {
                    notes.odd(format!("is damaged at its beginning: {what}"));
                    continue;
                }
                Event::Stream(_) | Event::End(_) => {}
            }
            break;
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
        let Some((params, track)) = found else {
            if self.is("isomp4") && tracks.is_empty() {
                let codecs = mp4::codecs(self.source.again())?;
                let named = codecs.iter().find(|codec| !VIDEO.contains(&codec.as_str()));
                return Ok(Err(named.map_or(reason, |codec| cannot(&format!("`{codec}` in MP4 or QuickTime")))));
            }
            return Ok(Err(reason));
        };
        self.track = track.id;
        if self.is("matroska") {
            // Of Opus, the header may have the rate of the source.
            let sr = if params.codec == CODEC_ID_OPUS { opus::SR } else { params.sample_rate.unwrap_or(0) };
            match Matroska::open(self.source.again(), track.id, sr, notes)? {
                Ok(matroska) => self.matroska = Some(matroska),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        self.stream(params, &track, notes).map(|stream| Ok(Box::new(stream)))
    }

    fn stream(&self, params: AudioCodecParameters, track: &Track, notes: &mut Notes) -> io::Result<Stream> {
        let sr = params.sample_rate.unwrap_or(0);
        let timed = track.time_base.is_some_and(|base| base.numer.get() == 1 && base.denom.get() == sr);
        let head = params.extra_data.as_deref().unwrap_or(&[]);
        if is_he_aac(&params) {
            notes.odd(HE_AAC);
        }
        // For Opus the header is used; the containers' values are not always right.
        let pre_skip = if params.codec == CODEC_ID_OPUS { opus::delay(head) } else { 0 };
        let mut count = track.num_frames.filter(|&count| timed && count > 0);
        let mut trim = Trim::delay(Span::Frames(pre_skip));
        let mut slack = SLACK;
        if let Some(matroska) = &self.matroska {
            if pre_skip == 0 {
                trim = Trim::delay(matroska.delay());
            }
            count = None;
        } else if self.is("isomp4") {
            if let Some(edits) = mp4::edits(self.source.again(), self.track, notes)? {
                trim = edits;
            }
            match &mut trim.parts[..] {
                // A shortened last packet is more exact than the edit list, which may be in milliseconds.
                [(delay, keep)] => {
                    count = count.map(|count| count.saturating_sub(delay.frames(sr)));
                    count = match (count, keep.map(|keep| keep.frames(sr))) {
                        (Some(count), Some(keep)) => Some(count.min(keep)),
                        (count, keep) => count.or(keep.filter(|_| timed)),
                    };
                    *keep = count.map_or(*keep, |count| Some(Span::Frames(count)));
                }
                parts => {
                    let kept = parts.iter().map(|(_, keep)| keep.map(|keep| keep.frames(sr))).sum::<Option<u64>>();
                    count = kept.filter(|_| timed);
                }
            }
        } else if self.is("ogg") {
            // Its packets contain their trimming, except for the first ones of Opus.
            count = count.map(|count| count.saturating_sub(pre_skip));
            slack = 0;
        } else {
            trim = Trim::delay(Span::Frames(track.delay.unwrap_or(0).into()));
            trim.padding = track.padding.map(|padding| Span::Frames(padding.into()));
            slack = 0;
        }
        let tick = track.time_base.map(|base| f64::from(base.numer.get()) / f64::from(base.denom.get()));
        // MP4 has durations instead of times.
        let tick = tick.filter(|_| self.is("flac") || self.is("ogg") || self.is("matroska"));
        let clock = tick.map(|tick| Clock::new(tick, timed));
        Ok(Stream { params, trim, promise: count.map(|count| (count, slack)), timed, clock })
    }

    fn packet(&mut self, notes: &mut Notes) -> io::Result<Event> {
        if let Some(matroska) = &mut self.matroska {
            return matroska.next(notes);
        }
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
                // Of the head of a further stream, as `ogg::check` says; others may follow.
                Err(Fault::DecodeError(_)) if self.is("ogg") => continue,
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
