//! A run directory: the files that a training run writes and resumes from.
//!
//! `run.toml` every setting, the adapter, the version; `metrics.jsonl` a line per epoch and seed; `model.safetensors`
//! the best weights of all seeds; `state.safetensors` the state for a bit-identical resume; `test.json` the test
//! scores; `report.html` and pictures the same as figures ([`crate::report::pages::training`]). Where they are drawn,
//! `class-map.json` and `splits.csv` record the splits. Each file is written atomically.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::core::files::{create_directories, is_leftover, read_limited, try_lock_directory, write_atomic};
use crate::core::toml::{one_line, read_toml};
use crate::data::Dataset;
use crate::metrics::domain::Domain;
use crate::metrics::evaluation::Evaluation;
use crate::nn;
use crate::run::config::Config;

pub const RUN: &str = "run.toml";
pub(crate) const METRICS: &str = "metrics.jsonl";
pub const MODEL: &str = "model.safetensors";
const STATE: &str = "state.safetensors";
const DOMAIN: &str = "domain.json";
/// Maximum size of that file.
const MAX_DOMAIN: u64 = 64 << 20;
const THRESHOLDS: &str = "thresholds.json";
pub(crate) const TEST: &str = "test.json";
/// Maximum size of a test.json.
const TEST_LIMIT: u64 = 64 << 20;
pub(super) const CLASS_MAP: &str = "class-map.json";
pub(super) const SPLITS: &str = "splits.csv";
const PREDICTIONS: &str = "test_predictions.safetensors";
pub const REPORT: &str = "report.html";
pub(crate) const LEARNING_CURVES: &str = "learning_curves.png";
pub const CLASSES: &str = "classes.png";
pub(crate) const CONFUSION: &str = "confusion.png";
pub(crate) const RELIABILITY: &str = "reliability.png";
pub(crate) const EXAMPLES: &str = "examples.png";
pub const SEEDS: &str = "seeds.png";

/// Files of a run besides `run.toml` and front ends. The report, which is written last, is removed first: it marks the
/// run as ended.
const FILES: [&str; 16] = [
    REPORT,
    STATE,
    MODEL,
    METRICS,
    TEST,
    PREDICTIONS,
    THRESHOLDS,
    DOMAIN,
    LEARNING_CURVES,
    CLASSES,
    SEEDS,
    CONFUSION,
    RELIABILITY,
    EXAMPLES,
    CLASS_MAP,
    SPLITS,
];

/// The content of `run.toml`: the settings (with the keys of `Config`) and the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    #[serde(flatten)]
    pub config: Config,
    pub run: Environment,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    pub version: String,
    pub adapter: String,
    pub backend: String,
    pub driver: String,
    /// Trainable parameters of one replica.
    pub parameters: usize,
    /// [`crate::data::Dataset::fingerprint`], in hex: a run resumes only with the same data, splits and strong labels.
    pub data: String,
    /// [`crate::data::Dataset::splits_fingerprint`], in hex.
    #[serde(default)]
    pub splits: String,
    /// [`crate::data::Dataset::strong_fingerprint`], in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strong: Option<String>,
    /// Files of the run that this one replaces, which are still to be removed. Only a process that is killed while it
    /// starts a run leaves any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
    /// [`crate::data::Notes::fingerprint`] of the notes of mixtures, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// Clips per seed, without mixtures.
    pub train_clips: usize,
    pub val_clips: usize,
    pub test_clips: usize,
}

impl RunRecord {
    /// The table of `run.toml`, without settings that do not apply to the model.
    pub fn table(&self) -> Result<toml::Table> {
        let mut table = self.config.table()?;
        table.retain(|key, _| self.config.has_setting(key));
        let run = toml::Table::try_from(&self.run).map_err(|e| Error::Usage(e.to_string()))?;
        table.insert("run".into(), run.into());
        Ok(table)
    }
}

