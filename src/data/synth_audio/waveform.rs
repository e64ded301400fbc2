//! Waveform generators. Each adds one note to a buffer at [`SR`] Hz.
//!
//! Only +, -, *, / and sqrt on f64 are used, which IEEE 754 defines exactly, and no function of the platform's math
//! library: hence identical samples on every machine.

use crate::core::portable::exp2;
use rand::{Rng, RngExt};
use std::f64::consts::{LN_2, TAU};

/// Sample rate, Hz: all that VGGish's features need.
pub const SR: u32 = 16_000;
const RATE: f64 = SR as f64;
/// Maximum frequency of harmonics, below half the sample rate, Hz.
const HIGHEST: f64 = 7_400.0;
/// Samples between two updates of pitch and spectrum.
const BLOCK: usize = 32;

/// A wind or string instrument, reed, pipe or voice that sounds as long as it is driven: a sum of harmonics.
#[derive(Clone, Copy)]
pub(crate) struct Sustained {
    /// Amplitudes of the harmonics, from the fundamental on.
    pub partials: &'static [f64],
    /// Resonances, one set drawn for each note: centre (Hz), half width (Hz), gain. Without any, harmonics are
    /// unchanged.
    pub formants: &'static [&'static [(f64, f64, f64)]],
    /// Seconds until full amplitude, and of the fall at the end.
    pub attack: f64,
    pub release: f64,
    /// Factor from each harmonic to the next: at the onset, later, and the seconds in between.
    pub brightness: (f64, f64, f64),
    /// Rate (Hz), depth in semitones, depth of the amplitude (0 to 1).
    pub vibrato: (f64, f64, f64),
    /// Semitones by which the pitch starts too low.
    pub scoop: f64,
    /// Semitones between two voices of the same note; 0 for a single voice.
    pub detune: f64,
    /// Amplitude of the noise of breath or bow, relative to the tone's.
    pub noise: f64,
}

/// Defaults of the others.
pub const PLAIN: Sustained = Sustained {
    partials: &[1.0],
    formants: &[],
    attack: 0.02,
    release: 0.04,
    brightness: (1.0, 1.0, 1.0),
    vibrato: (5.0, 0.0, 0.0),
    scoop: 0.0,
    detune: 0.0,
    noise: 0.0,
};

impl Sustained {
    pub fn note(&self, pitch: f64, rng: &mut impl Rng, out: &mut [f64]) {
        let set = match self.formants {
            [] => None,
            sets => Some(sets[rng.random_range(0..sets.len())]),
        };
        let spectrum: Vec<f64> = (1..)
            .zip(self.partials)
            .map(|(n, a)| (f64::from(n) * pitch, a))
            .take_while(|(f, _)| *f < HIGHEST)
            .map(|(f, a)| a * set.map_or(1.0, |set| resonance(set, f)))
            .collect();
        let tune = exp2(self.detune / 24.0);
        let pitches: &[f64] = if self.detune > 0.0 { &[pitch * tune, pitch / tune] } else { &[pitch] };
        for &pitch in pitches {
            self.tone(pitch, &spectrum, rng, out);
        }
    }

    fn tone(&self, pitch: f64, spectrum: &[f64], rng: &mut impl Rng, out: &mut [f64]) {
        let length = out.len() as f64 / RATE;
        let (rate, bend, swell) = self.vibrato;
        let (at_onset, later, turn) = self.brightness;
        let (mut phase, mut wobble): (f64, f64) = (0.0, rng.random_range(0.0..1.0));
        let mut amplitudes = vec![0.0; spectrum.len()];
        let mut smooth = 0.0;
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let t = (block * BLOCK) as f64 / RATE;
            let lfo = sine(wobble);
            wobble += rate * BLOCK as f64 / RATE;
            // A player's vibrato begins after the note.
            let bend = bend * (t / 0.3).min(1.0) * lfo - self.scoop * (1.0 - t / 0.12).max(0.0);
            let step = pitch * exp2(bend / 12.0) / RATE;
            let factor = at_onset + (later - at_onset) * (t / turn).min(1.0);
            let mut level = 1.0 - swell * (0.5 + 0.5 * lfo);
            for (now, a) in amplitudes.iter_mut().zip(spectrum) {
                *now = a * level;
                level *= factor;
            }
            for (i, out) in out.iter_mut().enumerate() {
                let t = t + i as f64 / RATE;
                let envelope = (t / self.attack).min((length - t) / self.release).min(1.0);
                // Clenshaw's recurrence for sum a_n sin(n x).
                let (sin, twice_cos) = (sine(phase), 2.0 * sine(phase + 0.25));
                let (mut b, mut previous) = (0.0, 0.0);
                for a in amplitudes.iter().rev() {
                    (b, previous) = (a + twice_cos * b - previous, b);
                }
                let hiss = if self.noise > 0.0 { rng.random_range(-1.0..1.0) } else { 0.0 };
                smooth += 0.4 * (hiss - smooth);
                *out += envelope * (b * sin + self.noise * smooth);
                phase += step;
                phase -= f64::from(phase as u32);
            }
        }
    }
}

