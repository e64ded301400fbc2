//! Twenty simplified instruments, with different register, onset, spectrum, decay and articulation.

use super::waveform::{PLAIN, Plucked, SR, Struck, Sustained, cymbal, drum, midi_to_hz};
use rand::{Rng, RngExt};

/// How an instrument sounds and what it plays.
pub(crate) struct Voice {
    sound: Sound,
    /// MIDI notes: lowest and highest.
    range: (i32, i32),
    /// Notes at a time.
    chord: usize,
    /// Seconds between the notes of a chord.
    strum: f64,
    /// Beats from note to note, drawn from these.
    rhythm: &'static [f64],
    /// Length of a note as a fraction of the time to the next.
    hold: f64,
}

enum Sound {
    Sustained(Sustained),
    Plucked(Plucked),
    Struck(Struck),
    Drum,
    Cymbal,
}

/// Tempo, key and so on, shared by the instruments of a clip.
pub(crate) struct Music {
    /// Seconds.
    pub beat: f64,
    /// Semitones above C.
    pub tonic: i32,
}

const MAJOR: [i32; 7] = [0, 2, 4, 5, 7, 9, 11];
/// Probability that a note is skipped after one that was not, except the last of a segment.
const REST: f64 = 0.08;
/// Seconds over which notes are damped at the end of a segment.
const DAMPED: f64 = 0.03;

impl Voice {
    /// Plays from the first to the last sample of `out`, which must be zero.
    pub fn play(&self, music: &Music, rng: &mut impl Rng, out: &mut [f64]) {
        let samples = |seconds: f64| (seconds * f64::from(SR)) as usize;
        let scale: Vec<i32> =
            (self.range.0..=self.range.1).filter(|note| MAJOR.contains(&(note - music.tonic).rem_euclid(12))).collect();
        let mut degree = rng.random_range(0..scale.len());
        let mut note = Vec::new();
        let mut at = 0;
        let mut rest = true;
        while at < out.len() {
            let step = self.rhythm[rng.random_range(0..self.rhythm.len())] * music.beat;
            rest = !rest && at + samples(step) < out.len() && rng.random_bool(REST);
            if !rest {
                let velocity = rng.random_range(0.6..1.0);
                for i in 0..self.chord {
                    let begin = at + samples(self.strum * i as f64);
                    let end = (begin + samples(step * self.hold)).min(out.len());
                    if begin >= end {
                        break;
                    }
                    note.clear();
                    note.resize(end - begin, 0.0);
                    let pitch = midi_to_hz(scale[(degree + 2 * i).min(scale.len() - 1)]);
                    self.sound.note(pitch, rng, &mut note);
                    fade(&mut note, samples(0.01));
                    out[begin..end].iter_mut().zip(&note).for_each(|(out, v)| *out += velocity * v);
                }
            }
            degree = (degree + rng.random_range(0..7)).saturating_sub(3).min(scale.len() - 1);
            at += samples(step);
        }
        fade(out, samples(DAMPED));
    }
}

/// Fades out the last `samples` of a waveform.
fn fade(sound: &mut [f64], samples: usize) {
    let last = sound.len().min(samples);
    sound.iter_mut().rev().take(last).enumerate().for_each(|(i, v)| *v *= i as f64 / last as f64);
}

impl Sound {
    fn note(&self, pitch: f64, rng: &mut impl Rng, out: &mut [f64]) {
        match self {
            Sound::Sustained(sound) => sound.note(pitch, rng, out),
            Sound::Plucked(sound) => sound.note(pitch, rng, out),
            Sound::Struck(sound) => sound.note(pitch, rng, out),
            Sound::Drum => drum(rng, out),
            Sound::Cymbal => cymbal(rng, out),
        }
    }
}

/// The spectrum of a bowed string or a reed, 1/n.
const SAWTOOTH: [f64; 24] = {
    let mut partials = [0.0; 24];
    let mut n = 0;
    while n < partials.len() {
        partials[n] = 1.0 / (n + 1) as f64;
        n += 1;
    }
    partials
};
const BRASS: [f64; 16] = [0.7, 1.0, 0.95, 0.85, 0.7, 0.6, 0.5, 0.4, 0.32, 0.25, 0.2, 0.15, 0.12, 0.1, 0.08, 0.06];

