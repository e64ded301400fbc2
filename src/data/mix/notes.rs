//! Isolated notes: a folder per class, decoded to memory, and divided into notes to train on and held-out ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::audio::{AudioFormat, Item, Level, Windowing, ingest};
use crate::core::error::{Error, Result};
use crate::core::hash::Fingerprint;
use crate::core::numbers;
use crate::data::class_folders::ClassFolders;
use crate::data::names::examples;

/// Sample rate of notes and mixtures, Hz.
pub const SR: u32 = 16_000;
/// Longest part of a note that is used, seconds.
const LONGEST: f64 = 20.0;
/// Shortest note, samples: 50 ms.
const SHORTEST: usize = SR as usize / 20;
/// All notes together have at most so many samples: 2 GiB.
const MOST: usize = 1 << 30;
/// Largest magnitude below which a file is silent.
const SILENT: f32 = 1e-4;
/// A note begins where it reaches this fraction of its peak, and so many samples (5 ms) before.
const ONSET: f32 = 0.02;
const LEAD: usize = 80;
/// Of the notes of a source one in `HELD` is held out, from number `FIRST_HELD` on.
const HELD: usize = 6;
const FIRST_HELD: usize = 3;
/// Of a class with so many sources of at least so many notes, the smallest of them is held out as a whole.
const SOURCES: usize = 3;
const LARGE_SOURCE: usize = 10;

/// Which notes a mixture is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Train,
    /// Held-out notes, which no mixture to train on has.
    Test,
}

/// A note or short phrase.
pub(super) struct Note {
    /// Its path within the folder, with slashes: `CLASS/FILE`.
    pub key: String,
    pub class: usize,
    pub part: Part,
    /// From its onset on, at [`SR`] Hz, with a peak of [`i16::MAX`].
    pub samples: Vec<i16>,
}

impl Note {
    /// Its recording session or library: the first folder below the class; of files in the class's own folder the name
    /// up to the first underscore, or a common one for those without.
    pub fn source(&self) -> &str {
        let within = self.key.split_once('/').map_or(self.key.as_str(), |(_, within)| within);
        match within.split_once('/') {
            Some((folder, _)) => folder,
            None => within.split_once('_').map_or("", |(prefix, _)| prefix),
        }
    }
}

/// Isolated notes of some classes, in memory.
pub struct Notes {
    /// The folder.
    pub path: PathBuf,
    /// Names of its folders in lower case, with underscores for spaces and hyphens, sorted.
    pub classes: Vec<String>,
    /// Warnings, one line each, with counts.
    pub warnings: Vec<String>,
    pub(super) notes: Vec<Note>,
}

impl Notes {
    /// Decodes the audio files of a folder per class, on all cores, until all are done or `stop` returns true: then
    /// `None`. `progress`: files done, of all. Only the first 20 s of a note are used.
    ///
    /// Notes are held out by file: of each source the fourth in alphabetical order and every sixth from there on; of
    /// classes with three sources of ten notes or more, the smallest of these as a whole; and always at least one. The
    /// source of a file is the folder below the class that it is in, or its name up to the first underscore. Files that
    /// cannot be decoded, silent ones and those of less than 50 ms are left out and counted in the warnings.
    ///
    /// # Errors
    /// `Data` for a folder without two classes, or with two folders of one, or a name that none can have; a class with
    /// fewer than two notes that can be used; and notes of more than 18 hours. `Io` for what cannot be read.
    pub fn load(path: &Path, stop: &dyn Fn() -> bool, progress: &mut dyn FnMut(usize, usize)) -> Result<Option<Notes>> {
        let Some(mut loaded) = Notes::decode(path, stop, progress)? else { return Ok(None) };
        let Notes { classes, notes, warnings, .. } = &mut loaded;
        for (class, name) in classes.iter().enumerate() {
            let usable = notes.iter().filter(|note| note.class == class).count();
            if usable < 2 {
                let reason = "a class needs two, one to train on and one that is held out for the test";
                let why = if warnings.is_empty() { String::new() } else { format!(" ({})", warnings.join("; ")) };
                let usable = numbers::of(usable, "note", "notes");
                return Err(Error::data(path, format!("has {usable} of {name} that can be used; {reason}{why}")));
            }
            hold_out(notes, class);
        }
        Ok(Some(loaded))
    }

