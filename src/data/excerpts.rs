//! Clips of recordings with known times: excerpts, and labels of their instances.

use super::audio_set::AudioSet;
use super::dataset::{Dataset, Drawn, Features, instance};
use super::labels::{Labels, Splits};
use super::names::{examples, normalised};
use super::own_labels::{Part, Times, read_times};
use crate::core::error::{Error, Result};
use crate::core::numbers;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

/// How recordings with labels of one's own become clips.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excerpts {
    /// Seconds of a clip.
    pub window: f64,
    /// Seconds of an instance.
    pub instance: f64,
    /// Whether instances get labels, where times are known.
    pub strong: bool,
    /// Fraction of the recordings that are not for the test for validation, unless the labels say which.
    pub validation: f64,
}

impl AudioSet {
    /// The clips of recordings with labels of one's own. `keys[i]` and `rows[i]`: the name, the file and the start
    /// (seconds) of row i of `features`. The times that overlap an excerpt give its labels; labels without times hold
    /// for all excerpts of a recording.
    ///
    /// # Errors
    /// `Usage` if the numbers of rows and keys differ, or for other sets; `Data` if no label is left.
    pub fn with_excerpts(
        &self,
        features: Features,
        keys: Vec<String>,
        rows: &[(u32, f64)],
        how: Excerpts,
    ) -> Result<Dataset> {
        let k = self.classes.len();
        let own = self.own.as_ref().filter(|_| keys.len() == rows.len() && features.lengths.len() == rows.len());
        let own =
            own.ok_or_else(|| Error::Usage("excerpts need labels, and a row of features and a key each".into()))?;
        let mut warnings = self.warnings.clone();
        let mut ends: Vec<Option<f64>> = vec![None; self.files.len()];
        let mut excerpts = vec![0; self.files.len()];
        for (&(file, start), length) in rows.iter().zip(&features.lengths) {
            let end = start + f64::from(*length) * how.instance;
            let known = &mut ends[file as usize];
            *known = Some(known.map_or(end, |known: f64| known.max(end)));
            excerpts[file as usize] += 1;
        }
        let lost = (0..self.files.len()).filter(|&file| excerpts[file] == 0);
        let lost: Vec<&str> = lost.map(|file| self.keys[file].as_str()).collect();
        if !lost.is_empty() {
            let files = numbers::of(lost.len(), "file has no features and is", "files have no features and are");
            warnings.push(format!("{files} skipped ({})", examples(&lost)));
        }
        for (file, last) in own.times.beyond(&ends) {
            let (name, end) = (&self.keys[file as usize], ends[file as usize].unwrap_or_default());
            warnings.push(format!("{name} has times up to {last} s, but ends at about {end:.0} s; they are cut there"));
        }
        let absent = |file: u32| -> Vec<bool> {
            let entries = file as usize * k..(file as usize + 1) * k;
            self.targets[entries.clone()]
                .iter()
                .zip(&self.observed[entries])
                .map(|(y, seen)| *seen && *y < 0.5)
                .collect()
        };
        let (mut targets, mut observed, mut spread) = (vec![], vec![], 0);
        for (&(file, start), length) in rows.iter().zip(&features.lengths) {
            // The rest of a recording behind its last whole excerpt may be too short to have what the whole has.
            let short = excerpts[file as usize] > 1 && f64::from(*length) * how.instance < how.window / 2.0;
            for class in 0..k {
                let entry = file as usize * k + class;
                let state = match (self.observed[entry], self.targets[entry] >= 0.5) {
                    (true, true) if own.times.knows(file, class as u32) => {
                        own.times.state(file, class as u32, [start, start + how.window])
                    }
                    (true, true) => {
                        spread += usize::from(excerpts[file as usize] > 1 && start == 0.0);
                        (!short).then_some(true)
                    }
                    (true, false) => Some(false),
                    (false, _) => None,
                };
                observed.push(state.is_some());
                targets.push(f32::from(u8::from(state == Some(true))));
            }
        }
        if !how.strong && !own.times.is_empty() {
            warnings.push("times only say in which clips an instrument plays (the model has no instances)".into());
        }
        if spread > 0 {
            let labels =
                numbers::of(spread, "label without times is of a recording", "labels without times are of recordings");
            warnings.push(format!("{labels} longer than {} s, taken to hold throughout", how.window));
        }
        let clip = |(&(file, start), length): (&(u32, f64), &u32)| {
            let counts = [features.instances, *length as usize];
            own.times.codes(file, [start, how.instance], counts, &absent(file))
        };
        let strong = (how.strong && !own.times.is_empty())
            .then(|| Arc::new(rows.iter().zip(&features.lengths).flat_map(clip).collect()));
        let parts = own.parts(how.validation);
        let clips = |part: Part| -> Vec<u32> {
            rows.iter()
                .zip(0..)
                .filter(|((file, _), _)| parts[*file as usize] == Some(part))
                .map(|(_, clip)| clip)
                .collect()
        };
        let validation = clips(Part::Validation);
        if validation.is_empty() && how.validation > 0.0 {
            let reason = "has too few recordings (or groups of them) to hold some out for validation";
            return Err(Error::data(&own.source, reason));
        }
        let splits = Splits { train: clips(Part::Train), validation: Some(validation), test: clips(Part::Test) };
        let labels = Labels { keys, targets, observed, warnings };
        let data = labels.with_features(self.path.clone(), self.classes.clone(), features, splits)?;
        Ok(Dataset { strong, drawn: Some(Drawn::Recordings), ..data })
    }
}

