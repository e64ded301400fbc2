//! The filters of the constant-Q transform, as in `librosa.cqt` (0.11).
//!
//! Filter k at f_k = fmin 2^(k / bins_per_octave) is a Hann window of L_k = sr / (alpha f_k) samples times a complex
//! sine, the sum of its magnitudes 1; alpha = (r^2 - 1) / (r^2 + 1), r = 2^(1 / bins_per_octave). C_k = sqrt(L_k)
//! |filter k at the frame's centre|, zeros around the clip. Low octaves are computed at lower sample rates
//! (Schoerkhuber and Klapuri, "Constant-Q
//! transform toolbox for music processing", SMC 2010). Unlike librosa by default (`sparsity=0.01`), no small values of
//! the filters are dropped.

use std::f64::consts::TAU;
use std::ops::Range;

use crate::core::error::{Error, Result};

/// Equivalent noise bandwidth of a Hann window of one second, Hz.
const BANDWIDTH: f64 = 1.5;
/// Highest frequency of an octave as a fraction of the Nyquist frequency after halving. With it, librosa and wmic use
/// the same rates for AACNN21. Up to 0.8 would pass the filter of `halve` at half the work, but then bins 40 to 60 dB
/// below a sine differ from librosa's by some 5 % in the median, not 0.1 %.
const HIGHEST_SHARE: f64 = 0.5;
/// Most taps of all filters of a transform (256 MiB on the GPU).
const MAX_TAPS: f64 = (1u64 << 25) as f64;
const MAX_BINS: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cqt {
    /// Sample rate, Hz.
    pub sr: u32,
    /// Samples from one frame to the next, at least 1. Each factor of 2 in it lets the sample rate be halved once.
    pub hop_length: usize,
    /// Centre frequency of bin 0, Hz.
    pub fmin: f64,
    /// Bins per octave, at least 1.
    pub bins_per_octave: usize,
    /// Bins, at least 1.
    pub n_bins: usize,
}

/// Bins that are computed at one sample rate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stage {
    /// The rate is sr / 2^halvings.
    pub halvings: u32,
    pub bins: Range<usize>,
}

impl Cqt {
    /// Centre frequency of each bin, Hz.
    pub fn bin_hz(&self) -> Vec<f64> {
        (0..self.n_bins).map(|k| self.hz(k)).collect()
    }

    /// Frames of a clip of `samples` (87 for 1 s at 44.1 kHz with a hop of 512).
    pub fn frames(&self, samples: usize) -> usize {
        1 + samples / self.hop_length
    }

    fn hz(&self, k: usize) -> f64 {
        self.fmin * 2f64.powf(k as f64 / self.bins_per_octave as f64)
    }

    /// Bandwidth of a filter relative to its frequency: 1 / Q.
    fn alpha(&self) -> f64 {
        let square = 2f64.powf(2.0 / self.bins_per_octave as f64);
        (square - 1.0) / (square + 1.0)
    }

    /// Samples under filter k at `sr` Hz, not rounded.
    fn length(&self, k: usize, sr: f64) -> f64 {
        sr / (self.alpha() * self.hz(k))
    }

    /// Upper edge of filter k, Hz.
    fn reach(&self, k: usize) -> f64 {
        self.hz(k) * (1.0 + 0.5 * BANDWIDTH * self.alpha())
    }

    pub(crate) fn rate(&self, halvings: u32) -> f64 {
        f64::from(self.sr) / f64::from(halvings).exp2()
    }

    pub(crate) fn check(&self) -> Result<()> {
        let Cqt { sr, hop_length, fmin, bins_per_octave, n_bins } = *self;
        let usage = |reason: String| Err(Error::Usage(reason));
        if !(1..=1_000_000).contains(&sr) || !(1..=1 << 20).contains(&hop_length) {
            return usage(format!("no constant-Q transform has a hop of {hop_length} samples at {sr} Hz"));
        }
        if !(1..=1200).contains(&bins_per_octave) || !(1..=MAX_BINS).contains(&n_bins) {
            return usage(format!("no constant-Q transform has {n_bins} bins, {bins_per_octave} per octave"));
        }
        if !(fmin.is_normal() && fmin > 0.0) {
            return usage(format!("a constant-Q transform needs fmin above 0 Hz, got {fmin}"));
        }
        let (nyquist, reach) = (f64::from(sr) / 2.0, self.reach(n_bins - 1));
        if reach > nyquist {
            return usage(format!(
                "{n_bins} constant-Q bins from {fmin} Hz reach up to {reach:.0} Hz, beyond half the sample rate \
                 ({nyquist} Hz): use fewer"
            ));
        }
        let bins = self.stages().into_iter().flat_map(|stage| stage.bins.map(move |k| (k, stage.halvings)));
        let taps: f64 = bins.map(|(k, halvings)| self.length(k, self.rate(halvings))).sum();
        if taps > MAX_TAPS {
            return usage(format!(
                "constant-Q filters from {fmin} Hz on take {taps:.1e} values, more than the {MAX_TAPS:.1e} allowed: \
                 raise fmin, lower the bins per octave, or take a hop with more factors of 2 than {hop_length}"
            ));
        }
        Ok(())
    }

