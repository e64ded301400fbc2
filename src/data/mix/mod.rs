//! Mixtures of isolated notes, as training data with full labels and true times.
//!
//! A mixture has up to four instruments. Each plays a few notes of one source, at random times, pitches and levels,
//! through an equaliser and at times a room; the mixture gets another room, equaliser, noise and distortion at times.
//! One in 25 has none: it is noise that swells and fades, in which nothing is to be heard. A voice, if that is one of
//! the classes, at times speaks.
//! [`recipe`] draws all of it, [`render`] makes the sound. A mixture is a function of the notes, its seed, epoch and
//! number alone: the same on any number of threads.
//!
//! From the decoded notes on, the bits are the same on every machine. Decoders of lossy formats and resampling to 16
//! kHz differ in their last bits between kinds of processors; notes in WAV or FLAC at 16 kHz are exact.

mod notes;
mod piece;
mod recipe;
mod render;
mod speech;

use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf, absolute};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::layout::{Label, check_clips, write_activity, write_csv, write_tables};
use crate::audio::{Depth, write_wav};
use crate::core::error::{Error, Result};
use crate::core::files::write_dir_atomic;
use crate::core::parallel::map_on_all_cores;
use crate::core::random::Counter;
pub(crate) use notes::SR;
pub use notes::{Notes, Part};
pub use piece::Piece;
use recipe::{Plan, Recipe};
use render::{HOP, Renderer};

const CLIPS: RangeInclusive<usize> = 20..=100_000;
const SECONDS: RangeInclusive<f64> = 1.0..=60.0;
/// Of the mixtures that are written one in so many is of held-out notes, for the test.
const TESTED: usize = 10;
/// Name of the streams of random numbers; the part is added.
const STREAM: u32 = 0x4D49_5800;

/// Makes mixtures.
pub struct Mixer {
    notes: Notes,
    recipe: Recipe,
    renderer: Renderer,
    seed: u64,
    seconds: f64,
    fingerprint: u64,
}

impl PartialEq for Mixer {
    fn eq(&self, other: &Mixer) -> bool {
        let all = |mixer: &Mixer| (mixer.fingerprint, mixer.seed, mixer.seconds.to_bits());
        all(self) == all(other)
    }
}

impl fmt::Debug for Mixer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Mixer { seed, seconds, .. } = self;
        f.debug_struct("Mixer").field("seed", seed).field("seconds", seconds).finish_non_exhaustive()
    }
}

/// Several instruments at once, or noise alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// Mono, 16 kHz, with an RMS of 0.08 before clipping to ±1.
    pub samples: Vec<f32>,
    pub instruments: Instruments,
}

/// The class of each instrument, and the times when it plays: start and end in seconds, in multiples of 50 ms, rising.
/// It plays where its level is above -26 dB of its loudest half second, reverberation included, and in rests of less
/// than half a second.
pub type Instruments = Vec<(usize, Vec<[f64; 2]>)>;

impl Mixer {
    /// Mixtures of `seconds` each.
    ///
    /// # Errors
    /// `Usage` unless `seconds` is 1 to 60.
    pub fn new(notes: Notes, seconds: f64, seed: u64) -> Result<Mixer> {
        check_seconds(seconds)?;
        let samples = (seconds * f64::from(SR)).round() as usize;
        let (recipe, renderer) = (Recipe::new(&notes, samples), Renderer::new(samples));
        Ok(Mixer { recipe, renderer, fingerprint: notes.fingerprint(), notes, seed, seconds })
    }

    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Fingerprint of the notes.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Mixture `index` of an epoch.
    pub fn mixture(&self, part: Part, epoch: u32, index: u32) -> Mixture {
        let mut rng = Counter::new(self.seed, [epoch, index, STREAM + part as u32]);
        rendered(&self.renderer, &self.notes, &self.recipe.draw(part, &mut rng), self.seconds)
    }
}

/// A mixture of `seconds` as planned.
fn rendered(renderer: &Renderer, notes: &Notes, plan: &Plan, seconds: f64) -> Mixture {
    let (samples, times) = renderer.mixture(notes, plan);
    let at = |hop: usize| ((hop * HOP) as f64 / f64::from(SR)).min(seconds);
    let instruments =
        plan.tracks.iter().zip(times).map(|(track, times)| {
            (track.class, times.into_iter().map(|time| [at(time.start), at(time.end)]).collect())
        });
    Mixture { samples, instruments: instruments.collect() }
}

