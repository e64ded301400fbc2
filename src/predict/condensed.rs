//! A spectrogram of bounded width, whatever the length of the recording.

use crate::core::array::Array;

/// A spectrogram of bounded width: when it grows too long, neighbouring columns are averaged.
#[derive(Default)]
pub(super) struct CondensedSpectrogram {
    /// Values of a frame.
    bands: usize,
    /// Seconds from one frame to the next.
    frame: f64,
    /// Frames per column, minus one.
    merged: usize,
    columns: Vec<f32>,
    /// Number of frames in the last, unfinished column, and their sum.
    pending: usize,
    sum: Vec<f32>,
    /// Number of frames added.
    frames: usize,
}

impl CondensedSpectrogram {
    /// For frames of `bands` values, `frame` seconds apart.
    pub fn new(bands: usize, frame: f64) -> CondensedSpectrogram {
        CondensedSpectrogram { bands, frame, ..CondensedSpectrogram::default() }
    }

    /// Columns from which on neighbours are merged while they are short, and in any case.
    const MANY: usize = 2000;
    const MOST: usize = 16_384;
    /// Seconds: columns shorter than this are short.
    const SHORT: f64 = 0.15;

    /// Number of columns that are too many.
    fn limit(&self) -> usize {
        let seconds = self.frame * (self.merged + 1) as f64;
        if seconds < CondensedSpectrogram::SHORT { CondensedSpectrogram::MANY } else { CondensedSpectrogram::MOST }
    }

    /// Adds the frames of an excerpt that are new.
    pub fn add(&mut self, start: f64, spectrogram: &[f32]) {
        let first = (start / self.frame).round() as usize;
        let skip = self.frames.saturating_sub(first);
        let bands = self.bands;
        for frame in spectrogram.chunks_exact(bands.max(1)).skip(skip) {
            self.frames += 1;
            self.sum.resize(bands, 0.0);
            self.sum.iter_mut().zip(frame).for_each(|(sum, v)| *sum += v);
            self.pending += 1;
            if self.pending == self.merged + 1 {
                let n = self.pending as f32;
                self.columns.extend(self.sum.drain(..).map(|v| v / n));
                self.pending = 0;
                if self.columns.len() >= self.limit() * bands {
                    let pairs = self.columns.chunks_exact(2 * bands);
                    self.columns = pairs.flat_map(|p| (0..bands).map(|b| (p[b] + p[bands + b]) / 2.0)).collect();
                    self.merged = 2 * self.merged + 1;
                }
            }
        }
    }

    pub fn array(&self) -> Array<f32> {
        let mut columns = self.columns.clone();
        if columns.is_empty() {
            // Shorter than a column.
            columns = self.sum.iter().map(|v| v / self.pending.max(1) as f32).collect();
        }
        columns.resize(columns.len().max(self.bands), 0.0);
        Array::new([columns.len() / self.bands, self.bands], columns)
    }
}
