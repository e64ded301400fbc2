//! Random forests: agreement with scikit-learn, reproducibility, files, errors for damaged files, and commands with
//! `rf`. Tuned thresholds, which are the same for all models.

use std::path::Path;

use crate::formula::frac;
use crate::support::{assert_rejected, copy, json, rejected, stdout, wmic};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value;
use wmic::Array;
use wmic::data::{Dataset, FeatureValues, Features};
use wmic::predict::forest::{DEPTH, Forest, TREES, load, save, time_means};
use wmic::run::config::Config;
use wmic::run::weights::{About, ModelFile};
use wmic::train::forest::grow;

fn config(seeds: &[u64]) -> Config {
    Config { seeds: seeds.to_vec(), val_fraction: 0.01, ..Config::of("rf", "data").unwrap() }
}

/// Clips of 128 byte features and two instances, with all labels known by default.
fn dataset(x: Vec<u8>, targets: Vec<bool>, observed: Vec<bool>, classes: usize, train: usize) -> Dataset {
    let clips = targets.len() / classes;
    Dataset {
        path: "data".into(),
        classes: (0..classes).map(|k| k.to_string()).collect(),
        keys: (0..clips).map(|i| i.to_string()).collect(),
        features: Features {
            values: FeatureValues::U8(x.into()),
            instances: 2,
            width: 128,
            lengths: vec![2; clips],
            spectrum: None,
        },
        targets: targets.into_iter().map(|y| f32::from(u8::from(y))).collect(),
        observed,
        strong: None,
        mixer: None,
        train: (0..train as u32).collect(),
        validation: None,
        test: (train as u32..clips as u32).collect(),
        drawn: None,
        word_vectors: vec![],
        warnings: vec![],
    }
}

/// The dataset of `tests/golden/forest.py`.
fn golden() -> Dataset {
    let n = |i: usize, salt| (128.0 * frac(i as u32, salt)) as u8;
    let latent = |clip: usize, f: usize| n(4 * clip + f % 4, 3002);
    let x = (0..360 * 256).map(|i| n(i, 3000) + latent(i / 256, i % 128)).collect();
    let label = |i: usize| {
        let (clip, high) = (i / 2, |f| latent(i / 2, f) >= 64);
        let truth = match i % 2 {
            0 => high(0) != high(1),
            _ => latent(clip, 2) + latent(clip, 3) >= 128,
        };
        truth != (frac(i as u32, 3003) < 0.1)
    };
    let observed = (0..720).map(|i| i % 2 == 0 || frac(i as u32 / 2, 3004) < 0.7).collect();
    dataset(x, (0..720).map(label).collect(), observed, 2, 300)
}

fn grown(config: &Config, data: &Dataset) -> Vec<Forest> {
    grow(config, data, &|| false, &mut |_| {}).unwrap().expect("nobody interrupts")
}

#[test]
fn forests_say_what_scikit_learns_say() {
    let golden_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/forest.json");
    let said: Value = serde_json::from_slice(&std::fs::read(golden_file).unwrap()).unwrap();
    let expected: Vec<Vec<f64>> = serde_json::from_value(said["mean"].clone()).unwrap();
    // Nearly all training clips: one is held out.
    let (seeds, data) = ((0..12).collect::<Vec<u64>>(), golden());
    let forests = grown(&Config { val_fraction: 0.004, ..config(&seeds) }, &data);
    let x = time_means(&data.features, &data.test);
    let mut sum = Array::<f32>::zeros([60, 2]);
    for forest in &forests {
        sum.data_mut().iter_mut().zip(forest.predict(&x).data()).for_each(|(sum, p)| *sum += p / seeds.len() as f32);
    }
    let off: Vec<f64> = sum.data().iter().zip(expected.concat()).map(|(p, e)| f64::from(*p) - e).collect();
    let rms = (off.iter().map(|d| d * d).sum::<f64>() / off.len() as f64).sqrt();
    // A single forest deviates by 0.044, so the means of 12 and of 60 differ by 0.044 sqrt(1/12 + 1/60) = 0.014.
    assert!(rms < 0.02, "root mean square difference to scikit-learn: {rms}");
    assert!(off.iter().sum::<f64>().abs() / (off.len() as f64) < 0.005, "neither higher nor lower on average");
}

