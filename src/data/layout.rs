//! Common parts of the datasets that are written: OpenMIC-2018's classes, keys, split and tables.

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
pub(super) fn write_tables(
    dir: &Path,
    classes: &[impl AsRef<str>],
    clips: &[(&str, &[Label])],
    [train, test]: &[Vec<usize>; 2],
) -> Result<()> {
    let class = |k: usize| classes[k].as_ref();
    write_file(&dir.join("class-map.json"), |w| {
        let name = |k| serde_json::to_string(class(k)).expect("text can be written");
        let entries: Vec<String> = (0..classes.len()).map(|k| format!("{}: {k}", name(k))).collect();
        writeln!(w, "{{{}}}", entries.join(", "))
    })?;
    let partitions = dir.join("partitions");
    std::fs::create_dir(&partitions).map_err(Error::io(&partitions))?;
    for (name, rows) in [("split01_train.csv", train), ("split01_test.csv", test)] {
        write_file(&partitions.join(name), |w| rows.iter().try_for_each(|&row| writeln!(w, "{}", clips[row].0)))?;
    }
    let labels = clips.iter().flat_map(|(key, labels)| labels.iter().map(move |label| (key, label)));
    let rows = labels.map(|(key, &(k, relevance))| {
        let relevance = format!("{}.{:05}", relevance / 100_000, relevance % 100_000);
        [key.to_string(), class(k).into(), relevance, "3".into()]
    });
    let header = ["sample_key", "instrument", "relevance", "num_responses"];
    write_csv(&dir.join("openmic-2018-aggregated-labels.csv"), header, rows)
}

/// Writes the times of instruments: clip key, instrument, start and end in seconds.
pub(super) fn write_activity<'a>(dir: &Path, rows: impl Iterator<Item = (&'a str, &'a str, f64, f64)>) -> Result<()> {
    let rows = rows.map(|(key, class, start, end)| [key.into(), class.into(), start.to_string(), end.to_string()]);
    write_csv(&dir.join("activity.csv"), ["sample_key", "instrument", "start_s", "end_s"], rows)
}

/// Writes a table in a temporary folder.
pub(super) fn write_csv(path: &Path, header: [&str; 4], rows: impl Iterator<Item = [String; 4]>) -> Result<()> {
    write_file(path, |w| {
        let mut table = csv::Writer::from_writer(w);
        table.write_record(header)?;
        for row in rows {
            table.write_record(&row)?;
        }
        table.flush()
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
