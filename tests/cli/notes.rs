//! Single notes: segments and splits of files, errors, a run from folders to timelines, and bit-identical replicas and
//! resumed runs.

use std::collections::{HashMap, HashSet};
use std::f64::consts::TAU;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::{copy, end, json, rejected, send, start, stdout, wait_for, wmic};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use tempfile::TempDir;
use wmic::audio::{Depth, write_wav};
use wmic::core::random::Stream;
use wmic::data::{Dataset, FeatureValues, Features, SplitBy, load_features};
use wmic::features::device_dataset::DeviceDataset;
use wmic::gpu::Gpu;
use wmic::nn::FeatureKind;
use wmic::nn::front_ends::spectrum::Scale;
use wmic::nn::front_ends::vggish::Width;
use wmic::nn::model::Initialisation;
use wmic::ops::sample::Order;
use wmic::run::config::{Config, Notes};
use wmic::run::splits::Split;
use wmic::train::learner::Learner;

const SR: u32 = 44_100;

/// A note of `samples` samples with overtones that fall off by `slope`, which distinguishes the classes.
fn note(samples: usize, sr: u32, hz: f64, slope: f64) -> Vec<f32> {
    let at = |i: usize| {
        let t = i as f64 / f64::from(sr);
        (1..=6).map(|n| f64::from(n).powf(-slope) * (TAU * hz * f64::from(n) * t).sin()).sum::<f64>() as f32 / 8.0
    };
    (0..samples).map(at).collect()
}

fn write(folder: &Path, name: &str, sr: u32, samples: &[f32]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_wav(&path, sr, samples, Depth::Float32).unwrap();
}

const CLASSES: [(&str, f64); 3] = [("bright", 0.3), ("dull", 2.0), ("middling", 1.0)];

