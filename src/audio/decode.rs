//! Sound files to mono samples, block by block.
//!
//! WAV, AIFF, CAF, FLAC, MP1/2/3, Ogg Vorbis, AAC and ALAC in M4A, ADTS and Matroska, PCM and ADPCM, as far as symphonia reads
//! them (Opus it does not). Channels are averaged, as `librosa.to_mono` does.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Fault;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;

use crate::core::error::{Error, Result};

/// Sample rates (Hz) beyond which a file is taken for a broken one.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;
/// No recording has more channels; a header that says so would make the decoder ask for memory without end.
const MAX_CHANNELS: usize = 64;
/// Packets in a row that may hold no sample or be damaged, before a file is given up.
const MAX_BARREN: usize = 1_000;
/// One packet in so many may be damaged: streams cut out of longer ones begin and end within a frame.
const DAMAGED_SHARE: u64 = 10;

/// A decoded recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Sample rate, Hz.
    pub sr: u32,
    /// Mono, nominally in [-1, 1] (lossy and float files may go beyond), always finite.
    pub samples: Vec<f32>,
}

impl Clip {
    /// Seconds.
    pub fn duration(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sr)
    }

    /// Scales the samples so that the largest magnitude is 1. Silence stays as it is.
    pub fn normalise_peak(&mut self) {
        let peak = self.samples.iter().fold(0.0f32, |peak, v| peak.max(v.abs()));
        if peak > 0.0 {
            // Not by the reciprocal, which overflows for subnormal peaks.
            self.samples.iter_mut().for_each(|v| *v /= peak);
        }
    }
}

/// A sound file being decoded. Memory does not grow with the length of the file.
pub struct Decoder {
    path: PathBuf,
    reader: Box<dyn FormatReader>,
    codec: Box<dyn AudioDecoder>,
    track: u32,
    /// Known from the first block on.
    sr: u32,
    interleaved: Vec<f32>,
    mono: Vec<f32>,
    /// The block in `mono` was decoded to learn the sample rate, and is still to be handed out.
    pending: bool,
    /// Frames decoded so far, those in `mono` included.
    frames: u64,
    packets: u64,
    damaged: u64,
    /// What was wrong with the latest damaged packet.
    damage: String,
}

/// Opens a sound file. The kind is found from its contents; the extension only says what to try first.
///
/// # Errors
/// `Io` if it cannot be read; `Data` if it is empty, no sound file of a known kind, holds no sound, or has an
/// impossible sample rate or number of channels.
pub fn open(path: impl AsRef<Path>) -> Result<Decoder> {
    let path = path.as_ref();
    let file = File::open(path).map_err(Error::io(path))?;
    let about = file.metadata().map_err(Error::io(path))?;
    if !about.is_file() {
        return Err(Error::data(path, "is not a file"));
    }
    if about.len() == 0 {
        return Err(Error::data(path, "is empty"));
    }
    let mut decoder = guarded(path, || start(path, file))?;
    if !decoder.advance()? {
        return Err(Error::data(path, "holds no sound"));
    }
    decoder.pending = true;
    Ok(decoder)
}

/// Decodes a whole file of at most `limit` seconds.
///
/// # Errors
/// As [`open`] and [`Decoder::next_block`]; `Data` if the file is longer.
pub fn decode(path: impl AsRef<Path>, limit: f64) -> Result<Clip> {
    let path = path.as_ref();
    let mut decoder = open(path)?;
    let sr = decoder.sr();
    let most = limit * f64::from(sr);
    let mut samples = vec![];
    while let Some(block) = decoder.next_block()? {
        if (samples.len() + block.len()) as f64 > most {
            return Err(Error::data(path, format!("is longer than the {limit} s allowed")));
        }
        samples.extend_from_slice(block);
    }
    Ok(Clip { sr, samples })
}

/// Malformed files can make the decoders of symphonia panic. Whatever was being decoded is dropped afterwards, so that nothing
/// of a half-changed state is seen again.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Error::data(path, "is damaged (its decoder gave up)")))
}

fn start(path: &Path, file: File) -> Result<Decoder> {
    let fail = |reason: String| Error::data(path, reason);
    let mut hint = Hint::new();
    if let Some(extension) = path.extension().and_then(|e| e.to_str()) {
        hint.with_extension(extension);
    }
    let stream = MediaSourceStream::new(Box::new(file), Default::default());
    let reader = symphonia::default::get_probe().probe(&hint, stream, Default::default(), Default::default());
    let reader = reader.map_err(|fault| match fault {
        Fault::LimitError(what) => fail(format!("is damaged ({what})")),
        _ => fail("is no sound file of a known kind (wav, aiff, caf, flac, mp3, ogg vorbis, m4a, aac, mkv)".into()),
    })?;
    let track = reader.default_track(TrackType::Audio).ok_or_else(|| fail("has no sound track".into()))?;
    let params = track.codec_params.as_ref().and_then(|p| p.audio());
    let params = params.ok_or_else(|| fail("has a sound track of an unknown kind".into()))?;
    if let Some(sr) = params.sample_rate {
        check_rate(path, sr)?;
    }
    if let Some(channels) = &params.channels {
        check_channels(path, channels.count())?;
    }
    let track = track.id;
    let codec = symphonia::default::get_codecs().make_audio_decoder(params, &AudioDecoderOptions::default());
    let codec = codec.map_err(|fault| fail(format!("cannot be decoded ({fault})")))?;
    Ok(Decoder {
        path: path.into(),
        reader,
        codec,
        track,
        sr: 0,
        interleaved: vec![],
        mono: vec![],
        pending: false,
        frames: 0,
        packets: 0,
        damaged: 0,
        damage: String::new(),
    })
}

