//! Band-limited resampling by a fixed ratio, of whole clips or block by block.
//!
//! Windowed-sinc filters applied by FFT overlap-add (rubato's synchronous resampler). The filter is long enough for the
//! pass band to reach [`PASS_BAND`] of the lower of the two Nyquist frequencies.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler as _, WindowFunction};

use crate::core::error::{Error, Result};

/// Fraction of the lower Nyquist frequency up to which sines keep their amplitude, to within 1e-4.
pub const PASS_BAND: f64 = 0.95;
/// Least length of the filter in samples at the lower of the two rates.
const FILTER: usize = 1024;

/// A resampler for a stream. The delay of the filter is removed.
pub struct Resampler {
    /// `None` when the rates are equal.
    fft: Option<Fft<f32>>,
    from: u64,
    to: u64,
    /// Buffered input, less than a chunk.
    waiting: Vec<f32>,
    chunk: Vec<f32>,
    /// Output still to be dropped: the delay of the filter.
    late: usize,
    consumed: u64,
    produced: u64,
}

/// Resamples all of `samples` from `from` to `to` Hz: ceil(len to / from) samples.
///
/// # Errors
/// `Usage` if a rate is 0 or above 1 MHz.
pub fn resample(samples: &[f32], from: u32, to: u32) -> Result<Vec<f32>> {
    let mut out = vec![];
    let mut resampler = Resampler::new(from, to)?;
    resampler.push(samples, &mut out);
    resampler.finish(&mut out);
    Ok(out)
}

impl Resampler {
    /// From `from` Hz to `to` Hz.
    ///
    /// # Errors
    /// `Usage` if a rate is 0 or above 1 MHz.
    pub fn new(from: u32, to: u32) -> Result<Resampler> {
        let possible = |rate| (1..=1_000_000).contains(&rate);
        if !possible(from) || !possible(to) {
            return Err(Error::Usage(format!("cannot resample from {from} to {to} Hz")));
        }
        let fft = (from != to).then(|| {
            // A chunk has the length of the filter: an even multiple of the shortest duration that is a whole number of
            // samples at both rates. With an odd one the centre of the filter would fall between two samples, and so
            // would the output.
            let span = FILTER as f64 * f64::from(from) / f64::from(from.min(to));
            let stretch = (from / gcd(from, to)) as usize;
            let chunk = stretch * (span as usize).div_ceil(stretch).next_multiple_of(2);
            let (from, to, window) = (from as usize, to as usize, WindowFunction::BlackmanHarris);
            Fft::new_custom(from, to, chunk, 1, 1, window, FixedSync::Both).expect("rates are not 0")
        });
        let late = fft.as_ref().map_or(0, |fft| fft.output_delay());
        let (waiting, chunk) = (vec![], vec![]);
        Ok(Resampler { fft, from: from.into(), to: to.into(), waiting, chunk, late, consumed: 0, produced: 0 })
    }

    /// Takes `samples` and appends the available output to `out`.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.consumed += samples.len() as u64;
        let Some(size) = self.fft.as_ref().map(|fft| fft.input_frames_next()) else {
            return out.extend_from_slice(samples);
        };
        self.waiting.extend_from_slice(samples);
        let mut at = 0;
        while self.waiting.len() - at >= size {
            self.chunk(at, size, out);
            at += size;
        }
        self.waiting.drain(..at);
    }

    /// Appends the rest to `out`.
    pub fn finish(mut self, out: &mut Vec<f32>) {
        if self.fft.is_none() {
            return;
        }
        let total = (self.consumed * self.to).div_ceil(self.from);
        let mut len = self.waiting.len();
        while self.produced < total {
            self.chunk(0, len, out);
            len = 0;
        }
        out.truncate(out.len() - (self.produced - total) as usize);
    }

    /// Resamples one chunk: `len` waiting samples from `at` on, then zeros.
    fn chunk(&mut self, at: usize, len: usize, out: &mut Vec<f32>) {
        let fft = self.fft.as_mut().expect("called only when the rates differ");
        let (size, frames) = (fft.input_frames_next(), fft.output_frames_next());
        self.waiting.resize(self.waiting.len().max(at + size), 0.0);
        self.chunk.resize(frames, 0.0);
        let input = InterleavedSlice::new(&self.waiting[at..at + size], 1, size).expect("one channel of that length");
        let mut output = InterleavedSlice::new_mut(&mut self.chunk, 1, frames).expect("one channel of that length");
        let indexing = Indexing::new().partial_len(len);
        fft.process_into_buffer(&input, &mut output, Some(&indexing)).expect("buffers of the lengths asked for");
        let late = self.late.min(frames);
        self.late -= late;
        self.produced += (frames - late) as u64;
        out.extend_from_slice(&self.chunk[late..]);
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
