//! What a mixture is made of, drawn at random: classes, notes and their times, rooms, equalisers and levels.

use std::ops::Range;

use rand::seq::{IndexedRandom, SliceRandom, index};
use rand::{Rng, RngExt};

use super::notes::{Note, Notes, Part, SR};
use super::speech::Speech;
use crate::core::portable::{exp2, log2};

/// Probabilities of 1, 2, 3 and 4 instruments, where there are any.
const POLYPHONY: [f64; 4] = [0.35, 0.3, 0.2, 0.15];
/// Probabilities of noise alone, of speech alone, and of speech where a voice is to be heard.
const NOISE_ALONE: f64 = 0.04;
const SPEECH_ALONE: f64 = 0.02;
const SPEECH: f64 = 0.2;
/// Most notes at a time of instruments that play chords.
const CHORDS: [(&str, usize); 9] = [
    ("accordion", 3),
    ("banjo", 3),
    ("guitar", 4),
    ("mallet_percussion", 2),
    ("mandolin", 3),
    ("organ", 4),
    ("piano", 4),
    ("synthesizer", 3),
    ("ukulele", 4),
];
/// Percussion: dense, and each stroke rings.
const STRUCK: [&str; 2] = ["cymbals", "drums"];
/// Most different notes of a track.
const NOTES: usize = 7;
/// Seconds from a note to the next, log-uniform.
const INTERVAL: Range<f64> = 0.12..1.6;
/// Semitones, of a track and of single notes.
const DETUNE: Range<f64> = -3.0..3.0;
const DETUNE_NOTE: Range<f64> = -1.5..1.5;
/// Levels in dB: of a note, of a track, and of the noise below the mixture.
pub(super) const NOTE_LEVEL: Range<f64> = -8.0..0.0;
pub(super) const TRACK_LEVEL: Range<f64> = -13.0..0.0;
pub(super) const NOISE: Range<f64> = -45.0..-15.0;
/// Longest reverberation, seconds.
pub const LONGEST_ROOM: f64 = 1.4;
/// Of noise alone: levels (dB) between which it swells and fades, how many of them, and dB per octave.
const SWELL: Range<f64> = -30.0..0.0;
const SWELLS: Range<usize> = 2..13;
const COLOUR: Range<f64> = -9.0..1.0;
/// Gains of equalisers in dB, of a track, of the mixture and of noise alone, which may have the spectrum of speech.
const EQ: f64 = 7.0;
const EQ_MIXTURE: f64 = 4.0;
const EQ_NOISE: f64 = 14.0;
/// Octaves from 1 kHz below which equalisers fall steeply: 25 Hz. Many recordings of notes have an offset or rumble,
/// which would be most of the energy that levels and times are of.
const RUMBLE: f64 = -5.32;

/// A note in a track.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    pub note: usize,
    /// First sample and number of samples in the mixture.
    pub at: usize,
    pub len: usize,
    /// Samples of the note per sample of the mixture.
    pub speed: f64,
    pub level_db: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    pub class: usize,
    pub notes: Vec<Placed>,
    /// In place of notes.
    pub speech: Option<Speech>,
    pub eq: Equaliser,
    pub room: Option<Room>,
    /// Of its RMS where it plays, relative to that of a track of 0 dB.
    pub level_db: f64,
}

/// A smooth frequency response.
#[derive(Clone, Debug, PartialEq)]
pub struct Equaliser {
    /// dB per octave, from 1 kHz.
    pub tilt: f64,
    /// Gain (dB), centre and width (octaves from 1 kHz).
    pub bumps: [[f64; 3]; 3],
    /// Above and below these (octaves from 1 kHz) it falls steeply.
    pub low_pass: Option<f64>,
    pub high_pass: Option<f64>,
}

/// A reverberant room: exponentially decaying noise.
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    /// Samples until 60 dB down, and before the first reflection.
    pub len: usize,
    pub delay: usize,
    /// Of the reverberation, relative to the direct sound.
    pub level_db: f64,
    /// Of its noise.
    pub seed: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub tracks: Vec<Track>,
    /// In place of tracks.
    pub alone: Option<Swell>,
    pub room: Option<Room>,
    pub eq: Option<Equaliser>,
    /// Level of white noise relative to the mixture (dB), and its seed.
    pub noise: Option<(f64, u64)>,
    /// Factor before tanh.
    pub drive: Option<f64>,
}

/// Noise that swells and fades.
#[derive(Clone, Debug, PartialEq)]
pub struct Swell {
    /// At equal distances, linear between; at least two.
    pub levels_db: Vec<f64>,
    pub seed: u64,
}

