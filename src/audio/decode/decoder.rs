//! Packets to mono samples, block by block.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use symphonia::core::codecs::audio::well_known::CODEC_ID_MP3;
use symphonia::core::packet::Packet;

use super::clip::{Condition, check_channels, check_rate};
use super::codec::Codec;
use super::mix::Mix;
use super::stream::{Demux, End, Event, Notes, Stream, Trimmer};
use crate::audio::resample::Resampler;
use crate::core::error::{Error, Result};

/// Empty or damaged packets in a row after which decoding stops.
const MAX_BARREN: u64 = 10_000;
/// Most frames of silence for a damaged packet.
const MAX_SILENCE: u64 = 1 << 16;
/// Most frames of silence for missing packets, beyond the number of decoded ones.
const MAX_GAP: u64 = 1 << 22;

/// An audio file being decoded. Memory does not grow with the length of the file.
pub struct Decoder {
    path: PathBuf,
    demux: Box<dyn Demux>,
    /// The stream being decoded.
    stream: Option<Playing>,
    /// Of the first stream, and of all output.
    sr: u32,
    /// For streams of other rates.
    resampler: Option<(u32, Resampler)>,
    mix: Mix,
    interleaved: Vec<f32>,
    mono: Vec<f32>,
    /// The block in `mono` was decoded to learn the sample rate, and is still to be returned.
    pending: bool,
    ended: bool,
    /// Frames returned, including those in `mono`.
    frames: u64,
    /// Of these, silence in place of missing packets.
    filled: u64,
    /// Decoded packets.
    good: u64,
    /// Packets since then that failed, or were empty.
    barren: u64,
    /// Damage before the next packet.
    gap: Option<String>,
    notes: Notes,
}

/// A stream and its codec.
struct Playing {
    stream: Box<Stream>,
    codec: Codec,
    /// Once the sample rate is known.
    trimmer: Option<Trimmer>,
    /// Damaged packets: those since the latest good one, which may be the last, and those before, and what was wrong.
    failing: u64,
    failed: u64,
    packets: u64,
    fault: String,
    /// Gaps in the streams before.
    gaps: u64,
}

impl Decoder {
    /// Decodes the first samples, for the sample rate.
    pub(super) fn begin(path: &Path, demux: Box<dyn Demux>, notes: Notes) -> Result<Decoder> {
        let mut decoder = Decoder {
            path: path.into(),
            demux,
            stream: None,
            sr: 0,
            resampler: None,
            mix: Mix::default(),
            interleaved: vec![],
            mono: vec![],
            pending: true,
            ended: false,
            frames: 0,
            filled: 0,
            good: 0,
            barren: 0,
            gap: None,
            notes,
        };
        if decoder.advance()? {
            return Ok(decoder);
        }
        Err(decoder.fail(match decoder.condition().warnings.as_slice() {
            [] => "contains no audio".into(),
            lines => format!("contains no audio: {}", lines.join("; ")),
        }))
    }

    /// Sample rate, Hz.
    pub fn sr(&self) -> u32 {
        self.sr
    }

    /// Whether the file is complete, as far as it has been decoded.
    pub fn condition(&self) -> &Condition {
        self.notes.condition()
    }

    /// The next mono samples (some thousand at a time, never empty), or `None` at the end.
    ///
    /// # Errors
    /// `Io` when the file cannot be read further. After an error the decoder cannot be used any more.
    pub fn next_block(&mut self) -> Result<Option<&[f32]>> {
        if std::mem::take(&mut self.pending) || self.advance()? {
            return Ok(Some(&self.mono));
        }
        Ok(None)
    }

    /// Decodes up to the next samples; false at the end.
    fn advance(&mut self) -> Result<bool> {
        self.mono.clear();
        while self.mono.is_empty() && !self.ended {
            let step = catch_unwind(AssertUnwindSafe(|| self.step()));
            let fault = match step {
                Ok(Ok(())) => continue,
                // What was decoded stays.
                Ok(Err(Error::Data { reason, .. })) if self.good > 0 => reason,
                Ok(Err(error)) => return Err(error),
                Err(_) => "its decoder gave up".into(),
            };
            self.end_stream(false);
            self.end(End::Damaged(fault));
        }
        self.frames += self.mono.len() as u64;
        Ok(!self.mono.is_empty())
    }

    fn step(&mut self) -> Result<()> {
        match self.demux.next(&mut self.notes).map_err(Error::io(&self.path))? {
            Event::Stream(stream) => self.begin_stream(stream),
            Event::Packet(packet) => self.packet(packet),
            Event::Damage(what) => {
                self.gap.get_or_insert(what);
                Ok(())
            }
            Event::End(end) => {
                self.end_stream(matches!(end, End::Whole));
                self.end(end);
                Ok(())
            }
        }
    }

