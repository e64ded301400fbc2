//! The state of a run: its history, and everything needed for a bit-identical resume.

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::core::files::{open_file, write_atomic};
use crate::core::tensors;
use crate::ops::track::NEVER;
use crate::run::run_dir::{METRICS, RunDir};

const DIVERGED: &str = "diverged";
const COUNTS: &str = "counts";

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// From 0.
    pub epoch: usize,
    pub seed: u64,
    pub train_loss: f32,
    pub val_loss: f32,
    /// Macro over the classes; null for single-label models and if the validation clips have no label.
    pub val_f1_pn: Option<f64>,
    /// Single-label models: accuracy on the training clips, each predicted in its training step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_accuracy: Option<f64>,
    /// Single-label models: accuracy on the validation clips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_accuracy: Option<f64>,
    /// Whether this epoch is the best so far.
    pub best: bool,
}

/// Progress of a run, apart from the state on the GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs completed.
    pub epochs: usize,
    pub history: Vec<EpochRow>,
}

/// The state for a bit-identical resume.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub params: Vec<f32>,
    pub stats: Vec<f32>,
    /// Adam's moments; for Adagrad the sums of squares in `m`, `v` is empty.
    pub m: Vec<f32>,
    pub v: Vec<f32>,
    pub best_params: Vec<f32>,
    pub best_stats: Vec<f32>,
    /// The running sums of the epoch in progress.
    pub totals: Vec<f32>,
    /// The first step of each replica with a non-finite loss; [`NEVER`] if there is none.
    pub diverged: Vec<u32>,
    /// Single-label models: confusion counts of the training clips in the epoch in progress, (R, K, 4); else empty.
    pub counts: Vec<u32>,
    /// Optimiser steps done.
    pub step: u32,
}

impl Progress {
    /// Whether the history is consistent for these seeds: epoch after epoch, each seed until it stops.
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

impl RunDir {
    /// Writes `metrics.jsonl`.
    pub(crate) fn write_metrics(&self, rows: &[EpochRow]) -> Result<()> {
        write_atomic(self.path().join(METRICS), |out| {
            for row in rows {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        })
    }

    /// Reads `metrics.jsonl`.
    ///
    /// # Errors
    /// `Checkpoint` for a damaged file.
    pub(crate) fn metrics(&self) -> Result<Vec<EpochRow>> {
        let path = self.path().join(METRICS);
        let text = std::io::read_to_string(open_file(&path)?).map_err(Error::io(&path))?;
        let row = |line: &str| serde_json::from_str(line).map_err(|e| Error::checkpoint(&path, e.to_string()));
        text.lines().map(row).collect()
    }

    /// Saves the state.
    pub fn save_state(&self, state: &State, progress: &Progress) -> Result<()> {
        let floats = |name: &str, values: &[f32]| {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.to_owned(), Dtype::F32, vec![values.len()], bytes)
        };
        let mut tensors: Vec<_> = parts(state).map(|(name, values)| floats(name, values)).into();
        for (name, words) in [(DIVERGED, &state.diverged), (COUNTS, &state.counts)] {
            let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            tensors.push((name.into(), Dtype::U32, vec![words.len()], bytes));
        }
        tensors.push(("step".into(), Dtype::U32, vec![1], state.step.to_le_bytes().to_vec()));
        tensors::save(&self.state(), &tensors, progress)
    }

    /// The saved state; `None` if the run ended before the first save.
    ///
    /// # Errors
    /// `Checkpoint` for a damaged file, and for the state of other seeds, or of other than `batches` steps an epoch.
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
        // Older states do not have it.
        let integers = |name: &str, default: Vec<u32>| match tensors.tensor(name).is_ok() {
            true => Ok(words(name)?.into_iter().map(u32::from_le_bytes).collect()),
            false => Ok::<_, Error>(default),
        };
        let state = State {
            params: floats("params")?,
            stats: floats("stats")?,
            m: floats("m")?,
            v: floats("v")?,
            best_params: floats("best_params")?,
            best_stats: floats("best_stats")?,
            totals: floats("totals")?,
            diverged: integers(DIVERGED, vec![NEVER; seeds.len()])?,
            counts: integers(COUNTS, vec![])?,
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