/// Draws mixtures of notes.
pub struct Recipe {
    /// By part and class: sources, each with its weight and its notes.
    pools: [Vec<Vec<Source>>; 2],
    /// By class: most notes at a time, and whether it is percussion.
    classes: Vec<(usize, bool)>,
    drums: Option<usize>,
    cymbals: Option<usize>,
    voice: Option<usize>,
    /// Samples of each note.
    lengths: Vec<usize>,
    /// Samples of a mixture.
    samples: usize,
}

struct Source {
    weight: f64,
    notes: Vec<usize>,
}

impl Recipe {
    pub fn new(notes: &Notes, samples: usize) -> Recipe {
        let pool = |part: Part, class: usize| {
            let mut sources: Vec<(&str, Vec<usize>)> = vec![];
            let of_pool = |(_, note): &(usize, &Note)| note.part == part && note.class == class;
            for (i, note) in notes.notes.iter().enumerate().filter(of_pool) {
                match sources.iter_mut().find(|(name, _)| *name == note.source()) {
                    Some((_, of)) => of.push(i),
                    None => sources.push((note.source(), vec![i])),
                }
            }
            sources.into_iter().map(|(_, notes)| Source { weight: (notes.len() as f64).sqrt(), notes }).collect()
        };
        let classes = 0..notes.classes.len();
        let pools = [Part::Train, Part::Test].map(|part| classes.clone().map(|class| pool(part, class)).collect());
        let named = |name: &str| notes.classes.iter().position(|class| class == name);
        let chord = |name: &str| CHORDS.iter().find(|(class, _)| *class == name).map_or(1, |(_, most)| *most);
        Recipe {
            pools,
            classes: notes.classes.iter().map(|name| (chord(name), STRUCK.contains(&name.as_str()))).collect(),
            drums: named("drums"),
            cymbals: named("cymbals"),
            voice: named("voice"),
            lengths: notes.notes.iter().map(|note| note.samples.len()).collect(),
            samples,
        }
    }

    pub fn draw(&self, part: Part, rng: &mut impl Rng) -> Plan {
        if rng.random_bool(NOISE_ALONE) {
            return Plan::noise(rng);
        }
        if let Some(voice) = self.voice.filter(|_| rng.random_bool(SPEECH_ALONE)) {
            return Plan::of(vec![self.speech(voice, rng)], rng);
        }
        let mut point: f64 = rng.random();
        let count = POLYPHONY.iter().position(|share| {
            point -= share;
            point < 0.0
        });
        let count = (count.unwrap_or(0) + 1).min(self.classes.len());
        let mut classes = index::sample(rng, self.classes.len(), count).into_vec();
        if let (Some(drums), Some(cymbals)) = (self.drums, self.cymbals)
            && classes.contains(&drums)
            && !classes.contains(&cymbals)
            && rng.random_bool(0.5)
        {
            // In place of another instrument if there are as many as can be.
            if let Some(other) = classes.iter().position(|class| *class != drums && count == POLYPHONY.len()) {
                classes.remove(other);
            }
            classes.push(cymbals);
        }
        Plan::of(classes.into_iter().map(|class| self.track(part, class, rng)).collect(), rng)
    }

    fn speech(&self, class: usize, rng: &mut impl Rng) -> Track {
        Track { speech: Some(Speech::draw(self.samples, rng)), ..Track::of(class, vec![], rng) }
    }

    fn track(&self, part: Part, class: usize, rng: &mut impl Rng) -> Track {
        if Some(class) == self.voice && rng.random_bool(SPEECH) {
            return self.speech(class, rng);
        }
        let sources = &self.pools[part as usize][class];
        let source = sources.choose_weighted(rng, |source| source.weight).expect("a class has notes in each part");
        let few = rng.random_range(1..=NOTES).min(source.notes.len());
        let mut notes = source.notes.clone();
        let (notes, _) = notes.partial_shuffle(rng, few);
        let notes = self.melody(class, notes, rng);
        Track::of(class, notes, rng)
    }