/// Three classes of `files` files of two seconds.
fn notes(folder: &Path, files: u32) {
    for (class, slope) in CLASSES {
        for i in 0..files {
            let hz = 220.0 * 2f64.powf(f64::from(i) / 8.0);
            write(folder, &format!("{class}/{i}.wav"), SR, &note(2 * SR as usize, SR, hz, slope));
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const SMALL: [&str; 14] = [
    "--model",
    "aacnn",
    "--input",
    "cqt",
    "--attention",
    "25",
    "--width",
    "1/8",
    "--init",
    "he",
    "--lr",
    "0.01",
    "--batch",
    "6",
];

/// A run on such notes, shared by all tests, which do not change it.
struct Shared {
    folder: TempDir,
}

impl Shared {
    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let shared = Shared { folder: tempfile::tempdir().unwrap() };
        let (data, run, cache) = (shared.at("notes"), shared.at("run"), shared.at("cache"));
        notes(&data, 8);
        let args =
            ["train", text(&data), "--epochs", "2", "--scale", "log", "--cache", text(&cache), "--out", text(&run)];
        wmic(&[&args[..], &SMALL].concat()).assert().success();
        shared
    })
}

/// (key, class, split) of `splits.csv`.
fn splits(run: &Path) -> Vec<[String; 3]> {
    let mut table = csv::Reader::from_path(run.join("splits.csv")).unwrap();
    table.deserialize().map(|row| row.unwrap()).collect()
}

#[test]
fn files_are_cut_into_whole_seconds_and_shorter_ones_counted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let second = SR as usize;
    write(&data, "a/exact.wav", SR, &note(second, SR, 220.0, 1.0));
    write(&data, "a/short.wav", SR, &note(second - 1, SR, 220.0, 1.0));
    write(&data, "a/two-and-a-half.wav", SR, &note(second * 5 / 2, SR, 220.0, 1.0));
    write(&data, "b/other-rate.wav", 48_000, &note(48_000, 48_000, 220.0, 1.0));
    write(&data, "b/low-rate.wav", 8_000, &note(8_000 * 3, 8_000, 220.0, 1.0));
    write(&data, "b/silence.wav", SR, &vec![0.0; second]);
    let spec =
        hound::WavSpec { channels: 2, sample_rate: SR, bits_per_sample: 32, sample_format: hound::SampleFormat::Float };
    let mut stereo = hound::WavWriter::create(data.join("b/stereo.wav"), spec).unwrap();
    for v in note(second, SR, 220.0, 1.0) {
        // The mean of both is the note.
        [v * 2.0, 0.0].into_iter().for_each(|v| stereo.write_sample(v).unwrap());
    }
    stereo.finalize().unwrap();
    // Integers in a file of floats; the others are used all the same.
    write(&data, "b/loud.wav", SR, &note(second, SR, 220.0, 1.0).iter().map(|v| v * 32_768.0).collect::<Vec<_>>());

    for (input, scale) in [("cqt", "magnitude"), ("stft", "magnitude"), ("cqt", "log")] {
        let npz = folder.path().join(format!("{input}-{scale}.npz"));
        let args = ["features", text(&data), "--frontend", input, "--scale", scale, "--out", text(&npz)];
        wmic(&args)
            .assert()
            .code(1)
            .stderr(contains("loud.wav").and(contains("times full scale")))
            .stderr(contains("9 excerpts of 6 files").and(contains("1 is shorter than 1 s")));
        let (keys, features, _) = load_features(&npz, &mut None).unwrap();
        let expected = [
            "a/exact.wav@0.00",
            "a/two-and-a-half.wav@0.00",
            "a/two-and-a-half.wav@1.00",
            "b/low-rate.wav@0.00",
            "b/low-rate.wav@1.00",
            "b/low-rate.wav@2.00",
            "b/other-rate.wav@0.00",
            "b/silence.wav@0.00",
            "b/stereo.wav@0.00",
        ];
        assert_eq!(keys, expected);
        assert_eq!((features.instances, features.width), (87, if input == "cqt" { 252 } else { 1025 }));
        let FeatureValues::F16(values) = &features.values else { panic!("spectra are stored as f16") };
        let values: Vec<f32> =
            values.bytes().chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
        assert!(values.iter().all(|v| v.is_finite()));
        let clip = |i: usize| &values[i * 87 * features.width..][..87 * features.width];
        assert!(clip(7).iter().all(|v| *v == 0.0), "silence has no spectrum, and no scale");
        // The same note, whatever the rate and the number of channels; the middle frames, where the end of the file is
        // far.
        let middle = |i: usize| &clip(i)[30 * features.width..60 * features.width];
        let largest = middle(0).iter().copied().fold(0.0, f32::max);
        let differs =
            |i: usize| middle(0).iter().zip(middle(i)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
        assert!(differs(8) < 1e-3, "stereo: {}", differs(8));
        if scale == "magnitude" {
            assert!(differs(6) < 1e-2, "48 kHz: {}", differs(6));
        } else {
            let mean = clip(0).iter().sum::<f32>() / clip(0).len() as f32;
            assert!(mean.abs() < 1e-3, "a mean of {mean}");
        }
    }
}

#[test]
fn no_recording_is_in_two_splits_unless_segments_are_drawn() {
    let shared = shared();
    let rows = splits(&shared.at("run"));
    assert_eq!(rows.len(), 48, "every second of every file");
    let mut of_file: HashMap<&str, HashSet<&str>> = HashMap::new();
    for [key, class, split] in &rows {
        assert!(key.starts_with(&format!("{class}/")), "{key} is of {class}");
        of_file.entry(key.split_once('@').unwrap().0).or_default().insert(split);
    }
    assert!(of_file.values().all(|splits| splits.len() == 1), "{of_file:?}");
    for (class, _) in CLASSES {
        for (split, files) in [("train", 6), ("validation", 1), ("test", 1)] {
            let of = of_file.iter().filter(|(file, s)| file.starts_with(class) && s.contains(split));
            assert_eq!(of.count(), files, "{class}, {split}");
        }
    }
    let map: Value = serde_json::from_slice(&std::fs::read(shared.at("run").join("class-map.json")).unwrap()).unwrap();
    assert_eq!(map, serde_json::json!({ "bright": 0, "dull": 1, "middling": 2 }));

    let by_segment = shared.at("by-segment");
    let (data, cache) = (shared.at("notes"), shared.at("cache"));
    let args =
        ["train", text(&data), "--epochs", "1", "--scale", "log", "--cache", text(&cache), "--out", text(&by_segment)];
    wmic(&[&args[..], &SMALL, &["--split-by", "segment"]].concat()).assert().success();
    let rows = splits(&by_segment);
    let splits_of = |file: &str| -> HashSet<&str> {
        rows.iter().filter(|row| row[0].split_once('@').unwrap().0 == file).map(|row| row[2].as_str()).collect()
    };
    let files: HashSet<&str> = rows.iter().map(|row| row[0].split_once('@').unwrap().0).collect();
    assert!(files.iter().any(|file| splits_of(file).len() == 2), "seconds of one file fall on both sides");
    assert_eq!(rows.iter().filter(|row| row[2] == "test").count(), 6, "two of sixteen seconds of each class");
}

#[test]
fn a_run_predicts_one_class_per_second() {
    let shared = shared();
    let run = shared.at("run");
    let test: Value = serde_json::from_slice(&std::fs::read(run.join("test.json")).unwrap()).unwrap();
    assert_eq!(test["exclusive"], true);
    let confusion = test["confusion"].as_array().unwrap();
    let count = |row: &Value| row.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>();
    assert_eq!(confusion.iter().map(count).collect::<Vec<_>>(), [2, 2, 2], "the test clips of each class");
    assert!(!run.join("thresholds.json").exists());
    let epochs = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let first: Value = serde_json::from_str(epochs.lines().next().unwrap()).unwrap();
    for accuracy in ["train_accuracy", "val_accuracy"] {
        assert!((0.0..=1.0).contains(&first[accuracy].as_f64().unwrap()), "{first}");
    }
    // Counted in whole clips of the training split.
    let rows = splits(&run);
    let learnt = rows.iter().filter(|row| row[2] == "train").count() as f64;
    let right = first["train_accuracy"].as_f64().unwrap() * learnt;
    assert!((right - right.round()).abs() < 1e-9, "{right} of {learnt} clips");
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    let of = |class: &str, split: &str| rows.iter().filter(|row| row[1] == class && row[2] == split).count();
    for class in rows.iter().map(|row| &row[1]).collect::<HashSet<_>>() {
        let [train, val, test] = ["train", "validation", "test"].map(|split| of(class, split));
        let cells: String =
            [train, val, test, train + val + test].iter().map(|n| format!("<td data-v=\"{n}\">{n}</td>")).collect();
        assert!(page.contains(&format!("<tr><td>{class}</td>{cells}</tr>")), "{class}: {cells}");
    }
    let again = json(&["eval", text(&run), text(&shared.at("notes")), "--json"]);
    assert_eq!(again["confusion"], test["confusion"]);
    // With files added and removed since, training clips are not tested on.
    let changed = shared.at("changed");
    copy(shared.at("notes"), &changed);
    write(&changed, "bright/new.wav", SR, &note(SR as usize, SR, 250.0, 0.3));
    let learnt = splits(&run).into_iter().find(|row| row[1] == "dull" && row[2] == "train").unwrap();
    std::fs::remove_file(changed.join(learnt[0].split_once('@').unwrap().0)).unwrap();
    let eval = ["eval", text(&run), text(&changed), "--json"];
    let done = wmic(&eval).assert().success().stderr(contains("1 clip is not in the run's splits.csv"));
    let again: Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    assert_eq!(again["confusion"], test["confusion"]);

    // 3.4 s: three whole seconds, and a last one aligned with the end, which covers the rest.
    let solo = shared.at("solo.wav");
    write_wav(&solo, SR, &note(SR as usize * 34 / 10, SR, 300.0, 0.3), Depth::Float32).unwrap();
    let heard = &json(&["predict", text(&run), text(&solo), "--format", "json", "--attention"])[0];
    let instruments = heard["instruments"].as_array().unwrap();
    assert_eq!(instruments.len(), 3);
    let sum: f64 = instruments.iter().map(|i| i["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-4, "probabilities of classes that exclude each other: {sum}");
    let mut segments: Vec<(f64, f64)> = vec![];
    for instrument in instruments {
        let of = instrument["segments"].as_array().unwrap();
        assert_eq!(instrument["present"], !of.is_empty(), "{instrument}");
        segments.extend(of.iter().map(|s| (s["start"].as_f64().unwrap(), s["end"].as_f64().unwrap())));
    }
    segments.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert_eq!((segments[0].0, segments.last().unwrap().1), (0.0, 3.4), "{segments:?}");
    assert!(segments.windows(2).all(|w| w[0].1 == w[1].0), "each second has one instrument: {segments:?}");
    assert!(instruments.iter().all(|i| i["threshold"].is_null()), "there are none");
    let curve: Vec<f64> = instruments.iter().map(|i| i["activity"][3].as_f64().unwrap()).collect();
    let sum: f64 = curve.iter().sum();
    assert!((sum - 1.0).abs() < 1e-4, "an answer of its own: {curve:?}");
    for format in ["table", "jsonl", "csv", "jams", "audacity"] {
        let text_of = stdout(&["predict", text(&run), text(&solo), "--format", format]);
        assert!(CLASSES.iter().any(|(class, _)| text_of.contains(class)), "{format}: {text_of}");
    }
    // Two seconds of a note, two of silence; and nothing but silence.
    let mut samples = note(2 * SR as usize, SR, 300.0, 0.3);
    samples.resize(4 * SR as usize, 0.0);
    let (pause, silence) = (shared.at("pause.wav"), shared.at("silence.wav"));
    write_wav(&pause, SR, &samples, Depth::Float32).unwrap();
    write_wav(&silence, SR, &samples[2 * SR as usize..], Depth::Float32).unwrap();
    let heard = json(&["predict", text(&run), text(&pause), text(&silence), "--format", "json"]);
    let ends = |recording: &Value| -> Vec<f64> {
        let instruments = recording["instruments"].as_array().unwrap();
        instruments.iter().flat_map(|i| i["segments"].as_array().unwrap()).map(|s| s["end"].as_f64().unwrap()).collect()
    };
    let p = |recording: &Value| -> Vec<f64> {
        recording["instruments"].as_array().unwrap().iter().map(|i| i["probability"].as_f64().unwrap()).collect()
    };
    assert_eq!(ends(&heard[0]).into_iter().fold(0.0, f64::max), 2.0, "nothing plays in silence");
    assert!((p(&heard[0]).iter().sum::<f64>() - 1.0).abs() < 1e-4, "which has no say: {:?}", p(&heard[0]));
    assert_eq!((ends(&heard[1]), p(&heard[1])), (vec![], vec![0.0; 3]));

    // Seconds that overlap: half a cell of silence does not make the note quieter.
    let halves = &json(&["predict", text(&run), text(&pause), "--hop", "0.5", "--format", "json", "--attention"])[0];
    let curves: Vec<&Vec<Value>> =
        halves["instruments"].as_array().unwrap().iter().map(|i| i["activity"].as_array().unwrap()).collect();
    for cell in 0..8 {
        let sum: f64 = curves.iter().map(|curve| curve[cell].as_f64().unwrap()).sum();
        let plays = if cell < 5 { 1.0 } else { 0.0 };
        assert!((sum - plays).abs() < 1e-4, "half second {cell}: {sum}");
    }

    // The figures of the run and of a recording.
    let report = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(run.join("examples.png").is_file() && report.contains("href=\"examples.png\""));
    let shown = report.matches("alt=\"Spectrum of ").count();
    assert!((3..=6).contains(&shown), "one or two of each class: {shown}");
    let site = shared.at("site");
    stdout(&["predict", text(&run), text(&solo), text(&silence), "--html", text(&site)]);
    let page = |name: &str| std::fs::read_to_string(site.join("recordings").join(name)).unwrap();
    for words in ["alt=\"Constant-Q transform, one-second frames\"", ">probability: 0 "] {
        assert!(page("solo.html").contains(words), "{words}");
    }
    assert!(page("silence.html").contains("No instrument detected<"));

    let short = shared.at("short.wav");
    write_wav(&short, SR, &note(SR as usize - 1, SR, 300.0, 0.3), Depth::Float32).unwrap();
    let of_both = wmic(&["predict", text(&run), text(&short), text(&solo), "--format", "csv"]).assert().code(1);
    of_both.stdout(contains("solo.wav")).stderr(contains("short.wav").and(contains("shorter than 1 s")));
}

#[test]
fn folders_that_cannot_be_trained_on_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let train = |name: &str, why: &str| {
        let (data, cache, out) = (at(name), at("cache"), at("out"));
        let args = ["train", text(&data), "--cache", text(&cache), "--out", text(&out)];
        rejected(&[&args[..], &SMALL].concat(), why);
        assert!(!out.exists(), "{name}: nothing is begun");
    };
    let second = note(SR as usize, SR, 220.0, 1.0);
    std::fs::create_dir_all(at("empty/a")).unwrap();
    std::fs::create_dir_all(at("empty/b")).unwrap();
    train("empty", "has no folder with audio files");
    write(&at("one"), "a/1.wav", SR, &second);
    std::fs::create_dir_all(at("one/b")).unwrap();
    train("one", "has audio files in one folder only (a)");
    ["a/1.wav", "b/1.wav"].iter().for_each(|name| write(&at("single"), name, SR, &second));
    train("single", "leaves no segment for the");
    ["a/1.wav", "b/1.wav"].iter().for_each(|name| write(&at("short"), name, SR, &second[1..]));
    train("short", "all are shorter than 1 s");

    // Clips of several classes, not all of them known.
    let openmic = at("openmic");
    wmic(&["synth", text(&openmic), "--audio", "--clips", "40"]).assert().success();
    train("openmic", "exactly one class");
}

#[test]
fn a_class_with_a_single_file_is_for_training_only() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out, cache) = (folder.path().join("data"), folder.path().join("run"), folder.path().join("cache"));
    notes(&data, 4);
    write(&data, "rare/only.wav", SR, &note(SR as usize, SR, 330.0, 1.5));
    let args = ["train", text(&data), "--epochs", "1", "--cache", text(&cache), "--out", text(&out)];
    let warned = contains("1 class has no segment in the test split (rare)");
    wmic(&[&args[..], &SMALL].concat()).assert().success().stderr(warned);
    let of_rare: Vec<String> =
        splits(&out).into_iter().filter(|row| row[1] == "rare").map(|row| row[2].clone()).collect();
    assert_eq!(of_rare, ["train"]);
}

