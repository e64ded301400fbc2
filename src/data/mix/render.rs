//! Sound from plans.
//!
//! The same bits on every machine: the FFT is RustFFT's scalar one, whose factors are computed in f64 and rounded to
//! f32; sums have one order; other functions are those of [`crate::core::portable`]; noise is uniform, from counters.

use std::f64::consts::LOG2_10;
use std::ops::Range;
use std::sync::Arc;

use rand::RngExt;
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlannerScalar};

use super::notes::{Notes, SR};
use super::recipe::{Equaliser, LONGEST_ROOM, Placed, Plan, Room, Swell, Track};
use crate::core::portable::{amplitude, exp2, log2, tanh};
use crate::core::random::Counter;

/// Samples from one point of the times to the next: 50 ms.
pub const HOP: usize = SR as usize / 20;
/// RMS of a mixture.
const RMS: f64 = 0.08;
/// Samples of the fade at the end of a note, at most half of it: 30 ms.
const FADE: usize = SR as usize * 3 / 100;
/// Bins of the FFT from one value of a frequency response to the next, between which it is linear.
const STEP: usize = 32;
/// An instrument plays where its level is above this fraction of its loudest half second (-26 dB), and in rests of less
/// than half a second between.
const ACTIVE: f64 = 0.05;
const HALF_SECOND: usize = SR as usize / 2 / HOP;

pub struct Renderer {
    samples: usize,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    /// Octaves from 1 kHz of every `STEP`th bin.
    octaves: Vec<f64>,
}

impl Renderer {
    pub fn new(samples: usize) -> Renderer {
        // The tail of a room must not reach round to the start.
        let len = (samples + (LONGEST_ROOM * f64::from(SR)) as usize).next_power_of_two();
        let octave = |bin: usize| log2((bin.max(1) as f64 * f64::from(SR) / len as f64) / 1_000.0);
        let mut planner = FftPlannerScalar::new();
        Renderer {
            samples,
            forward: planner.plan_fft_forward(len),
            inverse: planner.plan_fft_inverse(len),
            octaves: (0..=len / 2).step_by(STEP).map(octave).collect(),
        }
    }

    /// A mixture, and for each track the hops in which it plays.
    pub fn mixture(&self, notes: &Notes, plan: &Plan) -> (Vec<f32>, Vec<Vec<Range<usize>>>) {
        let mut mix = vec![0.0f32; self.samples];
        let times = plan.tracks.iter().map(|track| {
            let sound = self.track(notes, track);
            let (gain, times) = levelled(&sound);
            let gain = (amplitude(track.level_db) * gain) as f32;
            mix.iter_mut().zip(&sound).for_each(|(mix, v)| *mix += gain * v);
            times
        });
        let times = times.collect();
        plan.alone.iter().for_each(|swell| swell.add_to(&mut mix));
        if plan.room.is_some() || plan.eq.is_some() {
            self.filter(&mut mix, plan.eq.as_ref(), plan.room.as_ref());
        }
        scale_to_rms(&mut mix);
        if let Some((level_db, seed)) = plan.noise {
            let mut rng = Counter::new(seed, [0; 3]);
            // Uniform in +-1 has an RMS of 1 / sqrt(3).
            let bound = (RMS * amplitude(level_db) * 3f64.sqrt()) as f32;
            mix.iter_mut().for_each(|v| *v += rng.random_range(-bound..bound));
        }
        if let Some(drive) = plan.drive {
            mix.iter_mut().for_each(|v| *v = tanh(f64::from(*v) * drive) as f32);
        }
        scale_to_rms(&mut mix);
        mix.iter_mut().for_each(|v| *v = v.clamp(-1.0, 1.0));
        (mix, times)
    }

    /// A track before its level.
    pub fn track(&self, notes: &Notes, track: &Track) -> Vec<f32> {
        let mut sound = vec![0.0; self.samples];
        track.speech.iter().for_each(|speech| speech.add_to(&mut sound));
        track.notes.iter().for_each(|placed| play(&notes.notes[placed.note].samples, placed, &mut sound));
        self.filter(&mut sound, Some(&track.eq), track.room.as_ref());
        sound
    }

