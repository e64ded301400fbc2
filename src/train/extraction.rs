//! Features of many files, on the GPU while all cores decode, kept on disk as they come: an extraction that was interrupted goes on
//! where it stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use half::f16;
use serde::{Deserialize, Serialize};

use super::extractor::{Extract, Extractor};
use super::front_end::{FrontEnd, PostProcess, Weights};
use crate::audio::{Cut, Excerpt, Item, ingest, logmel};
use crate::data::{FeatureValues, Features, Kind, Mapped};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::nn::vggish::{MAP, Width};

/// Seconds of an excerpt: the clips of OpenMIC-2018.
pub const WINDOW: f64 = 10.0;

/// What decides the features of a file. It is kept beside them, as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub kind: Kind,
    /// Log-mel patches need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front_end: Option<FrontEnd>,
}

impl Recipe {
    fn width(&self) -> Width {
        self.front_end.as_ref().map(|f| f.width).unwrap_or_default()
    }

    /// Shape of an instance.
    pub fn instance(&self) -> Vec<usize> {
        match self.kind {
            Kind::Vggish => vec![crate::nn::vggish::EMBEDDING],
            Kind::Maps => vec![MAP[0], MAP[1], self.width().map_channels()],
            Kind::LogMel => vec![logmel::PATCH_FRAMES, logmel::BANDS],
        }
    }

    pub fn instance_len(&self) -> usize {
        self.instance().iter().product()
    }

    pub fn note(&self) -> String {
        serde_json::to_string(self).expect("a recipe serialises")
    }

    /// Loads the weights and fixes them by their fingerprint.
    pub fn load(&mut self) -> Result<Option<Weights>> {
        let Some(front_end) = &mut self.front_end else { return Ok(None) };
        let weights = front_end.load()?;
        front_end.fingerprint = Some(weights.fingerprint());
        Ok(Some(weights))
    }
}

/// An extractor with what comes before and after it: excerpts to stored features.
pub struct FrontEndRunner<'g> {
    pub extractor: Extractor<'g>,
    kind: Kind,
    post_process: PostProcess,
}

impl<'g> FrontEndRunner<'g> {
    /// `weights` as [`Recipe::load`] gave them.
    pub fn new(
        gpu: &'g Gpu,
        recipe: &Recipe,
        weights: Option<&Weights>,
        with_spectrogram: bool,
    ) -> Result<FrontEndRunner<'g>> {
        let last_relu = recipe.front_end.as_ref().is_none_or(|f| f.last_relu);
        let samples = (WINDOW * f64::from(logmel::SR)) as usize;
        let given = weights.map(|weights| (weights, last_relu));
        let extractor = Extractor::new(gpu, recipe.kind, recipe.width(), given, samples, with_spectrogram)?;
        let post_process = weights.map_or_else(PostProcess::identity, |w| w.post_process.clone());
        Ok(FrontEndRunner { extractor, kind: recipe.kind, post_process })
    }

    /// T.
    pub fn instances(&self) -> usize {
        self.extractor.instances()
    }

    /// F.
    pub fn instance_len(&self) -> usize {
        self.extractor.instance_len()
    }

    /// Bytes of the stored features of an excerpt.
    fn row_bytes(&self) -> usize {
        self.instances() * self.instance_len() * if self.kind == Kind::Vggish { 1 } else { 2 }
    }

    /// An extract's features as they are stored: in 8 bits after the post-processing, or as f16.
    fn store(&self, extract: &Extract, into: &mut Vec<u8>) {
        match self.kind {
            Kind::Vggish => {
                let valid = extract.features.chunks_exact(self.instance_len()).take(extract.instances);
                let start = into.len();
                into.extend(valid.flat_map(|embedding| self.post_process.quantise(embedding)));
                into.resize(start + self.row_bytes(), 0);
            }
            _ => into.extend(extract.features.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes())),
        }
    }

    /// Extracts in memory, as model inputs: bytes after the post-processing, else floats.
    pub fn features(&self, extracts: &[Extract]) -> Features {
        let values = match self.kind {
            Kind::Vggish => {
                let mut bytes = vec![];
                extracts.iter().for_each(|extract| self.store(extract, &mut bytes));
                FeatureValues::U8(bytes)
            }
            _ => FeatureValues::F32(extracts.iter().flat_map(|e| e.features.iter().copied()).collect()),
        };
        let lengths = extracts.iter().map(|e| e.instances as u32).collect();
        Features { values, instances: self.instances(), width: self.instance_len(), lengths }
    }
}