/// What [`write_mixtures`] is doing.
#[derive(Clone, Copy, Debug)]
pub enum Mixing {
    /// Decoding notes: so many are done.
    Notes { done: usize, of: usize },
    /// Mixing: so many are done.
    Mixtures { done: usize, of: usize },
}

/// Mixtures to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct MixConfig {
    /// 20 to 100 000, a tenth of them of held-out notes, for the test.
    pub clips: usize,
    /// Of a mixture: 1 to 60.
    pub seconds: f64,
    pub seed: u64,
}

/// Writes mixtures of the notes in `folder` ([`Notes::load`]) as a dataset in OpenMIC-2018's layout: `audio/`, 16-bit
/// WAV; labels of all classes; `partitions/`; the times as `activity.csv`; and `notes.csv`, which says the source and
/// the part of each note. Returns the number of notes and warnings, or `None` if `stop` returned true: then nothing is
/// left.
///
/// # Errors
/// Those of [`Notes::load`]; `Data` if `out` is within `folder`, or exists and is not an empty folder; `Usage` for
/// settings out of range; `Io` for what cannot be written.
pub fn write_mixtures(
    folder: &Path,
    out: &Path,
    config: &MixConfig,
    stop: &(dyn Fn() -> bool + Sync),
    progress: &(dyn Fn(Mixing) + Sync),
) -> Result<Option<(usize, Vec<String>)>> {
    check_clips(config.clips, &CLIPS)?;
    check_seconds(config.seconds)?;
    check_outside(folder, out)?;
    let interrupted = || Error::Usage("interrupted".into());
    let mut made = None;
    let written = write_dir_atomic(out, |dir| {
        let notes = Notes::load(folder, stop, &mut |done, of| progress(Mixing::Notes { done, of }))?;
        let mixer = Mixer::new(notes.ok_or_else(interrupted)?, config.seconds, config.seed)?;
        let tested = config.clips.div_ceil(TESTED);
        let numbered = |part, count| (0..count as u32).map(move |index| (part, index));
        let clips: Vec<(Part, u32)> =
            numbered(Part::Train, config.clips - tested).chain(numbered(Part::Test, tested)).collect();
        let keys: Vec<String> = (0..clips.len()).map(|i| format!("{i:06}_0")).collect();
        for i in (0..clips.len()).step_by(1_000) {
            let folder = subfolder(dir, &keys[i]);
            fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        }
        let done = AtomicUsize::new(0);
        let instruments = map_on_all_cores(&clips, |i, &(part, index)| {
            if stop() {
                return Err(interrupted());
            }
            let mixture = mixer.mixture(part, 0, index);
            write_wav(subfolder(dir, &keys[i]).join(format!("{}.wav", keys[i])), SR, &mixture.samples, Depth::Int16)?;
            progress(Mixing::Mixtures { done: done.fetch_add(1, Ordering::Relaxed) + 1, of: clips.len() });
            Ok(mixture.instruments)
        })?;
        let train = config.clips - tested;
        write_labels(dir, mixer.notes(), &keys, &instruments, &[(0..train).collect(), (train..keys.len()).collect()])?;
        made = Some((mixer.notes.len(), mixer.notes.warnings.clone()));
        Ok(())
    });
    match written {
        Err(_) if stop() => Ok(None),
        written => written.map(|()| made),
    }
}

/// Mixtures among the notes would be a class of the next mixtures.
fn check_outside(folder: &Path, out: &Path) -> Result<()> {
    let out = absolute(out).map_err(Error::io(out))?;
    let real = out.ancestors().find_map(|above| above.canonicalize().ok());
    match (folder.canonicalize(), real) {
        (Ok(notes), Some(real)) if real.starts_with(&notes) => {
            let reason = format!("is in the folder of notes, {}; choose another place", folder.display());
            Err(Error::data(out, reason))
        }
        _ => Ok(()),
    }
}

