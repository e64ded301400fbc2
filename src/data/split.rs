//! Splits into training, validation and test clips.

use super::dataset::{Dataset, Drawn};
use crate::core::error::{Error, Result};
use crate::core::files::read_limited;
use crate::core::numbers;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Maximum size of a split file; OpenMIC-2018's train split has 200 kB.
const MAX_FILE: u64 = 64 << 20;

/// The keys of a split file, with the file for messages.
pub(super) struct Partition {
    pub path: PathBuf,
    pub split: &'static str,
    pub keys: Vec<String>,
}

/// Reads the train and the test partition of the dataset in `root`. Fails on a key that occurs twice, in one or in
/// both. A missing file is an error if it is `needed`, else a partition without keys.
pub(super) fn read_partitions(root: &Path, needed: bool) -> Result<[Partition; 2]> {
    let mut seen = HashMap::new();
    Ok([read_partition(root, "train", needed, &mut seen)?, read_partition(root, "test", needed, &mut seen)?])
}

/// `seen` maps every key read so far to its split.
fn read_partition(
    root: &Path,
    split: &'static str,
    needed: bool,
    seen: &mut HashMap<String, &'static str>,
) -> Result<Partition> {
    let names = [format!("split01_{split}.csv"), format!("{split}01.txt")];
    let candidates = ["partitions", ""].iter().flat_map(|folder| names.iter().map(move |n| root.join(folder).join(n)));
    let Some(path) = candidates.into_iter().find(|path| path.is_file()) else {
        if !needed {
            return Ok(Partition { path: root.into(), split, keys: vec![] });
        }
        let expected = format!("partitions/{} or partitions/{} is expected", names[0], names[1]);
        return Err(Error::data(root, format!("has no {split} split; {expected}")));
    };
    let keys = read_keys(&path, |key| match seen.insert(key.into(), split) {
        _ if key.contains(|c: char| c == ',' || c.is_whitespace()) => {
            Err(format!("one clip key per line is expected, not {:?}", key.chars().take(80).collect::<String>()))
        }
        Some(other) if other != split => {
            Err(format!("key {key} is in the {other} split as well; remove it from one of them"))
        }
        other => Ok(other.is_none()),
    })?;
    Ok(Partition { path, split, keys })
}

/// Reads a file of clip keys, one per line. `is_new` returns whether a key is new, or an error for an invalid key.
fn read_keys(path: &Path, mut is_new: impl FnMut(&str) -> Result<bool, String>) -> Result<Vec<String>> {
    let bytes = read_limited(path, MAX_FILE)?;
    let mut keys = Vec::new();
    for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let fail = |reason: String| Error::data_at(path, index as u64 + 1, reason);
        let line = std::str::from_utf8(line).map_err(|_| fail("is not UTF-8 text".into()))?;
        let key = line.trim_start_matches('\u{feff}').trim();
        if key.is_empty() || index == 0 && key == "sample_key" {
            continue;
        }
        if key.contains(char::is_control) {
            return Err(fail("has control characters; one clip key per line is expected".into()));
        }
        match is_new(key).map_err(fail)? {
            true => keys.push(key.to_string()),
            false => return Err(fail(format!("key {key} occurs twice"))),
        }
    }
    Ok(keys)
}

impl Dataset {
    /// Uses the clips whose keys are in the file `path`, one per line, for validation, for all seeds; they must be in
    /// the training split. Excerpts are also named by the keys of their recordings.
    ///
    /// # Errors
    /// `Data` for a key that is not in the training split, one that occurs twice, a file without keys, or one that
    /// leaves no training clip; `Usage` if the dataset already has a validation split.
    pub fn with_validation_keys(mut self, path: &Path) -> Result<Dataset> {
        if let Some(own) = self.validation.take() {
            if self.drawn == Some(Drawn::Notes) {
                let reason = "the segments of single notes are split by `notes.split_by`, not by keys";
                return Err(Error::Usage(reason.into()));
            }
            self.train.extend(own);
            self.train.sort_unstable();
        }
        let (train, validation) = validation_by_keys(path, &self.keys, &self.train, &self.test, false)?;
        (self.train, self.validation) = (train, Some(validation));
        Ok(self)
    }
}

