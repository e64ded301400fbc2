//! Mixtures of isolated notes: reproducible, consistent, matching their labels; held-out notes stay apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use wmic::audio::{Depth, decode, write_wav};
use wmic::data::{AudioSet, Mixer, Mixture, Notes, Part};

use crate::synth::{contents, rows};

const SR: u32 = 16_000;

/// A note of 0.3 to 0.6 s that decays, of exact arithmetic.
fn note(path: &Path, number: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let sample = |i: usize| {
        let turns = ((i * (300 + 70 * number)) as f32 / SR as f32).fract();
        (1.0 - 4.0 * (turns - 0.5).abs()) * (1.0 - i as f32 / 12_000.0) * 0.3
    };
    let samples: Vec<f32> = (0..4_800 + 400 * (number % 12)).map(sample).collect();
    write_wav(path, SR, &samples, Depth::Int16).unwrap();
}

/// Drums and cymbals of one source each; a piano of four sources, three of them large.
static NOTES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let mut number = 0;
    for (class, source, count) in [
        ("cymbals", "kit", 3),
        ("drums", "kit", 8),
        ("piano", "a", 12),
        ("piano", "b", 10),
        ("piano", "c", 11),
        ("piano", "d", 4),
    ] {
        for i in 0..count {
            number += 1;
            note(&dir.path().join(class).join(format!("{source}_{i:02}.wav")), number);
        }
    }
    dir
});

fn load(path: &Path) -> Notes {
    Notes::load(path, &|| false, &mut |_, _| {}).unwrap().unwrap()
}

fn mixer(seed: u64) -> Mixer {
    Mixer::new(load(NOTES.path()), 2.0, seed).unwrap()
}

fn mix(notes: &Path, out: &Path, options: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("wmic").unwrap().arg("mix").args([notes, out]).args(options).assert()
}

#[test]
fn held_out_notes_are_of_other_files_and_whole_sources() {
    let notes = load(NOTES.path());
    let of = |part: Part, class: &str| -> BTreeSet<String> {
        let of_part = notes.sources().filter(|note| note.3 == part && note.1 == class);
        of_part.map(|note| note.0.rsplit('/').next().unwrap().trim_end_matches(".wav").to_owned()).collect()
    };
    let expected = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(of(Part::Test, "drums"), expected(&["kit_03"]));
    assert_eq!(of(Part::Test, "cymbals"), expected(&["kit_02"]), "at least one");
    // The smallest of three large sources as a whole, single files of the others.
    let whole: Vec<String> = (0..10).map(|i| format!("b_{i:02}")).collect();
    let mut whole: Vec<&str> = whole.iter().map(String::as_str).collect();
    whole.extend(["a_03", "a_09", "c_03", "c_09", "d_03"]);
    assert_eq!(of(Part::Test, "piano"), expected(&whole));
    assert!(of(Part::Train, "piano").is_disjoint(&of(Part::Test, "piano")) && of(Part::Train, "piano").len() == 22);
}

#[test]
fn a_mixture_is_a_function_of_seed_epoch_and_number() {
    let first = mixer(3);
    let in_order: Vec<Mixture> = (0..6).map(|i| first.mixture(Part::Train, 0, i)).collect();
    let elsewhere = &mixer(3);
    let on_threads: Vec<Mixture> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).rev().map(|i| scope.spawn(move || elsewhere.mixture(Part::Train, 0, i))).collect();
        threads.into_iter().rev().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(in_order == on_threads);
    let others =
        [mixer(4).mixture(Part::Train, 0, 0), first.mixture(Part::Train, 1, 0), first.mixture(Part::Test, 0, 0)];
    assert!(others.iter().chain(&in_order[1..]).all(|other| other.samples != in_order[0].samples));
    for Mixture { samples, instruments } in &in_order {
        assert!(samples.len() == 2 * SR as usize && samples.iter().all(|v| v.abs() <= 1.0));
        let rms = (samples.iter().map(|v| v * v).sum::<f32>() / samples.len() as f32).sqrt();
        assert!((rms - 0.08).abs() < 1e-3, "{rms}");
        let classes: BTreeSet<usize> = instruments.iter().map(|of| of.0).collect();
        assert!((1..=4).contains(&classes.len()) && classes.len() == instruments.len());
    }

    // FNV-1a over all samples. It must be the same on other machines; a changed recipe needs the new number here.
    let bytes = in_order.iter().flat_map(|mixture| &mixture.samples).flat_map(|v| v.to_bits().to_le_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(hash, 0xd080_bad5_2694_ee9e, "{hash:#x}");
}

