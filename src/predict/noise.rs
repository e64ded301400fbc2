//! Steady noise, such as hiss, hum with hiss, or rain: in it one moment says nothing of the next ones.

use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

use crate::metrics::scores::std_dev;
use crate::predict::domain::listed;

/// Seconds of a frame. Frames do not overlap, so that those of noise are independent.
const FRAME: f64 = 0.032;
/// Fewest seconds that are judged by themselves, and after noise.
const SHORTEST: f64 = 2.5;
const REST: f64 = 0.25;
/// Hz.
const LOWEST: f64 = 100.0;
const HIGHEST: f64 = 7500.0;
const BANDS: usize = 12;
/// Largest correlations of the log energy of a band with that of the next frame, the mean over the bands and that of
/// any. In 10 s of white, pink or red noise they are at most .05 and .2; of 5 000 mixtures of notes, 5 to 10 s long,
/// one has a mean below .1, five one below .22.
const MEAN: f64 = 0.1;
const ANY: f64 = 0.35;
/// The same of what is too short and follows noise, the mean.
const MEAN_OF_REST: f64 = 0.2;
/// Least correlation with each of the next frames, the median over the bands. Strokes and notes that are repeated
/// evenly are loud and soft by turns, in most bands.
const MEDIAN: f64 = -0.15;
const FRAMES: usize = 3;
/// Hz of the mains. Of their hum, a frame is not a whole number of periods, so that it differs from the next one, too;
/// but each period has the same energy: the standard deviation of its logarithm is at most this. That of repeated notes
/// is mostly above 0.1.
const MAINS: [u32; 2] = [50, 60];
const HUM: f64 = 0.05;

/// Whether there is nothing but steady noise in the samples, at `sr` Hz. `goes_on`: whether it was noise before.
pub(super) fn is_noise(samples: &[f32], sr: u32, goes_on: bool) -> bool {
    let len = (FRAME * f64::from(sr)) as usize;
    let seconds = samples.len() as f64 / f64::from(sr);
    if seconds < REST || seconds < SHORTEST && !goes_on || len < 2 {
        return false;
    }
    let hz = |bin: usize| bin as f64 * f64::from(sr) / len as f64;
    let band = |bin: usize| (hz(bin) / LOWEST).ln() / (HIGHEST / LOWEST).ln() * BANDS as f64;
    let fft = FftPlanner::new().plan_fft_forward(len);
    let hann = |i: usize| 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / len as f64).cos();
    let mut levels = vec![vec![]; BANDS];
    for frame in samples.chunks_exact(len) {
        let mut values: Vec<Complex<f64>> =
            frame.iter().enumerate().map(|(i, v)| Complex::new(f64::from(*v) * hann(i), 0.0)).collect();
        fft.process(&mut values);
        let mut energies = [0.0; BANDS];
        for (bin, value) in values.iter().enumerate().take(len / 2) {
            let band = band(bin);
            if (0.0..BANDS as f64).contains(&band) {
                energies[band as usize] += value.norm_sqr();
            }
        }
        levels.iter_mut().zip(energies).for_each(|(of_band, energy)| of_band.push((energy + f64::EPSILON).ln()));
    }
    let after = |frames| -> Vec<f64> { levels.iter().map(|of_band| correlation(of_band, frames)).collect() };
    let next = after(1);
    let mean = next.iter().sum::<f64>() / BANDS as f64;
    if seconds < SHORTEST {
        return mean < MEAN_OF_REST;
    }
    let is_even = || (1..=FRAMES).any(|frames| median(after(frames)) < MEDIAN);
    let is_steady = || !is_even() || is_hum(samples, sr);
    mean < MEAN && next.iter().all(|correlation| *correlation < ANY) && is_steady()
}

/// Whether all periods of the mains have the same energy.
fn is_hum(samples: &[f32], sr: u32) -> bool {
    let level = |period: &[f32]| (period.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() + f64::EPSILON).ln();
    MAINS.iter().any(|hz| {
        let levels = samples.chunks_exact((sr / hz).max(1) as usize).map(level);
        std_dev(levels.map(Some)).is_some_and(|deviation| deviation < HUM)
    })
}

/// The correlation of values with those that follow them by `lag`; 0 if all are equal.
fn correlation(values: &[f64], lag: usize) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    let product: f64 = values.iter().zip(&values[lag..]).map(|(v, later)| (v - mean) * (later - mean)).sum();
    if variance > 0.0 { product / variance } else { 0.0 }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The warning for a recording with noise in these parts, from and to seconds; `None` if there are none.
pub(super) fn warning(parts: &[(f64, f64)], duration: f64) -> Option<String> {
    match parts {
        [] => None,
        [(start, end)] if *start == 0.0 && *end >= duration - FRAME => {
            Some("is steady noise, in which nothing counts as present".into())
        }
        parts => Some(format!(
            "has parts that are steady noise, in which nothing counts as present: {}",
            listed(parts, duration)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::random::Stream;

    const SR: u32 = 16_000;

    #[test]
    fn noise_of_any_colour_is_noise_and_music_is_not() {
        let mut random = Stream::new(1, 0);
        let white: Vec<f32> = (0..5 * SR).map(|_| random.normal(0.1) as f32).collect();
        let mut level = 0.0;
        let red: Vec<f32> = white
            .iter()
            .map(|v| {
                level = 0.99 * level + v;
                level
            })
            .collect();
        let at = |i: usize| i as f32 / SR as f32;
        let harmonic =
            |i: usize, n: usize| (std::f64::consts::TAU * (50 * n * i) as f64 / f64::from(SR)).sin() / n as f64;
        let hum = |i| (1..8).map(|n| harmonic(i, n)).sum::<f64>() as f32;
        let with = |hiss: f32| white.iter().enumerate().map(|(i, v)| hum(i) + hiss * v).collect();
        let [hum, hum_with_hiss]: [Vec<f32>; 2] = [with(0.0), with(0.1)];
        for (name, noise) in [("white", &white), ("red", &red), ("hum", &hum), ("hum with hiss", &hum_with_hiss)] {
            assert!(is_noise(noise, SR, false), "{name}");
            assert!(!is_noise(&noise[..2 * SR as usize], SR, false), "{name}: too short");
            assert!(is_noise(&noise[..2 * SR as usize], SR, true), "{name}: the rest");
        }
        // Strokes on a cymbal, one every half second.
        let strokes: Vec<f32> = white.iter().enumerate().map(|(i, v)| v * (-4.0 * (at(i) % 0.5)).exp()).collect();
        // A roll, a stroke every eighth of a second.
        let roll: Vec<f32> = white.iter().enumerate().map(|(i, v)| v * (-16.0 * (at(i) % 0.125)).exp()).collect();
        let tone: Vec<f32> = (0..5 * SR as usize).map(|i| (std::f32::consts::TAU * 440.0 * at(i)).sin()).collect();
        for music in [&strokes[..], &roll, &tone, &strokes[..SR as usize], &tone[..SR as usize]] {
            assert!(!is_noise(music, SR, true));
        }
    }
}
