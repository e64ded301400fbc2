//! Sound with the rhythm, melody and formants of speech, without words: there are no recordings of speech among notes,
//! and what knows none takes it for whatever is buzzing.
//!
//! Pulses at the pitch of a voice, or noise, through resonators in a row, three of which glide from vowel to vowel
//! (Klatt: "Software for a cascade/parallel formant synthesizer", 1980). Formants of the vowels: Peterson and Barney,
//! 1952.

use std::f64::consts::{LOG2_E, PI};

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use super::notes::SR;
use crate::core::portable::{amplitude, cos, exp2, log2};
use crate::core::random::Counter;

/// Formants in Hz, of men.
const VOWELS: [[f64; 3]; 9] = [
    [270.0, 2_290.0, 3_010.0],
    [390.0, 1_990.0, 2_550.0],
    [530.0, 1_840.0, 2_480.0],
    [660.0, 1_720.0, 2_410.0],
    [730.0, 1_090.0, 2_440.0],
    [570.0, 840.0, 2_410.0],
    [440.0, 1_020.0, 2_240.0],
    [300.0, 870.0, 2_240.0],
    [490.0, 1_350.0, 1_690.0],
];
/// Formants of the tract that are the same in all vowels, Hz.
const HIGHER: [f64; 2] = [3_500.0, 4_500.0];
/// Bandwidths of the formants, and of the one of a consonant's noise, Hz.
const BANDWIDTHS: [f64; FORMANTS] = [80.0, 110.0, 170.0, 250.0, 300.0];
const FORMANTS: usize = 5;
const HISS: f64 = 1_500.0;
/// Samples from one set of formants to the next: 5 ms.
const FRAME: usize = SR as usize / 200;

/// A vowel or the noise of a consonant.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// First sample and number of samples.
    pub at: usize,
    pub len: usize,
    /// Hz at its start and end; `None` for noise.
    pub pitch: Option<[f64; 2]>,
    /// Hz, at its start and end.
    pub formants: [[f64; FORMANTS]; 2],
    pub level_db: f64,
}

/// What a voice says.
#[derive(Clone, Debug, PartialEq)]
pub struct Speech {
    pub sounds: Vec<Sound>,
    /// Of its noise and its jitter.
    pub seed: u64,
}

impl Speech {
    /// Syllables in phrases, from the start to the last of `samples`.
    pub fn draw(samples: usize, rng: &mut impl Rng) -> Speech {
        let len = |seconds: f64| (seconds * f64::from(SR)) as usize;
        // Women and children have higher voices and shorter tracts.
        let voice = exp2(rng.random_range(log2(80.0)..log2(280.0)));
        let tract = (voice / 120.0 - 1.0).clamp(0.0, 1.0) * 0.2 + rng.random_range(0.92..1.08);
        let pace = rng.random_range(0.7..1.3);
        let (mut at, mut sounds) = (len(rng.random_range(0.0..0.3)), vec![]);
        let vowel = |rng: &mut dyn Rng| {
            let [f1, f2, f3] = *VOWELS.choose(rng).expect("not empty");
            [f1, f2, f3, HIGHER[0], HIGHER[1]].map(|hz| hz * tract)
        };
        while at < samples {
            let syllables = rng.random_range(3..12);
            let mut last = vowel(rng);
            for i in 0..syllables {
                if rng.random_bool(0.6) {
                    let noise = Sound {
                        at,
                        len: len(pace * rng.random_range(0.03..0.12)),
                        pitch: None,
                        formants: [[rng.random_range(1_800.0..6_500.0); FORMANTS]; 2],
                        level_db: rng.random_range(-16.0..0.0),
                    };
                    at += noise.len;
                    sounds.push(noise);
                }
                // Pitch falls over a phrase, and moves in each syllable.
                let height = voice * (1.25 - 0.4 * f64::from(i) / f64::from(syllables));
                let next = vowel(rng);
                let sound = Sound {
                    at,
                    len: len(pace * rng.random_range(0.06..0.25)),
                    pitch: Some([height * rng.random_range(0.88..1.14), height * rng.random_range(0.88..1.14)]),
                    formants: [last, next],
                    level_db: rng.random_range(-8.0..0.0),
                };
                last = next;
                at += sound.len + if rng.random_bool(0.3) { len(rng.random_range(0.01..0.07)) } else { 0 };
                sounds.push(sound);
            }
            at += len(rng.random_range(0.15..0.8));
        }
        sounds.retain(|sound| sound.at + sound.len <= samples);
        Speech { sounds, seed: rng.random() }
    }

    /// Adds it to `sound`.
    pub fn add_to(&self, sound: &mut [f32]) {
        let mut rng = Counter::new(self.seed, [0; 3]);
        for said in &self.sounds {
            said.add_to(&mut sound[said.at..said.at + said.len], &mut rng);
        }
    }
}

impl Sound {
    fn add_to(&self, sound: &mut [f32], rng: &mut Counter) {
        let gain = amplitude(self.level_db);
        let mut resonators = [Resonator::default(); FORMANTS];
        let resonators = &mut resonators[..if self.pitch.is_some() { FORMANTS } else { 1 }];
        let (mut phase, mut period, mut slope) = (1.0, 0.0, 0.0);
        for (i, out) in sound.iter_mut().enumerate() {
            let part = i as f64 / self.len as f64;
            let between = |[from, to]: [f64; 2]| from + part * (to - from);
            if i % FRAME == 0 {
                for (k, resonator) in resonators.iter_mut().enumerate() {
                    let width = if self.pitch.is_some() { BANDWIDTHS[k] } else { HISS };
                    resonator.tune(between(self.formants.map(|of| of[k])), width);
                }
            }
            let breath = rng.random_range(-1.0..1.0);
            let source = match self.pitch {
                None => breath,
                Some(pitch) => {
                    phase += period;
                    let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
                    if phase >= 1.0 {
                        phase -= 1.0;
                        period = between(pitch) * (1.0 + 0.02 * rng.random_range(-1.0..1.0)) / f64::from(SR);
                    }
                    // A pulse of the glottis falls by 12 dB per octave, its radiation from the lips rises by 6.
                    slope = 0.9 * slope + pulse;
                    slope + 0.02 * breath
                }
            };
            let value = resonators.iter_mut().fold(source, |value, resonator| resonator.pass(value));
            // Faded in and out over a quarter.
            let edge = (4.0 * part.min(1.0 - part)).min(1.0);
            *out += (gain * edge * value) as f32;
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Resonator {
    a: f64,
    b: f64,
    c: f64,
    /// The last two values.
    past: [f64; 2],
}

impl Resonator {
    /// A gain of 1 at 0 Hz.
    fn tune(&mut self, hz: f64, bandwidth: f64) {
        let rate = f64::from(SR);
        self.c = -exp2(-2.0 * PI * bandwidth / rate * LOG2_E);
        self.b = 2.0 * exp2(-PI * bandwidth / rate * LOG2_E) * cos(2.0 * PI * hz.min(0.45 * rate) / rate);
        self.a = 1.0 - self.b - self.c;
    }

    fn pass(&mut self, value: f64) -> f64 {
        let out = self.a * value + self.b * self.past[0] + self.c * self.past[1];
        self.past = [out, self.past[0]];
        out
    }
}