pub(super) fn check_rate(path: &Path, sr: u32) -> Result<()> {
    if RATES.contains(&sr) {
        return Ok(());
    }
    let (low, high) = (RATES.start(), RATES.end());
    Err(Error::data(path, format!("has a sample rate of {sr} Hz, which is outside {low} to {high}")))
}

fn check_channels(path: &Path, channels: usize) -> Result<()> {
    match channels {
        1..=MAX_CHANNELS => Ok(()),
        n => Err(Error::data(path, format!("has {n} channels, which is outside 1 to {MAX_CHANNELS}"))),
    }
}

impl Decoder {
    /// Sample rate, Hz.
    pub fn sr(&self) -> u32 {
        self.sr
    }

    /// Packets that could not be decoded so far, and were left out.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The next mono samples (some thousand at a time, never none), or `None` at the end.
    ///
    /// # Errors
    /// `Data` when the file breaks off, is damaged in more than one packet in ten, changes its sample rate, or holds a
    /// sample that is not a number. After an error the decoder is of no further use.
    pub fn next_block(&mut self) -> Result<Option<&[f32]>> {
        if std::mem::take(&mut self.pending) || self.advance()? {
            return Ok(Some(&self.mono));
        }
        Ok(None)
    }

    /// Decodes up to the next packet that holds samples; false at the end.
    fn advance(&mut self) -> Result<bool> {
        let path = self.path.clone();
        guarded(&path, || {
            for _ in 0..MAX_BARREN {
                if !self.packet()? {
                    return self.check_damage().map(|()| false);
                }
                if !self.mono.is_empty() {
                    return Ok(true);
                }
            }
            let damage = if self.damage.is_empty() { "packets without samples" } else { &self.damage };
            Err(self.fail(format!("is damaged after {:.2} s ({damage})", self.seconds())))
        })
    }

    /// Decodes one packet into `mono`, which stays empty for packets of other tracks and damaged ones; false at the end.
    fn packet(&mut self) -> Result<bool> {
        self.mono.clear();
        let packet = match self.reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(false),
            Err(Fault::IoError(e)) if e.kind() != std::io::ErrorKind::UnexpectedEof => {
                return Err(Error::io(&self.path)(e));
            }
            Err(Fault::IoError(_)) => return Err(self.fail(format!("breaks off after {:.2} s", self.seconds()))),
            Err(Fault::ResetRequired) => {
                return Err(self.fail(format!("holds several streams; the second begins at {:.2} s", self.seconds())));
            }
            Err(fault) => return Err(self.fail(format!("is damaged after {:.2} s ({fault})", self.seconds()))),
        };
        if packet.track_id != self.track {
            return Ok(true);
        }
        self.packets += 1;
        let (sr, channels) = match self.codec.decode(&packet) {
            Ok(buffer) => {
                buffer.copy_to_vec_interleaved(&mut self.interleaved);
                (buffer.spec().rate(), buffer.num_planes())
            }
            Err(fault) => {
                self.damaged += 1;
                self.damage = fault.to_string();
                return Ok(true);
            }
        };
        if self.interleaved.is_empty() {
            return Ok(true);
        }
        check_channels(&self.path, channels)?;
        if self.sr == 0 {
            check_rate(&self.path, sr)?;
            self.sr = sr;
        } else if self.sr != sr {
            let at = self.seconds();
            return Err(self.fail(format!("changes its sample rate from {} to {sr} Hz at {at:.2} s", self.sr)));
        }
        self.mix(channels)?;
        Ok(true)
    }

    /// Averages the channels of the latest packet.
    fn mix(&mut self, channels: usize) -> Result<()> {
        if let Some(at) = self.interleaved.iter().position(|v| !v.is_finite()) {
            let (frame, channel) = (self.frames + (at / channels) as u64, at % channels + 1);
            return Err(self.fail(format!("sample {frame} of channel {channel} is {}", self.interleaved[at])));
        }
        let mean = |frame: &[f32]| (frame.iter().map(|v| f64::from(*v)).sum::<f64>() / channels as f64) as f32;
        self.mono.extend(self.interleaved.chunks_exact(channels).map(mean));
        self.frames += self.mono.len() as u64;
        Ok(())
    }

    /// Whether enough of it was whole, as far as it has been decoded.
    pub(super) fn check_damage(&self) -> Result<()> {
        if self.damaged * DAMAGED_SHARE > self.packets {
            let (damaged, packets) = (self.damaged, self.packets);
            return Err(self.fail(format!("is damaged in {damaged} of {packets} packets ({})", self.damage)));
        }
        Ok(())
    }

    /// Seconds decoded so far.
    fn seconds(&self) -> f64 {
        self.frames as f64 / f64::from(self.sr.max(1))
    }

    fn fail(&self, reason: String) -> Error {
        Error::data(&self.path, reason)
    }
}
