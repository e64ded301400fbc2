//! A folder with the results of many recordings, written as they are recognised. It can be continued after any
//! interruption, and then ends in the same bytes.
//!
//! Beside the results there is `journal.jsonl`: a line with the settings, and a line for each recording that was
//! recognised or failed.

mod collected;
mod entry;
mod journal;
mod shard;
mod summary;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::audio::Found;
use crate::core::error::{Error, Result};
use crate::core::files::writable_folder;
use crate::output::format::{Detail, Format};
use crate::output::names::with_suffix;
use crate::predict::recognition::Recognition;
use collected::Collected;
use entry::{Entry, Findings, Header, Name, Outcome, Record, Source};
use journal::Journal;
pub use shard::Shard;
use summary::Counter;
pub use summary::{Presence, Summary};

const JOURNAL: &str = "journal";
/// The file of all recordings, for formats that have one.
const COLLECTED: &str = "predictions";
/// Until then a loss of power may cost results; a killed process never does.
const SYNC: Duration = Duration::from_secs(2);

/// What is written where.
pub struct Job<'a> {
    /// Created if it does not exist.
    pub folder: &'a Path,
    pub format: &'static Format,
    pub detail: Detail,
    /// All that determines the results, apart from the recordings: must be the same when the job is continued.
    pub settings: Map<String, Value>,
    pub shard: Option<Shard>,
    /// Continue an earlier job; else the folder must have no journal.
    pub resume: bool,
    /// Also try the recordings again that failed.
    pub retry: bool,
    /// Whether what else is written of a recording, e.g. its picture, is there: given the path of its output below the
    /// folder, without the extension. A recording without it is recognised again.
    pub is_complete: &'a dyn Fn(&Path) -> bool,
}

/// Results of many recordings in a folder.
pub struct Archive<'a> {
    job: Job<'a>,
    journal: Journal,
    /// `None` for a file per recording.
    collected: Option<Collected>,
    lines: Vec<Line>,
    recordings: Vec<Recording>,
    /// Which of the recordings are still to be recognised.
    waiting: Vec<usize>,
    /// Outputs of all recordings, those of other shards included.
    outputs: HashSet<PathBuf>,
    synced: Instant,
}

/// A recording of the job.
struct Recording {
    source: Source,
    /// Below the folder, also where all share a file.
    output: PathBuf,
    /// Its output before it changed.
    stale: Option<PathBuf>,
}

/// A line of the journal.
struct Line {
    range: Range<u64>,
    source: Source,
    output: Option<PathBuf>,
    /// `None` if it failed.
    record: Option<Record>,
}

impl Line {
    fn of(range: Range<u64>, Entry { source, outcome }: Entry) -> Line {
        let (output, record) = match outcome {
            Outcome::Done { output, record, .. } => (output.map(|name| name.path()), Some(record)),
            Outcome::Failed { .. } => (None, None),
        };
        Line { range, source, output, record }
    }
}

