//! Features of many files, computed on the GPU while all cores decode and written to disk as they are computed; an
//! interrupted extraction resumes.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::PathBuf;

use half::f16;
use serde::{Deserialize, Serialize};

use crate::audio::{Condition, Excerpt, Item, Windowing, ingest};
use crate::core::error::{Error, Result};
use crate::core::files::{is_leftover, open_file, read_limited, try_lock_directory, write_atomic};
use crate::data::{FeatureValues, Features, Mapped};
use crate::features::runner::FrontEndRunner;
use crate::features::scaling::Range;

const JOB: &str = "job.json";
const ROWS: &str = "rows.bin";
const SPECTRA: &str = "spectra.bin";
const LOG: &str = "done.jsonl";
/// Embeddings after their scaling, on the way to their archive.
const SCALED: &str = "scaled.bin";
/// Largest job file, bytes.
const MAX_JOB: u64 = 1 << 20;

/// An excerpt with stored features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Index among the files.
    pub file: usize,
    /// Start, in seconds.
    pub start: f64,
    /// Valid instances.
    pub instances: u32,
}

/// A line of the log: the result of a file.
#[derive(Serialize, Deserialize)]
struct Done {
    file: usize,
    rows: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    /// Too short for an excerpt, if only complete ones are used.
    #[serde(default)]
    short: bool,
    #[serde(default)]
    condition: Condition,
}

impl Done {
    fn new(file: usize) -> Done {
        Done { file, rows: vec![], failed: None, short: false, condition: Condition::default() }
    }

    /// Whether it is a valid entry for file number `file`, with excerpts of up to `instances`.
    fn is_of(&self, file: usize, instances: usize) -> bool {
        let possible = |r: &Row| r.file == file && r.start >= 0.0 && (1..=instances).contains(&(r.instances as usize));
        self.file == file
            && self.rows.is_empty() == (self.failed.is_some() || self.short)
            && self.rows.iter().all(possible)
            && self.rows.is_sorted_by(|a, b| a.start < b.start)
    }
}

/// Results of an extraction so far.
#[derive(Debug, Default)]
pub struct Extracted {
    pub rows: Vec<Row>,
    /// Files that could not be decoded, and why.
    pub failures: Vec<(usize, String)>,
    /// Files that were decoded but are damaged or incomplete.
    pub odd: Vec<(usize, Condition)>,
    /// Files that are too short for an excerpt.
    pub short: usize,
    /// Files done; fewer than all after an interrupt.
    pub files: usize,
}

impl Extracted {
    fn add(&mut self, entry: Done) {
        self.files += 1;
        self.short += usize::from(entry.short);
        self.rows.extend(entry.rows);
        if !entry.condition.is_whole() {
            self.odd.push((entry.file, entry.condition));
        }
        self.failures.extend(entry.failed.map(|reason| (entry.file, reason)));
    }
}

/// An extraction in progress, in a folder of its own: `job.json` identifies it, `rows.bin` has the features,
/// `spectra.bin` the spectra beside them, `done.jsonl` a line for each file done. The folder is locked until this is
/// dropped.
pub(crate) struct Extraction {
    folder: PathBuf,
    job: String,
    /// Of the features and the spectra.
    bytes_per_row: [u64; 2],
    instances: usize,
    _lock: Option<File>,
}

impl Extraction {
    /// `key` identifies the extraction: which files, and how. Creates the folder.
    ///
    /// # Errors
    /// `Io` if it cannot be created; `Usage` if another extraction is running there.
    pub fn new(folder: PathBuf, runner: &FrontEndRunner, key: &impl Serialize) -> Result<Extraction> {
        let job = serde_json::to_string(key).expect("a key serialises");
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let lock = try_lock_directory(&folder, "another process is extracting these features")?;
        let bytes_per_row = [runner.row_bytes() as u64, runner.spectrum_bytes() as u64];
        let instances = runner.instances();
        Ok(Extraction { folder, job, bytes_per_row, instances, _lock: lock })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Resumes from an earlier run; data of another extraction is removed. Only complete rows of finished files are
    /// used.
    fn resume(&self, files: usize) -> Result<Extracted> {
        let io = |e| Error::io(&self.folder)(e);
        let [job, rows, spectra, log] = [JOB, ROWS, SPECTRA, LOG].map(|name| self.file(name));
        let begun = read_limited(&job, MAX_JOB).is_ok_and(|text| text == self.job.as_bytes());
        if !(begun && rows.is_file() && spectra.is_file() && log.is_file()) {
            self.clear()?;
            for name in [rows, spectra, log] {
                File::create(name).map_err(io)?;
            }
            write_atomic(&job, |out| out.write_all(self.job.as_bytes()))?;
            return Ok(Extracted::default());
        }
        let mut stored = u64::MAX;
        for (path, bytes) in [&rows, &spectra].into_iter().zip(self.bytes_per_row) {
            stored = fs::metadata(path).map_err(io)?.len().checked_div(bytes).unwrap_or(stored).min(stored);
        }
        let mut done = Extracted::default();
        let (mut lines, mut line, mut good) = (BufReader::new(open_file(&log)?), vec![], 0);
        while done.files < files && lines.read_until(b'\n', &mut line).map_err(io)? > 0 {
            // The log ends at the first incomplete or damaged line, or at rows that are not on disk.
            let whole = line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice::<Done>(line).ok());
            let Some(entry) = whole.filter(|entry| entry.is_of(done.files, self.instances)) else { break };
            if (done.rows.len() + entry.rows.len()) as u64 > stored {
                break;
            }
            done.add(entry);
            good += line.len() as u64;
            line.clear();
        }
        self.truncate(LOG, good)?;
        self.keep(done.rows.len() as u64)?;
        Ok(done)
    }

