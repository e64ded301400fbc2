//! A run directory: what a training run leaves behind, and what it resumes from.
//!
//! `run.toml` every setting, the adapter, the version; `metrics.jsonl` a line per epoch and seed; `model.safetensors` the best weights
//! of all seeds; `state.safetensors` all that is needed to go on with the same bits; `test.json` the test scores.
//! Each file is written whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::learner::State;
use super::weights::{self, File};
use crate::error::{Error, Result};
use crate::files::write_atomic;

const RUN: &str = "run.toml";
const METRICS: &str = "metrics.jsonl";
const MODEL: &str = "model.safetensors";
const STATE: &str = "state.safetensors";
const TEST: &str = "test.json";

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
    /// Macro over the classes; null when the validation clips have no label at all.
    pub val_f1_pn: Option<f64>,
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

#[derive(Clone, Debug)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// A new run directory. An existing run is replaced only with `force`, and then only its own files are removed.
    ///
    /// # Errors
    /// `Usage` when the directory holds a run already (without `force`), or anything else.
    pub fn create(path: &Path, force: bool) -> Result<RunDir> {
        let is_run = path.join(RUN).is_file();
        let occupied = path.exists() && fs::read_dir(path).map_err(Error::io(path))?.next().is_some();
        if is_run && !force {
            return Err(Error::Usage(format!(
                "{} holds a run already; choose another --out, continue it with --resume, or replace it with --force",
                path.display()
            )));
        }
        if occupied && !is_run {
            return Err(Error::Usage(format!(
                "{} is not empty and holds no run; choose another --out",
                path.display()
            )));
        }
        fs::create_dir_all(path).map_err(Error::io(path))?;
        let run = RunDir(path.to_owned());
        // run.toml goes last: as long as it is there, the rest is known to be a run's.
        for name in [STATE, MODEL, METRICS, TEST, RUN] {
            match fs::remove_file(run.0.join(name)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(run.0.join(name))(e)),
                _ => {}
            }
        }
        Ok(run)
    }

    /// An existing run directory.
    pub fn open(path: &Path) -> Result<RunDir> {
        match path.join(RUN).is_file() {
            true => Ok(RunDir(path.to_owned())),
            false => Err(Error::Usage(format!("{} is no run directory (it has no {RUN})", path.display()))),
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn model(&self) -> PathBuf {
        self.0.join(MODEL)
    }

    pub fn test(&self) -> PathBuf {
        self.0.join(TEST)
    }

    pub fn write_record(&self, record: &Record) -> Result<()> {
        let path = self.0.join(RUN);
        let text = toml::to_string(record).map_err(|e| Error::checkpoint(&path, e.to_string()))?;
        write_atomic(&path, |out| out.write_all(text.as_bytes()))
    }

    pub fn record(&self) -> Result<Record> {
        let path = self.0.join(RUN);
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let record: Record = toml::from_str(&text).map_err(|e| Error::checkpoint(&path, one_line(&e)))?;
        record.config.validate()?;
        Ok(record)
    }

    pub fn write_metrics(&self, rows: &[EpochRow]) -> Result<()> {
        write_atomic(self.0.join(METRICS), |out| {
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
        weights::save(&self.0.join(STATE), &tensors, progress)
    }

    /// The saved state; `None` when the run was ended before it saved any.
    pub fn load_state(&self) -> Result<Option<(State, Progress)>> {
        let path = self.0.join(STATE);
        if !path.exists() {
            return Ok(None);
        }
        let file = File::read(&path)?;
        let progress: Progress = file.about(&path)?;
        let tensors = file.tensors();
        let words = |name: &str| -> Result<Vec<[u8; 4]>> {
            let view = tensors.tensor(name).map_err(|_| Error::checkpoint(&path, format!("has no {name}")))?;
            Ok(view.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect())
        };
        let floats = |name: &str| Ok(words(name)?.into_iter().map(f32::from_le_bytes).collect());
        let step = words("step")?.first().map(|w| u32::from_le_bytes(*w));
        let state = State {
            params: floats("params")?,
            stats: floats("stats")?,
            m: floats("m")?,
            v: floats("v")?,
            best_params: floats("best_params")?,
            best_stats: floats("best_stats")?,
            totals: floats("totals")?,
            step: step.ok_or_else(|| Error::checkpoint(&path, "has an empty step"))?,
        };
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

/// toml's errors draw the offending line over several lines; ours take one.
pub fn one_line(error: &toml::de::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
