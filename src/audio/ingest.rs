//! Recordings as excerpts for the front end: decoded on all cores, delivered in order, in bounded memory.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::core::error::{Error, Result};

use super::decode::{Clip, Condition, Decoder, check_rate, guarded, open};
use super::resample;

/// Largest plausible sample, times full scale: above, a file of floats probably holds integers.
const LOUDEST: f32 = 16.0;
/// Most excerpts of a file in the queue.
const WAITING: usize = 2;
/// Fraction of a window that may be in no excerpt at the end of a recording.
pub const SPARE: f64 = 0.02;
/// Samples of a block in memory.
const BLOCK: usize = 1 << 16;
/// Limits of the length of an excerpt and of the hop, in seconds.
const WINDOW: std::ops::RangeInclusive<f64> = 0.01..=120.0;
const MIN_HOP: f64 = 0.01;

/// How recordings are split into excerpts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Windowing {
    /// Seconds of an excerpt, 0.01 to 120.
    pub window: f64,
    /// Seconds from one excerpt's start to the next, 0.01 to `window`. `None`: only the first excerpt, as for the clips
    /// of a dataset; the rest is not decoded.
    pub hop: Option<f64>,
    pub format: AudioFormat,
    /// If only complete excerpts are extracted and the last one ends before the recording: one more, of its last
    /// `window` seconds.
    pub align_last: bool,
}

/// Format of the excerpts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AudioFormat {
    /// Sample rate, Hz.
    pub sr: u32,
    pub level: Level,
    /// Only complete excerpts: the rest at the end, and recordings shorter than an excerpt, are skipped.
    pub whole: bool,
}

/// The level of an excerpt. Silence stays silent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// The recording's own.
    Original,
    /// A peak of 1, at the recording's own rate.
    Peak,
    /// This RMS, clipped to +-1.
    Rms(f32),
}

/// An excerpt of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Excerpt {
    /// Start, in seconds.
    pub start: f64,
    /// Mono, in the requested format, at most `window` long; normalised before resampling.
    pub samples: Vec<f32>,
    /// Largest magnitude of the recording's own samples in it: what samples of a normalised excerpt are to be
    /// multiplied by for their original level. 1 for formats that do not normalise, and for silence.
    pub scale: f32,
}

/// Items of a file: its excerpts, then either `End` or `Failed`.
#[derive(Debug)]
pub enum Item {
    Excerpt(Excerpt),
    /// `duration`: seconds, of the first excerpt only if `hop` is `None`. `condition`: as far as it was decoded.
    End {
        duration: f64,
        condition: Condition,
    },
    /// The file cannot be decoded, or not any further.
    Failed(Error),
}

/// The excerpts of many files, as pairs of the file's index and an [`Item`], in the order of the files and of time.
/// Dropping it stops the threads.
pub struct Ingest {
    /// One receiver per file, in order. `None` to stop the threads.
    queue: Option<Receiver<Receiver<Item>>>,
    current: Option<Receiver<Item>>,
    index: usize,
    threads: Vec<JoinHandle<()>>,
}

/// Shared by the threads: the files still to be decoded.
struct Queue {
    files: std::vec::IntoIter<PathBuf>,
    queue: SyncSender<Receiver<Item>>,
}

