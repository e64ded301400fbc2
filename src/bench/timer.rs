//! Times recordings of dispatches.

use crate::bench::results::{Sampling, Time};
use crate::core::error::Result;
use crate::gpu::{Gpu, Recording};

/// Most replays of a submission.
const MAX_REPLAYS: usize = 20_000;

/// Times recordings: each sample is one submission of as many replays as fill it, so that the cost of a submission is
/// negligible. The submissions that find this number warm up caches and clocks.
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

    /// Medians of 5 submissions of about 4 ms: a quick measurement.
    pub fn quick(gpu: &'a Gpu) -> Timer<'a> {
        Timer { gpu, submission: 0.004, samples: 5 }
    }

    /// Times one replay of all `recordings`.
    pub fn time(&self, recordings: &[&Recording]) -> Result<Time> {
        let (samples, repetitions) = self.samples(recordings)?;
        let median = quantile(&samples, 0.5);
        let spread = (quantile(&samples, 0.75) - quantile(&samples, 0.25)) / median;
        Ok(Time { seconds: median, sampling: Sampling { samples: samples.len(), repetitions, spread } })
    }

    /// Seconds of the fastest replay: the adapter's speed when idle.
    pub(crate) fn fastest(&self, recordings: &[&Recording]) -> Result<f64> {
        Ok(self.samples(recordings)?.0[0])
    }

    /// Replays `recordings` for about ten submissions, so that the adapter leaves its idle clocks.
    pub(crate) fn warm_up(&self, recordings: &[&Recording]) -> Result<()> {
        let mut seconds = 0.0;
        while seconds < 10.0 * self.submission {
            seconds += self.gpu.time(recordings, 1)?;
        }
        Ok(())
    }

    /// Sorted seconds per replay, and the number of replays in each sample.
    fn samples(&self, recordings: &[&Recording]) -> Result<(Vec<f64>, usize)> {
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
        Ok((samples, times))
    }
}

/// A quantile of `sorted`, interpolated between neighbours.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let place = at * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}
