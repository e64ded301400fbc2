//! What decoding results in, and its limits.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};

/// Valid sample rates (Hz); others are rejected.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;
/// Most channels; a damaged header with more would exhaust the memory.
pub(super) const MAX_CHANNELS: usize = 64;

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

    /// Scales the samples to a largest magnitude of 1. Silence is unchanged. Returns what it was before, 1 for silence.
    pub fn normalise_peak(&mut self) -> f32 {
        let peak = self.samples.iter().fold(0.0f32, |peak, v| peak.max(v.abs()));
        if peak == 0.0 {
            return 1.0;
        }
        // Not by the reciprocal, which overflows for subnormal peaks.
        self.samples.iter_mut().for_each(|v| *v /= peak);
        peak
    }

    /// Scales the samples to an RMS of `level` and clips them to +-1. Silence is unchanged. Returns what they are to be
    /// multiplied by for their former level, 1 for silence.
    pub fn normalise_rms(&mut self, level: f32) -> f32 {
        let peak = self.normalise_peak();
        let power: f64 = self.samples.iter().map(|v| f64::from(*v).powi(2)).sum();
        if power == 0.0 {
            return 1.0;
        }
        let gain = (f64::from(level) / (power / self.samples.len() as f64).sqrt()) as f32;
        self.samples.iter_mut().for_each(|v| *v = (*v * gain).clamp(-1.0, 1.0));
        peak / gain
    }
}

/// Whether a file is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Warnings, a line each, without the file's name.
    pub warnings: Vec<String>,
    /// Something in its middle could not be decoded.
    pub damaged: bool,
}

impl Condition {
    /// No warnings.
    pub fn is_whole(&self) -> bool {
        self.warnings.is_empty()
    }
}

pub(in crate::audio) fn check_rate(path: &Path, sr: u32) -> Result<()> {
    if RATES.contains(&sr) {
        return Ok(());
    }
    let (low, high) = (RATES.start(), RATES.end());
    Err(Error::data(path, format!("has a sample rate of {sr} Hz, which is outside {low} to {high}")))
}

pub(super) fn check_channels(channels: usize) -> std::result::Result<(), String> {
    match channels {
        1..=MAX_CHANNELS => Ok(()),
        n => Err(format!("has {n} channels, which is outside 1 to {MAX_CHANNELS}")),
    }
}