fn check_seconds(seconds: f64) -> Result<()> {
    if SECONDS.contains(&seconds) {
        return Ok(());
    }
    let (least, most) = (SECONDS.start(), SECONDS.end());
    Err(Error::Usage(format!("mixtures cannot have {seconds} s; {least} to {most} are allowed")))
}

fn subfolder(dir: &Path, key: &str) -> PathBuf {
    dir.join("audio").join(&key[..3])
}

fn write_labels(
    dir: &Path,
    notes: &Notes,
    keys: &[String],
    instruments: &[Instruments],
    split: &[Vec<usize>; 2],
) -> Result<()> {
    let classes = &notes.classes;
    let of_clip = |instruments: &Instruments| -> Vec<Label> {
        let present = |k: usize| instruments.iter().any(|(class, times)| *class == k && !times.is_empty());
        (0..classes.len()).map(|k| (k, if present(k) { 100_000 } else { 0 })).collect()
    };
    let labels: Vec<Vec<Label>> = instruments.iter().map(of_clip).collect();
    let rows: Vec<(&str, &[Label])> = keys.iter().map(String::as_str).zip(labels.iter().map(Vec::as_slice)).collect();
    write_tables(dir, classes, &rows, split)?;
    let of_clip = keys.iter().zip(instruments).flat_map(|(key, of)| of.iter().map(move |of| (key.as_str(), of)));
    let times = of_clip.flat_map(|(key, (class, times))| {
        times.iter().map(move |[start, end]| (key, classes[*class].as_str(), *start, *end))
    });
    write_activity(dir, times)?;
    let part = |part| if part == Part::Train { "train" } else { "test" };
    let sources = notes.sources().map(|(file, class, source, of)| [file, class, source, part(of)].map(str::to_owned));
    write_csv(&dir.join("notes.csv"), ["file", "class", "source", "split"], sources)
}

#[cfg(test)]
mod tests {
    use super::notes::Note;
    use super::recipe::{Equaliser, NOISE, NOTE_LEVEL, TRACK_LEVEL};
    use super::render::levelled;
    use super::*;

    /// Square waves of 0.1 s to 2 s at full level.
    fn notes() -> Notes {
        let note = |i: usize| Note {
            key: format!("class/{}_{i}.wav", i % 3),
            class: i / 20,
            part: if i.is_multiple_of(4) { Part::Test } else { Part::Train },
            samples: (0..1_600 * (1 + i % 20)).map(|t| if t / 16 % 2 == 0 { i16::MAX } else { -i16::MAX }).collect(),
        };
        let classes = ["bass", "cymbals", "drums", "flute", "piano"].map(String::from).to_vec();
        Notes { path: "notes".into(), classes, warnings: vec![], notes: (0..100).map(note).collect() }
    }

    #[test]
    fn up_to_four_instruments_and_cymbals_with_half_of_the_drums() {
        let (notes, samples) = (notes(), 5 * SR as usize);
        let (recipe, renderer) = (Recipe::new(&notes, samples), Renderer::new(samples));
        let (mut counts, mut drums, mut both) = ([0; 5], 0, 0);
        for index in 0..2_000 {
            let plan = recipe.draw(Part::Train, &mut Counter::new(2, [0, index, 0]));
            let plays = |class: usize| plan.tracks.iter().filter(|track| track.class == class).count();
            assert!((0..5).all(|class| plays(class) <= 1));
            counts[plan.tracks.len()] += 1;
            assert_eq!(plan.tracks.is_empty(), plan.alone.is_some());
            if plan.tracks.is_empty() && counts[0] < 5 {
                let Mixture { samples, instruments } = rendered(&renderer, &notes, &plan, 5.0);
                let power = samples.iter().map(|v| f64::from(v * v)).sum::<f64>() / samples.len() as f64;
                assert!(instruments.is_empty() && (0.06..0.081).contains(&power.sqrt()), "{power}");
            }
            drums += plays(2);
            both += plays(1) * plays(2);
        }
        assert!((50..110).contains(&counts[0]) && counts[1..].iter().all(|count| *count > 200), "{counts:?}");
        // Of five classes, .42 of the drums are drawn with cymbals; half of the others bring them.
        let share = f64::from(both as u32) / f64::from(drums as u32);
        assert!((share - (0.42 + 0.58 / 2.0)).abs() < 0.06, "{share}");
    }

