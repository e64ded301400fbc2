//! Times recordings of dispatches.

use crate::core::error::Result;
use crate::gpu::{Gpu, Recording};

/// Most replays of a submission.
const MAX_REPLAYS: usize = 20_000;

/// Times recordings: each sample is one submission of as many replays as fill it, so that the cost of a submission is
/// negligible.
pub struct Timer<'a> {
    pub gpu: &'a Gpu,
    /// Seconds of work in one submission (well below the timeouts of desktop drivers).
    submission: f64,
    samples: usize,
}

impl<'a> Timer<'a> {
    /// Medians of 7 submissions of about 50 ms.
    pub fn new(gpu: &'a Gpu) -> Timer<'a> {
        Timer { gpu, submission: 0.05, samples: 7 }
    }

    /// Medians of 3 submissions of about 5 ms: a quick measurement.
    pub fn quick(gpu: &'a Gpu) -> Timer<'a> {
        Timer { gpu, submission: 0.005, samples: 3 }
    }

    /// Median seconds of one replay of all `recordings`.
    pub fn seconds(&self, recordings: &[&Recording]) -> Result<f64> {
        Ok(self.samples(recordings)?[self.samples / 2])
    }

    /// Seconds of the fastest replay: the adapter's speed when idle.
    pub(crate) fn fastest(&self, recordings: &[&Recording]) -> Result<f64> {
        Ok(self.samples(recordings)?[0])
    }

    /// Sorted seconds per replay.
    fn samples(&self, recordings: &[&Recording]) -> Result<Vec<f64>> {
        // The first replay warms up caches and clocks.
        self.gpu.time(recordings, 1)?;
        let mut times = 1;
        loop {
            let taken = self.gpu.time(recordings, times)?;
            if taken >= 0.8 * self.submission || times == MAX_REPLAYS {
                break;
            }
            // Short submissions are mostly overhead, so their time is inaccurate.
            let growth = (self.submission / taken).clamp(1.25, 16.0);
            times = ((times as f64 * growth).ceil() as usize).min(MAX_REPLAYS);
        }
        let mut samples = Vec::with_capacity(self.samples);
        for _ in 0..self.samples {
            samples.push(self.gpu.time(recordings, times)? / times as f64);
        }
        samples.sort_by(f64::total_cmp);
        Ok(samples)
    }
}