    /// Removes its own files, the job first, which invalidates the others.
    fn clear(&self) -> Result<()> {
        let leftovers = fs::read_dir(&self.folder).map_err(Error::io(&self.folder))?.flatten().map(|e| e.path());
        let own = [JOB, ROWS, SPECTRA, LOG, SCALED].map(|name| self.file(name)).into_iter();
        for path in own.chain(leftovers.filter(|path| is_leftover(path))) {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(&path)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Processes `files` until all are done or `stop` returns true. `windowing`: how files are split. `progress` is
    /// called after each file with the number done.
    ///
    /// # Errors
    /// `Io` for a full disk and `Gpu` for a lost device; finished files are saved. Files that cannot be decoded are not
    /// errors.
    pub fn run(
        &self,
        runner: &FrontEndRunner,
        files: &[PathBuf],
        cut: Windowing,
        stop: &dyn Fn() -> bool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Extracted> {
        let mut done = self.resume(files.len())?;
        let first = done.files;
        progress(first);
        let io = |e| Error::io(&self.folder)(e);
        let append = |name: &str| OpenOptions::new().append(true).open(self.file(name)).map_err(io);
        let [mut rows, mut spectra] = [BufWriter::new(append(ROWS)?), BufWriter::new(append(SPECTRA)?)];
        let mut log = append(LOG)?;

        // Excerpts of an incomplete batch, and their files.
        let mut waiting: Vec<(usize, Excerpt)> = vec![];
        let mut open: Vec<Done> = vec![];
        let mut current = Done::new(first);
        let mut flush =
            |waiting: &mut Vec<(usize, Excerpt)>, open: &mut Vec<Done>, current: &mut Done, done: &mut Extracted| {
                let samples: Vec<&[f32]> = waiting.iter().map(|(_, e)| e.samples.as_slice()).collect();
                let [mut bytes, mut beside] = [vec![], vec![]];
                if !samples.is_empty() {
                    for ((file, excerpt), extract) in waiting.iter().zip(runner.extractor.run(&samples)?) {
                        runner.store(&extract, &mut bytes);
                        runner.store_spectrum(&extract, &mut beside);
                        let row = Row { file: *file, start: excerpt.start, instances: extract.instances as u32 };
                        let of =
                            open.iter_mut().chain([&mut *current]).find(|d| d.file == *file).expect("an open file");
                        of.rows.push(row);
                    }
                }
                waiting.clear();
                rows.write_all(&bytes).and_then(|()| rows.flush()).map_err(io)?;
                spectra.write_all(&beside).and_then(|()| spectra.flush()).map_err(io)?;
                let mut lines = vec![];
                for entry in open.drain(..) {
                    serde_json::to_writer(&mut lines, &entry).expect("a log entry serialises");
                    lines.push(b'\n');
                    done.add(entry);
                }
                log.write_all(&lines).map_err(io)
            };
        for (index, item) in ingest(files[first..].to_vec(), cut)? {
            let file = first + index;
            match item {
                Item::Excerpt(excerpt) => waiting.push((file, excerpt)),
                Item::End { condition, .. } => {
                    current.condition = condition;
                    // Its excerpts are stored, or queued.
                    current.short = current.rows.is_empty() && waiting.last().is_none_or(|(of, _)| *of != file);
                    open.push(std::mem::replace(&mut current, Done::new(file + 1)));
                    progress(file + 1);
                }
                Item::Failed(error) => {
                    // Its first excerpts, if stored, are ignored.
                    waiting.retain(|(of, _)| *of != file);
                    if !current.rows.is_empty() {
                        flush(&mut waiting, &mut open, &mut current, &mut done)?;
                        self.keep(done.rows.len() as u64)?;
                    }
                    current = Done::new(file + 1);
                    open.push(Done { failed: Some(error.to_string()), ..Done::new(file) });
                    progress(file + 1);
                }
            }
            if waiting.len() == runner.extractor.batch() {
                flush(&mut waiting, &mut open, &mut current, &mut done)?;
            }
            if stop() {
                return Ok(done);
            }
        }
        flush(&mut waiting, &mut open, &mut current, &mut done)?;
        Ok(done)
    }

    /// Keeps the first `rows` rows.
    fn keep(&self, rows: u64) -> Result<()> {
        let mut parts = [ROWS, SPECTRA].into_iter().zip(self.bytes_per_row);
        parts.try_for_each(|(name, bytes)| self.truncate(name, rows * bytes))
    }

    fn truncate(&self, name: &str, len: u64) -> Result<()> {
        let file = OpenOptions::new().write(true).open(self.file(name));
        file.and_then(|file| file.set_len(len)).map_err(Error::io(&self.folder))
    }

    /// The first `rows` rows of a part.
    fn mapped(&self, name: &str, bytes_per_row: u64, rows: usize) -> Result<Mapped> {
        Mapped::open(&self.file(name), 0, rows as u64 * bytes_per_row)
    }

    /// The stored features of all rows.
    pub fn features(&self, runner: &FrontEndRunner, rows: &[Row]) -> Result<Features> {
        let [of_features, of_spectrum] = self.bytes_per_row;
        let mapped = self.mapped(ROWS, of_features, rows.len())?;
        let spectrum = (of_spectrum > 0).then(|| self.mapped(SPECTRA, of_spectrum, rows.len())).transpose()?;
        let spectrum = spectrum.map(FeatureValues::F16);
        let values = match runner.is_in_bytes() {
            true => FeatureValues::U8(mapped.bytes().to_vec().into()),
            false => FeatureValues::F16(mapped),
        };
        let lengths = rows.iter().map(|r| r.instances).collect();
        Ok(Features { values, instances: runner.instances(), width: runner.instance_len(), lengths, spectrum })
    }

    /// Unscaled embeddings, scaled by `range`, or else by the minimum and the maximum of the rows that are
    /// `counted`; and the range used.
    pub fn scaled(
        &self,
        features: &Features,
        range: Option<Range>,
        counted: impl Fn(usize) -> bool,
    ) -> Result<(Features, Range)> {
        let FeatureValues::F16(map) = &features.values else {
            return Err(Error::Usage("only embeddings of 16 bits can be scaled".into()));
        };
        let (width, io) = (features.width, |e| Error::io(&self.folder)(e));
        let row = |index: usize| -> Vec<f16> {
            let bytes = self.bytes_per_row[0] as usize;
            let halves = map.bytes()[index * bytes..][..bytes].chunks_exact(2);
            halves.map(|b| f16::from_le_bytes([b[0], b[1]])).take(features.lengths[index] as usize * width).collect()
        };
        let rows = 0..features.lengths.len();
        let any = rows.clone().any(&counted);
        let range = range.unwrap_or_else(|| {
            let counted = rows.clone().filter(|index| !any || counted(*index));
            let ranges = counted.map(row).map(|row| Range::of(row.chunks_exact(width)));
            ranges.reduce(Range::union).expect("there are rows")
        });
        let path = self.file(SCALED);
        let mut out = BufWriter::new(File::create(&path).map_err(io)?);
        for index in rows {
            let halves = row(index);
            let scaled = halves.chunks_exact(width).flat_map(|e| range.scale(e)).flat_map(f16::to_le_bytes);
            let mut bytes: Vec<u8> = scaled.collect();
            bytes.resize(self.bytes_per_row[0] as usize, 0);
            out.write_all(&bytes).map_err(io)?;
        }
        out.flush().map_err(io)?;
        let values = FeatureValues::F16(self.mapped(SCALED, self.bytes_per_row[0], features.lengths.len())?);
        Ok((Features { values, ..features.clone() }, range))
    }

    /// Removes the folder, once its features are copied, but no foreign files in it.
    pub fn remove(self) -> Result<()> {
        self.clear()?;
        match fs::remove_dir(&self.folder) {
            Err(e) if e.kind() != ErrorKind::DirectoryNotEmpty => Err(Error::io(&self.folder)(e)),
            _ => Ok(()),
        }
    }
}