    #[test]
    fn a_voice_speaks_at_times_and_is_heard_where_it_does() {
        let mut notes = Notes { classes: ["flute", "voice"].map(String::from).to_vec(), ..notes() };
        notes.notes.iter_mut().for_each(|note| note.class %= 2);
        let samples = 5 * SR as usize;
        let (recipe, renderer) = (Recipe::new(&notes, samples), Renderer::new(samples));
        let plans = (0..600).map(|index| recipe.draw(Part::Train, &mut Counter::new(3, [0, index, 0])));
        let speaks = |plan: &Plan| plan.tracks.iter().any(|track| track.class == 1 && track.speech.is_some());
        let speaking: Vec<Plan> = plans.filter(speaks).collect();
        assert!((60..160).contains(&speaking.len()), "{}", speaking.len());
        for plan in speaking.iter().take(5) {
            let track = plan.tracks.iter().find(|track| track.speech.is_some()).unwrap();
            let (sounds, sound) = (&track.speech.as_ref().unwrap().sounds, renderer.track(&notes, track));
            assert!(track.notes.is_empty() && sound.iter().all(|v| v.is_finite()));
            assert!(sounds.iter().all(|of| of.at + of.len <= samples));
            let (_, times) = levelled(&sound);
            let heard: usize = times.iter().map(|time| (time.end - time.start) * HOP).sum();
            let said: usize = sounds.iter().map(|of| of.len).sum();
            assert!((said * 3 / 5..said * 2).contains(&heard), "{heard} of {said}");
        }
    }

    #[test]
    fn plans_are_within_their_ranges_and_times_those_of_the_notes() {
        let (notes, samples) = (notes(), 5 * SR as usize);
        let (recipe, renderer) = (Recipe::new(&notes, samples), Renderer::new(samples));
        let flat = Equaliser { tilt: 0.0, bumps: [[0.0, 0.0, 1.0]; 3], low_pass: None, high_pass: None };
        for index in 0..30 {
            let part = if index % 2 == 0 { Part::Train } else { Part::Test };
            let plan = recipe.draw(part, &mut Counter::new(1, [0, index, 0]));
            assert!(plan.noise.is_none_or(|(level, _)| NOISE.contains(&level)));
            assert!(plan.drive.is_none_or(|drive| (1.0..6.0).contains(&drive)));
            for mut track in plan.tracks {
                assert!(TRACK_LEVEL.contains(&track.level_db) && !track.notes.is_empty());
                for placed in &track.notes {
                    let note = &notes.notes[placed.note];
                    assert!(note.part == part && note.class == track.class && NOTE_LEVEL.contains(&placed.level_db));
                    assert_eq!(note.source(), notes.notes[track.notes[0].note].source(), "one source");
                    assert!(placed.at + placed.len <= samples && (0.77..1.3).contains(&placed.speed));
                }
                (track.eq, track.room) = (flat.clone(), None);
                let sound = renderer.track(&notes, &track);
                let (gain, times) = levelled(&sound);
                let hops = |sample: usize| sample.div_ceil(HOP);
                let near = |a: usize, b: usize| a.abs_diff(b) <= 1;
                for time in &times {
                    let begins = track.notes.iter().any(|of| near(of.at / HOP, time.start));
                    let ends = track.notes.iter().any(|of| near(hops(of.at + of.len), time.end));
                    assert!(begins && ends, "{index}: {time:?}");
                }
                for of in &track.notes {
                    let (first, last) = (of.at / HOP, hops(of.at + of.len));
                    let inside = times.iter().any(|time| time.start <= first + 1 && last <= time.end + 1);
                    assert!(inside, "{index}: {first}..{last} is not in {times:?}");
                }
                assert!(times.windows(2).all(|two| two[1].start - two[0].end >= SR as usize / 2 / HOP));
                let active: usize = times.iter().map(|time| (time.end * HOP).min(samples) - time.start * HOP).sum();
                let energy: f64 = sound.iter().map(|v| (f64::from(*v) * gain).powi(2)).sum();
                assert!((energy / active as f64 - 1.0).abs() < 1e-6, "an RMS of 1 where it plays");
            }
        }
    }
}
