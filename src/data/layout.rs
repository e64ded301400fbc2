//! Common parts of the synthetic datasets: OpenMIC-2018's classes, keys, split and tables.

use crate::core::error::{Error, Result};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::RangeInclusive;
use std::path::Path;

/// OpenMIC-2018's classes, in the order of its class map.
pub(super) const CLASSES: [&str; 20] = [
    "accordion",
    "banjo",
    "bass",
    "cello",
    "clarinet",
    "cymbals",
    "drums",
    "flute",
    "guitar",
    "mallet_percussion",
    "mandolin",
    "organ",
    "piano",
    "saxophone",
    "synthesizer",
    "trombone",
    "trumpet",
    "ukulele",
    "violin",
    "voice",
];

/// A known label: class and relevance in units of 1e-5, present from 50 000 on.
pub(super) type Label = (usize, u32);

pub(super) fn check_clips(clips: usize, possible: &RangeInclusive<usize>) -> Result<()> {
    if possible.contains(&clips) {
        return Ok(());
    }
    let (least, most) = (possible.start(), possible.end());
    Err(Error::Usage(format!("{clips} clips were requested; {least} to {most} are allowed")))
}

/// The key of a clip of the next track, as `TRACK_SAMPLE`.
pub(super) fn draw_key(rng: &mut impl Rng, track: &mut u32) -> String {
    *track += rng.random_range(1..=13);
    format!("{track:06}_{}", 3840 * rng.random_range(0..200))
}

/// Splits the clips 0..`clips` into three quarters for training and the rest for testing, both in ascending order.
pub(super) fn draw_split(rng: &mut impl Rng, clips: usize) -> [Vec<usize>; 2] {
    let mut train: Vec<usize> = (0..clips).collect();
    train.shuffle(rng);
    let mut test = train.split_off(clips * 3 / 4);
    train.sort_unstable();
    test.sort_unstable();
    [train, test]
}

/// Writes class map, split and labels of `clips` (key and known labels) into the folder `dir`.
pub(super) fn write_tables(dir: &Path, clips: &[(&str, &[Label])], [train, test]: &[Vec<usize>; 2]) -> Result<()> {
    write_file(&dir.join("class-map.json"), |w| {
        let entries: Vec<String> = CLASSES.iter().enumerate().map(|(k, name)| format!("\"{name}\": {k}")).collect();
        writeln!(w, "{{{}}}", entries.join(", "))
    })?;
    let partitions = dir.join("partitions");
    std::fs::create_dir(&partitions).map_err(Error::io(&partitions))?;
    for (name, rows) in [("split01_train.csv", train), ("split01_test.csv", test)] {
        write_file(&partitions.join(name), |w| rows.iter().try_for_each(|&row| writeln!(w, "{}", clips[row].0)))?;
    }
    write_file(&dir.join("openmic-2018-aggregated-labels.csv"), |w| {
        writeln!(w, "sample_key,instrument,relevance,num_responses")?;
        let mut rows = clips.iter().flat_map(|(key, labels)| labels.iter().map(move |label| (key, label)));
        rows.try_for_each(|(key, &(k, relevance))| {
            writeln!(w, "{key},{},{}.{:05},3", CLASSES[k], relevance / 100_000, relevance % 100_000)
        })
    })
}

/// Writes a file in a temporary folder, so not atomically.
pub(super) fn write_file(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let write = || {
        let mut writer = BufWriter::new(File::create(path)?);
        fill(&mut writer)?;
        writer.flush()
    };
    write().map_err(Error::io(path))
}
