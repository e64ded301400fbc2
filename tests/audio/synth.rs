//! The synthetic recordings: complete, consistent, reproducible, and matching their labels.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use assert_cmd::Command;
use wmic::audio::decode;
use wmic::data::synth_audio;

const SR: u32 = 16_000;
const SECONDS: f64 = 10.0;

/// A dataset that all tests read.
static SHARED: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    synth_audio(dir.path().join("data"), 60, 0).unwrap();
    dir
});

fn shared() -> PathBuf {
    SHARED.path().join("data")
}

pub fn rows(path: impl AsRef<Path>, header: [&str; 4]) -> Vec<[String; 4]> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    assert_eq!(reader.headers().unwrap(), header.as_slice());
    reader.deserialize().map(|row| row.unwrap()).collect()
}

/// Clip key to its notes: instrument, start and end in seconds.
fn activity(dir: &Path) -> BTreeMap<String, Vec<(String, Range<f64>)>> {
    let mut clips: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for [key, instrument, start, end] in
        rows(dir.join("activity.csv"), ["sample_key", "instrument", "start_s", "end_s"])
    {
        clips.entry(key).or_default().push((instrument, start.parse().unwrap()..end.parse().unwrap()));
    }
    clips
}

fn wav(dir: &Path, key: &str) -> PathBuf {
    dir.join("audio").join(&key[..3]).join(format!("{key}.wav"))
}

fn peak(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |peak, v| peak.max(v.abs()))
}

/// Path below `dir` to contents, of every file.
pub fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(dir).unwrap().to_path_buf(), std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn files_agree_with_each_other() {
    let dir = shared();
    let map: HashMap<String, usize> =
        serde_json::from_slice(&std::fs::read(dir.join("class-map.json")).unwrap()).unwrap();
    assert_eq!(map.values().collect::<BTreeSet<_>>().len(), 20);

    let clips = activity(&dir);
    assert_eq!(clips.len(), 60);
    for stretches in clips.values() {
        let instruments: BTreeSet<&str> = stretches.iter().map(|s| s.0.as_str()).collect();
        assert!((1..=4).contains(&instruments.len()) && instruments.iter().all(|name| map.contains_key(*name)));
        for (i, (name, time)) in stretches.iter().enumerate() {
            assert!(0.0 <= time.start && time.start < time.end && time.end <= SECONDS);
            let apart = |(other, t): &(String, Range<f64>)| other != name || time.end < t.start;
            assert!(stretches[i + 1..].iter().all(apart), "stretches of one instrument are in order and apart");
        }
    }

    let labels = rows(
        dir.join("openmic-2018-aggregated-labels.csv"),
        ["sample_key", "instrument", "relevance", "num_responses"],
    );
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for [key, instrument, relevance, _] in &labels {
        let relevance: f64 = relevance.parse().unwrap();
        let sounds = clips[key].iter().any(|s| s.0 == *instrument);
        assert!((0.0..=1.0).contains(&relevance) && (relevance >= 0.5) == sounds, "{key} {instrument}");
        assert!(map.contains_key(instrument) && known.entry(key).or_default().insert(instrument));
    }
    assert!(known.len() == 60 && known.values().all(|names| (5..=10).contains(&names.len())));

    let split = |name: &str| -> Vec<String> {
        let text = std::fs::read_to_string(dir.join("partitions").join(name)).unwrap();
        text.lines().map(String::from).collect()
    };
    let (train, test) = (split("split01_train.csv"), split("split01_test.csv"));
    assert_eq!((train.len(), test.len()), (45, 15));
    assert_eq!(train.into_iter().chain(test).collect::<BTreeSet<_>>(), clips.keys().cloned().collect());
    assert_eq!(contents(&dir.join("audio")).len(), 60);
}

#[test]
fn every_recording_decodes() {
    for key in activity(&shared()).keys() {
        let clip = decode(wav(&shared(), key), 60.0).unwrap();
        assert_eq!((clip.sr, clip.duration()), (SR, SECONDS), "{key}");
        assert!((peak(&clip.samples) - 0.708).abs() < 1e-3, "{key}: a peak of -3 dBFS");
    }
}

#[test]
fn a_soloist_plays_when_its_labels_say_so() {
    let mut soloists = BTreeSet::new();
    for (key, stretches) in activity(&shared()) {
        let name = &stretches[0].0;
        if stretches.iter().any(|s| s.0 != *name) {
            continue;
        }
        soloists.insert(name.clone());
        let samples = decode(wav(&shared(), &key), 60.0).unwrap().samples;
        let at = |seconds: f64| (seconds * f64::from(SR)).round() as usize;
        let mut silent_from = 0;
        for (_, time) in &stretches {
            assert_eq!(peak(&samples[silent_from..at(time.start)]), 0.0, "{key} {name}: silent before {time:?}");
            let sounds = |from: f64, to: f64| peak(&samples[at(from)..at(to)]) > 2e-3;
            assert!(sounds(time.start, time.start + 0.02), "{key} {name}: begins with {time:?}");
            assert!(sounds(time.end - 1.4, time.end), "{key} {name}: lasts for {time:?}");
            silent_from = at(time.end);
        }
        assert_eq!(peak(&samples[silent_from..]), 0.0, "{key} {name}: silent after its last stretch");
    }
    assert!(soloists.len() >= 5, "{soloists:?}");
}

#[test]
fn the_seed_decides_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, seed: u64| {
        synth_audio(dir.path().join(name), 20, seed).unwrap();
        contents(&dir.path().join(name))
    };
    let (first, again, other) = (write("first", 7), write("again", 7), write("other", 8));
    assert!(first == again);
    let recordings = |files: &BTreeMap<PathBuf, Vec<u8>>| -> BTreeSet<Vec<u8>> {
        files.iter().filter(|(path, _)| path.starts_with("audio")).map(|(_, bytes)| bytes.clone()).collect()
    };
    assert!(recordings(&first).is_disjoint(&recordings(&other)));
    assert_eq!(recordings(&first).len(), 20, "no recording twice");

    // FNV-1a over all recordings. It must be the same on other machines; a changed voice needs the new number here.
    let hash = recordings(&first)
        .iter()
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(hash, 0x413a_b4b5_4c70_b59a, "{hash:#x}");

    let message = synth_audio(dir.path().join("first"), 20, 7).unwrap_err().to_string();
    assert!(message.contains("already exists"), "{message}");
    let message = synth_audio(dir.path().join("few"), 3, 7).unwrap_err().to_string();
    assert_eq!(message, "3 clips were requested; 20 to 20000 are allowed");
}

#[test]
fn the_command_names_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let synth = |options: &[&str]| {
        let mut command = Command::cargo_bin("wmic").unwrap();
        command.arg("synth").arg(&data).args(options).assert()
    };
    let done = synth(&["--audio", "--clips", "40"]).success();
    let said = String::from_utf8(done.get_output().stderr.clone()).unwrap();
    assert!(said.contains("40 clips written") && said.contains("wmic train "), "{said}");
    // The command that it names is complete.
    let named = said.trim_end().split("wmic train ").nth(1).unwrap().replace(data.to_str().unwrap(), ".");
    let mut plan = Command::cargo_bin("wmic").unwrap();
    plan.arg("plan").args(named.split(' ')).current_dir(&data).assert().success();
    assert_eq!(contents(&data.join("audio")).len(), 40);
    synth(&["--audio", "--clips", "39"]).code(2);
    synth(&["--audio", "--clips", "20001"]).code(2);
}