/// Splits the clips of `train` into those for training and those whose keys are in the file `path`. An excerpt is also
/// named by the key of its recording; with `whole`, before decoding, a recording also by that of an excerpt.
pub(super) fn validation_by_keys(
    path: &Path,
    keys: &[String],
    train: &[u32],
    test: &[u32],
    whole: bool,
) -> Result<(Vec<u32>, Vec<u32>)> {
    const TRAIN: u8 = 0;
    const TEST: u8 = 1;
    const NONE: u8 = 2;
    let mut splits = vec![NONE; keys.len()];
    train.iter().for_each(|&clip| splits[clip as usize] = TRAIN);
    test.iter().for_each(|&clip| splits[clip as usize] = TEST);
    let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
    for (key, clip) in keys.iter().zip(0..) {
        named.entry(key).or_default().push(clip);
        named.entry(recording_of(key).unwrap_or(key)).or_default().push(clip);
    }
    let mut chosen = vec![false; keys.len()];
    read_keys(path, |key| {
        let unknown =
            || format!("key {key} is not one of the dataset's clips with features; one key per line is expected");
        let recording = || recording_of(key).filter(|_| whole).and_then(|recording| named.get(recording));
        let (clips, mut is_new) = (named.get(key).or_else(recording).ok_or_else(unknown)?, whole);
        for &clip in clips {
            match splits[clip] {
                TRAIN => is_new |= !std::mem::replace(&mut chosen[clip], true),
                TEST => {
                    let reason = "is in the test split; validation clips must be in the train split";
                    return Err(format!("key {key} {reason}"));
                }
                _ => return Err(format!("key {key} is in no split; validation clips must be in the train split")),
            }
        }
        Ok(is_new)
    })?;
    let (validation, train): (Vec<u32>, Vec<u32>) = train.iter().partition(|&&clip| chosen[clip as usize]);
    match (validation.is_empty(), train.is_empty()) {
        (true, _) => Err(Error::data(path, "has no validation clip; one key per line is expected")),
        (_, true) => Err(Error::data(path, "has every clip of the train split and leaves none for training")),
        _ => Ok((train, validation)),
    }
}

/// The key of the recording of which a key names an excerpt: `song.wav` of `song.wav@9.6`.
fn recording_of(key: &str) -> Option<&str> {
    key.rsplit_once('@').filter(|(_, start)| start.parse::<f64>().is_ok()).map(|(recording, _)| recording)
}

/// Draws a random fraction of the training clips for validation: `(train, validation)`, each in the order of `train`.
///
/// Validation gets `fraction * train.len()` clips, rounded. The same arguments give the same split.
/// Fails when `fraction` is not between 0 and 1 or leaves one of the two without clips.
pub fn validation_split(train: &[u32], fraction: f64, seed: u64) -> Result<(Vec<u32>, Vec<u32>)> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::Usage(format!("the validation fraction is {fraction}; it must be between 0 and 1")));
    }
    let count = (fraction * train.len() as f64).round() as usize;
    if count == 0 || count == train.len() {
        return Err(Error::Usage(format!(
            "{} cannot be split: a fraction of {fraction} for validation leaves {} to train on and {count} to validate \
             with, and neither may be empty",
            numbers::of(train.len(), "clip", "clips"),
            train.len() - count
        )));
    }
    let mut order: Vec<usize> = (0..train.len()).collect();
    order.shuffle(&mut Pcg64::seed_from_u64(seed));
    let mut validation = vec![false; train.len()];
    order[..count].iter().for_each(|&i| validation[i] = true);
    let share = |wanted| train.iter().zip(&validation).filter(|&(_, &v)| v == wanted).map(|(&i, _)| i).collect();
    Ok((share(false), share(true)))
}