impl<'a> Archive<'a> {
    /// Begins or continues a job with the recordings in `found`; `names`: see [`crate::output::names::output_names`].
    ///
    /// # Errors
    /// `Io`; `Usage` for a folder in use, one of another job, or of this one without `resume`; `Data` for a file in the
    /// folder's place, and a damaged journal.
    pub fn open(job: Job<'a>, found: &Found, names: &[PathBuf]) -> Result<Archive<'a>> {
        writable_folder(job.folder)?;
        job.check_shards()?;
        let header = Header { settings: job.settings.clone(), shard: job.shard.map(|shard| shard.to_string()) };
        let mut lines = vec![];
        let mut take = |range: Range<u64>, entry: Entry| lines.push(Line::of(range, entry));
        let mut journal = Journal::open(job.file(JOURNAL, "jsonl"), &header, job.resume, &mut take)?;
        // Of a killed process.
        remove(&job.scratch())?;
        let mut collected = None;
        if job.format.collected {
            let records: Vec<Record> = lines.iter().filter_map(|line| line.record).collect();
            let path = job.file(COLLECTED, job.format.extension);
            let (opened, held) = Collected::open(path, &job.sorted(), job.format, &records)?;
            // The rest was lost with the power.
            let lost = lines.iter().enumerate().filter(|(_, line)| line.record.is_some()).nth(held).map(|(i, _)| i);
            if let Some(lost) = lost {
                journal.cut(lines[lost].range.start)?;
                lines.truncate(lost);
            }
            collected = Some(opened);
        }
        let extension = format!(".{}", job.format.extension);
        let outputs: Vec<PathBuf> = names.iter().map(|name| with_suffix(name, &extension)).collect();
        let own = (0..outputs.len()).filter(|&i| job.shard.is_none_or(|shard| shard.takes(&found.places[i])));
        let recording =
            |i: usize| Recording { source: Source::of(&found.files[i]), output: outputs[i].clone(), stale: None };
        let recordings = own.map(recording).collect();
        let (outputs, synced) = (outputs.into_iter().collect(), Instant::now());
        let mut archive = Archive { job, journal, collected, lines, recordings, waiting: vec![], outputs, synced };
        archive.find_waiting();
        Ok(archive)
    }

    /// The latest line of each recording in the journal.
    fn latest(&self) -> HashMap<Name, usize> {
        self.lines.iter().enumerate().map(|(i, line)| (line.source.file.clone(), i)).collect()
    }

    fn find_waiting(&mut self) {
        let latest = self.latest();
        for (i, recording) in self.recordings.iter_mut().enumerate() {
            let before = latest.get(&recording.source.file).map(|&line| &self.lines[line]);
            let written = |record: &Record| match self.collected {
                Some(_) => true,
                None => {
                    fs::metadata(self.job.folder.join(&recording.output)).is_ok_and(|about| about.len() == record.bytes)
                }
            };
            let is_done = before.is_some_and(|line| {
                let unchanged = line.source == recording.source;
                let same_output = line.output.as_ref().is_none_or(|output| *output == recording.output);
                match &line.record {
                    None => unchanged && !self.job.retry,
                    Some(record) => {
                        let complete = || (self.job.is_complete)(&recording.output.with_extension(""));
                        unchanged && line.source.is_file() && same_output && written(record) && complete()
                    }
                }
            });
            if !is_done {
                recording.stale = before.and_then(|line| line.output.clone());
                self.waiting.push(i);
            }
        }
    }

    /// Path of the journal.
    pub fn journal(&self) -> PathBuf {
        self.job.file(JOURNAL, "jsonl")
    }

    /// The files that are still to be recognised.
    pub fn waiting(&self) -> Vec<PathBuf> {
        self.waiting.iter().map(|&i| self.recordings[i].source.file.path()).collect()
    }

    /// Number of recordings, including those done before.
    pub fn recordings(&self) -> usize {
        self.recordings.len()
    }

    /// Path of the output of waiting file `n` below the folder, without its extension.
    pub fn name(&self, n: usize) -> PathBuf {
        self.recordings[self.waiting[n]].output.with_extension("")
    }

    /// Adds the result for waiting file `n`. Returns why it cannot have the recording's name, e.g. because that is too
    /// long or a folder's: the recording has then failed.
    ///
    /// # Errors
    /// `Io`, e.g. for a full disk; results added before are kept.
    pub fn add(&mut self, n: usize, r: &Recognition) -> Result<Option<Error>> {
        let (index, Job { folder, format, detail, .. }) = (self.waiting[n], &self.job);
        let (mut bytes, mut output) = (vec![], None);
        match &mut self.collected {
            Some(collected) => {
                (format.write)(&mut bytes, r, *detail).map_err(Error::io(folder))?;
                collected.append(&bytes)?;
            }
            None => {
                let path = &self.recordings[index].output;
                format.write_alone(&mut bytes, r, *detail).map_err(Error::io(folder))?;
                match replace(&self.job.scratch(), &folder.join(path), &bytes) {
                    Err(error) if is_about_name(&error) => return self.fail(n, &error).map(|()| Some(error)),
                    replaced => replaced?,
                }
                output = Some(path.as_path().into());
            }
        }
        self.log(index, Outcome::Done { output, record: Record::of(&bytes), result: Findings::of(r) })?;
        Ok(None)
    }

    /// Records that waiting file `n` cannot be recognised.
    ///
    /// # Errors
    /// As [`Archive::add`].
    pub fn fail(&mut self, n: usize, error: &Error) -> Result<()> {
        self.log(self.waiting[n], Outcome::Failed { error: error.to_string() })
    }

    fn log(&mut self, index: usize, outcome: Outcome) -> Result<()> {
        let entry = Entry { source: self.recordings[index].source.clone(), outcome };
        let line = Line::of(self.journal.append(&entry)?, entry);
        if let Some(stale) = self.recordings[index].stale.take().filter(|stale| line.output.as_ref() != Some(stale)) {
            self.remove_stale(&stale, &self.recordings[index].output)?;
        }
        self.lines.push(line);
        if self.synced.elapsed() > SYNC {
            self.sync()?;
        }
        Ok(())
    }

    /// Removes the old output of a recording whose new one is `output`, unless it is another recording's now.
    fn remove_stale(&self, stale: &Path, output: &Path) -> Result<()> {
        // The journal may have been edited.
        let is_below = stale.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_below || stale != output && self.outputs.contains(stale) {
            return Ok(());
        }
        remove(&self.job.folder.join(stale))
    }

    /// The journal last, so that it never knows of more than there is.
    fn sync(&mut self) -> Result<()> {
        self.collected.iter().try_for_each(Collected::sync)?;
        self.journal.sync()?;
        self.synced = Instant::now();
        Ok(())
    }

    /// Ends the job, or interrupts it, with a summary of all recordings in the folder (of the shard).
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(mut self) -> Result<Summary> {
        self.sync()?;
        let order = self.order();
        let journal = if order.iter().copied().eq(0..self.lines.len()) {
            self.journal
        } else {
            // Results that replace others, or belong between them.
            let lines: Vec<Range<u64>> = order.iter().map(|&i| self.lines[i].range.clone()).collect();
            let (scratch, mut end) = (self.job.scratch(), 0);
            let records = self.lines.iter().map(|line| {
                let start = end;
                end += line.record.map_or(0, |record| record.bytes);
                start..end
            });
            let records: Vec<Range<u64>> = records.collect();
            let records: Vec<Range<u64>> = order.iter().map(|&i| records[i].clone()).collect();
            match self.collected {
                None => self.journal.rewrite(&lines, &scratch)?,
                Some(collected) => {
                    let (sorted, mut rewritten) = (self.job.sorted(), None);
                    collected.rewrite(&records, [&scratch, &sorted], || {
                        rewritten = Some(self.journal.rewrite(&lines, &scratch)?);
                        Ok(())
                    })?;
                    rewritten.expect("the journal was rewritten")
                }
            }
        };
        let mut counter = Counter::default();
        journal.entries(&mut |entry| counter.add(entry))?;
        Ok(counter.summary())
    }

    /// The lines that an undisturbed job would have written: those of recordings that are not in this job, then those
    /// of its own in their order.
    fn order(&self) -> Vec<usize> {
        let mut latest = self.latest();
        let own: Vec<usize> = self.recordings.iter().filter_map(|r| latest.remove(&r.source.file)).collect();
        let replaced = |line: &Line| line.output.as_ref().is_some_and(|output| self.outputs.contains(output));
        let mut others: Vec<usize> = latest.into_values().filter(|&i| !replaced(&self.lines[i])).collect();
        others.sort_unstable();
        others.into_iter().chain(own).collect()
    }
}

impl Job<'_> {
    fn file(&self, stem: &str, extension: &str) -> PathBuf {
        self.folder.join(Shard::name(self.shard, stem, extension))
    }

