//! The times at which instruments play, and what follows from them for parts of a recording.

use crate::data::dataset::instance;
use std::collections::BTreeMap;

/// An instrument that plays for so many seconds in a part of a recording is present in it: half an instance. A shorter
/// one is too, if all of it is in the part; what only reaches into the part is unknown.
const ENOUGH: f64 = 0.48;

/// The segments in which instruments play, of some files and classes; all of those of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// By file and class: start and end, in seconds.
    segments: BTreeMap<(u32, u32), Vec<[f64; 2]>>,
}

impl Times {
    pub(crate) fn add(&mut self, file: u32, class: u32, segment: [f64; 2]) {
        self.segments.entry((file, class)).or_default().push(segment);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether the times of this class in this file are known.
    pub(crate) fn knows(&self, file: u32, class: u32) -> bool {
        self.segments.contains_key(&(file, class))
    }

    /// Whether a class plays between two times of a file; `None` if that is not known.
    pub(crate) fn state(&self, file: u32, class: u32, [start, end]: [f64; 2]) -> Option<bool> {
        let segments = self.segments.get(&(file, class))?;
        let overlaps = |[from, to]: &&[f64; 2]| *from < end && *to > start || within(*from, *to, start, end);
        let overlapping = || segments.iter().filter(overlaps);
        // Segments may overlap, too: what plays twice counts once.
        let mut spans: Vec<[f64; 2]> = overlapping().map(|[from, to]| [from.max(start), to.min(end)]).collect();
        spans.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let (mut played, mut done) = (0.0, start);
        for [from, to] in spans {
            played += (to - from.max(done)).max(0.0);
            done = done.max(to);
        }
        match played >= ENOUGH - 1e-9 || overlapping().any(|[from, to]| within(*from, *to, start, end)) {
            true => Some(true),
            false => (overlapping().next().is_none()).then_some(false),
        }
    }

    /// The labels of the instances of an excerpt, (T, K) codes of [`instance`]: `length` valid ones of `seconds` each,
    /// from `start` on. `absent[k]`: whether a class is known not to play anywhere in the file.
    pub(crate) fn codes(
        &self,
        file: u32,
        [start, seconds]: [f64; 2],
        [instances, length]: [usize; 2],
        absent: &[bool],
    ) -> Vec<u8> {
        let mut codes = vec![instance::UNKNOWN; instances * absent.len()];
        for (t, row) in codes.chunks_exact_mut(absent.len()).enumerate().take(length) {
            let span = [start + t as f64 * seconds, start + (t + 1) as f64 * seconds];
            for (class, code) in row.iter_mut().enumerate() {
                let state = if absent[class] { Some(false) } else { self.state(file, class as u32, span) };
                *code = state.map_or(instance::UNKNOWN, |p| if p { instance::PRESENT } else { instance::ABSENT });
            }
        }
        codes
    }

    /// The files with a time more than a second after their ends, and the latest such time. `ends`: of each file, in
    /// seconds, if it is known.
    pub(crate) fn beyond(&self, ends: &[Option<f64>]) -> BTreeMap<u32, f64> {
        let mut late: BTreeMap<u32, f64> = BTreeMap::new();
        for ((file, _), segments) in &self.segments {
            let Some(end) = ends[*file as usize] else { continue };
            let last = segments.iter().fold(0.0, |last: f64, [_, to]| last.max(*to));
            if last > end + 1.0 {
                let known = late.entry(*file).or_default();
                *known = known.max(last);
            }
        }
        late
    }
}

/// Whether all of a segment is between two times. One on a border belongs to what follows.
fn within(from: f64, to: f64, start: f64, end: f64) -> bool {
    from >= start && to <= end && from < end
}
