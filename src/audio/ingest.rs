//! Recordings as excerpts for the front end: decoded on all cores, delivered in order, in bounded memory.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::core::error::{Error, Result};

use super::decode::{Clip, Condition, Decoder, check_rate, guarded, open};
use super::resample;

/// Times full scale. Nothing is recorded as loud: it is integers in a file of floats, say.
const LOUDEST: f32 = 16.0;
/// Excerpts of one file that may wait to be taken.
const WAITING: usize = 2;
/// Fraction of a window that may be in no excerpt at the end of a recording.
const SPARE: f64 = 0.02;
/// Samples of a block in memory.
const BLOCK: usize = 1 << 16;
/// Seconds of an excerpt and between two: what memory and patience allow.
const WINDOW: std::ops::RangeInclusive<f64> = 0.01..=120.0;
const MIN_HOP: f64 = 0.01;

/// How recordings are cut into excerpts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Seconds of an excerpt, 0.01 to 120.
    pub window: f64,
    /// Seconds from one excerpt's start to the next, 0.01 to `window`. `None`: only the first excerpt, as for the clips of a
    /// dataset; what comes after it is not even decoded.
    pub hop: Option<f64>,
    pub form: Form,
    /// Where only whole excerpts are wanted and the last one ends before the recording: one more, of its last `window` seconds.
    pub to_the_end: bool,
}

/// What excerpts are made into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    /// Sample rate, Hz.
    pub sr: u32,
    /// Scaled to a peak of 1, unless they are silent.
    pub normalised: bool,
    /// What is left at the end, and a recording that is too short for one excerpt, is left out rather than taken as a shorter one.
    pub whole: bool,
}

/// A stretch of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Excerpt {
    /// Where it begins, in seconds.
    pub start: f64,
    /// Mono, of the form that was asked for, at most `window` long. A peak of 1 was one before it was resampled.
    pub samples: Vec<f32>,
}

/// What comes of a file: its excerpts, then either `End` or `Failed`.
#[derive(Debug)]
pub enum Item {
    Excerpt(Excerpt),
    /// `duration`: seconds, of the first excerpt only if no more were asked for. `condition`: as far as it was decoded.
    End {
        duration: f64,
        condition: Condition,
    },
    /// The file cannot be decoded, or not from here on.
    Failed(Error),
}