    /// At least one note: the shortest notes and intervals are longer than [`LEAST`].
    fn melody(&self, class: usize, notes: &[usize], rng: &mut impl Rng) -> Vec<Placed> {
        /// Samples below which a note is not worth placing.
        const LEAST: usize = 200;
        let (rate, whole) = (f64::from(SR), self.samples as f64);
        let (chord, is_struck) = self.classes[class];
        let mut at = if rng.random_bool(0.6) { 0.0 } else { rng.random_range(0.0..0.5) * whole };
        let end = match rng.random_bool(0.7) {
            true => whole,
            false => rng.random_range((at / whole + 0.2).max(0.5)..1.0) * whole,
        };
        let mut interval = exp2(rng.random_range(log2(INTERVAL.start)..log2(INTERVAL.end)));
        let mut legato = rng.random_range(0.5..1.6);
        let detune = if rng.random_bool(0.7) { rng.random_range(DETUNE) } else { 0.0 };
        if is_struck {
            (interval, legato) = (interval.min(0.6) * rng.random_range(0.6..1.4), 4.0);
        }
        let rings = rng.random_bool(0.15);
        let mut placed = vec![];
        while at < end {
            let factor = match rng.random_bool(0.5) {
                true => *[0.5, 1.0, 1.0, 1.0, 2.0].choose(rng).expect("not empty"),
                false => rng.random_range(0.8..1.2),
            };
            let to_next = interval * factor * rate;
            let voices = if chord > 1 && rng.random_bool(0.6) { rng.random_range(1..=chord) } else { 1 };
            for _ in 0..voices {
                let note = *notes.choose(rng).expect("a track has notes");
                let bend = if rng.random_bool(0.3) { rng.random_range(DETUNE_NOTE) } else { 0.0 };
                let speed = exp2((detune + bend) / 12.0);
                let (first, level_db) = (at as usize, rng.random_range(NOTE_LEVEL));
                let held = if rings { usize::MAX } else { (to_next * legato) as usize };
                // The last sample is interpolated towards the one after it.
                let sounding = ((self.lengths[note] - 1) as f64 / speed) as usize;
                let len = sounding.min(held).min(self.samples - first);
                if len >= LEAST {
                    placed.push(Placed { note, at: first, len, speed, level_db });
                }
            }
            at += to_next.max(0.05 * rate);
            if rng.random_bool(0.08) {
                at += rng.random_range(0.2..1.0) * rate;
            }
        }
        placed
    }
}

impl Track {
    fn of(class: usize, notes: Vec<Placed>, rng: &mut impl Rng) -> Track {
        Track {
            class,
            notes,
            speech: None,
            eq: equaliser(EQ, rng),
            room: rng.random_bool(0.4).then(|| room(rng)),
            level_db: rng.random_range(TRACK_LEVEL),
        }
    }
}

impl Plan {
    fn of(tracks: Vec<Track>, rng: &mut impl Rng) -> Plan {
        Plan {
            tracks,
            alone: None,
            room: rng.random_bool(0.4).then(|| room(rng)),
            eq: rng.random_bool(0.5).then(|| equaliser(EQ_MIXTURE, rng)),
            noise: rng.random_bool(0.4).then(|| (rng.random_range(NOISE), rng.random())),
            drive: rng.random_bool(0.25).then(|| rng.random_range(1.0..6.0)),
        }
    }

    /// Noise of any colour, a third of it steady.
    fn noise(rng: &mut impl Rng) -> Plan {
        let points = rng.random_range(SWELLS);
        let is_steady = rng.random_bool(1.0 / 3.0);
        let mut level = || if is_steady { 0.0 } else { rng.random_range(SWELL) };
        let levels_db = (0..points).map(|_| level()).collect();
        Plan {
            tracks: vec![],
            alone: Some(Swell { levels_db, seed: rng.random() }),
            room: rng.random_bool(0.4).then(|| room(rng)),
            eq: Some(Equaliser { tilt: rng.random_range(COLOUR), ..equaliser(EQ_NOISE, rng) }),
            noise: None,
            drive: None,
        }
    }
}

fn equaliser(gain: f64, rng: &mut impl Rng) -> Equaliser {
    let octaves = |hz: f64| log2(hz / 1_000.0);
    Equaliser {
        tilt: rng.random_range(-2.0..2.0),
        bumps: std::array::from_fn(|_| {
            [rng.random_range(-gain..gain), rng.random_range(-4.0..3.0), rng.random_range(0.5..1.5)]
        }),
        low_pass: rng.random_bool(0.15).then(|| octaves(rng.random_range(2_500.0..7_000.0))),
        high_pass: rng.random_bool(0.1).then(|| octaves(rng.random_range(80.0..300.0))),
    }
}

fn room(rng: &mut impl Rng) -> Room {
    let samples = |seconds: f64| (seconds * f64::from(SR)) as usize;
    Room {
        len: samples(rng.random_range(0.15..LONGEST_ROOM)),
        delay: samples(rng.random_range(0.0..0.02)),
        level_db: rng.random_range(-22.0..-3.0),
        seed: rng.random(),
    }
}

impl Equaliser {
    /// Gain in dB at a frequency, in octaves from 1 kHz.
    pub fn gain_db(&self, octave: f64) -> f64 {
        let bump = |&[gain, centre, width]: &[f64; 3]| {
            let distance = (octave - centre) / width;
            gain * exp2(-distance * distance * std::f64::consts::LOG2_E)
        };
        self.tilt * octave.clamp(-4.0, 3.0) + self.bumps.iter().map(bump).sum::<f64>()
            - self.low_pass.map_or(0.0, |edge| 24.0 * (octave - edge).max(0.0))
            - self.high_pass.map_or(0.0, |edge| 18.0 * (edge - octave).max(0.0))
            - 24.0 * (RUMBLE - octave).max(0.0)
    }
}