#[cfg(unix)]
#[test]
fn a_run_that_was_interrupted_goes_on_to_the_same_bits() {
    let shared = shared();
    let (data, cache, run) = (shared.at("notes"), shared.at("cache"), shared.at("interrupted"));
    let args = ["train", text(&data), "--epochs", "2", "--scale", "log", "--cache", text(&cache), "--out", text(&run)];
    let training = start(&[&args[..], &SMALL].concat());
    wait_for(&run.join("splits.csv"));
    // Somewhere in an epoch.
    std::thread::sleep(std::time::Duration::from_secs(2));
    send("-INT", &training);
    let (code, said) = end(training);
    assert!(code == Some(130) || code == Some(0), "{said}");
    std::fs::remove_file(run.join("splits.csv")).unwrap();
    if code == Some(130) {
        wmic(&["train", "--resume", text(&run)]).assert().success();
        assert!(run.join("splits.csv").is_file(), "written where a kill left none");
    }
    for file in ["model.safetensors", "metrics.jsonl", "test.json"] {
        let of = |run: &Path| std::fs::read(run.join(file)).unwrap();
        assert!(of(&run) == of(&shared.at("run")), "{file} differs");
    }
}

#[test]
fn options_that_do_not_apply_are_rejected() {
    let data = text(shared().folder.path()).to_owned();
    let out = shared().at("never");
    let train = |args: &[&str], why: &str| {
        rejected(&[&["train", data.as_str(), "--out", text(&out)], args].concat(), why);
    };
    train(&["--model", "att", "--input", "cqt"], "att is not a single-note model");
    train(&["--model", "att", "--init", "he"], "att has a fixed initialisation");
    train(&["--model", "att", "--loss", "cross-entropy"], "cross-entropy is for single-label models");
    train(&["--model", "aacnn", "--loss", "bce"], "aacnn is a single-label model");
    train(&["--model", "aacnn", "--augment", "mixup"], "remove --augment");
    train(&["--model", "aacnn", "--frontend-weights", "random"], "does not use VGGish");
    train(&["--model", "aacnn", "--dropout", "0.5"], "has no dropout");
    train(&["--model", "aacnn", "--weight-decay", "0.1"], "--weight-decay 0, or --optimiser adam");
    train(&["--model", "aacnn", "--train-frontend", "all"], "remove --train-frontend");
    wmic(&["train", &data, "--model", "aacnn", "--attention", "30"])
        .assert()
        .code(2)
        .stderr(contains("[possible values: 0, 25"));
    let toml = shared().at("attention.toml");
    std::fs::write(&toml, "model = \"aacnn\"\nnotes = { input = \"cqt\", attention = 30 }\n").unwrap();
    train(&["--config", text(&toml)], "attention must be 0, 25, 50, 75 or 100 percent, not 30");
}