/// A plucked string (Karplus and Strong: "Digital synthesis of plucked-string and drum timbres", CMJ 1983).
#[derive(Clone, Copy)]
pub struct Plucked {
    /// Seconds until 60 dB down.
    pub decay: f64,
    /// Weight of the neighbour in the loop's low-pass filter, up to 0.5: higher values damp high partials faster.
    pub damping: f64,
    /// Low-pass of the pluck: 0 for a plectrum at its hardest, towards 1 for a soft thumb.
    pub softness: f64,
    /// Plucking position as a fraction of the string's length.
    pub position: f64,
    /// Resonances of the body, as [`Sustained::formants`]'; here second-order filters beside the string's own sound.
    pub body: &'static [(f64, f64, f64)],
    /// Semitones between the two strings of a course; 0 for a single string.
    pub course: f64,
}

impl Plucked {
    pub fn note(&self, pitch: f64, rng: &mut impl Rng, out: &mut [f64]) {
        let mut dry = vec![0.0; out.len()];
        let tune = exp2(self.course / 24.0);
        let pitches: &[f64] = if self.course > 0.0 { &[pitch * tune, pitch / tune] } else { &[pitch] };
        for &pitch in pitches {
            self.string(pitch, rng, &mut dry);
        }
        out.iter_mut().zip(&dry).for_each(|(out, v)| *out += v);
        for &(centre, width, gain) in self.body {
            let radius = exp2(-TAU * width / RATE / LN_2);
            let (feed, back) = (2.0 * radius * sine(centre / RATE + 0.25), radius * radius);
            let (mut y1, mut y2) = (0.0, 0.0);
            for (out, v) in out.iter_mut().zip(&dry) {
                let y = (1.0 - back) * v + feed * y1 - back * y2;
                (y1, y2) = (y, y1);
                *out += gain * y;
            }
        }
    }

    fn string(&self, pitch: f64, rng: &mut impl Rng, out: &mut [f64]) {
        // The loop's delay is the line's, the low-pass filter's and that of the all-pass filter that tunes it.
        let delay = RATE / pitch - self.damping - 0.3;
        let length = delay as usize;
        let fraction = delay - length as f64 + 0.3;
        let tuning = (1.0 - fraction) / (1.0 + fraction);
        let gain = exp2(-10.0 / (pitch * self.decay));
        let mut smooth = 0.0;
        let burst: Vec<f64> = (0..length)
            .map(|_| {
                smooth += (1.0 - self.softness) * (rng.random_range(-1.0..1.0) - smooth);
                smooth
            })
            .collect();
        let shift = (self.position * length as f64) as usize;
        let mut line: Vec<f64> = (0..length).map(|i| burst[i] - burst[(i + length - shift) % length]).collect();
        let (mut before, mut tuned_in, mut tuned) = (0.0, 0.0, 0.0);
        for (i, out) in out.iter_mut().enumerate() {
            let v = line[i % length];
            *out += v;
            let low = gain * ((1.0 - self.damping) * v + self.damping * before);
            before = v;
            tuned = tuning * (low - tuned) + tuned_in;
            tuned_in = low;
            line[i % length] = tuned;
        }
    }
}

/// A struck bar or piano string: modes that decay on their own.
#[derive(Clone, Copy)]
pub(crate) struct Struck {
    /// Frequency relative to the fundamental, amplitude, half-life (s) at middle C.
    pub modes: &'static [(f64, f64, f64)],
    /// Amplitude of the hammer's or mallet's knock.
    pub knock: f64,
}

