//! Names of the outputs of many recordings.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::audio::is_audio;

/// Paths of the outputs of recordings, without an extension, from the recordings' places (relative paths): distinct,
/// also where case is ignored. That of `album/song.wav` is `album/song`. If there is an `album/song.mp3` as well, the
/// two are `album/song.wav` and `album/song.mp3`; if there is another `album/song.wav`, the second is `album/song-2`.
///
/// A name depends only on the recordings with an equal one, not on their results, so it is the same for every part of
/// them.
pub fn output_names(places: &[PathBuf]) -> Vec<PathBuf> {
    let stems: Vec<PathBuf> = places.iter().map(|place| stem(place)).collect();
    let count = |paths: &[PathBuf]| {
        let mut counts = HashMap::<String, usize>::new();
        paths.iter().for_each(|path| *counts.entry(folded(path)).or_default() += 1);
        counts
    };
    let (of_stem, of_place) = (count(&stems), count(places));
    let mut taken = HashSet::new();
    let name = |(place, stem): (&PathBuf, PathBuf)| {
        let needs_extension = of_stem[&folded(&stem)] > 1 && of_place[&folded(place)] == 1;
        let own = if needs_extension { place.clone() } else { stem };
        let mut numbered = (2..).map(|n| with_suffix(&own, &format!("-{n}")));
        let mut name = own.clone();
        while !taken.insert(folded(&name)) {
            name = numbered.next().expect("there is always a free number");
        }
        name
    };
    places.iter().zip(stems).map(name).collect()
}

/// Whether the name of a recording's output has a number.
pub fn is_numbered(place: &Path, name: &Path) -> bool {
    name != place && name != stem(place)
}

/// Without the extension of an audio file. Other dots belong to the name.
fn stem(place: &Path) -> PathBuf {
    match place.file_name() {
        None => "recording".into(),
        Some(_) if is_audio(place) => place.with_extension(""),
        Some(_) => place.into(),
    }
}

/// The path followed by `suffix`, which `Path::with_extension` would put in place of what follows the last dot.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Some file systems ignore case.
fn folded(path: &Path) -> String {
    path.to_string_lossy().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_keep_their_folders() {
        let places = [
            "a/song.wav",
            "a/song.mp3",
            "b/song.wav",
            "b/SONG.wav",
            "song.1",
            "song.2",
            "v.wav",
            "v.wav",
            "v-2.flac",
            "",
        ];
        let names = output_names(&places.map(PathBuf::from));
        let expected =
            ["a/song.wav", "a/song.mp3", "b/song", "b/SONG-2", "song.1", "song.2", "v", "v-2", "v-2-2", "recording"];
        assert_eq!(names, expected.map(PathBuf::from));
        assert!(!is_numbered(Path::new("a/song.wav"), &names[0]) && is_numbered(Path::new("b/SONG.wav"), &names[3]));
    }
}
