//! Collects what labels say of each recording.

use super::labels::{OwnLabels, Part, Statement, TABLE, Unlisted, has_table};
use super::times::Times;
use super::{table, tracks};
use crate::audio::{audio_files_in, is_audio};
use crate::core::error::{Error, Result};
use crate::core::numbers;
use crate::data::names::{examples, shorten};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The labels of the folder `root`: of its `labels.csv`, else of annotation files beside its recordings; `None` if it
/// has neither. `unlisted`: of instruments that are not mentioned; by default they are unknown in a table, which can
/// say that an instrument is absent, and absent in annotation files, which cannot.
///
/// # Errors
/// `Data`, with the line, for damaged and contradictory labels, and if none of the files exists.
pub(in crate::data) fn load(root: &Path, unlisted: Option<Unlisted>) -> Result<Option<OwnLabels>> {
    let source = root.join(TABLE);
    if has_table(root) {
        let statements = table::read(&source)?;
        let mut collection = Collection::new(source, unlisted.unwrap_or(Unlisted::Unknown));
        let mut finder = Finder::new(root)?;
        for statement in statements {
            match finder.find(&statement.name) {
                Some(file) => collection.add(file, statement)?,
                None => drop(collection.missing.entry(statement.name).or_insert(statement.line)),
            }
        }
        let unused = finder.recordings.iter().filter(|file| !collection.numbers.contains_key(*file)).count();
        return collection.finish(unused).map(Some);
    }
    let recordings = audio_files_in(root)?;
    let annotated: Vec<(PathBuf, PathBuf)> =
        recordings.iter().filter_map(|file| Some((file.clone(), tracks::beside(file)?))).collect();
    if annotated.is_empty() {
        return Ok(None);
    }
    let unused = recordings.len() - annotated.len();
    let mut collection = Collection::new(root.into(), unlisted.unwrap_or(Unlisted::Absent));
    let mut owners: HashMap<PathBuf, PathBuf> = HashMap::new();
    for (recording, track) in annotated {
        if let Some(other) = owners.insert(track.clone(), recording.clone()) {
            let [one, two] = [&other, &recording].map(|path| path.display());
            return Err(Error::data(&track, format!("is beside both {one} and {two}; remove or rename one of them")));
        }
        let name = recording.display().to_string();
        collection.number(&recording);
        for statement in tracks::read(&track, &name)? {
            collection.add(recording.clone(), statement)?;
        }
    }
    collection.finish(unused).map(Some)
}

/// Whether the folder has labels of the user's own: `labels.csv`, or annotation files beside recordings.
pub fn has_own_labels(root: impl AsRef<Path>) -> bool {
    let root = root.as_ref();
    let annotated = || audio_files_in(root).is_ok_and(|files| files.iter().any(|file| tracks::beside(file).is_some()));
    has_table(root) || annotated()
}

/// Finds the files of a table.
struct Finder {
    root: PathBuf,
    recordings: Vec<PathBuf>,
    /// By their names without extension; `None` if there are several.
    stems: HashMap<PathBuf, Option<PathBuf>>,
    /// Paths by their canonical ones: a file may be named in several ways.
    seen: HashMap<PathBuf, PathBuf>,
    found: HashMap<String, Option<PathBuf>>,
}

impl Finder {
    fn new(root: &Path) -> Result<Finder> {
        let recordings = audio_files_in(root)?;
        let mut stems = HashMap::new();
        for file in &recordings {
            stems.entry(file.with_extension("")).and_modify(|known| *known = None).or_insert(Some(file.clone()));
        }
        Ok(Finder { root: root.into(), recordings, stems, seen: HashMap::new(), found: HashMap::new() })
    }

    /// The file of this name in the folder, where the extension of an audio file may be left out.
    fn find(&mut self, name: &str) -> Option<PathBuf> {
        if let Some(known) = self.found.get(name) {
            return known.clone();
        }
        let with_slashes = name.replace('\\', "/");
        let candidates = [name, &with_slashes].map(|name| self.root.join(name));
        // Regular files only: a table may name anything.
        let is_file = |path: &&PathBuf| fs::metadata(path).is_ok_and(|about| about.is_file());
        let stem = |path: &PathBuf| self.stems.get(path).cloned().flatten();
        let path = candidates.iter().find(is_file).cloned().or_else(|| candidates.iter().find_map(stem));
        let path = path.map(|path| {
            let same = path.canonicalize().unwrap_or_else(|_| path.clone());
            let plain: PathBuf = path.components().collect();
            self.seen.entry(same).or_insert(plain).clone()
        });
        self.found.insert(name.into(), path.clone());
        path
    }
}

/// A statement about a file and a class, or about a file, with its line.
type Said<T> = (T, u64);

/// What is said of an instrument: whether it is present, and its times, as bits.
type Meaning = (Option<bool>, Option<[u64; 2]>);

struct Collection {
    source: PathBuf,
    unlisted: Unlisted,
    files: Vec<PathBuf>,
    numbers: HashMap<PathBuf, u32>,
    /// By file and instrument.
    labels: BTreeMap<(u32, String), Said<Option<bool>>>,
    segments: Vec<(u32, String, [f64; 2])>,
    /// To find repeated lines.
    known: HashSet<(u32, String, Meaning)>,
    groups: HashMap<u32, Said<String>>,
    parts: HashMap<u32, Said<Part>>,
    /// Names of files that do not exist, with their lines.
    missing: BTreeMap<String, u64>,
    repeated: usize,
}

impl Collection {
    fn new(source: PathBuf, unlisted: Unlisted) -> Collection {
        Collection {
            source,
            unlisted,
            files: vec![],
            numbers: HashMap::new(),
            labels: BTreeMap::new(),
            segments: vec![],
            known: HashSet::new(),
            groups: HashMap::new(),
            parts: HashMap::new(),
            missing: BTreeMap::new(),
            repeated: 0,
        }
    }