/// The voice of a class; `None` for a name that is not OpenMIC-2018's.
pub fn voice(class: &str) -> Option<Voice> {
    let melody: &[f64] = &[0.5, 0.5, 1.0, 1.0, 2.0];
    let sustained = |sound, range, rhythm| Voice {
        sound: Sound::Sustained(sound),
        range,
        chord: 1,
        strum: 0.0,
        rhythm,
        hold: 0.95,
    };
    let plucked =
        |sound, range, rhythm, hold| Voice { sound: Sound::Plucked(sound), range, chord: 1, strum: 0.0, rhythm, hold };
    let struck =
        |sound, range, rhythm| Voice { sound: Sound::Struck(sound), range, chord: 1, strum: 0.0, rhythm, hold: 1.8 };
    Some(match class {
        // Pairs of free reeds that beat against each other, swelled by the bellows.
        "accordion" => Voice {
            chord: 2,
            ..sustained(
                Sustained {
                    partials: &[0.8, 1.0, 0.7, 0.9, 0.5, 0.6, 0.35, 0.4, 0.25, 0.25, 0.15, 0.15, 0.1, 0.1, 0.05, 0.05],
                    attack: 0.06,
                    detune: 0.25,
                    vibrato: (1.3, 0.0, 0.3),
                    ..PLAIN
                },
                (58, 76),
                &[0.5, 1.0, 2.0],
            )
        },
        // Hard picks in quick rolls on a drumhead that damps the sound.
        "banjo" => plucked(
            Plucked {
                decay: 0.5,
                damping: 0.12,
                softness: 0.0,
                position: 0.07,
                body: &[(750.0, 150.0, 0.8), (1_900.0, 350.0, 0.9)],
                course: 0.0,
            },
            (55, 76),
            &[0.25],
            1.5,
        ),
        "bass" => plucked(
            Plucked { decay: 2.5, damping: 0.45, softness: 0.75, position: 0.25, body: &[], course: 0.0 },
            (28, 43),
            &[0.5, 1.0, 1.0],
            0.95,
        ),
        "cello" => sustained(
            Sustained {
                partials: &SAWTOOTH,
                formants: &[&[(220.0, 90.0, 1.0), (420.0, 150.0, 0.8), (1_100.0, 400.0, 0.25)]],
                attack: 0.12,
                release: 0.1,
                vibrato: (5.2, 0.2, 0.1),
                noise: 0.01,
                ..PLAIN
            },
            (36, 55),
            &[1.0, 2.0, 3.0],
        ),
        // A cylinder closed at one end: odd harmonics.
        "clarinet" => sustained(
            Sustained {
                partials: &[1.0, 0.02, 0.75, 0.03, 0.5, 0.05, 0.3, 0.06, 0.18, 0.06, 0.1, 0.05, 0.06],
                attack: 0.04,
                noise: 0.01,
                ..PLAIN
            },
            (52, 76),
            melody,
        ),
        "cymbals" => Voice {
            sound: Sound::Cymbal,
            range: (60, 72),
            chord: 1,
            strum: 0.0,
            rhythm: &[0.5, 1.0, 1.0, 2.0],
            hold: 2.0,
        },
        "drums" => Voice {
            sound: Sound::Drum,
            range: (60, 72),
            chord: 1,
            strum: 0.0,
            rhythm: &[0.25, 0.5, 0.5, 1.0],
            hold: 2.0,
        },
        // Almost a sine, with breath.
        "flute" => sustained(
            Sustained {
                partials: &[1.0, 0.25, 0.08, 0.02],
                attack: 0.09,
                vibrato: (5.0, 0.12, 0.35),
                noise: 0.12,
                ..PLAIN
            },
            (72, 93),
            melody,
        ),
        "guitar" => Voice {
            chord: 4,
            strum: 0.025,
            ..plucked(
                Plucked {
                    decay: 3.0,
                    damping: 0.25,
                    softness: 0.35,
                    position: 0.18,
                    body: &[(110.0, 25.0, 1.5), (210.0, 40.0, 1.0)],
                    course: 0.0,
                },
                (40, 62),
                &[0.5, 1.0, 1.0, 2.0],
                1.0,
            )
        },
        // Wooden bars, tuned to have their second mode two octaves up.
        "mallet_percussion" => struck(
            Struck { modes: &[(1.0, 1.0, 0.16), (3.98, 0.3, 0.05), (9.1, 0.12, 0.02)], knock: 0.08 },
            (65, 93),
            &[0.25, 0.5, 0.5, 1.0],
        ),
        // Double courses, picked in a tremolo.
        "mandolin" => plucked(
            Plucked {
                decay: 1.2,
                damping: 0.06,
                softness: 0.15,
                position: 0.12,
                body: &[(450.0, 90.0, 0.5)],
                course: 0.12,
            },
            (67, 88),
            &[0.125],
            3.0,
        ),
        // Drawbars: octaves and fifths, with immediate onset and end.
        "organ" => Voice {
            chord: 3,
            ..sustained(
                Sustained {
                    partials: &[1.0, 0.9, 0.6, 0.7, 0.0, 0.4, 0.0, 0.5],
                    attack: 0.006,
                    release: 0.01,
                    vibrato: (6.6, 0.03, 0.12),
                    ..PLAIN
                },
                (48, 72),
                &[2.0, 4.0],
            )
        },
        // Stiff strings: partials slightly inharmonic.
        "piano" => Voice {
            chord: 2,
            ..struck(
                Struck {
                    modes: &[
                        (1.0, 1.0, 0.42),
                        (2.002, 0.65, 0.33),
                        (3.006, 0.4, 0.26),
                        (4.013, 0.28, 0.2),
                        (5.025, 0.18, 0.16),
                        (6.042, 0.12, 0.13),
                        (7.066, 0.08, 0.11),
                        (8.1, 0.05, 0.09),
                    ],
                    knock: 0.1,
                },
                (40, 79),
                &[0.5, 0.5, 1.0],
            )
        },
        "saxophone" => sustained(
            Sustained {
                partials: &SAWTOOTH,
                formants: &[&[(600.0, 250.0, 0.7), (1_350.0, 350.0, 1.2), (3_000.0, 600.0, 0.8)]],
                attack: 0.04,
                vibrato: (5.6, 0.25, 0.15),
                scoop: 1.0,
                noise: 0.06,
                ..PLAIN
            },
            (49, 70),
            melody,
        ),
        // Two detuned oscillators through a filter that closes during each note of an arpeggio.
        "synthesizer" => sustained(
            Sustained { partials: &[1.0; 40], attack: 0.003, brightness: (0.99, 0.8, 0.3), detune: 0.3, ..PLAIN },
            (40, 64),
            &[0.25],
        ),
        "trombone" => sustained(
            Sustained {
                partials: &BRASS,
                formants: &[&[(480.0, 200.0, 1.0), (1_200.0, 400.0, 0.15)]],
                attack: 0.07,
                brightness: (0.5, 0.9, 0.15),
                scoop: 3.0,
                ..PLAIN
            },
            (40, 60),
            &[1.0, 1.0, 2.0],
        ),
        "trumpet" => sustained(
            Sustained {
                partials: &BRASS,
                formants: &[&[(1_200.0, 500.0, 1.0), (2_400.0, 700.0, 0.7)]],
                attack: 0.03,
                brightness: (0.6, 1.0, 0.08),
                vibrato: (5.5, 0.08, 0.05),
                ..PLAIN
            },
            (60, 81),
            &[0.25, 0.5, 0.5, 1.0],
        ),
        // Nylon strings and a small body, strummed.
        "ukulele" => Voice {
            chord: 4,
            strum: 0.012,
            ..plucked(
                Plucked {
                    decay: 0.9,
                    damping: 0.45,
                    softness: 0.55,
                    position: 0.3,
                    body: &[(420.0, 60.0, 0.8)],
                    course: 0.0,
                },
                (60, 76),
                &[0.5],
                1.0,
            )
        },
        "violin" => sustained(
            Sustained {
                partials: &SAWTOOTH,
                formants: &[&[(500.0, 150.0, 0.6), (1_000.0, 300.0, 0.5), (2_700.0, 700.0, 1.0)]],
                attack: 0.08,
                release: 0.08,
                vibrato: (6.2, 0.3, 0.15),
                noise: 0.03,
                ..PLAIN
            },
            (64, 88),
            &[0.5, 1.0, 2.0],
        ),
        // Vowels (a, e, i, o, u) of a singer.
        "voice" => sustained(
            Sustained {
                partials: &SAWTOOTH,
                formants: &[
                    &[(730.0, 60.0, 1.0), (1_090.0, 70.0, 0.8), (2_440.0, 100.0, 0.4)],
                    &[(530.0, 50.0, 1.0), (1_840.0, 90.0, 0.7), (2_480.0, 100.0, 0.5)],
                    &[(300.0, 40.0, 1.0), (2_290.0, 100.0, 0.6), (3_010.0, 120.0, 0.5)],
                    &[(570.0, 50.0, 1.0), (840.0, 60.0, 0.8), (2_410.0, 100.0, 0.2)],
                    &[(320.0, 40.0, 1.0), (870.0, 60.0, 0.6), (2_240.0, 100.0, 0.15)],
                ],
                attack: 0.09,
                release: 0.09,
                vibrato: (5.3, 0.5, 0.1),
                scoop: 1.5,
                noise: 0.01,
                ..PLAIN
            },
            (48, 69),
            &[0.5, 1.0, 1.0, 2.0],
        ),
        _ => return None,
    })
}