    fn begin_stream(&mut self, stream: Box<Stream>) -> Result<()> {
        self.end_stream(true);
        match (Codec::new(&stream.params), &stream.params.channels) {
            (Ok(codec), channels) => {
                let channels = channels.as_ref().map_or(1, |c| c.count());
                check_channels(channels).map_err(|reason| self.fail(reason))?;
                let (trimmer, fault, gaps) = (None, String::new(), self.notes.gaps());
                self.stream = Some(Playing { stream, codec, trimmer, failing: 0, failed: 0, packets: 0, fault, gaps });
                Ok(())
            }
            (Err(reason), _) if self.good == 0 => Err(self.fail(reason)),
            (Err(reason), _) => {
                self.end(End::Damaged(reason));
                Ok(())
            }
        }
    }

    fn packet(&mut self, packet: Packet) -> Result<()> {
        let Some(playing) = &mut self.stream else { return Ok(()) };
        let (early, late) = (packet.trim_start.get() as usize, packet.trim_end.get() as usize);
        let (time, ticks) = (packet.pts.get(), packet.block_dur().get());
        playing.packets += 1;
        self.barren += 1;
        if self.barren > MAX_BARREN {
            self.end_stream(false);
            self.end(End::Damaged("no further packet can be decoded".into()));
            return Ok(());
        }
        let decoded = playing.codec.decode(packet, &mut self.interleaved);
        let timed = playing.stream.timed;
        let damaged = self.gap.is_some() || playing.failing > 0;
        let missing = playing.stream.clock.as_mut().map_or(0.0, |clock| {
            let frames =
                decoded.as_ref().map_or(0.0, |(sr, width)| clock.ticks(self.interleaved.len() / width.max(&1), *sr));
            clock.missing(time, if timed { ticks as f64 } else { frames }, damaged)
        });
        // A damaged packet may also give nothing; of a stream's first packets that is regular.
        let nothing = self.interleaved.is_empty() && timed && ticks > 0 && playing.trimmer.is_some();
        let decoded = decoded.and_then(|spec| if nothing { Err("it has no samples".into()) } else { Ok(spec) });
        let (sr, channels) = match decoded {
            Ok(_) if self.interleaved.is_empty() => return Ok(()),
            Ok(spec) => spec,
            Err(fault) => {
                playing.failing += 1;
                playing.fault = fault;
                // Silence in its place, so that what follows keeps its time.
                if timed && let Some(trimmer) = &mut playing.trimmer {
                    self.mono.resize(ticks.min(MAX_SILENCE) as usize, 0.0);
                    trim(&mut self.mono, early, late);
                    trimmer.apply(&mut self.mono);
                }
                return Ok(());
            }
        };
        check_channels(channels).map_err(|reason| Error::data(&self.path, reason))?;
        // Damage within Opus changes the length of packets, but is not detected.
        if timed && ticks > 0 && matches!(playing.codec, Codec::Opus(_)) {
            self.interleaved.resize(ticks.min(MAX_SILENCE) as usize * channels, 0.0);
        }
        if self.sr == 0 {
            check_rate(&self.path, sr)?;
            self.sr = sr;
        }
        self.good += 1;
        self.barren = 0;
        let failing = std::mem::take(&mut playing.failing);
        if self.good > 1 {
            playing.failed += failing;
        } else if failing > 0 && playing.stream.params.codec != CODEC_ID_MP3 {
            // The beginning is not the middle. Of MP3, the first frames may need others that were before the recording.
            self.notes.odd(format!("its first {failing} packets cannot be decoded ({})", playing.fault));
        }
        self.check_numbers(channels);
        self.mix.push(&self.interleaved, channels, &mut self.mono);
        if self.mix.opposite {
            self.notes.odd("has opposite channels, which cancel out when mixed; where they do, the louder one is used");
        }
        trim(&mut self.mono, early, late);
        match self.gap.take() {
            Some(what) if self.good == 1 => self.notes.odd(format!("is damaged at its beginning: {what}")),
            None if self.good == 1 => {}
            None if failing > 0 && missing > 0.0 => self.fill(missing, sr),
            None if missing == 0.0 => {}
            gap => {
                self.notes.gap(self.seconds(), missing, gap);
                self.fill(missing, sr);
            }
        }
        let playing = self.stream.as_mut().expect("it was just decoded");
        playing.trimmer.get_or_insert_with(|| Trimmer::new(&playing.stream.trim, sr)).apply(&mut self.mono);
        self.change_rate(sr)
    }