impl Environment {
    /// Whether these are the clips that the run was started with.
    pub(crate) fn has_clips_of(&self, data: &Dataset) -> bool {
        self.data == hex(data.fingerprint())
    }

    /// Whether these are also the splits that it was started with.
    pub(crate) fn has_splits_of(&self, data: &Dataset) -> bool {
        self.has_clips_of(data) && self.splits == hex(data.splits_fingerprint())
    }

    /// Whether a run can go on with these data.
    pub fn is_of(&self, data: &Dataset) -> bool {
        self.has_splits_of(data)
            && self.strong == data.strong_fingerprint().map(hex)
            && self.notes == data.notes_fingerprint().map(hex)
    }
}

/// A fingerprint as `run.toml` has it.
pub(crate) fn hex(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
}

/// File name of the front end of a seed, of a pre-training run of `seeds`.
pub fn front_end_file(seeds: &[u64], seed: u64) -> String {
    match seeds.len() {
        1 => "vggish.safetensors".to_owned(),
        _ => format!("vggish-{seed}.safetensors"),
    }
}

/// Whether this is the name of a front end.
fn is_front_end(name: &str) -> bool {
    let seed = name.strip_prefix("vggish").and_then(|rest| rest.strip_suffix(".safetensors"));
    seed.is_some_and(|seed| seed.is_empty() || seed.strip_prefix('-').is_some_and(|seed| seed.parse::<u64>().is_ok()))
}

/// Clones share the lock.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held while a process trains here; released by the OS when it ends.
    _lock: Option<Arc<File>>,
}

impl RunDir {
    /// Where a run is written if nothing else is said: runs/MODEL-DATASET.
    pub fn default_path(config: &Config) -> PathBuf {
        let dataset = config.dataset.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        PathBuf::from("runs").join(format!("{}-{dataset}", config.model))
    }