impl Dataset {
    /// Adds labels of instances of `seconds` each, from a table of times: columns file (or sample_key), instrument,
    /// start and end, in seconds. The times of an instrument in a clip are all of its times there; one that is absent
    /// from a clip is absent from its instances. Where the two contradict each other, the clip's label holds and the
    /// instances are unknown.
    ///
    /// # Errors
    /// `Data` for a damaged table, and one of other clips or instruments.
    pub fn with_times(mut self, path: &Path, seconds: f64) -> Result<Dataset> {
        let (k, instances) = (self.classes.len(), self.features.instances);
        let clips: HashMap<&str, u32> = self.keys.iter().map(String::as_str).zip(0..).collect();
        // The table's names are normalised; those of a class map need not be.
        let spelt = |name: &String| normalised(name).unwrap_or_else(|_| name.clone());
        let classes: HashMap<String, u32> =
            self.classes.iter().map(spelt).zip(0..).chain(self.classes.iter().cloned().zip(0..)).collect();
        let (mut times, mut unknown, mut others) = (Times::default(), BTreeSet::new(), BTreeSet::new());
        for (clip, instrument, segment) in read_times(path)? {
            match (clips.get(clip.as_str()), classes.get(instrument.as_str())) {
                (Some(&clip), Some(&class)) => times.add(clip, class, segment),
                (None, _) => drop(unknown.insert(clip)),
                (Some(_), None) => drop(others.insert(instrument)),
            }
        }
        if times.is_empty() {
            return Err(Error::data(path, "has no times of the dataset's clips and instruments"));
        }
        for (one, many, names) in [("clip", "clips", unknown), ("instrument", "instruments", others)] {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            if !names.is_empty() {
                let (those, path) = (numbers::of(names.len(), one, many), path.display());
                self.warnings.push(format!("{path} has times of {those} not in the dataset ({})", examples(&names)));
            }
        }
        let (mut codes, mut contradictions) = (vec![], 0);
        for (clip, (targets, observed)) in (0..).zip(self.targets.chunks(k).zip(self.observed.chunks(k))) {
            let absent: Vec<bool> = targets.iter().zip(observed).map(|(y, seen)| *seen && *y < 0.5).collect();
            let length = self.features.lengths[clip as usize] as usize;
            let mut of_clip = times.codes(clip, [0.0, seconds], [instances, length], &absent);
            for class in (0..k).filter(|&class| absent[class] && times.knows(clip, class as u32)) {
                contradictions += 1;
                of_clip.iter_mut().skip(class).step_by(k).for_each(|code| *code = instance::UNKNOWN);
            }
            codes.extend(of_clip);
        }
        if contradictions > 0 {
            let labels = numbers::of(contradictions, "label says", "labels say");
            self.warnings.push(format!("{labels} absent where {} has times; these are not used", path.display()));
        }
        self.strong = Some(Arc::new(codes));
        Ok(self)
    }
}