#[test]
fn trees_are_as_deep_as_asked_for_and_no_deeper() {
    // Random labels are memorised.
    let x = (0..400 * 256).map(|i| (256.0 * frac(i, 1)) as u8).collect();
    let data = dataset(x, (0..400).map(|i| frac(i, 2) < 0.5).collect(), vec![true; 400], 1, 300);
    let forest = grown(&config(&[5]), &data).remove(0);
    let depth = |nodes: &[wmic::predict::forest::Node]| {
        let mut depths = vec![0; nodes.len()];
        for (i, node) in nodes.iter().enumerate().filter(|(_, node)| node.left > 0) {
            for child in [node.left, node.right] {
                depths[child as usize] = depths[i] + 1;
            }
        }
        depths.into_iter().max().unwrap()
    };
    assert_eq!(forest.trees().len(), TREES);
    assert_eq!(forest.trees().iter().map(|tree| depth(tree.nodes())).max(), Some(DEPTH));
}

#[test]
fn certain_predictions_have_probability_0_or_1() {
    // All features are the same number; a clip has the class from 100 on.
    let level = |clip: usize| (clip * 2 % 200) as u8;
    let x = (0..200 * 256).map(|i| level(i / 256)).collect();
    let has = |i: usize| level(i / 3) >= 100;
    // The second class is never known, the third always absent.
    let observed = (0..600).map(|i| i % 3 != 1).collect();
    let data = dataset(x, (0..600).map(|i| i % 3 == 0 && has(i)).collect(), observed, 3, 150);
    let forest = grown(&config(&[0]), &data).remove(0);
    let p = forest.predict(&Array::from_fn([4, 128], |i| [0.0, 90.0, 110.0, 255.0][i / 128]));
    assert_eq!(p.data(), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    assert!(forest.trees()[TREES..].iter().all(|tree| tree.nodes().len() == 1), "nothing to split");
}

#[test]
fn means_are_over_the_instances_of_a_clip_on_the_scale_of_x() {
    let of = |values| Features { values, instances: 2, width: 128, lengths: vec![2, 1], spectrum: None };
    let bytes: Vec<u8> = (0..512).map(|i| if i >= 384 { 0 } else { (i % 256) as u8 }).collect();
    let means = time_means(&of(FeatureValues::U8(bytes.clone().into())), &[1, 0]);
    assert_eq!((means[0], means[5], means[128], means[133]), (0.0, 5.0, 64.0, 69.0));
    let floats: Vec<f32> = bytes.iter().map(|b| f32::from(*b) / 255.0).collect();
    let same = time_means(&of(FeatureValues::F32(floats.into())), &[1, 0]);
    assert!(means.data().iter().zip(same.data()).all(|(a, b)| (a - b).abs() < 1e-4));
}

#[test]
fn a_seed_gives_the_same_trees_whatever_else_is_grown() {
    let data = golden();
    let together = grown(&config(&[3, 5]), &data);
    assert!(together == grown(&config(&[3, 5]), &data), "again");
    assert!(together[1] == grown(&config(&[5]), &data)[0], "alone");
    assert!(together[0] != together[1]);
    let mut told = vec![];
    grow(&config(&[3, 5]), &data, &|| false, &mut |done| told.push(done)).unwrap();
    assert_eq!(told, [1, 2, 3, 4]);
    assert!(grow(&config(&[3, 5]), &data, &|| true, &mut |_| {}).unwrap().is_none(), "interrupted");
}

/// A file with the forests of two seeds and two classes.
fn saved(folder: &Path) -> (std::path::PathBuf, Vec<Forest>, Array<f32>) {
    let (path, data) = (folder.join("model.safetensors"), golden());
    let config = config(&[3, 5]);
    let forests = grown(&config, &data);
    save(&path, &forests, &About::new(&config, &data, "mean")).unwrap();
    (path, forests, time_means(&data.features, &data.test))
}

#[test]
fn forests_are_saved_and_loaded_and_damaged_files_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let (path, forests, _) = saved(folder.path());
    assert!(load(&ModelFile::open(&path).unwrap()).unwrap() == forests);
    let bytes = std::fs::read(&path).unwrap();
    let at = |name: &str| {
        let file = SafeTensors::deserialize(&bytes).unwrap();
        file.tensor(name).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    let far = u32::MAX.to_le_bytes();
    let damages: [(&str, [u8; 4], &str); 9] = [
        ("trees.nodes", far, "expected"),
        ("trees.nodes", [0; 4], "expected"),
        ("trees.feature", 128u32.to_le_bytes(), "splits on a feature that does not exist"),
        ("trees.threshold", f32::NAN.to_le_bytes(), "NaN"),
        ("trees.threshold", f32::INFINITY.to_le_bytes(), "inf"),
        ("trees.left", far, "children"),
        ("trees.left", [0; 4], "children"),
        ("trees.right", 1u32.to_le_bytes(), "children"),
        ("trees.value", 1.5f32.to_le_bytes(), "leaf value outside 0..1"),
    ];
    for (name, word, why) in damages {
        let mut damaged = bytes.clone();
        damaged[at(name)..at(name) + 4].copy_from_slice(&word);
        std::fs::write(&path, damaged).unwrap();
        let error = ModelFile::open(&path).and_then(|file| load(&file)).map(drop).expect_err(name).to_string();
        assert!(error.contains("model.safetensors: ") && error.contains(why), "{name}: {error}");
    }
}

#[test]
fn no_damage_makes_a_forest_panic_or_walk_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _, x) = saved(folder.path());
    let bytes = std::fs::read(&path).unwrap();
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let cut = proptest::option::weighted(0.2, any::<prop::sample::Index>());
    proptest!(ProptestConfig::with_cases(100), |(damage in damage, cut in cut)| {
        let mut damaged = bytes.clone();
        damage.iter().for_each(|(at, byte)| damaged[at.index(bytes.len())] = *byte);
        damaged.truncate(cut.map_or(bytes.len(), |at| at.index(bytes.len())));
        std::fs::write(&path, damaged).unwrap();
        if let Ok(forests) = ModelFile::open(&path).and_then(|file| load(&file)) {
            let p = forests[0].predict(&x);
            prop_assert!(p.data().iter().all(|p| (0.0..=1.0).contains(p)));
        }
    });
}

