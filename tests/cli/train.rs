//! Training, evaluation and prediction on the command line: files, errors, exit codes.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::{
    Shared, assert_rejected, copy, end, has_keys, json, rejected, rewrite, send, start, stdout, unread, wait_for, wmic,
};
use predicates::str::contains;
use serde_json::Value;
use wmic::data::Dataset;

/// A dataset of 120 clips and a run of two seeds (ATT, 3 and 5, two epochs) on it, shared by all tests, which do not
/// change them.
pub fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let shared = Shared::new();
        wmic(&["synth", &shared.data(), "--clips", "120"]).assert().success();
        let (data, run) = (shared.data(), shared.run());
        wmic(&["train", &data, "--seed-list", "3,5", "--epochs", "2", "--out", &run]).assert().success();
        shared
    })
}

/// A changed copy of the shared dataset.
fn altered_data(to: &Path, alter: impl FnOnce(&Path)) -> String {
    copy(shared().data(), to);
    alter(to);
    to.to_str().unwrap().to_owned()
}

fn edit(path: impl AsRef<Path>, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

/// Keys of an instrument in a recording's result.
const INSTRUMENT: [&str; 6] = ["name", "probability", "spread", "threshold", "present", "segments"];

/// Of a run that has ended.
const SCORES: [&str; 8] = ["loss", "f1_pn", "f1_pos", "micro_f1", "map", "auc", "precision", "recall"];

fn is_evaluation(e: &Value, split: &str) {
    has_keys(
        e,
        &[
            "model",
            "parameters",
            "dataset",
            "split",
            "device",
            "threshold",
            "per_seed",
            "mean",
            "std",
            "ensemble",
            "reliability",
            "per_class",
        ],
    );
    assert_eq!((e["model"].as_str(), e["split"].as_str()), (Some("att"), Some(split)));
    assert_eq!((e["parameters"].as_u64(), e["dataset"].as_str()), (Some(55_336), Some("data")));
    let seeds: Vec<u64> = e["per_seed"].as_array().unwrap().iter().map(|s| s["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [3, 5]);
    for seed in e["per_seed"].as_array().unwrap() {
        has_keys(seed, &[&["seed", "best_epoch"][..], &SCORES].concat());
        assert!(seed["best_epoch"].as_u64().unwrap() < 2);
    }
    for part in ["mean", "std", "ensemble"] {
        has_keys(&e[part], &SCORES);
        assert!(SCORES.iter().all(|name| e[part][name].is_number()), "{part}: {}", e[part]);
    }
    assert_eq!(e["per_class"].as_object().unwrap().len(), 20);
    for class in e["per_class"].as_object().unwrap().values() {
        has_keys(class, &["f1_pn", "f1_pn_std", "f1_pos", "ap", "auc", "precision", "recall", "positives", "observed"]);
        assert!(class["positives"].as_u64() <= class["observed"].as_u64());
    }
}

/// Of a finished run.
const FILES: [&str; 12] = [
    "classes.png",
    "domain.json",
    "learning_curves.png",
    "metrics.jsonl",
    "model.safetensors",
    "reliability.png",
    "report.html",
    "run.toml",
    "seeds.png",
    "state.safetensors",
    "test.json",
    "thresholds.json",
];

#[test]
fn a_run_uploads_its_dataset_and_predicts_each_split_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut train = wmic(&["train", &shared().data(), "--epochs", "2", "--out", run.to_str().unwrap()]);
    let done = train.env("WMIC_LOG", "wmic=debug").assert().success();
    let log = String::from_utf8(done.get_output().stderr.clone()).unwrap();
    let count = |what: &str| log.matches(what).count();
    assert_eq!((count("uploading dataset"), count("predicting split")), (1, 2), "validation and test:\n{log}");
}

#[test]
fn a_run_directory_has_the_documented_files() {
    let run = PathBuf::from(shared().run());
    let mut names: Vec<_> = std::fs::read_dir(&run).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, FILES);
    let read = |name: &str| std::fs::read_to_string(run.join(name)).unwrap();
    let settings: toml::Table = toml::from_str(&read("run.toml")).unwrap();
    assert_eq!(settings["seeds"], toml::Value::from(vec![3, 5]));
    for key in
        ["dataset", "model", "epochs", "batch", "lr", "weight_decay", "dropout", "loss", "select", "val_fraction"]
    {
        assert!(settings.contains_key(key), "{key}");
    }
    assert!(["version", "adapter", "backend", "driver"].iter().all(|key| settings["run"][key].is_str()));
    let rows: Vec<Value> = read("metrics.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 4, "an epoch and seed each");
    rows.iter().for_each(|row| has_keys(row, &["epoch", "seed", "train_loss", "val_loss", "val_f1_pn", "best"]));
    let test: Value = serde_json::from_str(&read("test.json")).unwrap();
    is_evaluation(&test, "test");

    let bytes = std::fs::read(run.join("model.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let about: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["wmic"]).unwrap();
    assert_eq!((about["model"].as_str(), about["classes"].as_array().unwrap().len()), (Some("att"), 20));
    assert!(about["input"].is_string() && about["version"].is_string());
}

/// Scores on training clips are not representative of others.
#[test]
fn eval_asks_before_it_scores_clips_that_the_run_may_have_learnt_from() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other").to_str().unwrap().to_owned();
    wmic(&["synth", &other, "--clips", "60", "--seed", "9"]).assert().success();
    let (run, data) = (shared().run(), shared().data());
    let why = "this is not the data that the run was trained on, which may share clips with it";
    rejected(&["eval", &run, &other], why);
    rejected(&["eval", &run, &other, "--split", "all"], why);
    rejected(&["eval", &run, &data, "--split", "all"], "most of these clips are training clips of the run");
    let forced = wmic(&["eval", &run, &other, "--force", "--json"]).assert().success();
    forced.stderr(contains(why));
    wmic(&["eval", &run, &data, "--split", "all", "--force"]).assert().success();
    let train = wmic(&["eval", &run, &data, "--split", "train"]).assert().success();
    train.stderr(contains("the clips that the run was trained on"));
}

/// Validation clips given by their keys are the run's own in every command.
#[test]
fn a_run_with_validation_keys_is_evaluated_planned_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (run, keys, data) = (at("run"), at("keys.txt"), shared().data());
    let set = Dataset::load(&data).unwrap();
    let chosen: Vec<&str> = set.train[..7].iter().map(|&clip| set.keys[clip as usize].as_str()).collect();
    std::fs::write(&keys, chosen.join("\n")).unwrap();
    let train = ["train", &data, "--model", "att", "--epochs", "1", "--seed-list", "3,5"];
    let train = [&train[..], &["--val-keys", &keys, "--out", &run]].concat();
    rejected(&[&train[..], &["--val-fraction", "0.3"]].concat(), "--val-fraction and --val-keys both choose");
    wmic(&train).assert().success();
    for split in ["test", "val", "train"] {
        is_evaluation(&json(&["eval", &run, &data, "--split", split, "--json"]), split);
    }
    rejected(&["eval", &run, &data, "--split", "all"], "most of these clips are training clips");
    let steps = |more: &[&str]| json(&[&["plan", &data, "--model", "att", "--batch", "1", "--json"], more].concat());
    let planned = steps(&["--val-keys", &keys])["steps_per_epoch"].as_u64().unwrap() as usize;
    assert_eq!(planned, set.train.len() - 7);

    rejected(
        &["train", "--resume", &run, "--frontend-weights", "random"],
        "the run was started without --frontend-weights",
    );
    wmic(&["train", "--resume", &run]).assert().success();
    std::fs::write(&keys, chosen[1..].join("\n")).unwrap();
    rejected(&["train", "--resume", &run], "is not the dataset that");
    rejected(&["eval", &run, &data, "--split", "val"], "the splits are not those of the run");
    is_evaluation(&json(&["eval", &run, &data, "--json"]), "test");
}

#[test]
fn json_outputs_have_the_promised_schema() {
    let (run, data) = (shared().run(), shared().data());
    for split in ["test", "val", "train"] {
        is_evaluation(&json(&["eval", &run, &data, "--split", split, "--json"]), split);
    }
    let same = json(&["eval", &run, &data, "--json"]);
    let written = std::fs::read_to_string(Path::new(&run).join("test.json")).unwrap();
    assert_eq!(same, serde_json::from_str::<Value>(&written).unwrap(), "eval says what training said");

    let answer = json(&["predict", &run, &data, "--format", "json", "--attention"]);
    let recordings = answer.as_array().unwrap();
    assert_eq!(recordings.len(), 120, "each clip is a recording");
    for r in recordings {
        has_keys(
            r,
            &["file", "duration", "distance", "unreliable", "model", "seeds", "summary", "cell", "instruments"],
        );
        assert_eq!((r["model"].as_str(), r["cell"].as_f64()), (Some("att"), Some(0.96)));
        assert_eq!(r["seeds"], Value::from(vec![3, 5]));
        let instruments = r["instruments"].as_array().unwrap();
        assert_eq!((instruments.len(), r["duration"].as_f64()), (20, Some(9.6)));
        let likely: Vec<f64> = instruments.iter().map(|i| i["probability"].as_f64().unwrap()).collect();
        assert!(likely.is_sorted_by(|a, b| a >= b) && likely.iter().all(|p| (0.0..=1.0).contains(p)), "{likely:?}");
        for i in instruments {
            has_keys(i, &[&INSTRUMENT[..], &["activity", "attention"]].concat());
            assert!(i["spread"].as_f64().unwrap() >= 0.0);
            let present = i["probability"].as_f64().unwrap() >= i["threshold"].as_f64().unwrap();
            assert_eq!(i["present"].as_bool(), Some(present && r["unreliable"] == false));
            assert!(present || i["segments"].as_array().unwrap().is_empty(), "only what is present plays");
            let curve =
                |name: &str| -> Vec<f64> { i[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
            let (activity, attention) = (curve("activity"), curve("attention"));
            assert!(activity.len() == 10 && activity.iter().all(|v| (0.0..=1.0).contains(v)), "{activity:?}");
            let most = attention.iter().copied().fold(0.0, f64::max);
            assert!(attention.len() == 10 && attention.iter().all(|v| *v >= 0.0) && most == 1.0, "{attention:?}");
        }
    }
    let plain = &json(&["predict", &run, &data, "--format", "json"])[0];
    has_keys(plain, &["file", "duration", "distance", "unreliable", "model", "seeds", "summary", "instruments"]);
    has_keys(&plain["instruments"][0], &INSTRUMENT);
    let rows = stdout(&["predict", &run, &data, "--format", "csv"]);
    let header = "file,instrument,probability,spread,threshold,present,segments,unreliable";
    assert_eq!((rows.lines().next(), rows.lines().count()), (Some(header), 1 + 120 * 20));
    assert_eq!(stdout(&["predict", &run, &data, "--format", "jsonl"]).lines().count(), 120);
    has_keys(
        &json(&["plan", &data, "--seeds", "3", "--json"]),
        &[
            "model",
            "seeds",
            "batch",
            "steps_per_epoch",
            "parameters_per_seed",
            "dispatches_forward",
            "dispatches_backward",
            "dispatches_update",
            "barriers",
            "dispatches_validation",
            "memory_data",
            "memory_parameters",
            "memory_activations",
            "memory_activations_unshared",
            "forward_flops",
            "limit",
            "kernels",
        ],
    );
}

#[test]
fn adagrad_is_planned_with_one_moment_and_adam_with_two() {
    let plan = |optimiser: &str| json(&["plan", &shared().data(), "--seeds", "3", "--optimiser", optimiser, "--json"]);
    let (adam, adagrad) = (plan("adam"), plan("adagrad"));
    let of = |plan: &Value, key: &str| plan[key].as_u64().unwrap();
    let moment = 3 * 4 * of(&adam, "parameters_per_seed");
    let saved = of(&adam, "memory_parameters") - of(&adagrad, "memory_parameters");
    // Parameters begin at round offsets of their arena.
    assert!((moment..moment + moment / 100).contains(&saved), "{saved} bytes less, a moment has {moment}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    for format in ["csv", "json", "jsonl", "table"] {
        let (code, stderr) = unread(&["predict", &shared().run(), &shared().data(), "--format", format]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{format}");
    }
}

#[test]
fn invalid_settings_are_rejected_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("deep/er/run");
    let out = out.to_str().unwrap();
    let data = shared().data();
    for (options, why) in [
        (&["--model", "cnn"][..], "invalid value 'cnn' for '--model <MODEL>' [possible values: att, fc, fc-t,"),
        (&["--seeds", "0"], "0 is not in 1 to 1000"),
        (&["--seed-list", "7,1,7"], "seed 7 is listed twice"),
        (&["--seed-list", "-1"], "see --help"),
        (&["--epochs", "0"], "epochs must be at least 1"),
        (&["--epochs", "18446744073709551615"], "epochs must be at most 500000"),
        (&["--batch", "0"], "batch must be between 1 and 65536"),
        (&["--patience", "0"], "patience must be at least 1"),
        (&["--patience", "never"], "neither a number nor none"),
        (&["--lr", "nan"], "lr must be at least 0"),
        (&["--lr=-1"], "lr must be at least 0 and below 1000000, got -1"),
        (&["--lr", "inf"], "lr must be at least 0"),
        (&["--dropout", "1"], "dropout must be at least 0 and below 1"),
        (&["--val-fraction", "0"], "val-fraction must be above 0"),
        (&["--val-fraction", "1"], "val-fraction must be at least 0 and below 1"),
        (&["--val-fraction", "0.999"], "leaves 0 to train on"),
        (&["--loss", "focal", "--focal-gamma=-1"], "focal-gamma must be at least 0 and below 100"),
        (&["--loss", "focal", "--focal-alpha", "1.5"], "focal-alpha must be between 0 and 1"),
        (&["--loss", "focal", "--focal-alpha", "nan"], "focal-alpha must be between 0 and 1"),
        (&["--loss", "focal", "--focal-alpha", "rare"], "neither a number nor inverse-frequency"),
        (&["--loss", "focal", "--alpha", "0.5"], "--alpha, --beta and --gamma need --loss partial-bce"),
        (&["--focal-gamma", "1"], "need --loss focal"),
        (&["--augment", "noise"], "[possible values: mixup, concat]"),
        (&["--augment", "mixup,mixup"], "an augmentation is listed twice"),
        (&["--augment", "concat", "--mixup-alpha", "0.1"], "mixup-alpha needs --augment mixup"),
        (&["--augment", "mixup", "--mixup-alpha", "0"], "mixup-alpha must be above 0 and at most 1"),
        (&["--model", "fc", "--augment", "concat"], "fc takes clips of one length: remove --augment concat"),
        (&["--model", "fc", "--frontend", "musicnn"], "fc has no choice of front ends: remove --frontend"),
        (
            &["--frontend", "musicnn", "--frontend-weights", "random"],
            "musicnn features need no weights: remove --frontend-weights",
        ),
        (&["--init", "no-such.safetensors"], "no-such.safetensors: "),
        (&["--model", "aacnn"], "is a dataset of longer clips, but aacnn takes single notes"),
        (&["--device", "Voodoo 2"], "no adapter matches Voodoo 2"),
        (&["--resume", "there"], "cannot be used with"),
    ] {
        rejected(&[&["train", &data, "--out", out], options].concat(), why);
    }
    let config = folder.path().join("c.toml");
    for (text, why) in [
        ("bogus = 1", "c.toml: unknown field `bogus`"),
        ("lr = 'fast'", "c.toml: invalid type: string \"fast\", expected a number in lr\n"),
        ("batch = -3", "c.toml: invalid value: integer `-3`, expected a whole number, 0 or above in batch\n"),
        ("model = 'rf'\nlr = 0.1", "c.toml: rf is not a neural network: remove lr\n"),
        ("model = 3", "c.toml: model must be a string"),
        ("lr = 1\n\nlr = 2", "c.toml:3: duplicate key"),
        ("seeds = []", "seeds must be at least 1"),
        ("patience = 'never'", "patience must be a number of epochs, or \"none\""),
        ("model = 'cnn'", "unknown model cnn"),
        ("focal_alpha = 'rare'", "focal_alpha must be a number, \"inverse-frequency\" or"),
        ("augment = ['noise']", "unknown variant `noise`"),
    ] {
        std::fs::write(&config, text).unwrap();
        rejected(&["train", &data, "--out", out, "--config", config.to_str().unwrap()], why);
    }
    std::fs::write(&config, "lr = 0.1").unwrap();
    rejected(&["train", "--out", out, "--config", config.to_str().unwrap()], "has no dataset");
    rejected(&["train", &data, "--out", out, "--config", "/dev/zero"], "/dev/zero: ");
    let mut command = wmic(&["train", &data, "--out", out]);
    command.env("VK_ICD_FILENAMES", "/nonexistent").env("VK_DRIVER_FILES", "/nonexistent");
    if cfg!(target_os = "linux") {
        assert_rejected(command, "apt install libvulkan1 mesa-vulkan-drivers");
    }
    assert!(!folder.path().join("deep").exists(), "nothing is left behind");
}

#[test]
fn what_exceeds_the_adapter_is_rejected_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let devices = json(&["devices", "--json"]);
    let binding = devices["adapters"][devices["used"].as_u64().unwrap() as usize]["max_binding"].as_u64().unwrap();
    // 986 772 parameters a seed in one binding.
    if 1000 * 986_772 * 4 > binding {
        let args = ["train", &shared().data(), "--model", "fc", "--seeds", "1000", "--out", out.to_str().unwrap()];
        rejected(&args, "iB, this adapter allows");
        assert!(!out.exists());
    }
}

#[test]
fn datasets_that_cannot_be_used_are_rejected_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let at = |name: &str| folder.path().join(name);
    let npz = |root: &Path| root.join("openmic-2018.npz");
    std::fs::create_dir(at("empty")).unwrap();
    let altered = |name: &str, alter: &dyn Fn(&Path)| altered_data(&at(name), alter);
    let cases = [
        ("no-such-folder".to_owned(), "no-such-folder: does not exist"),
        (
            at("empty").to_str().unwrap().to_owned(),
            "a folder for each of two or more classes, or class-map.json and audio/",
        ),
        (altered("text", &|root| std::fs::write(npz(root), "hello").unwrap()), "is not a valid npz archive"),
        (
            altered("cut", &|root| {
                let file = std::fs::File::options().write(true).open(npz(root)).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            }),
            "is not a valid npz archive",
        ),
        (
            altered("classes", &|root| {
                edit(root.join("class-map.json"), |map| {
                    map.replace("\"accordion\": 0,", "\"accordion\": 0, \"theremin\": 20,")
                })
            }),
            "class map has 21 classes",
        ),
        (altered("map", &|root| edit(root.join("class-map.json"), |map| map + "}")), "class-map.json:"),
        (
            altered("both", &|root| {
                let train = std::fs::read_to_string(root.join("partitions/split01_train.csv")).unwrap();
                edit(root.join("partitions/split01_test.csv"), |test| test + train.lines().last().unwrap() + "\n");
            }),
            "is in the train split as well",
        ),
        (
            altered("twice", &|root| {
                edit(root.join("partitions/split01_test.csv"), |test| {
                    test.clone() + test.lines().last().unwrap() + "\n"
                })
            }),
            "occurs twice",
        ),
        (
            altered("nobody\n\x1b[31m", &|root| std::fs::write(root.join("partitions/split01_test.csv"), "").unwrap()),
            "has no clip",
        ),
    ];
    for (data, why) in cases {
        rejected(&["train", &data, "--out", out.to_str().unwrap()], why);
        // Not the run's training clips, which would be rejected first.
        rejected(&["eval", &shared().run(), &data, "--force"], why);
        assert!(!out.exists(), "{why}");
    }
}

#[test]
#[cfg(unix)]
fn paths_may_be_odd_and_relative() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("dä ta  x");
    copy(shared().data(), &odd);
    let mut train = wmic(&["train", "dä ta  x", "--epochs", "1"]);
    train.current_dir(&folder).assert().success().stdout(contains("saved in runs/att-dä ta  x"));
    // Resumed from another folder; it has finished, so it reports its results again.
    let run = folder.path().join("runs/att-dä ta  x");
    let before = std::fs::read(run.join("test.json")).unwrap();
    wmic(&["train", "--resume", run.to_str().unwrap()]).assert().success();
    assert_eq!(std::fs::read(run.join("test.json")).unwrap(), before);

    let raw = folder.path().join(std::ffi::OsStr::from_bytes(b"d\xff"));
    copy(shared().data(), &raw);
    for config in [false, true] {
        let mut train = wmic(&["train", "--out", "x"]);
        train.current_dir(&folder).arg(&raw);
        if config {
            std::fs::write(folder.path().join("c.toml"), "").unwrap();
            train.args(["--config", "c.toml"]);
        }
        assert_rejected(train, "is not a UTF-8 path");
    }
    wmic(&["eval", &shared().run()]).arg(&raw).assert().success();
}

#[test]
fn a_run_is_replaced_only_by_force_and_only_by_one_that_can_start() {
    let folder = tempfile::tempdir().unwrap();
    let (run, data) = (folder.path().join("run"), shared().data());
    copy(shared().run(), &run);
    let out = run.to_str().unwrap();
    let model = || std::fs::read(run.join("model.safetensors")).unwrap();
    let before = model();
    rejected(
        &["train", &data, "--out", out],
        "already contains a run; choose another --out, continue it with --resume",
    );
    let huge = huge_weights("fc", &folder.path().join("fc.safetensors"));
    rejected(&["train", &data, "--out", out, "--force", "--init", &huge], "weights of another model?");
    assert_eq!(model(), before, "the old run outlives a new one that cannot start");
    std::fs::write(run.join(".wmic-aBcDeF.safetensors"), "of a killed process").unwrap();
    wmic(&["train", &data, "--out", out, "--force", "--epochs", "1"]).assert().success();
    assert_ne!(model(), before);
    assert_eq!(std::fs::read_dir(&run).unwrap().count(), FILES.len(), "leftovers are swept away");
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains(" · seed 0 · "), "the report is the new run's");
    // What the run reads is not replaced by it; what it did not write is not removed.
    std::fs::write(run.join("vggish.safetensors"), "of the user").unwrap();
    rejected(
        &["train", &data, "--out", out, "--force", "--init", out],
        "is in the run that it would replace; choose another --out",
    );
    wmic(&["train", &data, "--out", out, "--force", "--epochs", "1"]).assert().success();
    assert_eq!(std::fs::read(run.join("vggish.safetensors")).unwrap(), b"of the user");
    // Killed while it removed the files of the run before: it starts anew, and not with those.
    let scores = || std::fs::read(run.join("test.json")).unwrap();
    let (record, ended) = (run.join("run.toml"), scores());
    let text = std::fs::read_to_string(&record).unwrap();
    let killed = text.replace("[run]\n", "[run]\nreplaces = [\"state.safetensors\", \"test.json\", \"../data/x\"]\n");
    assert_ne!(killed, text);
    std::fs::write(&record, killed).unwrap();
    std::fs::write(run.join("test.json"), "of another run").unwrap();
    rejected(&["eval", out, &data], "was about to replace another run");
    wmic(&["train", "--resume", out]).assert().success();
    assert_eq!((scores(), std::fs::read_to_string(&record).unwrap()), (ended, text));
    // A file of this name may be somebody's settings.
    let mine = folder.path().join("mine");
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(mine.join("run.toml"), "epochs = 3").unwrap();
    std::fs::write(mine.join("report.html"), "of the user").unwrap();
    rejected(&["train", &data, "--out", mine.to_str().unwrap(), "--force"], "is not the record of a run");
    // Without run.toml the files are not known to be a run's.
    std::fs::remove_file(run.join("run.toml")).unwrap();
    rejected(&["train", &data, "--out", out, "--force"], "is not empty and not a run directory");

    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    rejected(&["train", &data, "--out", file.to_str().unwrap()], "file: ");
    rejected(&["train", &data, "--out", file.join("below").to_str().unwrap()], "below: ");
    rejected(
        &["train", &data, "--out", folder.path().to_str().unwrap(), "--force"],
        "is not empty and not a run directory",
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"x");
}