/// Decodes `files` on as many threads as there are cores, a few files and excerpts ahead of the consumer.
///
/// Excerpt k begins at k hops, as long as that is within the recording, but none begins within the last half hop if the
/// excerpts before cover all but 2 % of a window; every other sample is in some excerpt. The last ones may be shorter
/// than a window, unless only complete ones are extracted; then the rest at the end is covered only with
/// [`Windowing::align_last`]. Each is normalised at the recording's own rate and then resampled as a whole, so it
/// equals the result of the same seconds stored as a file.
///
/// # Errors
/// `Usage` if `windowing` is out of range or no thread can be started. Errors of a file are its [`Item::Failed`].
pub fn ingest(files: Vec<PathBuf>, windowing: Windowing) -> Result<Ingest> {
    let Windowing { window, hop, .. } = windowing;
    if !WINDOW.contains(&window) || hop.is_some_and(|hop| !(MIN_HOP..=window).contains(&hop)) {
        let (low, high) = (WINDOW.start(), WINDOW.end());
        let (every, possible) =
            (hop.unwrap_or(window), format!("{low} to {high} s with a hop of {MIN_HOP} s up to their length"));
        return Err(Error::Usage(format!(
            "cannot cut excerpts of {window} s with a hop of {every} s; {possible} are allowed"
        )));
    }
    let count = thread::available_parallelism().map_or(1, |n| n.get()).min(files.len());
    // The bounded queue keeps the threads from running ahead through many small files.
    let (sender, receivers) = sync_channel(count);
    let queue = Arc::new(Mutex::new(Queue { files: files.into_iter(), queue: sender }));
    let mut ingest = Ingest { queue: Some(receivers), current: None, index: 0, threads: vec![] };
    for _ in 0..count {
        let queue = queue.clone();
        match thread::Builder::new().name("decode".into()).spawn(move || decode_files(&queue, windowing)) {
            Ok(thread) => ingest.threads.push(thread),
            Err(e) if ingest.threads.is_empty() => {
                return Err(Error::Usage(format!("cannot start a thread to decode with ({e})")));
            }
            Err(_) => break,
        }
    }
    Ok(ingest)
}

impl Iterator for Ingest {
    type Item = (usize, Item);