#[test]
fn the_commands_take_a_forest_as_any_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, run, again) = (at("data"), at("run"), at("again"));
    wmic(&["synth", &data, "--clips", "300"]).assert().success();
    let said = json(&["train", &data, "--model", "rf", "--seed-list", "3,5", "--out", &run, "--json"]);
    assert_eq!((said["model"].as_str(), said["device"].as_str()), (Some("rf"), Some("CPU")));
    assert!(said["mean"]["map"].as_f64().unwrap() > 0.55, "chance is 0.5: {}", said["mean"]["map"]);
    assert!(said["std"]["map"].is_number() && said["ensemble"]["f1_pn"].is_number());
    let mut files: Vec<_> = std::fs::read_dir(&run).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    let pictures = ["classes.png", "domain.json"];
    let rest = ["metrics.jsonl", "model.safetensors", "report.html", "run.toml", "seeds.png", "test.json"];
    assert_eq!(files, [&pictures[..], &rest].concat());
    let read = |run: &str, name: &str| std::fs::read(Path::new(run).join(name)).unwrap();
    let settings: toml::Table = toml::from_str(&String::from_utf8(read(&run, "run.toml")).unwrap()).unwrap();
    let keys: Vec<&str> = settings.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["dataset", "model", "seeds", "threshold", "val_fraction", "run"],
        "nothing that only networks have"
    );
    // Trained on all clips, none held out: thresholds cannot be tuned.
    let clips = |key: &str| settings["run"][key].as_integer().unwrap();
    assert_eq!((clips("train_clips") + clips("test_clips"), clips("val_clips")), (300, 0));
    let tuned = ["train", &data, "--model", "rf", "--threshold", "tuned", "--out", &at("rejected")];
    rejected(&tuned, "thresholds from validation clips need some: give --val-fraction");
    rejected(&["eval", &run, &data, "--split", "val"], "has no clips in that split");
    let rows = String::from_utf8(read(&run, "metrics.jsonl")).unwrap();
    assert_eq!(rows.lines().count(), 2, "a row for each seed");

    assert_eq!(json(&["eval", &run, &data, "--json"]), said, "eval says what training said");
    assert!(json(&["eval", &run, &data, "--split", "train", "--json"])["mean"]["map"].as_f64().unwrap() > 0.9);
    let heard = json(&["predict", &run, &data, "--format", "json"]);
    let first = &heard[0]["instruments"][0];
    assert_eq!(heard.as_array().unwrap().len(), 300);
    assert!((0.0..=1.0).contains(&first["probability"].as_f64().unwrap()) && first["spread"].is_number());
    assert!(stdout(&["predict", &run, &data, "--format", "csv"]).lines().count() > 300);
    rejected(&["predict", &run, &data, "--aggregate", "attention"], "--aggregate needs audio, not features: remove it");

    let copied = Path::new(&run).join("run.toml");
    wmic(&["train", "--config", copied.to_str().unwrap(), "--out", &again]).assert().success();
    assert!(read(&run, "model.safetensors") == read(&again, "model.safetensors"), "the same bytes");
    std::fs::remove_file(Path::new(&again).join("model.safetensors")).unwrap();
    wmic(&["train", "--resume", &again]).assert().success();
    assert!(read(&run, "model.safetensors") == read(&again, "model.safetensors"), "grown again to the same bytes");
    let exported = at("seed5.safetensors");
    wmic(&["export", &run, "--seed", "5", &exported]).assert().success();
    let both = load(&ModelFile::open(&Path::new(&run).join("model.safetensors")).unwrap()).unwrap();
    assert!(load(&ModelFile::open(Path::new(&exported)).unwrap()).unwrap() == both[1..]);

    let plan = json(&["plan", &data, "--model", "rf", "--seeds", "4", "--json"]);
    assert_eq!((plan["forests_per_seed"].as_u64(), plan["features_per_split"].as_u64()), (Some(20), Some(11)));
    for given in [
        ["--lr", "1e-3"],
        ["--lr", "0"],
        ["--dropout", "0.5"],
        ["--loss", "bce"],
        ["--epochs", "10"],
        ["--batch", "32"],
        ["--weight-decay", "0"],
        ["--pooling", "softmax"],
        ["--select", "val-f1"],
        ["--patience", "3"],
        ["--gamma", "2"],
        ["--init", "weights.safetensors"],
        ["--train-frontend", "dense"],
    ] {
        let why = format!("rf is not a neural network: remove {}", given[0]);
        rejected(&["train", &data, "--model", "rf", given[0], given[1], "--out", &at("rejected")], &why);
    }
    rejected(&["plan", &data, "--model", "rf", "--batch", "7"], "rf is not a neural network: remove --batch");
    assert!(!Path::new(&at("rejected")).exists());
    std::fs::write(at("rf.toml"), "model = \"rf\"\nlr = 0.1\n").unwrap();
    rejected(&["train", &data, "--config", &at("rf.toml")], "rf is not a neural network: remove lr");

    let cut = at("cut");
    copy(&run, &cut);
    let bytes = read(&cut, "model.safetensors");
    std::fs::write(Path::new(&cut).join("model.safetensors"), &bytes[..bytes.len() - 100]).unwrap();
    assert_rejected(wmic(&["predict", &cut, &data]), "it may be truncated");
}