    /// Unfinished outputs.
    fn scratch(&self) -> PathBuf {
        self.file(".wmic-unfinished", "tmp")
    }

    /// The file of all recordings, in the order of an undisturbed job.
    fn sorted(&self) -> PathBuf {
        self.file(".wmic-sorted", "tmp")
    }

    /// Recordings would be in several shards.
    fn check_shards(&self) -> Result<()> {
        let count = |name: &str| -> Option<Option<u32>> {
            let middle = name.strip_prefix(JOURNAL)?.strip_suffix(".jsonl")?;
            if middle.is_empty() { Some(None) } else { Some(Some(middle.split_once("-of-")?.1.parse().ok()?)) }
        };
        let own = count(&Shard::name(self.shard, JOURNAL, "jsonl"));
        for entry in fs::read_dir(self.folder).map_err(Error::io(self.folder))?.flatten() {
            let name = entry.file_name();
            let before = name.to_str().and_then(count);
            if before.is_some() && before != own {
                let reason = format!(
                    "{}: its results are divided otherwise into shards ({}); use the same, or choose another folder",
                    self.folder.display(),
                    name.to_string_lossy()
                );
                return Err(Error::Usage(reason));
            }
        }
        Ok(())
    }
}

/// Writes a file through a temporary one. It is not flushed to the disk, which would take longer than the recognition
/// of a short recording; the journal has its length, by which one that was lost with the power is found.
fn replace(scratch: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().expect("below the folder");
    let write = || {
        fs::write(scratch, bytes)?;
        fs::create_dir_all(parent)?;
        fs::rename(scratch, path)
    };
    write().map_err(|e| {
        drop(fs::remove_file(scratch));
        Error::io(path)(e)
    })
}

/// Whether a file cannot be written for its name alone, and others can.
fn is_about_name(error: &Error) -> bool {
    use ErrorKind::{AlreadyExists, InvalidFilename, IsADirectory, NotADirectory};
    let kinds = [AlreadyExists, InvalidFilename, IsADirectory, NotADirectory];
    matches!(error, Error::Io { source, .. } if kinds.contains(&source.kind()))
}

/// Removes a file, if it exists.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}