    /// Whether a run of these settings can be created at `path`; nothing is written yet.
    ///
    /// # Errors
    /// `Usage` when the directory contains a run (without `force`), other files, or an input of the new run.
    pub fn vacant(path: &Path, force: bool, config: &Config) -> Result<()> {
        let foreign = match fs::read_dir(path) {
            Ok(entries) => entries.flatten().any(|e| !is_leftover(&e.path())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
            Err(e) => return Err(Error::io(path)(e)),
        };
        match path.join(RUN).is_file() {
            true if !force => Err(Error::Usage(format!(
                "{} already contains a run; choose another `out`, continue it with `resume`, or replace it with \
                 `force`",
                path.display()
            ))),
            false if foreign => Err(Error::Usage(format!(
                "{} is not empty and not a run directory; choose another `out`",
                path.display()
            ))),
            true => {
                // Others name their settings so as well.
                let is_record = read_toml::<toml::Table>(&path.join(RUN)).is_ok_and(|table| table.contains_key("run"));
                if !is_record {
                    let reason = "is not the record of a run: nothing is replaced; choose another `out`";
                    return Err(Error::data(path.join(RUN), reason));
                }
                let whole = path.canonicalize().map_err(Error::io(path))?;
                if config.dataset.canonicalize().is_ok_and(|dataset| dataset == whole) {
                    return Err(Error::Usage(format!("{} is the dataset; choose another `out`", path.display())));
                }
                let inside = |input: &Path| input.canonicalize().is_ok_and(|input| input.starts_with(&whole));
                match config.inputs()?.into_iter().find(|(_, input)| inside(input)) {
                    Some((key, input)) => Err(Error::Usage(format!(
                        "`{key}` {} is in the run that it would replace; choose another `out`",
                        input.display()
                    ))),
                    None => Ok(()),
                }
            }
            false => Ok(()),
        }
    }

    /// Starts a run: creates the directory and writes `run.toml`. An existing run is replaced only with `force`, and
    /// then only its own files are removed: if the process is killed meanwhile, the new run can be resumed. The
    /// directory stays locked as long as the result lives.
    ///
    /// # Errors
    /// As [`RunDir::vacant`]; `Usage` when another process is training there. Directories created here are removed on
    /// errors.
    pub fn create(path: &Path, force: bool, record: &RunRecord) -> Result<RunDir> {
        create_directories(path, || {
            let run = RunDir::lock(path)?;
            // Another process may have started here since the caller checked.
            RunDir::vacant(path, force, &record.config)?;
            run.sweep()?;
            let replaces = run.own_files();
            if !replaces.is_empty() {
                let run_too = Environment { replaces: replaces.clone(), ..record.run.clone() };
                run.write_record(&RunRecord { run: run_too, ..record.clone() })?;
                run.remove_own(&replaces)?;
            }
            run.write_record(record)?;
            Ok(run)
        })
    }

    /// A directory that may have some files of a run.
    pub fn at(path: &Path) -> RunDir {
        RunDir { path: path.to_owned(), _lock: None }
    }

    /// An existing run directory, for reading.
    pub fn open(path: &Path) -> Result<RunDir> {
        match path.join(RUN).is_file() {
            true => Ok(RunDir { path: path.to_owned(), _lock: None }),
            false => Err(Error::Usage(format!("{} is not a run directory (no {RUN})", path.display()))),
        }
    }

    /// An existing run directory, locked for training.
    ///
    /// # Errors
    /// `Usage` when it is not a run directory, or another process is training there.
    pub fn reopen(path: &Path) -> Result<RunDir> {
        RunDir::open(path)?;
        let run = RunDir::lock(path)?;
        run.sweep()?;
        let mut record = run.record()?;
        let replaces = std::mem::take(&mut record.run.replaces);
        if !replaces.is_empty() {
            run.remove_own(&replaces)?;
            run.write_record(&record)?;
        }
        Ok(run)
    }

    fn lock(path: &Path) -> Result<RunDir> {
        let lock = try_lock_directory(path, "another process is training there")?;
        Ok(RunDir { path: path.to_owned(), _lock: lock.map(Arc::new) })
    }

    /// The files that a run wrote here, but for `run.toml`.
    fn own_files(&self) -> Vec<String> {
        // The front ends of a pre-training run have names that files of the user may have as well.
        let record = self.record().ok();
        // Of a run that was killed while it replaced another one.
        let replaced = record.iter().flat_map(|record| record.run.replaces.clone()).filter(|name| is_front_end(name));
        let pretrained = record.as_ref().filter(|record| record.config.model().is_ok_and(nn::is_objective));
        let seeds = pretrained.map(|record| record.config.seeds.clone()).unwrap_or_default();
        let front_ends = seeds.iter().map(|seed| front_end_file(&seeds, *seed));
        let names = FILES.into_iter().map(str::to_owned).chain(front_ends).chain(replaced);
        names.filter(|name| self.path.join(name).is_file()).collect()
    }

    /// Removes those of `names` that are names of a run's files.
    fn remove_own(&self, names: &[String]) -> Result<()> {
        let own = names.iter().filter(|name| FILES.contains(&name.as_str()) || is_front_end(name));
        own.map(|name| self.path.join(name)).try_for_each(|path| match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
            _ => Ok(()),
        })
    }

    /// Removes partial files of a killed process.
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

    pub fn test(&self) -> PathBuf {
        self.path.join(TEST)
    }

    /// Predictions for the test clips; only of runs that are compared.
    pub fn predictions(&self) -> PathBuf {
        self.path.join(PREDICTIONS)
    }

    pub fn report(&self) -> PathBuf {
        self.path.join(REPORT)
    }

    /// Whether it was trained to the end, evaluated and reported.
    pub fn has_ended(&self) -> bool {
        let files = [self.report(), self.test(), self.model()];
        files.iter().all(|file| file.is_file()) && self.record().is_ok_and(|record| record.run.replaces.is_empty())
    }