/// The metadata of a model file.
fn about(path: &str) -> Value {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    serde_json::from_str(&header.metadata().as_ref().unwrap()["wmic"]).unwrap()
}

#[test]
fn tuned_thresholds_are_stored_with_the_weights_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let data = at("data");
    wmic(&["synth", &data, "--clips", "300"]).assert().success();
    for model in [&["--model", "rf", "--val-fraction", "0.15"][..], &["--model", "att", "--epochs", "1"]] {
        let (run, alone, plain) = (at("run"), at("alone"), at("plain"));
        let train = |seeds: &str, out: &str, threshold: &[&str]| {
            let given = ["train", &data, "--seed-list", seeds, "--out", out, "--force", "--json"];
            json(&[&given, model, threshold].concat())
        };
        let said = train("3,5", &run, &["--threshold", "tuned"]);
        assert_eq!(said["threshold"], "tuned");
        assert_eq!(json(&["eval", &run, &data, "--json"]), said);
        let fixed = train("3,5", &plain, &[]);
        assert_eq!(fixed["threshold"], 0.5);
        assert_eq!(json(&["eval", &run, &data, "--threshold", "0.5", "--json"]), fixed, "the same weights");
        assert_eq!(json(&["eval", &plain, &data, "--threshold", "tuned", "--json"]), said, "found in any case");
        let score = |said: &Value, name: &str| said["mean"][name].as_f64().unwrap();
        assert!(score(&said, "f1_pn") != score(&fixed, "f1_pn") && score(&said, "map") == score(&fixed, "map"));
        let val = |threshold| {
            score(&json(&["eval", &run, &data, "--split", "val", "--threshold", threshold, "--json"]), "f1_pn")
        };
        assert!(val("tuned") > val("0.5"), "there they were found");

        let about_run = about(&format!("{run}/model.safetensors"));
        let (stored, classes) = (about_run["thresholds"].clone(), about_run["classes"].as_array().unwrap());
        let of_seeds: Vec<Vec<f64>> = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!((of_seeds.len(), of_seeds[0].len()), (2, 20));
        train("5", &alone, &["--threshold", "tuned"]);
        assert_eq!(about(&format!("{alone}/model.safetensors"))["thresholds"][0], stored[1], "a seed's own, as alone");
        let exported = at("exported.safetensors");
        wmic(&["export", &run, "--seed", "5", &exported]).assert().success();
        assert_eq!(about(&exported)["thresholds"], Value::from(vec![stored[1].clone()]));

        // Those of calibrated probabilities are on the calibrated scale.
        let heard = json(&["predict", &run, &data, "--format", "json", "--calibrate", "false"]);
        let copy: Value = serde_json::from_slice(&std::fs::read(format!("{run}/thresholds.json")).unwrap()).unwrap();
        for i in heard[0]["instruments"].as_array().unwrap() {
            let k = classes.iter().position(|name| *name == i["name"]).unwrap();
            let common = (of_seeds[0][k] + of_seeds[1][k]) / 2.0;
            let shown = i["threshold"].as_f64().unwrap();
            assert!((shown - common).abs() < 1e-6, "{shown}, the mean of the seeds' is {common}");
        }
        let heard = json(&["predict", &run, &data, "--format", "json"]);
        for i in heard[0]["instruments"].as_array().unwrap() {
            assert!(
                (i["threshold"].as_f64().unwrap() - copy[i["name"].as_str().unwrap()].as_f64().unwrap()).abs() < 1e-6
            );
        }
        let heard = json(&["predict", &run, &data, "--format", "json", "--threshold", "0.25"]);
        assert_eq!(heard[0]["instruments"][0]["threshold"], 0.25);
        let page = std::fs::read_to_string(format!("{run}/report.html")).unwrap();
        assert!(page.contains("per-class thresholds tuned on the validation clips"));
    }
    rejected(&["train", &data, "--threshold", "1.5"], "a number from 0 to 1, tuned, or precision:P");
    std::fs::write(at("odd.toml"), "threshold = \"best\"\n").unwrap();
    rejected(&["train", &data, "--config", &at("odd.toml")], "a number from 0 to 1, tuned, or precision:P");
}