    /// Bins by sample rate, from the highest down. Octaves count from the top; each halves the rate as often as leaves
    /// its highest filter below [`HIGHEST_SHARE`] and frame centres on samples.
    pub(crate) fn stages(&self) -> Vec<Stage> {
        let mut stages: Vec<Stage> = vec![];
        let mut top = self.n_bins;
        while top > 0 {
            let bins = top.saturating_sub(self.bins_per_octave)..top;
            let fits = |halvings: u32| self.reach(top - 1) <= HIGHEST_SHARE * self.rate(halvings) / 2.0;
            let halvings = (1..=self.hop_length.trailing_zeros()).take_while(|n| fits(*n)).last().unwrap_or(0);
            top = bins.start;
            match stages.last_mut() {
                Some(last) if last.halvings == halvings => last.bins.start = top,
                _ => stages.push(Stage { halvings, bins }),
            }
        }
        stages
    }
}

/// Filters of neighbouring bins at one sample rate, in groups of four.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WaveletBank {
    filters: usize,
    centre: usize,
    groups: Vec<[u32; 3]>,
    taps: Vec<[f32; 8]>,
}

impl WaveletBank {
    /// The filters of `bins` at `sr` Hz; the gain sqrt(L_k) is of the transform's own rate.
    pub(crate) fn new(config: &Cqt, sr: f64, bins: Range<usize>) -> WaveletBank {
        // Filter k covers the samples from 1 - floor(L / 2) to ceil(L / 2) - 1 around the centre; longest is the first.
        let reach = |k: usize| {
            let half = config.length(k, sr) / 2.0;
            (half.floor() as usize - 1, half.ceil() as usize)
        };
        let (centre, _) = reach(bins.start);
        let mut bank = WaveletBank { filters: bins.len(), centre, groups: vec![], taps: vec![] };
        for start in bins.clone().step_by(4) {
            let (before, after) = reach(start);
            let (at, count) = (bank.taps.len(), (before + after).next_multiple_of(4));
            bank.groups.push([centre - before, count, at].map(|v| v as u32));
            bank.taps.resize(at + count, [0.0; 8]);
            for k in start..(start + 4).min(bins.end) {
                let (own, end) = reach(k);
                // librosa's window of n samples begins with a 0, ceil(L / 2) after the centre (its filters run
                // backwards).
                let n = (config.length(k, sr) / 2.0).floor() + end as f64;
                let window = |i: usize| 0.5 - 0.5 * (TAU * (i + 1) as f64 / n).cos();
                let taps = own + end;
                let sum: f64 = (0..taps).map(window).sum();
                let gain = config.length(k, config.sr.into()).sqrt() / sum;
                for j in 0..taps {
                    let angle = TAU * config.hz(k) / sr * (j as f64 - own as f64);
                    let (tap, part) = (&mut bank.taps[at + before - own + j], k - start);
                    let v = gain * window(taps - 1 - j);
                    (tap[part], tap[4 + part]) = ((v * angle.cos()) as f32, (-v * angle.sin()) as f32);
                }
            }
        }
        bank
    }

    /// Filters of the bank.
    pub fn filters(&self) -> usize {
        self.filters
    }

    /// Samples before the frame's centre of the longest filter.
    pub fn centre(&self) -> usize {
        self.centre
    }

    /// First sample (counted from `centre` before the frame's), taps (a multiple of 4), and index of the first tap of
    /// each group.
    pub fn groups(&self) -> &[[u32; 3]] {
        &self.groups
    }

    /// Four real and four imaginary parts per tap, of all groups, one after the other.
    pub(crate) fn taps(&self) -> &[[f32; 8]] {
        &self.taps
    }
}