#[test]
fn damaged_and_inconsistent_runs_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let data = shared().data();
    let altered = |name: &str, alter: &dyn Fn(&Path)| {
        let run = folder.path().join(name);
        copy(shared().run(), &run);
        alter(&run);
        run.to_str().unwrap().to_owned()
    };
    let lies =
        |change: &'static dyn Fn(&mut Value)| move |run: &Path| rewrite(&run.join("model.safetensors"), change, 1.0);
    let cut = |name: &'static str| {
        move |run: &Path| {
            let file = std::fs::File::options().write(true).open(run.join(name)).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1000).unwrap();
        }
    };
    let model_cases = [
        altered("cut", &cut("model.safetensors")),
        altered("nan", &|run| rewrite(&run.join("model.safetensors"), &|_| (), f32::NAN)),
        altered("seeds", &lies(&|about| about["seeds"] = Value::Array(vec![]))),
        altered("other seeds", &lies(&|about| about["seeds"] = vec![3, 6].into())),
        altered("few thresholds", &lies(&|about| about["thresholds"] = serde_json::json!([[0.5], [0.5]]))),
        altered("thresholds of one", &lies(&|about| about["thresholds"] = serde_json::json!([vec![0.5; 20]]))),
        altered("high thresholds", &lies(&|about| about["thresholds"] = serde_json::json!(vec![vec![1.5; 20]; 2]))),
        altered("epochs", &lies(&|about| about["best_epochs"] = vec![0].into())),
        altered("model", &lies(&|about| about["model"] = "fc".into())),
        altered("unknown model", &lies(&|about| about["model"] = "cnn".into())),
        altered("wide", &lies(&|about| about["width"] = (1u64 << 40).into())),
        altered("long", &lies(&|about| about["instances"] = (1u64 << 61).into())),
        altered(
            "both",
            &lies(&|about| (about["instances"], about["width"]) = ((1u64 << 33).into(), (1u64 << 33).into())),
        ),
        altered("none", &lies(&|about| about["instances"] = 0.into())),
        altered("classes", &lies(&|about| about["classes"] = vec!["a"].into())),
        altered("no classes", &lies(&|about| about["classes"] = Value::Array(vec![]))),
        altered("no model", &|run| std::fs::remove_file(run.join("model.safetensors")).unwrap()),
    ];
    for run in model_cases {
        rejected(&["eval", &run, &data], "model.safetensors: ");
        rejected(&["predict", &run, &data], "model.safetensors: ");
        rejected(&["export", &run, "--seed", "3", "x.safetensors"], "model.safetensors: ");
    }
    let run = altered("toml", &|run| edit(run.join("run.toml"), |text| text.replace("seeds = [3, 5]", "seeds = []")));
    rejected(&["eval", &run, &data], "run.toml: seeds must be at least 1");
    let run = altered("other classes", &lies(&|about| about["classes"][0] = "the\u{1b}[31mremin\n".into()));
    rejected(&["eval", &run, &data], "has other classes than the run was trained on");
    rejected(&["export", &shared().run(), "--seed", "4", "x.safetensors"], "the run has no seed 4; it has [3, 5]");
    rejected(&["eval", folder.path().to_str().unwrap(), &data], "is not a run directory");

    for run in [
        altered("state cut", &cut("state.safetensors")),
        altered("state seeds", &|run| {
            rewrite(&run.join("state.safetensors"), &|progress| progress["history"][1]["seed"] = 4.into(), 1.0)
        }),
        altered("state epochs", &|run| {
            rewrite(&run.join("state.safetensors"), &|progress| progress["epochs"] = 1.into(), 1.0)
        }),
    ] {
        rejected(&["train", "--resume", &run], "state.safetensors: ");
    }
    let other = folder.path().join("other");
    wmic(&["synth", other.to_str().unwrap(), "--clips", "100"]).assert().success();
    rejected(&["train", other.to_str().unwrap(), "--resume", &shared().run()], "is not the dataset that");
}

