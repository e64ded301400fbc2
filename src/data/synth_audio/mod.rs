//! A synthetic dataset of recordings with known labels and times of each instrument.
//!
//! A built-in synthesiser plays one to four instruments in each clip of ten seconds, each in one or more segments and
//! at its own level. As many labels are known as from crowdsourcing: most of the present, and some of the absent
//! classes. The same seed gives the same bytes on every machine (see [`waveform`] for how).

mod voices;
mod waveform;

use super::layout::{CLASSES, Label, check_clips, draw_key, draw_split, write_activity, write_tables};
use crate::audio::{Depth, write_wav};
use crate::core::error::{Error, Result};
use crate::core::files::write_dir_atomic;
use crate::core::parallel::map_on_all_cores;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use voices::{Music, voice};
use waveform::SR;

const CLIPS: RangeInclusive<usize> = 20..=20_000;
const SECONDS: u32 = 10;
/// Onsets and ends are multiples of 1 / `TICKS` s.
const TICKS: u32 = 20;
const POLYPHONY: RangeInclusive<usize> = 1..=4;
const STRETCHES: RangeInclusive<u32> = 1..=3;
/// Minimum rest of an instrument between two segments, in ticks.
const PAUSE: u32 = 6;
/// Of three instruments, the number that play from the first to the last sample.
const THROUGHOUT: f64 = 0.3;
/// Minimum RMS of an instrument relative to the loudest, a range of 10 dB.
const LEVEL: Range<f64> = 0.32..1.0;
/// -3 dBFS.
const PEAK: f64 = 0.708;
/// Number of known labels of a clip, of 20.
const KNOWN: RangeInclusive<usize> = 5..=10;
/// Probability that the label of a present class is known.
const NOTICED: f64 = 0.9;

struct Clip {
    key: String,
    music: Music,
    parts: Vec<Part>,
    labels: Vec<Label>,
    /// Of the notes.
    seed: u64,
}

/// The part of one instrument in a clip.
struct Part {
    class: usize,
    level: f64,
    /// In ticks, apart from each other.
    segments: Vec<Range<u32>>,
}

/// Writes a dataset of `clips` recordings (20 to 20 000, three quarters of them for training) into the new folder
/// `dir`, in the layout of OpenMIC-2018: `audio/000/KEY.wav` (10 s, mono, 16 bit, 16 kHz), labels, splits, and the
/// ground truth in `activity.csv` (`sample_key,instrument,start_s,end_s`, a row per segment). An instrument begins at
/// the first sample of its segment and is silent after the last. The same arguments write the same bytes.
///
/// # Errors
/// `Usage` for a number of clips out of range; `Data` if `dir` is not empty; `Io`. No partial files are left.
pub fn synth_audio(dir: impl AsRef<Path>, clips: usize, seed: u64) -> Result<()> {
    check_clips(clips, &CLIPS)?;
    let mut rng = Pcg64::seed_from_u64(seed);
    let mut track = 0;
    let clips: Vec<Clip> = (0..clips).map(|_| draw_clip(&mut rng, &mut track)).collect();
    let split = draw_split(&mut rng, clips.len());
    let tables: Vec<(&str, &[Label])> = clips.iter().map(|clip| (clip.key.as_str(), clip.labels.as_slice())).collect();

    write_dir_atomic(dir, |dir| {
        write_tables(dir, &CLASSES, &tables, &split)?;
        let seconds = |ticks: u32| f64::from(ticks) / f64::from(TICKS);
        let parts = clips.iter().flat_map(|clip| clip.parts.iter().map(move |part| (clip, part)));
        let rows = parts.flat_map(|(clip, part)| {
            let row = move |s: &Range<u32>| (&*clip.key, CLASSES[part.class], seconds(s.start), seconds(s.end));
            part.segments.iter().map(row)
        });
        write_activity(dir, rows)?;
        for clip in &clips {
            let folder = folder(dir, clip);
            std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        }
        let write = |_, clip: &Clip| {
            write_wav(folder(dir, clip).join(format!("{}.wav", clip.key)), SR, &render(clip), Depth::Int16)
        };
        map_on_all_cores(&clips, write).map(drop)
    })
}

fn folder(dir: &Path, clip: &Clip) -> PathBuf {
    dir.join("audio").join(&clip.key[..3])
}

fn draw_clip(rng: &mut impl Rng, track: &mut u32) -> Clip {
    let key = draw_key(rng, track);
    let mut classes: Vec<usize> = (0..CLASSES.len()).collect();
    classes.shuffle(rng);
    let (present, absent) = classes.split_at_mut(rng.random_range(POLYPHONY));
    present.sort_unstable();
    let draw_part = |&class: &usize| Part { class, level: rng.random_range(LEVEL), segments: draw_segments(rng) };
    let parts = present.iter().map(draw_part).collect();

    let mut ask = |&k: &usize| rng.random_bool(NOTICED).then(|| (k, rng.random_range(50_000..=100_000)));
    let mut labels: Vec<Label> = present.iter().filter_map(&mut ask).collect();
    let missing = rng.random_range(KNOWN) - labels.len();
    labels.extend(absent.iter().take(missing).map(|&k| (k, rng.random_range(0..50_000))));
    labels.sort_unstable();
    let music = Music { beat: rng.random_range(0.4..0.65), tonic: rng.random_range(0..12) };
    Clip { key, music, parts, labels, seed: rng.random() }
}

/// One to three segments in as many equal parts of the clip, or all of it.
fn draw_segments(rng: &mut impl Rng) -> Vec<Range<u32>> {
    let whole = SECONDS * TICKS;
    if rng.random_bool(THROUGHOUT) {
        return std::iter::once(0..whole).collect();
    }
    let count = rng.random_range(STRETCHES);
    let slot = whole / count;
    (0..count)
        .map(|i| {
            let length = rng.random_range(slot * 2 / 5..=slot * 17 / 20);
            let start = i * slot + rng.random_range(0..=slot - length - PAUSE);
            start..start + length
        })
        .collect()
}

/// Mono samples at [`SR`] Hz.
fn render(clip: &Clip) -> Vec<f32> {
    let samples = |ticks: u32| (ticks * (SR / TICKS)) as usize;
    let mut mix = vec![0.0; samples(SECONDS * TICKS)];
    for part in &clip.parts {
        // A stream for each part, so that no part depends on what another one draws.
        let mut rng = Pcg64::new(clip.seed.into(), part.class as u128);
        let voice = voice(CLASSES[part.class]).expect("every class has a voice");
        let played: Vec<Vec<f64>> = part
            .segments
            .iter()
            .map(|segment| {
                let mut sound = vec![0.0; samples(segment.end - segment.start)];
                voice.play(&clip.music, &mut rng, &mut sound);
                sound
            })
            .collect();
        let count: usize = played.iter().map(Vec::len).sum();
        let energy: f64 = played.iter().flatten().map(|v| v * v).sum();
        let gain = part.level / (energy / count as f64).sqrt();
        for (segment, sound) in part.segments.iter().zip(&played) {
            let place = &mut mix[samples(segment.start)..samples(segment.end)];
            place.iter_mut().zip(sound).for_each(|(mix, v)| *mix += gain * v);
        }
    }
    let peak = mix.iter().fold(0.0f64, |peak, v| peak.max(v.abs()));
    mix.iter().map(|v| (v * PEAK / peak) as f32).collect()
}
