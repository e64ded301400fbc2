//! A run directory: what a training run leaves behind, and what it resumes from.
//!
//! `run.toml` every setting, the adapter, the version; `metrics.jsonl` a line per epoch and seed; `model.safetensors` the best weights
//! of all seeds; `state.safetensors` all that is needed to go on with the same bits; `test.json` the test scores; `report.html` and
//! pictures the same to look at ([`crate::report::pages::training`]). Of single notes, `class-map.json` and `splits.csv` say which clips
//! were for what. Each file is written whole or not at all.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::core::files::{create_directories, is_leftover, read_limited, try_lock_directory, write_atomic};
use crate::core::tensors;
use crate::data::Dataset;
use crate::nn;
use crate::run::config::Config;

use crate::train::learner::State;

pub const RUN: &str = "run.toml";
pub const METRICS: &str = "metrics.jsonl";
pub const MODEL: &str = "model.safetensors";
const STATE: &str = "state.safetensors";
const THRESHOLDS: &str = "thresholds.json";
pub const TEST: &str = "test.json";
const PREDICTIONS: &str = "test_predictions.safetensors";
const CLASS_MAP: &str = "class-map.json";
const SPLITS: &str = "splits.csv";
pub const REPORT: &str = "report.html";
pub const LEARNING_CURVES: &str = "learning_curves.png";
pub const CLASSES: &str = "classes.png";
pub const CONFUSION: &str = "confusion.png";
pub const EXAMPLES: &str = "examples.png";
pub const SEEDS: &str = "seeds.png";
/// No settings take more.
const RUN_LIMIT: u64 = 1 << 20;
/// Nor the names of clips.
const SPLITS_LIMIT: u64 = 1 << 30;

/// What `run.toml` holds: the settings (the same keys as `--config`), and where they ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    #[serde(flatten)]
    pub config: Config,
    pub run: Circumstances,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Circumstances {
    pub version: String,
    pub adapter: String,
    pub backend: String,
    pub driver: String,
    /// Trainable parameters of one replica.
    pub parameters: usize,
    /// [`crate::data::Dataset::fingerprint`], in hex: a run goes on with the data it began with.
    pub data: String,
    /// Clips per seed.
    pub train_clips: usize,
    pub val_clips: usize,
    pub test_clips: usize,
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// From 0.
    pub epoch: usize,
    pub seed: u64,
    pub train_loss: f32,
    pub val_loss: f32,
    /// Macro over the classes; null when the validation clips have no label at all, and where they have one class each.
    pub val_f1_pn: Option<f64>,
    /// Where they have one class each: the share of the clips whose most probable class it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_accuracy: Option<f64>,
    /// Whether this epoch is the best so far.
    pub best: bool,
}

/// How far a run has come, beside what lies on the GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs completed.
    pub epochs: usize,
    pub history: Vec<EpochRow>,
}

impl Record {
    /// As `run.toml` has it: without settings that mean nothing for the model.
    pub fn table(&self) -> Result<toml::Table> {
        let mut table = self.config.table()?;
        table.retain(|key, _| self.config.has_setting(key));
        let run = toml::Table::try_from(&self.run).map_err(|e| Error::Usage(e.to_string()))?;
        table.insert("run".into(), run.into());
        Ok(table)
    }
}

impl Progress {
    /// Whether the history is one that these seeds can have: epoch after epoch, each seed until it stops.
    fn is_of(&self, seeds: &[u64]) -> bool {
        let mut running = seeds.to_vec();
        let mut rows = self.history.as_slice();
        for epoch in 0..self.epochs {
            let here = rows.iter().take_while(|row| row.epoch == epoch).count();
            let (now, later) = rows.split_at(here);
            running.retain(|seed| now.iter().any(|row| row.seed == *seed));
            if running.is_empty() || !now.iter().map(|row| row.seed).eq(running.iter().copied()) {
                return false;
            }
            rows = later;
        }
        rows.is_empty()
    }
}