    /// As [`Notes::load`], with any number of notes of a class, of which none is held out.
    pub(super) fn decode(
        path: &Path,
        stop: &dyn Fn() -> bool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Notes>> {
        let ClassFolders { classes, keys, files, mut warnings } = ClassFolders::read(path, "")?;
        let all = files.len();
        let (of_file, files): (Vec<usize>, Vec<PathBuf>) = files.into_iter().unzip();
        let format = AudioFormat { sr: SR, level: Level::Peak, whole: false };
        let windowing = Windowing { window: LONGEST, hop: None, format, align_last: false };
        let (mut notes, mut undecoded, mut silent, mut short, mut total) = (vec![], vec![], vec![], vec![], 0);
        for (i, item) in ingest(files, windowing)? {
            let key = || keys[i].clone();
            match item {
                Item::Excerpt(excerpt) => match trimmed(&excerpt.samples).filter(|_| excerpt.scale >= SILENT) {
                    None => silent.push(key()),
                    Some(samples) if samples.len() < SHORTEST => short.push(key()),
                    Some(samples) => {
                        total += samples.len();
                        if total > MOST {
                            let hours = MOST / SR as usize / 3600;
                            return Err(Error::data(path, format!("has more than {hours} hours of notes; use fewer")));
                        }
                        notes.push(Note { key: key(), class: of_file[i], part: Part::Train, samples });
                    }
                },
                Item::Failed(_) => undecoded.push(key()),
                Item::End { .. } => {}
            }
            if stop() {
                return Ok(None);
            }
            progress(i + 1, all);
        }
        for (keys, why) in [(undecoded, "not decodable"), (silent, "silent"), (short, "shorter than 50 ms")] {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            if !keys.is_empty() {
                let (n, are) = (keys.len(), if keys.len() == 1 { "is" } else { "are" });
                warnings.push(format!("{n} of {all} files {are} left out: {why} ({})", examples(&keys)));
            }
        }
        Ok(Some(Notes { path: path.into(), classes, warnings, notes }))
    }

    /// Fingerprint of the notes: their classes, files and sound.
    pub fn fingerprint(&self) -> u64 {
        let mut fingerprint = Fingerprint::default();
        self.classes.iter().for_each(|name| fingerprint.mix_bytes(name.as_bytes()));
        for note in &self.notes {
            fingerprint.mix_bytes(note.key.as_bytes());
            fingerprint.mix_bytes(bytemuck::cast_slice(&note.samples));
        }
        fingerprint.finish()
    }

    /// Number of notes.
    pub fn len(&self) -> usize {
        self.notes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// The file, class, source and part of each note.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &str, &str, Part)> {
        self.notes.iter().map(|note| (&*note.key, &*self.classes[note.class], note.source(), note.part))
    }
}

/// The sound from its onset on; `None` if there is none.
fn trimmed(samples: &[f32]) -> Option<Vec<i16>> {
    let peak = samples.iter().fold(0.0f32, |peak, v| peak.max(v.abs()));
    let onset = samples.iter().position(|v| peak > 0.0 && v.abs() > ONSET * peak)?;
    let scale = f32::from(i16::MAX);
    Some(samples[onset.saturating_sub(LEAD)..].iter().map(|v| (v / peak * scale).round() as i16).collect())
}

/// Chooses the notes of a class that are held out.
fn hold_out(notes: &mut [Note], class: usize) {
    let mut sources: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, note) in notes.iter().enumerate().filter(|(_, note)| note.class == class) {
        sources.entry(note.source().into()).or_default().push(i);
    }
    let large = || sources.values().filter(|of| of.len() >= LARGE_SOURCE);
    let whole = large().min_by_key(|of| of.len()).filter(|_| large().count() >= SOURCES);
    let mut held: Vec<usize> = vec![];
    for of in sources.values() {
        match whole == Some(of) {
            true => held.extend(of),
            false => held.extend(of.iter().skip(FIRST_HELD).step_by(HELD)),
        }
    }
    if held.is_empty() {
        let largest = sources.values().max_by_key(|of| of.len()).expect("a class has notes");
        held.extend(largest.last());
    }
    held.into_iter().for_each(|i| notes[i].part = Part::Test);
}
