//! A synthetic dataset with known labels: bags of noise in which each present class shows in a few instances only.
//!
//! Every class has a random pattern of F values. A present class replaces most of one to three of a clip's ten
//! instances by its pattern; a second, absent class is faintly present in all ten. Averaged over the instances both
//! look alike, so a model that pools the features first does worse than one that scores instances. As in OpenMIC-2018
//! about 15 % of the labels are known. All arithmetic is on integers: the same seed gives the same bytes on every
//! machine.

use super::dataset::WIDTH;
use super::layout::{CLASSES, Label, check_clips, draw_key, draw_split, write_file, write_tables};
use super::npz::NpzWriter;
use super::pickle;
use crate::core::error::Result;
use crate::core::files::write_dir_atomic;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rand_pcg::Pcg64;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::Path;

const INSTANCES: usize = 10;
const CLIPS: RangeInclusive<usize> = 20..=500_000;
const POLYPHONY: RangeInclusive<usize> = 1..=4;
const SHOWN_IN: RangeInclusive<usize> = 1..=3;
/// Weight of the pattern of a present class in an instance, in per cent.
const PRESENT: RangeInclusive<i32> = 90..=100;
/// Weight of the pattern of the faint, absent class in every instance, in per cent.
const FAINT: RangeInclusive<i32> = 16..=24;
/// Background: a random level for each feature of a clip, plus noise for each instance, both uniform around 128.
const LEVEL: RangeInclusive<i32> = -20..=20;
const NOISE: RangeInclusive<i32> = -30..=30;
/// Percentage of clips with 1, 2, ... known labels: 3.06 of 20 on average.
const KNOWN_LABELS: [usize; 6] = [10, 22, 33, 25, 7, 3];
/// Percentage of draws in which a known label is positive, while the clip has any left.
const POSITIVE: u32 = 58;

struct Clip {
    key: String,
    /// (T, F)
    values: Vec<u8>,
    labels: Vec<Label>,
    /// Class and instance of each pattern.
    activity: Vec<(usize, usize)>,
}

/// Writes a dataset of `clips` clips (20 to 500 000, three quarters of them for training) into the new folder `dir`, in
/// the layout of OpenMIC-2018, with the ground truth in `activity.csv` (`sample_key,instrument,instance`, the instance
/// counted from 0). The same arguments write the same bytes. Fails if `dir` is not empty, and leaves no partial files.
pub fn synth(dir: impl AsRef<Path>, clips: usize, seed: u64) -> Result<()> {
    check_clips(clips, &CLIPS)?;
    let mut rng = Pcg64::seed_from_u64(seed);
    let patterns: Vec<[i32; WIDTH]> =
        CLASSES.iter().map(|_| std::array::from_fn(|_| if rng.random_bool(0.5) { 255 } else { 0 })).collect();
    let mut track = 0;
    let clips: Vec<Clip> = (0..clips).map(|_| draw_clip(&mut rng, &mut track, &patterns)).collect();
    let split = draw_split(&mut rng, clips.len());
    let tables: Vec<(&str, &[Label])> = clips.iter().map(|clip| (clip.key.as_str(), clip.labels.as_slice())).collect();

    write_dir_atomic(dir, |dir| {
        write_tables(dir, &CLASSES, &tables, &split)?;
        write_file(&dir.join("openmic-2018.npz"), |w| write_npz(w, &clips))?;
        write_file(&dir.join("activity.csv"), |w| {
            writeln!(w, "sample_key,instrument,instance")?;
            let mut rows = clips.iter().flat_map(|clip| clip.activity.iter().map(move |active| (&clip.key, active)));
            rows.try_for_each(|(key, &(k, instance))| writeln!(w, "{key},{},{instance}", CLASSES[k]))
        })
    })
}

fn draw_clip(rng: &mut impl Rng, track: &mut u32, patterns: &[[i32; WIDTH]]) -> Clip {
    let key = draw_key(rng, track);
    let mut classes: Vec<usize> = (0..CLASSES.len()).collect();
    classes.shuffle(rng);
    let (present, absent) = classes.split_at(rng.random_range(POLYPHONY));

    // Drawn without replacement: no instance shows two classes, and some are left for the last class.
    let mut deck: Vec<usize> = (0..INSTANCES).collect();
    deck.shuffle(rng);
    let mut activity = Vec::new();
    for (dealt, &class) in present.iter().enumerate() {
        let spare = deck.len() - (present.len() - dealt - 1);
        let count = rng.random_range(SHOWN_IN).min(spare);
        activity.extend(deck.drain(..count).map(|t| (class, t)));
    }
    activity.sort_unstable();

    let level: [i32; WIDTH] = std::array::from_fn(|_| 128 + rng.random_range(LEVEL));
    let faint = rng.random_range(FAINT);
    let mut values = Vec::with_capacity(INSTANCES * WIDTH);
    for t in 0..INSTANCES {
        let shown = activity.iter().find(|active| active.1 == t).map(|active| &patterns[active.0]);
        let weight = rng.random_range(PRESENT);
        for f in 0..WIDTH {
            let background = mix(level[f] + rng.random_range(NOISE), patterns[absent[0]][f], faint);
            let value = shown.map_or(background, |pattern| mix(background, pattern[f], weight));
            values.push(value.clamp(0, 255) as u8);
        }
    }

    // Like annotators, who were asked about probable candidates, the negatives begin with the faint class.
    let (mut positives, mut negatives) = (present.iter(), absent.iter());
    let mut draw = rng.random_range(0..100);
    let mut labels = Vec::new();
    for weight in KNOWN_LABELS {
        let positive = if rng.random_range(0..100) < POSITIVE { positives.next() } else { None };
        match positive {
            Some(&k) => labels.push((k, rng.random_range(50_000..=100_000))),
            None => labels.extend(negatives.next().map(|&k| (k, rng.random_range(0..50_000)))),
        }
        if draw < weight {
            break;
        }
        draw -= weight;
    }
    labels.sort_unstable();
    Clip { key, values, labels, activity }
}

/// `weight` per cent of `b` in `a`.
fn mix(a: i32, b: i32, weight: i32) -> i32 {
    ((100 - weight) * a + weight * b + 50).div_euclid(100)
}

/// Writes X, Y_true, Y_mask and sample_key with the dtypes of OpenMIC-2018. Unknown labels have relevance 0.5, as
/// there.
fn write_npz(writer: impl Write + io::Seek, clips: &[Clip]) -> io::Result<()> {
    let (n, classes) = (clips.len() as u64, CLASSES.len());
    let mut npz = NpzWriter::new(writer);
    let values = clips.iter().flat_map(|clip| &clip.values).flat_map(|&v| i64::from(v).to_le_bytes());
    npz.array("X", "<i8", &[n, INSTANCES as u64, WIDTH as u64], values)?;
    let known = |clip: &Clip, class: usize| clip.labels.iter().find(|label| label.0 == class).map(|label| label.1);
    let entries = || clips.iter().flat_map(|clip| (0..classes).map(move |class| known(clip, class)));
    let relevance = entries().flat_map(|label| (f64::from(label.unwrap_or(50_000)) / 1e5).to_le_bytes());
    npz.array("Y_true", "<f8", &[n, classes as u64], relevance)?;
    npz.array("Y_mask", "|b1", &[n, classes as u64], entries().map(|label| label.is_some().into()))?;
    let keys: Vec<String> = clips.iter().map(|clip| clip.key.clone()).collect();
    npz.array("sample_key", "|O", &[n], pickle::write_strings(&keys).into_iter())?;
    npz.finish()?.flush()
}