    /// Silence for missing packets, so that what follows keeps its time.
    fn fill(&mut self, seconds: f64, sr: u32) {
        let room = (self.frames + MAX_GAP).saturating_sub(self.filled);
        let frames = ((seconds * f64::from(sr)).round() as u64).min(MAX_GAP).min(room);
        self.filled += frames;
        self.mono.splice(0..0, std::iter::repeat_n(0.0, frames as usize));
    }

    /// Replaces samples that are not finite by 0.
    fn check_numbers(&mut self, channels: usize) {
        let Some(at) = self.interleaved.iter().position(|v| !v.is_finite()) else { return };
        let (frame, channel) = (self.frames + (at / channels) as u64, at % channels + 1);
        let bad = self.interleaved[at];
        let all = self.interleaved.iter_mut().filter(|v| !v.is_finite()).map(|v| *v = 0.0).count();
        self.notes.not_finite(all as u64, || format!("sample {frame} of channel {channel} is {bad}"));
    }

    /// Resamples `mono` to the rate of the first stream.
    fn change_rate(&mut self, sr: u32) -> Result<()> {
        if self.resampler.as_ref().map_or(self.sr, |(from, _)| *from) != sr {
            let mut rest = vec![];
            if let Some((_, resampler)) = self.resampler.take() {
                resampler.finish(&mut rest);
            }
            if sr != self.sr {
                check_rate(&self.path, sr)?;
                self.resampler = Some((sr, Resampler::new(sr, self.sr)?));
                let (at, from) = (self.seconds(), self.sr);
                self.notes.odd(format!("changes its sample rate from {from} to {sr} Hz at {at:.2} s; resampled"));
            }
            rest.append(&mut self.mono);
            self.mono = rest;
        }
        if let Some((_, resampler)) = &mut self.resampler {
            let block = std::mem::take(&mut self.mono);
            resampler.push(&block, &mut self.mono);
        }
        Ok(())
    }

    /// Ends a stream and checks its length. `whole`: it ended regularly.
    fn end_stream(&mut self, whole: bool) {
        let Some(playing) = self.stream.take() else { return };
        let Playing { stream, trimmer, failing, failed, packets, fault, gaps, .. } = playing;
        let mut passed = 0;
        // Gaps were reported already.
        let promise = stream.promise.filter(|_| gaps == self.notes.gaps());
        if let Some(mut trimmer) = trimmer {
            let mut rest = trimmer.finish(promise.map(|(frames, _)| frames));
            passed = trimmer.passed;
            match &mut self.resampler {
                Some((_, resampler)) => resampler.push(&rest, &mut self.mono),
                None => self.mono.append(&mut rest),
            }
        }
        if failed > 0 && gaps == self.notes.gaps() {
            self.notes.lost(format!("{failed} of {packets} packets are damaged and replaced by silence ({fault})"));
        } else if failing > 0 {
            self.notes.cut(format!("the last {failing} of {packets} packets cannot be decoded ({fault})"));
        }
        let sr = if self.sr > 0 { self.sr } else { stream.params.sample_rate.unwrap_or(1).max(1) };
        let seconds = |frames: u64| format!("{:.2} s", frames as f64 / f64::from(sr));
        match promise {
            Some((frames, slack)) if passed + slack < frames => {
                self.notes.cut(format!("has {} of the {} in its header", seconds(passed), seconds(frames)));
            }
            Some((frames, slack)) if passed > frames + slack => {
                self.notes.odd(format!("has {}, more than the {} in its header", seconds(passed), seconds(frames)));
            }
            None if !whole && stream.promise.is_none() => {
                self.notes.cut(format!("is truncated after {}", seconds(passed)))
            }
            _ => {}
        }
    }

    fn end(&mut self, end: End) {
        self.ended = true;
        if let Some((_, resampler)) = self.resampler.take() {
            resampler.finish(&mut self.mono);
        }
        if let End::Damaged(reason) = end {
            let at = self.seconds();
            self.notes.lost(format!("is damaged after {at:.2} s ({reason}); the rest is missing"));
        }
    }

    /// Seconds decoded so far.
    fn seconds(&self) -> f64 {
        (self.frames + self.mono.len() as u64) as f64 / f64::from(self.sr.max(1))
    }

    fn fail(&self, reason: String) -> Error {
        Error::data(&self.path, reason)
    }
}

fn trim(block: &mut Vec<f32>, early: usize, late: usize) {
    block.truncate(block.len().saturating_sub(late));
    block.drain(..early.min(block.len()));
}