/// Unit of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitBy {
    /// Source file: no recording is in both training and test.
    #[default]
    File,
    /// A segment of a file, as Wise, Maida and Kumar (2021) did: seconds of one note can be in both.
    Segment,
}

/// How the segments of audio files are split into training, validation and test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitConfig {
    pub by: SplitBy,
    /// Fraction for validation of the units of each class that are not for the test; between 0 and 1.
    pub validation: f64,
}

/// Fraction of the units of each class for the test.
pub(super) const TEST_FRACTION: f64 = 0.1;

/// Draws units for a split, always in the same way, so that it has about a fraction of each class's units: of n of them
/// the fraction, rounded, but at least one if there are two, and never all. `classes`: those of each unit. The rarest
/// classes come first: they have the least choice.
pub(super) fn draw(classes: &[Vec<usize>], fraction: f64) -> Vec<bool> {
    let mut drawn: Vec<Option<bool>> = vec![None; classes.len()];
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.shuffle(&mut Pcg64::seed_from_u64(0));
    let count = classes.iter().flatten().max().map_or(0, |most| most + 1);
    let with = |class: usize| order.iter().copied().filter(move |&unit| classes[unit].contains(&class));
    let mut rarest: Vec<usize> = (0..count).collect();
    rarest.sort_by_key(|&class| with(class).count());
    let mut draw_from = |units: Vec<usize>| {
        let n = units.len();
        let wanted = match n < 2 || fraction == 0.0 {
            true => 0,
            false => ((n as f64 * fraction).round() as usize).clamp(1, n - 1),
        };
        let mut lacking = wanted.saturating_sub(units.iter().filter(|&&unit| drawn[unit] == Some(true)).count());
        for unit in units {
            if drawn[unit].is_none() {
                drawn[unit] = Some(lacking > 0);
                lacking = lacking.saturating_sub(1);
            }
        }
    };
    rarest.into_iter().for_each(|class| draw_from(with(class).collect()));
    draw_from(order.iter().copied().filter(|&unit| classes[unit].is_empty()).collect());
    drawn.into_iter().map(|drawn| drawn == Some(true)).collect()
}

/// Clip indices of three splits.
pub(super) struct SegmentSplit {
    pub train: Vec<u32>,
    pub validation: Vec<u32>,
    pub test: Vec<u32>,
}

impl SplitConfig {
    /// Splits segments of these files and classes, always in the same way. Of the n units of a class a tenth, rounded,
    /// but at least one if there are two, is for the test, and a fraction of the rest for validation.
    pub(super) fn split_segments(self, files: &[u32], classes: &[usize]) -> SegmentSplit {
        let unit = |clip: usize| if self.by == SplitBy::File { files[clip] } else { clip as u32 };
        let mut of_class: Vec<Vec<u32>> = vec![vec![]; classes.iter().max().map_or(0, |most| most + 1)];
        (0..files.len()).for_each(|clip| of_class[classes[clip]].push(unit(clip)));
        let mut part = HashMap::new();
        for mut units in of_class {
            units.sort_unstable();
            units.dedup();
            units.shuffle(&mut Pcg64::seed_from_u64(0));
            let share =
                |n: usize, share: f64| if n < 2 { 0 } else { ((n as f64 * share).round() as usize).clamp(1, n - 1) };
            let test = share(units.len(), TEST_FRACTION);
            let validation = share(units.len() - test, self.validation);
            units.iter().enumerate().for_each(|(i, &unit)| {
                part.insert(unit, if i < test { 2 } else { usize::from(i < test + validation) });
            });
        }
        let of = |wanted: usize| {
            (0..files.len()).filter(|&clip| part[&unit(clip)] == wanted).map(|clip| clip as u32).collect()
        };
        SegmentSplit { train: of(0), validation: of(1), test: of(2) }
    }
}
