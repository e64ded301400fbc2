//! Silence: instances of an excerpt that are too quiet to count are cut out before the model sees them.

use crate::core::numbers::duration;

/// RMS level in dB of full scale below which an instance is silent whatever surrounds it: below 16 bits' dither, at -96
/// dB, by a margin that noisy converters need.
pub(crate) const ABSOLUTE: f32 = -80.0;

/// Seconds of the frames by which the end of an excerpt is found.
const FRAME: f64 = 0.01;

/// The warning of a recording of so many seconds without sound. In less than a frame no level can be told.
pub(crate) fn warning(seconds: f64) -> String {
    match seconds < FRAME {
        true => format!("is too short, {}: at least {} are needed", duration(seconds), duration(FRAME)),
        false => format!("is silent: nothing is louder than {ABSOLUTE} dB of full scale"),
    }
}

/// The loudest of a recording, in dB of full scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Loudest {
    /// RMS of an instance.
    pub instance: f32,
    /// A single sample.
    pub sample: f32,
}

impl Loudest {
    pub(crate) const NOTHING: Loudest = Loudest { instance: f32::NEG_INFINITY, sample: f32::NEG_INFINITY };
    pub(crate) const FULL_SCALE: Loudest = Loudest { instance: 0.0, sample: 0.0 };

    pub fn max(self, other: Loudest) -> Loudest {
        Loudest { instance: self.instance.max(other.instance), sample: self.sample.max(other.sample) }
    }

    /// dB of full scale below which instances are silent, if those `relative` dB below the peak are; the loudest one
    /// only by the absolute limit.
    pub fn gate(self, relative: f32) -> f32 {
        ABSOLUTE.max((self.sample - relative).min(self.instance))
    }
}

/// Levels of the instances of an excerpt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Levels {
    /// Samples of an instance.
    block: usize,
    /// dB of full scale, of each instance; the last may be shorter than the others.
    pub instances: Vec<f32>,
    /// dB of full scale of the largest sample, about the mean of its instance.
    peak: f32,
    /// Samples of a frame.
    frame: usize,
    scale: f32,
}

/// An excerpt without its silent instances.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Audible {
    pub samples: Vec<f32>,
    /// Which of the excerpt's instances are left, rising.
    pub instances: Vec<usize>,
    /// Samples from the excerpt's start to the end of its last sound.
    pub end: usize,
}

impl Levels {
    /// Of samples at `sr` Hz with instances of `instance` seconds; times `scale` they are the recording's own.
    pub fn of(samples: &[f32], sr: u32, instance: f64, scale: f32) -> Levels {
        let block = ((instance * f64::from(sr)).round() as usize).max(1);
        let frame = ((FRAME * f64::from(sr)).round() as usize).clamp(1, block);
        let instances = samples.chunks(block).map(|part| level(part, scale)).collect();
        let peak = samples.chunks(block).map(largest).fold(0.0, f32::max);
        Levels { block, instances, peak: 20.0 * (peak * scale).log10(), frame, scale }
    }

    /// Nothing without samples.
    pub fn loudest(&self) -> Loudest {
        Loudest { instance: self.instances.iter().copied().fold(f32::NEG_INFINITY, f32::max), sample: self.peak }
    }

    /// What of the samples is at least as loud as `gate`: whole instances side by side, and after the last one nothing
    /// of the silence that follows its sound. `None` if all is silent.
    pub(crate) fn audible(&self, samples: &[f32], gate: f32) -> Option<Audible> {
        let instances: Vec<usize> = (0..self.instances.len()).filter(|&i| self.instances[i] >= gate).collect();
        let last = *instances.last()?;
        let start = last * self.block;
        let block = &samples[start..(start + self.block).min(samples.len())];
        let sound = block.chunks(self.frame).rposition(|frame| level(frame, self.scale) >= gate);
        // A sound may be louder over the whole instance than in any frame, whose own mean is another.
        let end = start + sound.map_or(block.len(), |i| ((i + 1) * self.frame).min(block.len()));
        let part = |i: usize| &samples[i * self.block..((i + 1) * self.block).min(end)];
        Some(Audible { samples: instances.iter().flat_map(|&i| part(i)).copied().collect(), instances, end })
    }
}

/// dB of full scale of the RMS about the mean: a constant offset is silent. Times `scale` the samples are the
/// recording's own.
pub(super) fn level(samples: &[f32], scale: f32) -> f32 {
    let n = samples.len() as f64;
    let (sum, squares) =
        samples.iter().map(|v| f64::from(*v)).fold((0.0, 0.0), |(sum, squares), v| (sum + v, squares + v * v));
    let variance = (squares / n - (sum / n).powi(2)).max(0.0);
    (10.0 * variance.log10() + 20.0 * f64::from(scale).log10()) as f32
}

/// The largest magnitude about the mean.
fn largest(samples: &[f32]) -> f32 {
    let mean = (samples.iter().map(|v| f64::from(*v)).sum::<f64>() / samples.len() as f64) as f32;
    samples.iter().map(|v| (v - mean).abs()).fold(0.0, f32::max)
}