/// Random spectra, each of a class.
fn noise(clips: usize) -> Dataset {
    let (width, classes) = (FeatureKind::Cqt.spectrogram().bands, 3);
    let mut random = Stream::new(1, 0);
    Dataset {
        path: "noise".into(),
        classes: (0..classes).map(|k| k.to_string()).collect(),
        keys: (0..clips).map(|i| i.to_string()).collect(),
        features: Features {
            values: FeatureValues::F32(
                (0..clips * 87 * width).map(|_| random.normal(1.0) as f32).collect::<Vec<_>>().into(),
            ),
            instances: 87,
            width,
            lengths: vec![87; clips],
            spectrum: None,
        },
        targets: (0..clips * classes).map(|i| f32::from(u8::from(i / classes % classes == i % classes))).collect(),
        observed: vec![true; clips * classes],
        strong: None,
        mixer: None,
        train: (0..clips as u32).collect(),
        validation: None,
        test: vec![],
        drawn: None,
        word_vectors: vec![],
        warnings: vec![],
    }
}

#[test]
fn replicas_and_resumed_runs_have_the_same_bits() {
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let data = noise(5);
    let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
    let notes = Notes {
        input: FeatureKind::Cqt,
        attention: 50,
        width: Width::Eighth,
        scale: Scale::Log,
        init: Initialisation::He,
        split_by: SplitBy::File,
    };
    let config = |seeds: &[u64]| Config {
        seeds: seeds.to_vec(),
        batch: 2,
        lr: 0.01,
        notes: Some(notes),
        ..Config::of("aacnn", "noise").unwrap()
    };
    let split: Split = (data.train.clone(), data.train.clone());
    let learner = |seeds: &[u64]| {
        let splits = vec![split.clone(); seeds.len()];
        Learner::new(&gpu, &config(seeds), &corpus, &[], &splits, Order::Shuffled).unwrap()
    };
    // Three steps: the last batch of the epoch is partial.
    let mut both = learner(&[3, 7]);
    both.run_steps(3).unwrap();
    let together = both.state().unwrap();
    for (r, seed) in [3, 7].into_iter().enumerate() {
        let mut alone = learner(&[seed]);
        alone.run_steps(1).unwrap();
        let state = alone.state().unwrap();
        let mut resumed = learner(&[seed]);
        resumed.restore(&state).unwrap();
        resumed.run_steps(2).unwrap();
        let resumed = resumed.state().unwrap();
        let of = |all: &[f32]| all[r * all.len() / 2..(r + 1) * all.len() / 2].to_vec();
        assert!(of(&together.params) == resumed.params, "seed {seed}: parameters");
        assert!(of(&together.m) == resumed.m, "seed {seed}: sums of squares");
        assert!(of(&together.stats) == resumed.stats, "seed {seed}: running statistics");
    }
}