#[test]
fn written_mixtures_are_a_dataset_whose_files_agree() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("first");
    mix(NOTES.path(), &out, &["--clips", "30", "--seconds", "2", "--seed", "5"])
        .success()
        .stderr(contains("30 mixtures of 48 notes written to").and(contains("wmic train ")));
    let set = AudioSet::load(&out).unwrap();
    assert_eq!((set.files.len(), set.train.len(), set.test.len()), (30, 27, 3));
    assert!(set.observed.iter().all(|seen| *seen) && set.warnings.is_empty(), "{:?}", set.warnings);
    let mut times: BTreeMap<(String, String), Vec<[f64; 2]>> = BTreeMap::new();
    for [key, class, start, end] in rows(out.join("activity.csv"), ["sample_key", "instrument", "start_s", "end_s"]) {
        times.entry((key, class)).or_default().push([start.parse().unwrap(), end.parse().unwrap()]);
    }
    for (i, key) in set.keys.iter().enumerate() {
        for (k, class) in set.classes.iter().enumerate() {
            let times = times.remove(&(key.clone(), class.clone()));
            assert_eq!(times.is_some(), set.targets[3 * i + k] == 1.0, "{key} {class}");
            let all: Vec<f64> = times.into_iter().flatten().flatten().collect();
            assert!(all.is_sorted() && all.iter().all(|t| (0.0..=2.0).contains(t)), "{key} {class} {all:?}");
        }
        assert_eq!(decode(&set.files[i], 9.0).unwrap().samples.len(), 2 * SR as usize);
    }
    assert!(times.is_empty());
    let notes = rows(out.join("notes.csv"), ["file", "class", "source", "split"]);
    assert!(notes.contains(&["piano/b_04.wav", "piano", "b", "test"].map(str::to_owned)) && notes.len() == 48);

    let again = dir.path().join("again");
    mix(NOTES.path(), &again, &["--clips", "30", "--seconds", "2", "--seed", "5"]).success();
    assert!(contents(&out) == contents(&again));
    mix(NOTES.path(), &out, &[]).code(2).stderr(contains("already exists"));
}

#[test]
fn bad_notes_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let (notes, out) = (dir.path().join("notes"), dir.path().join("out"));
    let at = |name: &str| -> PathBuf { notes.join(name) };
    (0..3).for_each(|i| note(&at(&format!("flute/x{i}.wav")), i));
    let options = ["--clips", "20", "--seconds", "1"];
    let rejected = |why: &str| {
        mix(&notes, &out, &options).code(2).stdout("").stderr(contains(why));
        assert!(!out.exists() && fs::read_dir(dir.path()).unwrap().count() == 1, "nothing is left");
    };
    rejected("audio files in one folder only (flute); a folder for each of two or more classes is expected");
    note(&at("oboe/one.wav"), 1);
    rejected("oboe: has 1 notes that can be used; a class needs two");
    fs::write(at("oboe/text.wav"), "not sound").unwrap();
    write_wav(at("oboe/silent.wav"), SR, &[0.0; 9_000], Depth::Int16).unwrap();
    write_wav(at("oboe/short.wav"), SR, &[0.5; 700], Depth::Int16).unwrap();
    rejected("oboe: has 1 notes that can be used");
    note(&at("oboe/two.wav"), 2);
    let said = mix(&notes, &out, &options).success();
    for what in ["cannot be decoded", "are silent", "are shorter than 50 ms"] {
        let line = format!("1 of 8 files {what} and are left out (oboe/");
        assert!(String::from_utf8_lossy(&said.get_output().stderr).contains(&line), "{line}");
    }
    mix(&notes, &dir.path().join("other"), &["--seconds", "0.5"]).code(2).stderr(contains("1 to 60 are allowed"));
}