    fn write_record(&self, record: &RunRecord) -> Result<()> {
        let path = self.path.join(RUN);
        let text = toml::to_string(&record.table()?).map_err(|e| Error::checkpoint(&path, e.to_string()))?;
        write_atomic(&path, |out| out.write_all(text.as_bytes()))
    }

    pub fn record(&self) -> Result<RunRecord> {
        let path = self.path.join(RUN);
        let mut table: toml::Table = read_toml(&path)?;
        let named = ["model", "dataset"].map(|key| table.get(key).and_then(toml::Value::as_str).map(str::to_owned));
        let record: RunRecord = match named {
            [Some(model), Some(dataset)] if nn::find(&model).is_ok() => {
                // Older runs lack the key.
                table.entry("patience").or_insert_with(|| "none".into());
                Config::complete(&mut table, &model, Path::new(&dataset))?;
                table.try_into().map_err(|e: toml::de::Error| Error::data(&path, one_line(e.message())))?
            }
            _ => read_toml(&path)?,
        };
        record.config.validate().map_err(|e| Error::checkpoint(&path, e.to_string()))?;
        Ok(record)
    }

    /// As [`RunDir::record`], of a run that trains a model of instruments.
    ///
    /// # Errors
    /// `Checkpoint` for a pre-training run, which has front ends.
    pub fn recogniser_record(&self) -> Result<RunRecord> {
        let record = self.record()?;
        if !record.run.replaces.is_empty() {
            let reason = "was about to replace another run, whose files are still there: continue it with `resume`";
            return Err(Error::checkpoint(&self.path, reason));
        }
        match nn::is_objective(record.config.model()?) {
            true => Err(Error::checkpoint(
                &self.path,
                "is a pre-training run: it has front ends, on which models can be trained, but no model of instruments",
            )),
            false => Ok(record),
        }
    }

    /// What the training clips are like; `None` for runs that have not recorded it.
    ///
    /// # Errors
    /// `Checkpoint` for a damaged file.
    pub fn domain(&self) -> Result<Option<Domain>> {
        let path = self.path.join(DOMAIN);
        if !path.exists() {
            return Ok(None);
        }
        let read = serde_json::from_slice::<Domain>(&read_limited(&path, MAX_DOMAIN)?);
        let damaged = || Error::checkpoint(&path, "is damaged; without it, recordings are not marked as unreliable");
        read.ok().filter(Domain::is_valid).map(Some).ok_or_else(damaged)
    }

    pub(crate) fn write_domain(&self, domain: &Domain) -> Result<()> {
        let text = serde_json::to_string(domain).expect("numbers serialise");
        write_atomic(self.path.join(DOMAIN), |out| writeln!(out, "{text}"))
    }

    /// Reads `test.json`.
    ///
    /// # Errors
    /// `Checkpoint` for a damaged file.
    pub fn evaluation(&self) -> Result<Evaluation> {
        let bytes = read_limited(self.test(), TEST_LIMIT)?;
        serde_json::from_slice(&bytes).map_err(|e| Error::checkpoint(self.test(), format!("is damaged ({e})")))
    }

    pub(crate) fn write_evaluation(&self, evaluation: &Evaluation) -> Result<()> {
        let text = serde_json::to_string_pretty(evaluation).expect("results serialise");
        write_atomic(self.test(), |out| writeln!(out, "{text}"))
    }

    /// Writes a threshold for each class, for people and other programs.
    pub(crate) fn write_thresholds(&self, classes: &[String], thresholds: &[f64]) -> Result<()> {
        let table: BTreeMap<&str, f64> = classes.iter().map(String::as_str).zip(thresholds.iter().copied()).collect();
        let text = serde_json::to_string_pretty(&table).expect("a table serialises");
        write_atomic(self.path.join(THRESHOLDS), |out| writeln!(out, "{text}"))
    }
}