/// An excerpt whose features are stored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Index among the files.
    pub file: usize,
    /// Where it begins, in seconds.
    pub start: f64,
    /// Valid instances.
    pub instances: u32,
}

/// A line of the log: what came of a file.
#[derive(Serialize, Deserialize)]
struct Done {
    file: usize,
    rows: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

/// What an extraction has made so far.
#[derive(Debug, Default)]
pub struct Extracted {
    pub rows: Vec<Row>,
    /// Files that could not be decoded, and why.
    pub failures: Vec<(usize, String)>,
    /// Whether all files are done.
    pub complete: bool,
}

/// An extraction in progress, in a folder of its own: `job.json` says of what, `rows.bin` holds the features, `done.jsonl` has a line
/// for each file that is done.
pub struct Extraction {
    folder: PathBuf,
    job: String,
    bytes_per_row: u64,
}

impl Extraction {
    /// `identity` tells this extraction from others: which files, by which recipe.
    pub fn new(folder: PathBuf, runner: &FrontEndRunner, identity: &impl Serialize) -> Extraction {
        let job = serde_json::to_string(identity).expect("an identity serialises");
        Extraction { folder, job, bytes_per_row: runner.row_bytes() as u64 }
    }

    fn rows_file(&self) -> PathBuf {
        self.folder.join("rows.bin")
    }

    /// What an earlier run left; what is of another extraction is removed. Only whole rows of files that are done count.
    fn resume(&self, files: usize) -> Result<Extracted> {
        let io = |e| Error::io(&self.folder)(e);
        let (job, log) = (self.folder.join("job.json"), self.folder.join("done.jsonl"));
        if !fs::read_to_string(&job).is_ok_and(|text| text == self.job) {
            if self.folder.exists() {
                fs::remove_dir_all(&self.folder).map_err(io)?;
            }
            fs::create_dir_all(&self.folder).map_err(io)?;
            for name in [self.rows_file(), log.clone()] {
                File::create(name).map_err(io)?;
            }
            crate::files::write_atomic(&job, |out| out.write_all(self.job.as_bytes()))?;
            return Ok(Extracted::default());
        }
        let stored = fs::metadata(self.rows_file()).map_err(io)?.len() / self.bytes_per_row;
        let mut done = Extracted::default();
        let mut good = 0u64;
        for line in BufReader::new(File::open(&log).map_err(io)?).split(b'\n') {
            let line = line.map_err(io)?;
            // A line that a kill cut off ends the log; so do rows that did not reach the disk.
            let Ok(entry) = serde_json::from_slice::<Done>(&line) else { break };
            let next = done.rows.last().map(|r| r.file).max(done.failures.last().map(|f| f.0)).map_or(0, |f| f + 1);
            if entry.file != next || entry.file >= files || (done.rows.len() + entry.rows.len()) as u64 > stored {
                break;
            }
            good += line.len() as u64 + 1;
            done.rows.extend(entry.rows);
            done.failures.extend(entry.failed.map(|reason| (entry.file, reason)));
        }
        let cut = |path: &Path, len: u64| OpenOptions::new().write(true).open(path).and_then(|f| f.set_len(len));
        cut(&log, good).map_err(io)?;
        cut(&self.rows_file(), done.rows.len() as u64 * self.bytes_per_row).map_err(io)?;
        Ok(done)
    }