    fn number(&mut self, file: &Path) -> u32 {
        if let Some(known) = self.numbers.get(file) {
            return *known;
        }
        let number = self.files.len() as u32;
        self.numbers.insert(file.into(), number);
        self.files.push(file.into());
        number
    }

    fn add(&mut self, file: PathBuf, s: Statement) -> Result<()> {
        let number = self.number(&file);
        let (name, line) = (shorten(&s.name), s.line);
        let fail = |reason: String| Error::data_at(&self.source, line, reason);
        if let Some(group) = s.group {
            let said = self.groups.entry(number).or_insert_with(|| (group.clone(), line));
            if said.0 != group {
                return Err(fail(format!("{name} is in another group than in line {}", said.1)));
            }
        }
        if let Some(part) = s.part {
            let said = self.parts.entry(number).or_insert((part, line));
            if said.0 != part {
                return Err(fail(format!("{name} is in another split than in line {}", said.1)));
            }
        }
        let Some(instrument) = s.instrument else { return Ok(()) };
        let times = s.times.map(|times| times.map(f64::to_bits));
        if !self.known.insert((number, instrument.clone(), (s.present, times))) {
            self.repeated += 1;
            return Ok(());
        }
        let said = self.labels.entry((number, instrument.clone())).or_insert((s.present, line));
        match (said.0, s.present) {
            (Some(one), Some(two)) if one != two => {
                let state = |present| if present { "present" } else { "absent" };
                let (one, two, other) = (state(one), state(two), said.1);
                return Err(fail(format!("{instrument} is {two} in {name}, but {one} by line {other}; remove one")));
            }
            (None, Some(_)) => *said = (s.present, line),
            _ => {}
        }
        self.segments.extend(s.times.map(|times| (number, instrument, times)));
        Ok(())
    }

    /// `unused`: recordings in the folder without labels.
    fn finish(self, unused: usize) -> Result<OwnLabels> {
        let missing: Vec<String> = self.missing.iter().map(|(name, line)| format!("{name}, line {line}")).collect();
        let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
        if self.files.is_empty() {
            let reason = format!("names no file that exists ({}); paths are relative to the table", examples(&missing));
            return Err(Error::data(&self.source, reason));
        }
        let mut warnings = vec![];
        let mut warn = |n: usize, what: String| {
            if n > 0 {
                warnings.push(what);
            }
        };
        let (n, source) = (missing.len(), self.source.display());
        let files = numbers::of(n, "file does not exist and is", "files do not exist and are");
        warn(n, format!("{source}: {files} skipped ({})", examples(&missing)));
        let files = numbers::of(unused, "audio file has no labels and is", "audio files have no labels and are");
        warn(unused, format!("{files} unused"));
        let repeated = self.repeated;
        let lines = numbers::of(repeated, "line repeats another and is", "lines repeat others and are");
        warn(repeated, format!("{lines} skipped"));
        let strange: Vec<&PathBuf> = self.files.iter().filter(|file| !is_audio(file)).collect();
        let names: Vec<String> = strange.iter().map(|file| file.display().to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let files = numbers::of(names.len(), "file does", "files do");
        warn(names.len(), format!("{files} not have the extension of an audio file ({})", examples(&names)));

        let classes: BTreeSet<&str> = self.labels.keys().map(|(_, name)| name.as_str()).collect();
        let classes: Vec<String> = classes.into_iter().map(str::to_owned).collect();
        if classes.is_empty() {
            return Err(Error::data(&self.source, "names no instrument"));
        }
        let number: HashMap<&str, usize> = classes.iter().map(String::as_str).zip(0..).collect();
        let (n, k) = (self.files.len(), classes.len());
        let mut targets = vec![0.0; n * k];
        let mut observed = vec![self.unlisted == Unlisted::Absent; n * k];
        for ((file, name), (present, _)) in &self.labels {
            let entry = *file as usize * k + number[name.as_str()];
            observed[entry] = present.is_some();
            targets[entry] = f32::from(u8::from(*present == Some(true)));
        }
        let mut times = Times::default();
        for (file, name, segment) in &self.segments {
            times.add(*file, number[name.as_str()] as u32, *segment);
        }
        let (groups, given) = (self.group_numbers(), self.given()?);
        Ok(OwnLabels {
            source: self.source,
            classes,
            files: self.files,
            targets,
            observed,
            times,
            groups,
            given,
            warnings,
        })
    }

    /// A file without a group is one of its own.
    fn group_numbers(&self) -> Vec<u32> {
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let mut next = 0;
        let mut fresh = || {
            next += 1;
            next - 1
        };
        (0..self.files.len() as u32)
            .map(|file| match self.groups.get(&file) {
                Some((name, _)) => *numbers.entry(name).or_insert_with(&mut fresh),
                None => fresh(),
            })
            .collect()
    }

    fn given(&self) -> Result<Option<Vec<Option<Part>>>> {
        let mut of_group: HashMap<&str, Said<Part>> = HashMap::new();
        for file in 0..self.files.len() as u32 {
            let (Some((group, _)), Some(&(part, line))) = (self.groups.get(&file), self.parts.get(&file)) else {
                continue;
            };
            let said = of_group.entry(group).or_insert((part, line));
            if said.0 != part {
                let group = shorten(group);
                let reason =
                    format!("group {group} is in another split than in line {}; splits share no group", said.1);
                return Err(Error::data_at(&self.source, line, reason));
            }
        }
        let part = |file: u32| self.parts.get(&file).map(|said| said.0);
        Ok((!self.parts.is_empty()).then(|| (0..self.files.len() as u32).map(part).collect()))
    }
}