impl Struck {
    pub fn note(&self, pitch: f64, rng: &mut impl Rng, out: &mut [f64]) {
        // Higher notes decay faster.
        let register = 261.6 / pitch.max(100.0);
        for &(ratio, amplitude, half_life) in self.modes.iter().filter(|mode| mode.0 * pitch < HIGHEST) {
            mode(ratio * pitch, amplitude, half_life * register, out);
        }
        burst(0.0, self.knock, 0.004, rng, out);
    }
}

/// One of a drum kit's kick, snare and toms.
pub fn drum(rng: &mut impl Rng, out: &mut [f64]) {
    match rng.random_range(0..5) {
        0 | 1 => {
            skin(50.0, 110.0, 1.0, 0.07, out);
            burst(0.0, 0.2, 0.003, rng, out);
        }
        2 | 3 => {
            skin(175.0, 40.0, 0.5, 0.04, out);
            burst(0.0, 0.5, 0.045, rng, out);
        }
        _ => {
            skin(rng.random_range(85.0..150.0), 60.0, 1.0, 0.11, out);
            burst(0.0, 0.15, 0.008, rng, out);
        }
    }
}

/// A crash or a ride: hiss without low frequencies, and the inharmonic ring of a plate.
pub(crate) fn cymbal(rng: &mut impl Rng, out: &mut [f64]) {
    let (half_life, ring) = if rng.random_bool(0.3) { (0.45, 0.02) } else { (0.12, 0.12) };
    burst(1.0, 1.0, half_life, rng, out);
    for frequency in [2_630.0, 3_410.0, 4_170.0, 5_290.0, 6_130.0, 7_010.0] {
        mode(frequency, ring, half_life, out);
    }
}

/// A drumhead, whose pitch falls by `fall` Hz to `pitch` as it decays.
fn skin(pitch: f64, fall: f64, amplitude: f64, half_life: f64, out: &mut [f64]) {
    let decay = exp2(-1.0 / (half_life * RATE));
    let (mut phase, mut level) = (0.0, 1.0);
    for out in out {
        *out += amplitude * level * sine(phase);
        phase += (pitch + fall * level * level) / RATE;
        level *= decay;
    }
}

/// Decaying noise, white at `tilt` 0, without low frequencies at 1.
fn burst(tilt: f64, amplitude: f64, half_life: f64, rng: &mut impl Rng, out: &mut [f64]) {
    let decay = exp2(-1.0 / (half_life * RATE));
    let (mut level, mut v1, mut v2) = (amplitude, 0.0, 0.0);
    for out in out {
        let v = rng.random_range(-1.0..1.0);
        *out += level * (v - tilt * (1.2 * v1 - 0.36 * v2));
        (v1, v2) = (v, v1);
        level *= decay;
        if level < 1e-6 {
            break;
        }
    }
}

/// A decaying sine.
fn mode(frequency: f64, amplitude: f64, half_life: f64, out: &mut [f64]) {
    let radius = exp2(-1.0 / (half_life * RATE));
    let turns = frequency / RATE;
    let (feed, back) = (2.0 * radius * sine(turns + 0.25), radius * radius);
    let (mut y, mut next) = (0.0, amplitude * radius * sine(turns));
    for out in out {
        *out += y;
        (y, next) = (next, feed * next - back * y);
    }
}

/// Gain at `frequency` of resonances: centre (Hz), half width (Hz), gain.
fn resonance(formants: &[(f64, f64, f64)], frequency: f64) -> f64 {
    let gain = |&(centre, width, gain): &(f64, f64, f64)| {
        let distance = (frequency - centre) / width;
        gain / (1.0 + distance * distance)
    };
    0.02 + formants.iter().map(gain).sum::<f64>()
}

/// Frequency (Hz) of a MIDI note.
pub(crate) fn midi_to_hz(note: i32) -> f64 {
    440.0 * exp2(f64::from(note - 69) / 12.0)
}

/// sin(2 pi turns) for turns >= 0, to about 4e-6 (below the step of 16 bits).
fn sine(turns: f64) -> f64 {
    // To -0.5..0.5, half a turn off, then folded to a quarter turn either side.
    let x = turns - f64::from(turns as u32) - 0.5;
    let x = if x > 0.25 {
        0.5 - x
    } else if x < -0.25 {
        -0.5 - x
    } else {
        x
    };
    let z = TAU * x;
    let square = z * z;
    let series = 1.0 + square * (-1.0 / 6.0 + square * (1.0 / 120.0 + square * (-1.0 / 5_040.0 + square / 362_880.0)));
    -z * series
}