/// Clones share the lock.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held while training writes here; the system lets go of it however the process ends.
    _lock: Option<Arc<File>>,
}

impl RunDir {
    /// Whether a run can be created at `path`; nothing is written yet.
    ///
    /// # Errors
    /// `Usage` when the directory holds a run already (without `force`), or anything else.
    pub fn vacant(path: &Path, force: bool) -> Result<()> {
        let foreign = match fs::read_dir(path) {
            Ok(entries) => entries.flatten().any(|e| !is_leftover(&e.path())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
            Err(e) => return Err(Error::io(path)(e)),
        };
        match path.join(RUN).is_file() {
            true if !force => Err(Error::Usage(format!(
                "{} holds a run already; choose another --out, continue it with --resume, or replace it with --force",
                path.display()
            ))),
            false if foreign => {
                Err(Error::Usage(format!("{} is not empty and holds no run; choose another --out", path.display())))
            }
            _ => Ok(()),
        }
    }

    /// Begins a run: makes the directory and writes `run.toml`. An existing run is replaced only with `force`, and then only
    /// its own files are removed. The directory stays locked as long as the result lives.
    ///
    /// # Errors
    /// As [`RunDir::vacant`]; `Usage` when another training is at work there. Directories made here do not outlive an error.
    pub fn create(path: &Path, force: bool, record: &Record) -> Result<RunDir> {
        create_directories(path, || {
            let run = RunDir::lock(path)?;
            // Another training may have begun here since the caller asked.
            RunDir::vacant(path, force)?;
            run.clear()?;
            run.write_record(record)?;
            Ok(run)
        })
    }

    /// An existing run directory, to be read.
    pub fn open(path: &Path) -> Result<RunDir> {
        match path.join(RUN).is_file() {
            true => Ok(RunDir { path: path.to_owned(), _lock: None }),
            false => Err(Error::Usage(format!("{} is no run directory (it has no {RUN})", path.display()))),
        }
    }

    /// An existing run directory, locked, to go on training in.
    ///
    /// # Errors
    /// `Usage` when it is none, or another training is at work there.
    pub fn reopen(path: &Path) -> Result<RunDir> {
        RunDir::open(path)?;
        let run = RunDir::lock(path)?;
        run.sweep()?;
        Ok(run)
    }

    fn lock(path: &Path) -> Result<RunDir> {
        let lock = try_lock_directory(path, "another training writes there")?;
        Ok(RunDir { path: path.to_owned(), _lock: lock.map(Arc::new) })
    }

    /// Removes an older run's files.
    fn clear(&self) -> Result<()> {
        self.sweep()?;
        // run.toml stays until it is replaced: as long as it is there, the rest is known to be a run's.
        // The report, which is written last, goes first: where it is, the run has ended.
        let rest = [
            REPORT,
            STATE,
            MODEL,
            METRICS,
            TEST,
            PREDICTIONS,
            THRESHOLDS,
            LEARNING_CURVES,
            CLASSES,
            SEEDS,
            CONFUSION,
            EXAMPLES,
            CLASS_MAP,
            SPLITS,
        ];
        for name in rest {
            match fs::remove_file(self.path.join(name)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(self.path.join(name))(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes what a killed process left half-written.
    fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(&self.path).map_err(Error::io(&self.path))?.flatten() {
            if is_leftover(&entry.path()) {
                fs::remove_file(entry.path()).map_err(Error::io(entry.path()))?;
            }
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn model(&self) -> PathBuf {
        self.path.join(MODEL)
    }

    pub fn state(&self) -> PathBuf {
        self.path.join(STATE)
    }

    pub fn thresholds(&self) -> PathBuf {
        self.path.join(THRESHOLDS)
    }

    pub fn test(&self) -> PathBuf {
        self.path.join(TEST)
    }

    /// What the run says about each test clip; only of runs that are compared.
    pub fn predictions(&self) -> PathBuf {
        self.path.join(PREDICTIONS)
    }

    pub fn report(&self) -> PathBuf {
        self.path.join(REPORT)
    }

    /// Whether it was trained to its end, evaluated and reported.
    pub fn has_ended(&self) -> bool {
        self.report().is_file() && self.test().is_file() && self.model().is_file()
    }

    fn write_record(&self, record: &Record) -> Result<()> {
        let path = self.path.join(RUN);
        let text = toml::to_string(&record.table()?).map_err(|e| Error::checkpoint(&path, e.to_string()))?;
        write_atomic(&path, |out| out.write_all(text.as_bytes()))
    }

    /// Writes which clips are for what, and the number of each class, where the splits were drawn here: `class-map.json` and
    /// `splits.csv` with the columns sample_key, class and split.
    pub fn write_splits(&self, data: &Dataset) -> Result<()> {
        let Some(validation) = &data.validation else { return Ok(()) };
        let numbers: serde_json::Map<_, _> = data.classes.iter().cloned().zip((0..).map(|k: u64| k.into())).collect();
        write_atomic(self.path.join(CLASS_MAP), |out| serde_json::to_writer_pretty(out, &numbers).map_err(Into::into))?;
        let mut table = csv::Writer::from_writer(vec![]);
        let mut row = |cells: [&str; 3]| table.write_record(cells).expect("a vector takes all");
        row(["sample_key", "class", "split"]);
        for (split, clips) in [("train", &data.train), ("validation", validation), ("test", &data.test)] {
            for &clip in clips {
                let k = data.classes.len();
                let targets = &data.targets[clip as usize * k..][..k];
                let class = targets.iter().position(|t| *t >= 0.5).map_or("", |class| &data.classes[class]);
                row([&data.keys[clip as usize], class, split]);
            }
        }
        let bytes = table.into_inner().expect("flushed to a vector");
        write_atomic(self.path.join(SPLITS), |out| out.write_all(&bytes))
    }

    /// Puts the clips of `data` into the splits that `splits.csv` has them in, if there is one: files that have come or gone since would
    /// be drawn otherwise, and the run tested on what it has learnt. Clips that it does not name are in no split; returns how many.
    ///
    /// # Errors
    /// `Data` for a damaged table.
    pub fn restore_splits(&self, data: &mut Dataset) -> Result<usize> {
        let path = self.path.join(SPLITS);
        if data.validation.is_none() || !path.is_file() {
            return Ok(0);
        }
        let bytes = read_limited(&path, SPLITS_LIMIT)?;
        let rows = csv::Reader::from_reader(&bytes[..]).into_deserialize::<[String; 3]>();
        let fail = |e: csv::Error| Error::data(&path, format!("is damaged ({})", one_line(&e.to_string())));
        let split_of: HashMap<String, String> =
            rows.map(|row| row.map(|[key, _, split]| (key, split)).map_err(fail)).collect::<Result<_>>()?;
        let of = |wanted: &str| -> Vec<u32> {
            let is = |key: &String| split_of.get(key).is_some_and(|split| split == wanted);
            data.keys.iter().zip(0..).filter(|(key, _)| is(key)).map(|(_, clip)| clip).collect()
        };
        let unknown = data.keys.iter().filter(|key| !split_of.contains_key(*key)).count();
        (data.train, data.validation, data.test) = (of("train"), Some(of("validation")), of("test"));
        Ok(unknown)
    }

    pub fn record(&self) -> Result<Record> {
        let path = self.path.join(RUN);
        let mut table: toml::Table = read_toml(&path)?;
        let named = ["model", "dataset"].map(|key| table.get(key).and_then(toml::Value::as_str).map(str::to_owned));
        let record: Record = match named {
            [Some(model), Some(dataset)] if nn::find(&model).is_ok_and(nn::Model::is_forest) => {
                Config::complete(&mut table, &model, Path::new(&dataset))?;
                table.try_into().map_err(|e: toml::de::Error| Error::data(&path, one_line(e.message())))?
            }
            _ => read_toml(&path)?,
        };
        record.config.validate().map_err(|e| Error::checkpoint(&path, e.to_string()))?;
        Ok(record)
    }

    pub fn write_metrics(&self, rows: &[EpochRow]) -> Result<()> {
        write_atomic(self.path.join(METRICS), |out| {
            for row in rows {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        })
    }

    /// Saves all that is needed to go on.
    pub fn save_state(&self, state: &State, progress: &Progress) -> Result<()> {
        let floats = |name: &str, values: &[f32]| {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.to_owned(), Dtype::F32, vec![values.len()], bytes)
        };
        let mut tensors: Vec<_> = parts(state).map(|(name, values)| floats(name, values)).into();
        tensors.push(("step".into(), Dtype::U32, vec![1], state.step.to_le_bytes().to_vec()));
        tensors::save(&self.state(), &tensors, progress)
    }

    /// The saved state; `None` when the run was ended before it saved any.
    ///
    /// # Errors
    /// `Checkpoint` for a damaged file, and for one that is not of a run of `seeds` with `batches` steps an epoch.
    pub fn load_state(&self, seeds: &[u64], batches: usize) -> Result<Option<(State, Progress)>> {
        let path = self.state();
        if !path.exists() {
            return Ok(None);
        }
        let file = tensors::File::read(&path)?;
        let progress: Progress = file.about(&path)?;
        let tensors = file.tensors();
        let words = |name: &str| -> Result<Vec<[u8; 4]>> {
            let view = tensors.tensor(name).map_err(|_| Error::checkpoint(&path, format!("has no {name}")))?;
            Ok(view.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect())
        };
        let floats = |name: &str| Ok(words(name)?.into_iter().map(f32::from_le_bytes).collect());
        let step = words("step")?.first().map(|w| u32::from_le_bytes(*w));
        let step = step.ok_or_else(|| Error::checkpoint(&path, "has an empty step"))?;
        let state = State {
            params: floats("params")?,
            stats: floats("stats")?,
            m: floats("m")?,
            v: floats("v")?,
            best_params: floats("best_params")?,
            best_stats: floats("best_stats")?,
            totals: floats("totals")?,
            step,
        };
        if step as usize / batches != progress.epochs || !progress.is_of(seeds) {
            return Err(Error::checkpoint(&path, "is damaged, or the state of another run"));
        }
        Ok(Some((state, progress)))
    }
}

fn parts(state: &State) -> [(&'static str, &[f32]); 7] {
    [
        ("params", &state.params),
        ("stats", &state.stats),
        ("m", &state.m),
        ("v", &state.v),
        ("best_params", &state.best_params),
        ("best_stats", &state.best_stats),
        ("totals", &state.totals),
    ]
}

/// Reads settings from a TOML file.
///
/// # Errors
/// `Data` with the line of what cannot be understood.
pub fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    parse_toml(path, &read_toml_text(path)?)
}

/// # Errors
/// `Io`, and `Data` for a file that is too large or no text.
pub(crate) fn read_toml_text(path: &Path) -> Result<String> {
    let bytes = read_limited(path, RUN_LIMIT)?;
    String::from_utf8(bytes).map_err(|_| Error::data(path, "is not UTF-8 text"))
}

/// What `text`, read from `path`, says.
///
/// # Errors
/// `Data` with the line of what cannot be understood.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| toml_error(path, text, &e))
}

/// toml's own text draws the offending line over several lines; ours takes one and gives its number.
fn toml_error(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let line = error
        .span()
        .map(|span| 1 + text.as_bytes()[..span.start.min(text.len())].iter().filter(|b| **b == b'\n').count() as u64);
    Error::Data { path: path.into(), line, reason: one_line(error.message()) }
}

pub(crate) fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}