    /// Works on `files` until all are done or `stop` says so. `cut`: how long files are cut. `tell` hears of each file that is done:
    /// how many are by now.
    ///
    /// # Errors
    /// `Io` for a full disk and `Gpu` for a lost device; what is done is kept. Files that cannot be decoded are no error.
    pub fn run(
        &self,
        runner: &FrontEndRunner,
        files: &[PathBuf],
        cut: Cut,
        stop: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(usize),
    ) -> Result<Extracted> {
        let mut done = self.resume(files.len())?;
        let first = done.rows.last().map(|r| r.file).max(done.failures.last().map(|f| f.0)).map_or(0, |f| f + 1);
        tell(first);
        let io = |e| Error::io(&self.folder)(e);
        let append = |name: &str| OpenOptions::new().append(true).open(self.folder.join(name)).map_err(io);
        let (mut rows, mut log) = (BufWriter::new(append("rows.bin")?), append("done.jsonl")?);

        // Excerpts that wait for a whole batch, and files whose excerpts are among them.
        let mut waiting: Vec<(usize, Excerpt)> = vec![];
        let mut open: Vec<Done> = vec![];
        let mut current = Done { file: first, rows: vec![], failed: None };
        let mut flush =
            |waiting: &mut Vec<(usize, Excerpt)>, open: &mut Vec<Done>, current: &mut Done, done: &mut Extracted| {
                let samples: Vec<&[f32]> = waiting.iter().map(|(_, e)| e.samples.as_slice()).collect();
                let mut bytes = vec![];
                if !samples.is_empty() {
                    for ((file, excerpt), extract) in waiting.iter().zip(runner.extractor.run(&samples)?) {
                        runner.store(&extract, &mut bytes);
                        let row = Row { file: *file, start: excerpt.start, instances: extract.instances as u32 };
                        let of =
                            open.iter_mut().chain([&mut *current]).find(|d| d.file == *file).expect("an open file");
                        of.rows.push(row);
                    }
                }
                waiting.clear();
                rows.write_all(&bytes).and_then(|()| rows.flush()).map_err(io)?;
                let mut lines = vec![];
                for entry in open.drain(..) {
                    serde_json::to_writer(&mut lines, &entry).expect("a log entry serialises");
                    lines.push(b'\n');
                    done.rows.extend(&entry.rows);
                    done.failures.extend(entry.failed.map(|reason| (entry.file, reason)));
                }
                log.write_all(&lines).map_err(io)
            };
        for (index, item) in ingest(files[first..].to_vec(), cut)? {
            let file = first + index;
            match item {
                Item::Excerpt(excerpt) => waiting.push((file, excerpt)),
                Item::End { .. } => {
                    open.push(std::mem::replace(&mut current, Done { file: file + 1, rows: vec![], failed: None }));
                    tell(file + 1);
                }
                Item::Failed(error) => {
                    // What was stored of its beginning does not count.
                    waiting.retain(|(of, _)| *of != file);
                    flush(&mut waiting, &mut open, &mut current, &mut done)?;
                    self.truncate(done.rows.len() as u64)?;
                    current = Done { file: file + 1, rows: vec![], failed: None };
                    open.push(Done { file, rows: vec![], failed: Some(error.to_string()) });
                    tell(file + 1);
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
        done.complete = true;
        Ok(done)
    }

    fn truncate(&self, rows: u64) -> Result<()> {
        let file = OpenOptions::new().write(true).open(self.rows_file()).map_err(Error::io(&self.folder))?;
        file.set_len(rows * self.bytes_per_row).map_err(Error::io(&self.folder))
    }

    /// The stored features of all rows.
    pub fn features(&self, runner: &FrontEndRunner, rows: &[Row]) -> Result<Features> {
        let mapped = Mapped::open(&self.rows_file(), 0, rows.len() as u64 * self.bytes_per_row)?;
        let values = match runner.kind {
            Kind::Vggish => FeatureValues::U8(mapped.bytes().to_vec()),
            _ => FeatureValues::F16(mapped),
        };
        let lengths = rows.iter().map(|r| r.instances).collect();
        Ok(Features { values, instances: runner.instances(), width: runner.instance_len(), lengths })
    }

    /// Removes the folder, once its features are elsewhere.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).map_err(Error::io(&self.folder))
    }
}