    fn next(&mut self) -> Option<(usize, Item)> {
        if self.current.is_none() {
            self.current = Some(self.queue.as_ref()?.recv().ok()?);
        }
        let item = self.current.as_ref()?.recv().expect("a thread ends each file with End or Failed");
        let index = self.index;
        if !matches!(item, Item::Excerpt(_)) {
            self.current = None;
            self.index += 1;
        }
        Some((index, item))
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        // Further sends fail, and so the threads end.
        (self.current, self.queue) = (None, None);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn decode_files(queue: &Mutex<Queue>, windowing: Windowing) {
    while let Some((path, sender)) = next_file(queue) {
        let emit = |excerpt| sender.send(Item::Excerpt(excerpt)).is_ok();
        let last = guarded(&path, || {
            let mut decoder = open(&path)?;
            cut_windows(&path, decoder.sr(), &mut decoder, windowing, emit)
        })
        .unwrap_or_else(Item::Failed);
        // The receiver may be gone; then there is no next file either.
        drop(sender.send(last));
    }
}

/// The next file, and the sender for its excerpts. Waits while too many files are ahead.
fn next_file(queue: &Mutex<Queue>) -> Option<(PathBuf, SyncSender<Item>)> {
    let mut queue = queue.lock().expect("nothing panics while it is held");
    let path = queue.files.next()?;
    let (sender, receiver) = sync_channel(WAITING);
    queue.queue.send(receiver).ok()?;
    Some((path, sender))
}

/// A source of samples, block by block.
trait Blocks {
    fn next_block(&mut self) -> Result<Option<&[f32]>>;
    /// Condition so far.
    fn condition(&self) -> Condition;
}

impl Blocks for Decoder {
    fn next_block(&mut self) -> Result<Option<&[f32]>> {
        Decoder::next_block(self)
    }

    fn condition(&self) -> Condition {
        Decoder::condition(self).clone()
    }
}

impl Blocks for std::slice::Chunks<'_, f32> {
    fn next_block(&mut self) -> Result<Option<&[f32]>> {
        Ok(self.next())
    }

    fn condition(&self) -> Condition {
        Condition::default()
    }
}

/// Passes the excerpts of samples in memory to `emit` until it returns false, as [`ingest`] does those of files: mono,
/// at `sr` Hz. `name` is for messages. Returns their `End`.
///
/// # Errors
/// `Data` if there are none, or some that are not finite, or an impossible sample rate.
pub fn cut_samples(
    name: &Path,
    samples: &[f32],
    sr: u32,
    windowing: Windowing,
    emit: impl FnMut(Excerpt) -> bool,
) -> Result<Item> {
    check_rate(name, sr)?;
    if samples.is_empty() {
        return Err(Error::data(name, "contain no audio"));
    }
    if let Some(at) = samples.iter().position(|v| !v.is_finite()) {
        return Err(Error::data(name, format!("sample {at} is {}", samples[at])));
    }
    cut_windows(name, sr, &mut samples.chunks(BLOCK), windowing, emit)
}

/// Passes excerpts to `emit` until it returns false. Returns the `End`.
fn cut_windows(
    path: &Path,
    sr: u32,
    decoder: &mut dyn Blocks,
    windowing: Windowing,
    mut emit: impl FnMut(Excerpt) -> bool,
) -> Result<Item> {
    let rate = f64::from(sr);
    let window = ((windowing.window * rate).round() as usize).max(1);
    let hop = windowing.hop.unwrap_or(windowing.window);
    // Computed from the start of the recording, or rounding errors would accumulate. Never beyond the end of the
    // previous window.
    let step = |k: u64, start: u64| (((k + 1) as f64 * hop * rate).round() as u64 - start).min(window as u64);
    let excerpt = |start: f64, samples: &[f32]| -> Result<Excerpt> {
        let mut clip = Clip { sr, samples: samples.to_vec() };
        let mut scale = 1.0;
        if windowing.format.level != Level::Original {
            scale = clip.normalise_peak();
        } else if let Some(loud) = clip.samples.iter().find(|v| v.abs() > LOUDEST) {
            let reason = format!("has samples of {loud:.3e} times full scale; rescale it to ±1");
            return Err(Error::data(path, reason));
        }
        let mut resampled =
            Clip { sr: windowing.format.sr, samples: resample(&clip.samples, sr, windowing.format.sr)? };
        resampled.samples.truncate((windowing.window * f64::from(windowing.format.sr)).round() as usize);
        if let Level::Rms(level) = windowing.format.level {
            scale *= resampled.normalise_rms(level);
        }
        Ok(Excerpt { start, samples: resampled.samples, scale })
    };
    let end = |samples: u64, condition| Item::End { duration: samples as f64 / rate, condition };

    // The next excerpt is number `k`, from sample `start` on; `waiting` are its samples so far. Everything before
    // `covered` is in an excerpt.
    let (mut k, mut start, mut covered, mut waiting) = (0u64, 0u64, 0u64, Vec::<f32>::new());
    // The last complete excerpt, which may be needed again.
    let mut last = vec![];
    while let Some(block) = decoder.next_block()? {
        waiting.extend_from_slice(block);
        while waiting.len() >= window {
            if !emit(excerpt(k as f64 * hop, &waiting[..window])?) || windowing.hop.is_none() {
                return Ok(end(window as u64, decoder.condition()));
            }
            covered = start + window as u64;
            if windowing.align_last {
                last.clear();
                last.extend_from_slice(&waiting[..window]);
            }
            let step = step(k, start);
            waiting.drain(..step as usize);
            (k, start) = (k + 1, start + step);
        }
    }
    let total = start + waiting.len() as u64;
    // The few samples that lossy codecs append are not an excerpt.
    let spare = (SPARE * window as f64) as u64;
    while !waiting.is_empty() && !windowing.format.whole {
        let repeats = total - covered <= spare && (waiting.len() as f64) < hop * rate / 2.0 && k > 0;
        if repeats || !emit(excerpt(k as f64 * hop, &waiting)?) || windowing.hop.is_none() {
            break;
        }
        covered = total;
        let step = step(k, start);
        waiting.drain(..waiting.len().min(step as usize));
        (k, start) = (k + 1, start + step);
    }
    if windowing.format.whole && windowing.align_last && covered > 0 && total - covered > spare {
        // `waiting` begins within the last excerpt, or at its end.
        let uncovered = (total - covered) as usize;
        last.drain(..uncovered);
        last.extend_from_slice(&waiting[waiting.len() - uncovered..]);
        emit(excerpt((total - window as u64) as f64 / rate, &last)?);
    }
    Ok(end(total, decoder.condition()))
}