    /// Applies an equaliser and a room in place.
    ///
    /// Sound and room response are the real and the imaginary part of one transform: the spectrum of the first is its
    /// part with Hermitian symmetry, that of the second the rest. Of equal energy, neither drowns in the rounding
    /// errors of the other.
    fn filter(&self, sound: &mut [f32], eq: Option<&Equaliser>, room: Option<&Room>) {
        let n = self.forward.len();
        let size = energy(sound).sqrt().max(1e-9);
        let mut bins = vec![Complex32::default(); n];
        bins.iter_mut().zip(&*sound).for_each(|(bin, v)| bin.re = *v);
        if let Some(room) = room {
            bins.iter_mut().zip(reflections(room, size)).for_each(|(bin, v)| bin.im = v);
        }
        self.forward.process(&mut bins);
        let wet = room.map_or(0.0, |room| (amplitude(room.level_db) / size) as f32);
        let gains: Vec<f32> = match eq {
            Some(eq) => self.octaves.iter().map(|octave| amplitude(eq.gain_db(*octave)) as f32).collect(),
            None => vec![1.0; self.octaves.len()],
        };
        for k in 0..=n / 2 {
            let mirror = (n - k) % n;
            let (a, b) = (bins[k], bins[mirror].conj());
            let (dry, rest) = ((a + b) * 0.5, (a - b) * 0.5);
            let reflected = Complex32::new(1.0 + wet * rest.im, -wet * rest.re);
            let (at, part) = (k / STEP, (k % STEP) as f32 / STEP as f32);
            let next = gains.get(at + 1).unwrap_or(&gains[at]);
            let bin = dry * reflected * (gains[at] + part * (next - gains[at]));
            (bins[k], bins[mirror]) = (bin, bin.conj());
        }
        self.inverse.process(&mut bins);
        sound.iter_mut().zip(&bins).for_each(|(v, bin)| *v = bin.re / n as f32);
    }
}

impl Swell {
    fn add_to(&self, sound: &mut [f32]) {
        let mut rng = Counter::new(self.seed, [0; 3]);
        let step = (self.levels_db.len() - 1) as f64 / sound.len() as f64;
        for (i, v) in sound.iter_mut().enumerate() {
            let place = i as f64 * step;
            let (here, next) = (self.levels_db[place as usize], self.levels_db[place as usize + 1]);
            let level = amplitude(here + place.fract() * (next - here));
            *v += (level * rng.random_range(-1.0..1.0)) as f32;
        }
    }
}

/// Adds a note: resampled by linear interpolation, faded out at its end.
fn play(note: &[i16], placed: &Placed, sound: &mut [f32]) {
    let gain = amplitude(placed.level_db) / f64::from(i16::MAX);
    let fade = FADE.min(placed.len / 2);
    for (i, out) in sound[placed.at..placed.at + placed.len].iter_mut().enumerate() {
        let place = i as f64 * placed.speed;
        let (at, part) = (place as usize, place - (place as usize) as f64);
        let (here, next) = (f64::from(note[at]), f64::from(note[at + 1]));
        let left = ((placed.len - 1 - i) as f64 / (fade - 1) as f64).min(1.0);
        *out += (gain * left * (here + part * (next - here))) as f32;
    }
}

/// The reflections of a room; the square root of their energy is `size`.
fn reflections(room: &Room, size: f64) -> Vec<f32> {
    let mut rng = Counter::new(room.seed, [0; 3]);
    let decay = exp2(-60.0 / 20.0 * LOG2_10 / room.len as f64);
    let mut level = 1.0;
    let mut noise = |i: usize| {
        let noise = rng.random_range(-1.0..1.0);
        level *= decay;
        if i > room.delay { (noise * level) as f32 } else { 0.0 }
    };
    let mut response: Vec<f32> = (0..room.len).map(&mut noise).collect();
    let scale = (size / energy(&response).sqrt()) as f32;
    response.iter_mut().for_each(|v| *v *= scale);
    response
}

fn energy(samples: &[f32]) -> f64 {
    samples.iter().map(|v| f64::from(*v) * f64::from(*v)).sum()
}

fn scale_to_rms(samples: &mut [f32]) {
    let rms = (energy(samples) / samples.len() as f64).sqrt();
    let gain = (RMS / rms.max(1e-9)) as f32;
    samples.iter_mut().for_each(|v| *v *= gain);
}

/// The hops in which a track plays, and the factor to an RMS of 1 there.
pub fn levelled(sound: &[f32]) -> (f64, Vec<Range<usize>>) {
    let hops: Vec<f64> = sound.chunks(HOP).map(|hop| energy(hop) / hop.len() as f64).collect();
    let loudest = hops.windows(HALF_SECOND).map(|w| w.iter().sum::<f64>() / HALF_SECOND as f64).fold(0.0, f64::max);
    let mut times: Vec<Range<usize>> = vec![];
    for hop in (0..hops.len()).filter(|&hop| hops[hop] > 0.0 && hops[hop] >= ACTIVE * ACTIVE * loudest) {
        match times.last_mut() {
            Some(last) if hop - last.end < HALF_SECOND => last.end = hop + 1,
            _ => times.push(hop..hop + 1),
        }
    }
    let active: usize = times.iter().map(|time| (time.end * HOP).min(sound.len()) - time.start * HOP).sum();
    (1.0 / (energy(sound) / active.max(1) as f64).sqrt().max(1e-9), times)
}