/// Weights that overflow within a step.
fn huge_weights(model: &str, path: &Path) -> String {
    let run = path.with_extension("run");
    let (data, out) = (shared().data(), run.to_str().unwrap().to_owned());
    wmic(&["train", &data, "--model", model, "--epochs", "1", "--out", &out]).assert().success();
    let path = path.to_str().unwrap().to_owned();
    wmic(&["export", &out, "--seed", "0", &path]).assert().success();
    rewrite(Path::new(&path), &|_| (), 1e30);
    path
}

#[test]
fn a_loss_that_leaves_the_numbers_ends_the_run_of_every_model() {
    let folder = tempfile::tempdir().unwrap();
    for model in ["att", "fc", "fc-t"] {
        let huge = huge_weights(model, &folder.path().join(format!("{model}.safetensors")));
        let out = folder.path().join(format!("{model}-diverges"));
        let mut train = wmic(&["train", &shared().data(), "--model", model, "--init", &huge, "--epochs", "3"]);
        train.args(["--out", out.to_str().unwrap()]);
        let said = contains("wmic: seed 0 diverged (NaN loss) in step 1 of epoch 1; try a lower --lr");
        train.assert().code(2).stdout("").stderr(said);
        assert!(!out.join("model.safetensors").exists(), "{model}: no epoch ended, so there are no best weights");
    }
}