/// The excerpts of many files, as pairs of the file's index and an [`Item`], in the order of the files and of time.
/// Dropping it stops the threads.
pub struct Ingest {
    /// One receiver a file, in order. `None` once the threads are to stop.
    queue: Option<Receiver<Receiver<Item>>>,
    current: Option<Receiver<Item>>,
    index: usize,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads share: the files still to be decoded.
struct Backlog {
    files: std::vec::IntoIter<PathBuf>,
    queue: SyncSender<Receiver<Item>>,
}

/// Decodes `files` on as many threads as there are cores, a few files and excerpts ahead of what is taken.
///
/// Excerpt k begins at k hops, as long as that is within the recording, but none begins within the last half hop if the excerpts
/// before cover all but 2 % of a window; every other sample is in some excerpt. The last ones may be shorter than a window, unless
/// only whole ones are wanted; then the rest at the end is covered only with [`Cut::to_the_end`].
/// Each is brought into its form at the recording's own rate and then resampled in one piece, so it is what the same seconds stored
/// as a file would give.
///
/// # Errors
/// `Usage` if `cut` is out of range or no thread can be started. What is wrong with a file is its [`Item::Failed`].
pub fn ingest(files: Vec<PathBuf>, cut: Cut) -> Result<Ingest> {
    let Cut { window, hop, .. } = cut;
    if !WINDOW.contains(&window) || hop.is_some_and(|hop| !(MIN_HOP..=window).contains(&hop)) {
        let (low, high) = (WINDOW.start(), WINDOW.end());
        let (every, possible) =
            (hop.unwrap_or(window), format!("{low} to {high} s every {MIN_HOP} s up to their length"));
        return Err(Error::Usage(format!(
            "cannot cut excerpts of {window} s every {every} s; {possible} are possible"
        )));
    }
    let count = thread::available_parallelism().map_or(1, |n| n.get()).min(files.len());
    // The bound on the queue keeps the threads from running ahead through many small files.
    let (sender, queue) = sync_channel(count);
    let backlog = Arc::new(Mutex::new(Backlog { files: files.into_iter(), queue: sender }));
    let mut ingest = Ingest { queue: Some(queue), current: None, index: 0, threads: vec![] };
    for _ in 0..count {
        let backlog = backlog.clone();
        match thread::Builder::new().name("decode".into()).spawn(move || work(&backlog, cut)) {
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
        // Whatever a thread tries to send from now on fails, and so it ends.
        (self.current, self.queue) = (None, None);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn work(backlog: &Mutex<Backlog>, cut: Cut) {
    while let Some((path, sender)) = take(backlog) {
        let emit = |excerpt| sender.send(Item::Excerpt(excerpt)).is_ok();
        let last = guarded(&path, || {
            let mut decoder = open(&path)?;
            cut_up(&path, decoder.sr(), &mut decoder, cut, emit)
        })
        .unwrap_or_else(Item::Failed);
        // Nobody may be listening any more; then there is no next file either.
        drop(sender.send(last));
    }
}

/// The next file, and where its excerpts go. Waits, with all others who want one, while too many files are ahead.
fn take(backlog: &Mutex<Backlog>) -> Option<(PathBuf, SyncSender<Item>)> {
    let mut backlog = backlog.lock().expect("nothing panics while it is held");
    let path = backlog.files.next()?;
    let (sender, receiver) = sync_channel(WAITING);
    backlog.queue.send(receiver).ok()?;
    Some((path, sender))
}

/// Samples that come block by block.
trait Blocks {
    fn next_block(&mut self) -> Result<Option<&[f32]>>;
    /// As far as they have come.
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

/// Passes the excerpts of samples in memory to `emit` until it returns false, as [`ingest`] does those of files: mono, at `sr` Hz.
/// `name` is for messages. Returns their `End`.
///
/// # Errors
/// `Data` if there are none, or some that are not finite, or an impossible sample rate.
pub fn cut_samples(name: &Path, samples: &[f32], sr: u32, cut: Cut, emit: impl FnMut(Excerpt) -> bool) -> Result<Item> {
    check_rate(name, sr)?;
    if samples.is_empty() {
        return Err(Error::data(name, "hold no sound"));
    }
    if let Some(at) = samples.iter().position(|v| !v.is_finite()) {
        return Err(Error::data(name, format!("number {at} is {}", samples[at])));
    }
    cut_up(name, sr, &mut samples.chunks(BLOCK), cut, emit)
}

/// Passes excerpts to `emit` until it returns false. Returns the `End`.
fn cut_up(
    path: &Path,
    sr: u32,
    decoder: &mut dyn Blocks,
    cut: Cut,
    mut emit: impl FnMut(Excerpt) -> bool,
) -> Result<Item> {
    let rate = f64::from(sr);
    let window = ((cut.window * rate).round() as usize).max(1);
    let hop = cut.hop.unwrap_or(cut.window);
    // Always from the start of the sample grid, or the rounding would add up. Never beyond the end of the window before.
    let step = |k: u64, start: u64| (((k + 1) as f64 * hop * rate).round() as u64 - start).min(window as u64);
    let excerpt = |start: f64, samples: &[f32]| -> Result<Excerpt> {
        let mut clip = Clip { sr, samples: samples.to_vec() };
        if cut.form.normalised {
            clip.normalise_peak();
        } else if let Some(loud) = clip.samples.iter().find(|v| v.abs() > LOUDEST) {
            let reason = format!("holds samples of {loud:.3e} times full scale; convert it to one of ±1");
            return Err(Error::data(path, reason));
        }
        let mut samples = resample(&clip.samples, sr, cut.form.sr)?;
        samples.truncate((cut.window * f64::from(cut.form.sr)).round() as usize);
        Ok(Excerpt { start, samples })
    };
    let end = |samples: u64, condition| Item::End { duration: samples as f64 / rate, condition };

    // The next excerpt is number `k`, from sample `start` on; all that is decoded of it waits. Before `heard` all is in an excerpt.
    let (mut k, mut start, mut heard, mut waiting) = (0u64, 0u64, 0u64, Vec::<f32>::new());
    // The last whole excerpt, which may be needed once more.
    let mut last = vec![];
    while let Some(block) = decoder.next_block()? {
        waiting.extend_from_slice(block);
        while waiting.len() >= window {
            if !emit(excerpt(k as f64 * hop, &waiting[..window])?) || cut.hop.is_none() {
                return Ok(end(window as u64, decoder.condition()));
            }
            heard = start + window as u64;
            if cut.to_the_end {
                last.clear();
                last.extend_from_slice(&waiting[..window]);
            }
            let step = step(k, start);
            waiting.drain(..step as usize);
            (k, start) = (k + 1, start + step);
        }
    }
    let total = start + waiting.len() as u64;
    // The few samples by which lossy codecs lengthen a recording make no excerpt.
    let spare = (SPARE * window as f64) as u64;
    while !waiting.is_empty() && !cut.form.whole {
        let repeats = total - heard <= spare && (waiting.len() as f64) < hop * rate / 2.0 && k > 0;
        if repeats || !emit(excerpt(k as f64 * hop, &waiting)?) || cut.hop.is_none() {
            break;
        }
        heard = total;
        let step = step(k, start);
        waiting.drain(..waiting.len().min(step as usize));
        (k, start) = (k + 1, start + step);
    }
    if cut.form.whole && cut.to_the_end && heard > 0 && total - heard > spare {
        // What waits begins within the last excerpt, or at its end.
        let unheard = (total - heard) as usize;
        last.drain(..unheard);
        last.extend_from_slice(&waiting[waiting.len() - unheard..]);
        emit(excerpt((total - window as u64) as f64 / rate, &last)?);
    }
    Ok(end(total, decoder.condition()))
}
