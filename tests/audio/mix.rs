//! Mixtures of isolated notes: reproducible, consistent, matching their labels; held-out notes stay apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use assert_cmd::Command;
use half::f16;
use predicates::prelude::*;
use predicates::str::contains;
use wmic::audio::{Clip, Depth, decode, write_wav};
use wmic::data::{AudioSet, FeatureValues, Mixer, Mixture, Notes, Part};
use wmic::features::feature_config::FeatureConfig;
use wmic::features::runner::FrontEndRunner;
use wmic::nn::front_ends::kind::SpectrogramFrames;
use wmic::run::clips::{Labels, load_clips};
use wmic::train::trainer::Trainer;
use wmic::{Config, End, Event, Gpu, RunDir, Session};

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
        assert!((0..=4).contains(&classes.len()) && classes.len() == instruments.len());
    }

    // FNV-1a over all samples. It must be the same on other machines; a changed recipe needs the new number here.
    let bytes = in_order.iter().flat_map(|mixture| &mixture.samples).flat_map(|v| v.to_bits().to_le_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(hash, 0xdb7d_ce0d_9fb0_2ff3, "{hash:#x}");
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
    // Mixtures among the notes would be a class of the next ones.
    let inside = [at("new"), at("flute/new"), notes.join("../notes/new")];
    inside
        .iter()
        .for_each(|out| drop(mix(&notes, out, &options).code(2).stderr(contains("is in the folder of notes"))));
    for (folder, why) in [("none", "does not exist; a folder"), ("flute/x0.wav", "is a file; a folder")] {
        mix(&at(folder), &out, &options).code(2).stderr(contains(why));
    }
    mix(&notes, &at("flute/x0.wav/out"), &options).code(2);
    mix(&notes, Path::new("/dev/null"), &options).code(2).stderr(contains("is a file; a folder is expected"));
    rejected("audio files in one folder only (flute); a folder for each of two or more classes is expected");
    note(&at("oboe/one.wav"), 1);
    rejected("notes: has 1 note of oboe that can be used; a class needs two");
    fs::write(at("oboe/text.wav"), "not sound").unwrap();
    write_wav(at("oboe/silent.wav"), SR, &[0.0; 9_000], Depth::Int16).unwrap();
    write_wav(at("oboe/short.wav"), SR, &[0.5; 700], Depth::Int16).unwrap();
    rejected("has 1 note of oboe that can be used");
    note(&at("oboe/two.wav"), 2);
    let said = mix(&notes, &out, &options).success();
    for why in ["not decodable", "silent", "shorter than 50 ms"] {
        let line = format!("1 of 8 files is left out: {why} (oboe/");
        assert!(String::from_utf8_lossy(&said.get_output().stderr).contains(&line), "{line}");
    }
    mix(&notes, &dir.path().join("other"), &["--seconds", "0.5"]).code(2).stderr(contains("1 to 60 are allowed"));
}