const ENDLESS: [&str; 2] = ["--epochs", "100000"];

#[test]
#[cfg(unix)]
fn an_interrupt_saves_and_reports_how_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    for signal in ["-INT", "-TERM"] {
        let run = folder.path().join(signal);
        let (data, out) = (shared().data(), run.to_str().unwrap().to_owned());
        let child = start(&[&["train", &data, "--out", &out], &ENDLESS[..]].concat());
        wait_for(&run.join("run.toml"));
        // The second of two must not touch what the first is writing.
        rejected(&["train", &data, "--out", &out, "--force"], "is in use: another process is training there");
        rejected(&["train", "--resume", &out], "is in use: another process is training there");
        send(signal, &child);
        let (code, stderr) = end(child);
        let last = stderr.lines().last().unwrap();
        assert_eq!(code, Some(130), "{stderr}");
        assert_eq!(last, format!("wmic: interrupted; the state is saved, resume with: wmic train --resume {out}"));
        assert!(run.join("state.safetensors").exists());
        if run.join("model.safetensors").exists() {
            wmic(&["eval", &out, &data]).assert().success();
        }
    }
}

/// Interrupted, and killed before, while and after it saves; at last a run on a disk too full for its state.
#[test]
#[cfg(unix)]
fn a_killed_run_ends_in_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, whole, pieces) = (shared().data(), at("whole"), at("pieces"));
    let settings = ["--seeds", "2", "--epochs", "40", "--batch", "24"];
    let begin = |out: &str| [&["train", &data, "--out", out], &settings[..]].concat().join("\n");
    wmic(&begin(&whole).split('\n').collect::<Vec<_>>()).assert().success();
    let state = Path::new(&pieces).join("state.safetensors");
    let (mut saved, mut killed) = (0, 0);
    for (before, between) in [(100, 0), (600, 5), (900, 20), (700, 50), (1100, 8), (800, 14), (1000, 30), (650, 400)] {
        let sleep = |ms: u64| std::thread::sleep(std::time::Duration::from_millis(ms));
        let begun = Path::new(&pieces).join("run.toml").exists();
        let args = if begun { format!("train\n--resume\n{pieces}") } else { begin(&pieces) };
        let child = start(&args.split('\n').collect::<Vec<_>>());
        sleep(before);
        send("-INT", &child);
        sleep(between);
        send("-KILL", &child);
        match end(child).0 {
            Some(130) => saved += 1,
            Some(0) => break,
            None => killed += 1,
            other => panic!("exit code {other:?}"),
        }
    }
    assert!(killed > 0, "{saved} saved");

    if state.exists() {
        let before = std::fs::read(&state).unwrap();
        let script =
            format!("ulimit -f 100; exec {} train --resume {pieces}", assert_cmd::cargo::cargo_bin("wmic").display());
        let full = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let stderr = String::from_utf8(full.stderr).unwrap();
        assert_eq!(full.status.code(), Some(2), "{stderr}");
        assert!(stderr.lines().last().unwrap().contains("the state saved before is intact"), "{stderr}");
        assert!(std::fs::read(&state).unwrap() == before, "the last good state survives");
    }
    if Path::new(&pieces).join("run.toml").exists() {
        wmic(&["train", "--resume", &pieces]).assert().success();
    } else {
        wmic(&begin(&pieces).split('\n').collect::<Vec<_>>()).assert().success();
    }
    for file in FILES {
        let read = |run: &str| std::fs::read(Path::new(run).join(file)).unwrap();
        assert!(read(&whole) == read(&pieces), "{file} differs after {killed} kills and {saved} interrupts");
    }
    assert_eq!(std::fs::read_dir(&pieces).unwrap().count(), FILES.len(), "nothing half-written stays");
}
