//! Mean and deviation of each value of the instances of training clips, for standardised inputs.

use half::f16;

use crate::core::error::Result;
use crate::features::device_dataset::DeviceDataset;
use crate::gpu::Gpu;
use crate::ops::gather::Encoding;

/// Values read back at once.
const PORTION: usize = 4 << 20;

/// Mean and deviation of the values of some instances.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ColumnStatistics {
    /// (F)
    pub mean: Vec<f32>,
    /// (F); 1 where all values are the same.
    pub deviation: Vec<f32>,
}

/// Sums over instances, of differences from the first.
#[derive(Clone, Default)]
struct Sums {
    n: f64,
    first: Vec<f64>,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl Sums {
    fn add(&mut self, instance: &[f32]) {
        if self.first.is_empty() {
            self.first = instance.iter().map(|v| f64::from(*v)).collect();
            self.sums = vec![0.0; instance.len()];
            self.squares = vec![0.0; instance.len()];
        }
        self.n += 1.0;
        let columns = self.first.iter().zip(&mut self.sums).zip(&mut self.squares);
        for (v, ((first, sum), square)) in instance.iter().zip(columns) {
            let d = f64::from(*v) - first;
            *sum += d;
            *square += d * d;
        }
    }

    fn statistics(&self) -> ColumnStatistics {
        let mean = self.first.iter().zip(&self.sums).map(|(first, sum)| (first + sum / self.n) as f32).collect();
        let deviation = |(sum, square): (&f64, &f64)| {
            let variance = square / self.n - (sum / self.n).powi(2);
            if variance > 0.0 { variance.sqrt() as f32 } else { 1.0 }
        };
        ColumnStatistics { mean, deviation: self.sums.iter().zip(&self.squares).map(deviation).collect() }
    }
}

/// Of the valid instances of the clips of each pool, in f64, in the order of the dataset.
///
/// # Errors
/// `Gpu` for a lost device.
pub(crate) fn column_statistics(gpu: &Gpu, data: &DeviceDataset, pools: &[Vec<u32>]) -> Result<Vec<ColumnStatistics>> {
    let dims = data.dims;
    let mut pools_of = vec![vec![]; dims.clips];
    for (pool, clips) in pools.iter().enumerate() {
        clips.iter().for_each(|clip| pools_of[*clip as usize].push(pool));
    }
    let lengths = data.lengths(gpu)?;
    let mut sums = vec![Sums::default(); pools.len()];
    let each = dims.instances * dims.width;
    for first in (0..dims.clips).step_by((PORTION / each).max(1)) {
        let clips = first..dims.clips.min(first + (PORTION / each).max(1));
        let words = data.words(gpu, clips.clone())?;
        for (clip, words) in clips.zip(words.chunks_exact(dims.clip_bytes() as usize / 4)) {
            if pools_of[clip].is_empty() {
                continue;
            }
            let values = decoded(words, dims.encoding);
            for instance in values.chunks_exact(dims.width).take(lengths[clip] as usize) {
                pools_of[clip].iter().for_each(|pool| sums[*pool].add(instance));
            }
        }
    }
    Ok(sums.iter().map(Sums::statistics).collect())
}

/// The values of stored words, as the model gets them.
fn decoded(words: &[u32], encoding: Encoding) -> Vec<f32> {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    match encoding {
        Encoding::Bytes => bytes.map(|byte| f32::from(byte) / 255.0).collect(),
        Encoding::Halves => {
            let half = |bits: u32| f16::from_bits(bits as u16).to_f32();
            words.iter().flat_map(|word| [half(*word), half(word >> 16)]).collect()
        }
        Encoding::Floats => words.iter().map(|word| f32::from_bits(*word)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_those_of_two_passes_and_constant_values_have_the_deviation_1() {
        let instances: Vec<[f32; 3]> = (0..50).map(|i| [1e4 + (i * 7 % 13) as f32, 5.1, -(i as f32)]).collect();
        let mut sums = Sums::default();
        instances.iter().for_each(|instance| sums.add(instance));
        let got = sums.statistics();
        assert_eq!([got.mean[1], got.deviation[1]], [5.1, 1.0]);
        for c in [0, 2] {
            let mean = instances.iter().map(|x| f64::from(x[c])).sum::<f64>() / 50.0;
            let variance = instances.iter().map(|x| (f64::from(x[c]) - mean).powi(2)).sum::<f64>() / 50.0;
            assert_eq!([got.mean[c], got.deviation[c]], [mean as f32, variance.sqrt() as f32]);
        }
    }
}