/// Trains with a mixer of the notes of the dataset, interrupted after the first epoch and not.
#[test]
fn training_has_new_mixtures_in_each_epoch_the_same_in_a_resumed_run() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    mix(NOTES.path(), &at("set"), &["--clips", "20", "--seconds", "1"]).success();
    let settings =
        "epochs = 2\nbatch = 8\nmix_clips = 12\nmix_seconds = 1.0\n[front_end]\nweights = 'random'\nwidth = '1/8'";
    let mut config = Config::of_table("att", &at("set"), settings.parse().unwrap()).unwrap();
    (config.mix, config.cache) = (Some(NOTES.path().into()), Some(at("cache")));
    let gpu = Gpu::open(None).unwrap();
    let data = load_clips(&gpu, &mut config, Labels::Required, &|| false, &mut |_| {}).unwrap().unwrap();

    let many = Config { mix_clips: Some(1 << 30), ..config.clone() };
    let error = Trainer::new(&gpu, &many, &data).err().unwrap().to_string();
    assert!(error.contains("iB; try fewer `mix_clips`: "), "{error}");

    let session = Session::begin(&gpu, &config, &data, &at("run"), false).unwrap();
    assert_eq!(session.steps_per_epoch(), 4, "15 clips and 12 mixtures");
    drop(session);
    let run = RunDir::reopen(&at("run")).unwrap();
    let stop = AtomicBool::new(false);
    let mut until_stopped = |event: Event| {
        if let Event::Epoch { .. } = event {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let mut part = Trainer::new(&gpu, &config, &data).unwrap();
    let end = part.train(&run, &|| stop.load(Ordering::Relaxed), &mut until_stopped);
    assert_eq!(end.unwrap(), End::Interrupted);
    let mut part = Trainer::new(&gpu, &config, &data).unwrap();
    part.resume(&run).unwrap();
    assert_eq!(part.epochs_done(), 1);
    assert_eq!(part.train(&run, &|| false, &mut |_| {}).unwrap(), End::Finished);
    let mut whole = Trainer::new(&gpu, &config, &data).unwrap();
    assert_eq!(whole.train(&run, &|| false, &mut |_| {}).unwrap(), End::Finished);
    assert!(part.history() == whole.history() && part.best_weights().unwrap() == whole.best_weights().unwrap());

    // On the GPU: the dataset, two held-out mixtures, and the last epoch's twelve.
    let mixer = data.mixer.as_ref().unwrap();
    let held = (0..2).map(|i| mixer.mixture(Part::Test, 1, i));
    let mixtures: Vec<Mixture> = held.chain((0..12).map(|i| mixer.mixture(Part::Train, 2, i))).collect();
    let mut feature_config =
        FeatureConfig { front_end: config.front_end.clone(), ..FeatureConfig::of(config.kind().unwrap()) };
    let weights = feature_config.load().unwrap();
    let runner = FrontEndRunner::new(&gpu, &feature_config, weights.as_ref(), SpectrogramFrames::None).unwrap();
    let buffers = whole.dataset().named();
    let [features, labels] = [0, 1].map(|i| gpu.read::<u32>(&buffers[i].1).unwrap());
    let (n, k) = (data.keys.len(), data.classes.len());
    let (lengths, labels) = labels.split_at(n + 14);
    assert_eq!(lengths[n..], [1; 14]);
    for (i, mixture) in mixtures.iter().enumerate() {
        let present: BTreeSet<usize> = mixture.instruments.iter().map(|of| of.0).collect();
        let codes: Vec<u32> = (0..k).map(|class| 1 + u32::from(present.contains(&class))).collect();
        assert_eq!(labels[(n + i) * k..][..k], codes, "mixture {i}");
        let mut clip = Clip { sr: SR, samples: mixture.samples.clone() };
        clip.normalise_peak();
        let expected = runner.features(&runner.extractor.run(&[&clip.samples]).unwrap()).unwrap();
        let FeatureValues::F32(expected) = &expected.values else { panic!("floats expected") };
        let each = expected.len() / 2;
        let halves = features[(n + i) * each..][..each].iter().flat_map(|word| [*word as u16, (*word >> 16) as u16]);
        let values: Vec<f32> = halves.map(|bits| f16::from_bits(bits).to_f32()).collect();
        assert!(values == expected[..], "mixture {i}");
    }

    let train = |options: &[&str]| {
        Command::cargo_bin("wmic").unwrap().arg("train").arg(at("set")).args(options).assert().code(2).stdout("")
    };
    train(&["--mix-clips", "9"]).stderr(contains("--mix-clips and --mix-seconds need --mix"));
    note(&at("others/drums/a.wav"), 1);
    note(&at("others/drums/b.wav"), 2);
    note(&at("others/flute/a.wav"), 3);
    note(&at("others/flute/b.wav"), 4);
    let (others, cache) = (at("others"), at("cache"));
    let [others, cache] = [&others, &cache].map(|path| path.to_str().unwrap());
    let known = ["--frontend-weights", "random", "--width", "1/8", "--cache", cache, "--mix", others];
    train(&known).stderr(contains("has notes of flute, which the dataset does not have"));
}
