//! What the sound of an instance is like, without its course: moments of its log-mel spectrum.

use crate::metrics::scores::{mean, std_dev};

/// Values of a row; of more, neighbours are averaged.
const BANDS: usize = 64;

/// Moments of a spectrum of so many bands.
pub fn width(bands: usize) -> usize {
    2 * bands.div_ceil(bands.div_ceil(BANDS))
}

/// The mean of each band over the frames of an instance, (frames, bands), then the standard deviations; see [`width`].
pub fn moments(instance: &[f32], bands: usize) -> Vec<f32> {
    let group = bands.div_ceil(BANDS);
    let of = |of_row: fn(Vec<Option<f64>>) -> Option<f64>| {
        (0..bands).step_by(group).map(move |first| {
            let row = |row: &[f32]| mean(row[first..(first + group).min(bands)].iter().map(|v| Some(f64::from(*v))));
            of_row(instance.chunks_exact(bands).map(row).collect()).unwrap_or(0.0) as f32
        })
    };
    of(mean).chain(of(std_dev)).collect()
}
