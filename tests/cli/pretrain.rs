//! Pre-training of VGGish: front ends that `features` takes, resumption, several seeds, and faulty labels and words.

use std::fs;
use std::path::Path;

use crate::audio::{names, recording, shared, text, tone, wav};
use crate::support::{at_home, end, json, rejected, send, start, stdout, wait_for, wmic};
use predicates::prelude::*;
use predicates::str::contains;
use safetensors::SafeTensors;
use serde_json::Value;
use wmic::data::load_features;

const SMALL: [&str; 6] = ["--width", "1/8", "--batch", "8", "--epochs", "1"];

/// Ten short tones, and a table of their words and tags.
fn sounds(folder: &Path) -> [String; 2] {
    let mut table = "file,words,tags\n".to_owned();
    for i in 0..10 {
        wav(folder, &format!("sounds/{i}.wav"), &tone(1.2, 8_000 + 800 * i));
        let (word, tag) = [("bright", "high"), ("dark decay", "low")][i as usize % 2];
        table += &format!("sounds/{i}.wav,{word},{tag} any\n");
    }
    fs::write(folder.join("labels.csv"), table).unwrap();
    ["sounds", "labels.csv"].map(|name| text(&folder.join(name)).to_owned())
}

/// The bytes of the tensors of a front end, by name.
fn tensors(run: &str, file: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(Path::new(run).join(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<_> = tensors.tensors().into_iter().map(|(name, t)| (name, t.data().to_vec())).collect();
    all.sort();
    all
}

#[test]
fn every_objective_writes_front_ends_that_features_takes() {
    let folder = tempfile::tempdir().unwrap();
    let [sounds, labels] = sounds(folder.path());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let cache = at("cache");
    let table = ["--labels", &labels];
    // Constants: of nine patches four or five have the validation patch's tag, and all the other; one patch has no
    // others to be told from.
    let objectives: [(&str, &[&str], &str, &str); 5] = [
        ("tags", &table, "f1_pn", "0.5574"),
        ("align", &[&table[..], &["--optimiser", "sgd"]].concat(), "recall at 10", "0.0000"),
        ("textual", &[&table[..], &["--negatives"]].concat(), "Nearest words", ""),
        ("denoise-add", &["--no-last-relu"], "alt=\"log-mel patch\"", ""),
        ("denoise-mul", &["--absolute"], "alt=\"log-mel patch\"", ""),
    ];
    for (objective, options, learned, constant) in objectives {
        let run = at(objective);
        let args = ["pretrain", &sounds, "--objective", objective, "--cache", &cache, "--out", &run];
        let said = stdout(&[&args[..], &SMALL, options].concat());
        assert!(said.contains(&format!("best constant {constant}")), "{said}");
        let names: Vec<String> = tensors(&run, "vggish.safetensors").into_iter().map(|(name, _)| name).collect();
        assert_eq!((names.len(), names[0].as_str()), (18, "embeddings.0.bias"));
        let report = fs::read_to_string(Path::new(&run).join("report.html")).unwrap();
        assert!(report.contains(" of 128 (") && report.contains(learned), "{objective}");
        assert_eq!(report.contains("f1_pn"), objective == "tags", "{objective}");
    }
    let plan = ["pretrain", &sounds, "--objective", "denoise-add", "--cache", &cache, "--plan"];
    let plan = stdout(&[&plan[..], &SMALL].concat());
    assert!(plan.contains("corrupt_forward_normal") && plan.contains("1 800 544"), "{plan}");
    let weights = |objective: &str| format!("{}/vggish.safetensors", at(objective));
    let (with_relu, without) = (weights("tags"), weights("denoise-add"));
    let out = at("features.npz");
    let features = ["features", &sounds, "--out", &out, "--frontend-weights"];
    // The file says what its width is.
    wmic(&[&features[..], &[&with_relu]].concat()).assert().success();
    let known = load_features(&out, &mut None).unwrap();
    fs::remove_file(&out).unwrap();
    // Kept in the user's folder they have a name.
    if cfg!(unix) {
        let home = folder.path().join("home");
        let kept = |args: &[&str]| at_home(&home, args);
        kept(&[&features[..], &["vggish"]].concat())
            .assert()
            .code(2)
            .stderr(contains("add them with wmic weights add"));
        kept(&["weights", "add", &labels]).assert().code(2).stderr(contains("labels.csv").and(contains("safetensors")));
        kept(&["weights", "list"]).assert().success().stdout(contains("No weights in "));
        kept(&["weights", "add", &with_relu]).assert().success().stdout(contains("vggish  without the PCA"));
        kept(&[&features[..], &["vggish"]].concat()).assert().success();
        assert!(load_features(&out, &mut None).unwrap() == known);
        let other = weights("align");
        kept(&["weights", "add", &other])
            .assert()
            .code(2)
            .stderr(contains("is there already").and(contains("--force")));
        kept(&["weights", "add", &other, "--force"]).assert().success();
        let listed = kept(&["weights", "list", "--json"]).assert().success();
        let listed: Value = serde_json::from_slice(&listed.get_output().stdout).unwrap();
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!(listed[0]["pca"], false);
        fs::remove_file(&out).unwrap();
    }
    rejected(&[&features[..], &[&with_relu, "--width", "1/4"]].concat(), "is a VGGish of width 1/8, not 1/4");
    rejected(&[&features[..], &[&with_relu, "--no-last-relu"]].concat(), "was trained with VGGish's last ReLU");

    // The file says whether the last ReLU is there: from sound a run predicts what it predicts from its features.
    let (run, cache) = (at("run"), at("cache-of-run"));
    let (data, of_run) = (shared().data(), ["--cache", &cache, "--out", &run]);
    let train = ["train", &data, "--model", "att-gn", "--epochs", "1", "--frontend-weights", &without];
    wmic(&[&train[..], &of_run].concat()).assert().success();
    let record = fs::read_to_string(at("run/run.toml")).unwrap();
    assert!(record.contains("last_relu = false") && record.contains("width = \"1/8\""), "{record}");
    let recording = recording(0);
    let from_sound = json(&["predict", &run, text(&recording), "--hop", "10", "--format", "json"]);
    let features = names(Path::new(&cache)).into_iter().find(|name| name.ends_with(".npz")).unwrap();
    let npz = format!("{cache}/{features}");
    let from_features = json(&["predict", &run, &npz, "--format", "json"]);
    let (keys, ..) = load_features(&npz, &mut None).unwrap();
    let clip = keys.iter().position(|key| key == recording.file_stem().unwrap().to_str().unwrap()).unwrap();
    let of = |instrument: &Value| (instrument["name"].clone(), instrument["probability"].clone());
    let [one, two] = [&from_sound[0], &from_features[clip]]
        .map(|clip| clip["instruments"].as_array().unwrap().iter().map(of).collect::<Vec<_>>());
    assert_eq!(one, two);
    a_pretraining_run_is_no_model(&at("tags"), &at("data"), &sounds);
}

/// Every command that takes a run or its settings says so; it was a panic.
fn a_pretraining_run_is_no_model(run: &str, data: &str, sounds: &str) {
    wmic(&["synth", data, "--clips", "40"]).assert().success();
    let (is_run, is_objective) = ("tags: is a pre-training run", "tags is an objective of pre-training, not a model");
    let (settings, experiment) = (format!("{run}/run.toml"), format!("{data}/e.toml"));
    rejected(&["train", data, "--config", &settings, "--out", &format!("{data}/run")], is_objective);
    rejected(&["train", data, "--resume", run], is_run);
    rejected(&["predict", run, sounds], is_run);
    rejected(&["eval", run, data], is_run);
    rejected(&["export", run, "--seed", "0", "x.safetensors"], is_run);
    let entry = |label: &str, settings: &str| format!("[[entry]]\nlabel = \"{label}\"\n{settings}\n");
    let entries = entry("a", "model = \"att\"") + &entry("b", "model = \"tags\"");
    fs::write(&experiment, format!("title = \"t\"\nseeds = 1\n{entries}")).unwrap();
    rejected(&["compare", data, "--experiment", &experiment, "--out", &format!("{data}/c")], is_objective);
    fs::write(&settings, "model = \"att\"\n[pretrain]\nwidth = \"1/8\"\n").unwrap();
    rejected(
        &["train", data, "--config", &settings],
        "att is not an objective of pre-training: remove the table pretrain",
    );
}

#[cfg(unix)]
#[test]
fn a_killed_run_resumes_bit_identically() {
    let folder = tempfile::tempdir().unwrap();
    let [sounds, labels] = sounds(folder.path());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let cache = at("cache");
    let of = ["pretrain", &sounds, "--objective", "textual", "--negatives", "--labels", &labels, "--cache", &cache];
    let (whole, pieces) = (at("whole"), at("pieces"));
    let begin = |out| [&of[..], &SMALL[..4], &["--epochs", "4", "--out", out]].concat();
    wmic(&begin(&whole)).assert().success();
    let child = start(&begin(&pieces));
    wait_for(&folder.path().join("pieces/run.toml"));
    send("-INT", &child);
    assert_eq!(end(child).0, Some(130));
    let resumes = || {
        wmic(&["pretrain", "--resume", &pieces]).assert().success();
        for file in names(Path::new(&whole)) {
            let read = |run: &str| fs::read(Path::new(run).join(&file)).unwrap();
            assert!(read(&whole) == read(&pieces), "{file} differs");
        }
    };
    resumes();
    // Killed before the report was written.
    fs::remove_file(at("pieces/report.html")).unwrap();
    resumes();
    for option in [["--lr", "1"], ["--labels", &labels], ["--seeds", "2"]] {
        rejected(&[&["pretrain", "--resume", &pieces][..], &option].concat(), "cannot be used with");
    }
}

#[test]
fn seeds_train_side_by_side_as_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [sounds, _] = sounds(folder.path());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let cache = at("cache");
    let args = |out: &str| {
        let args = ["pretrain", &sounds, "--objective", "denoise-add", "--cache", &cache, "--out", out];
        args.iter().chain(&SMALL).map(|arg| (*arg).to_owned()).collect::<Vec<_>>()
    };
    let out = at("run");
    let run = |seeds: &[&str]| {
        let args = args(&out);
        wmic(&args.iter().map(String::as_str).chain(seeds.iter().copied()).collect::<Vec<_>>()).assert().success();
    };
    run(&["--seeds", "2"]);
    let both = [0, 1].map(|seed| tensors(&out, &format!("vggish-{seed}.safetensors")));
    // Finished: nothing is left to do, and the result is the same.
    wmic(&["pretrain", "--resume", &out]).assert().success();
    assert!(both[1] == tensors(&out, "vggish-1.safetensors"));
    fs::write(Path::new(&out).join("vggish-7.safetensors"), "of the user").unwrap();
    run(&["--seed-list", "1", "--force"]);
    let alone = tensors(&out, "vggish.safetensors");
    assert!(both[1] == alone && both[0] != alone);
    let others: Vec<String> = names(Path::new(&out)).into_iter().filter(|n| n.starts_with("vggish-")).collect();
    assert_eq!(others, ["vggish-7.safetensors"], "only front ends of the run it replaced are removed");
}

#[test]
fn faulty_labels_and_words_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let [sounds, labels] = sounds(folder.path());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        at(name)
    };
    let (cache, out) = (at("cache"), at("run"));
    let pretrain = |objective: &'static str| {
        ["pretrain", &sounds, "--objective", objective, "--cache", &cache, "--out", &out, "--width", "1/8"]
    };
    rejected(&pretrain("tags"), "tags needs --labels");
    rejected(&[&pretrain("denoise-add")[..], &["--negatives"]].concat(), "denoise-add does not use --negatives");
    rejected(&[&pretrain("denoise-mul")[..], &["--patience", "no"]].concat(), "neither a number nor none");
    rejected(&[&pretrain("tags")[..], &["--patience", "none"]].concat(), "tags needs --labels");
    for (text, why) in [
        ("name,tags\n0.wav,a\n", "needs the columns file, and words or tags"),
        ("file,tags\n0.wav,a\n0.wav,b\n", "line 3: 0.wav is listed twice"),
        ("file,tags\nother.wav,a\n", "has no labels for any of the sounds"),
        ("file,tags\n", "has no rows"),
        ("file,tags\n0.wav,a,b\n", "found record with 3 fields"),
    ] {
        rejected(&[&pretrain("tags")[..], &["--labels", &file("bad.csv", text)]].concat(), why);
    }
    let one = file(
        "one.csv",
        &(0..10).map(|i| format!("\n{i}.wav,a")).fold(String::from("file,tags"), |all, row| all + &row),
    );
    rejected(&[&pretrain("align")[..], &["--labels", &one]].concat(), "align needs at least two different tags, got 1");
    // Batches of equal tags are no error.
    let (equal, tagged) = (at("equal"), fs::read_to_string(&one).unwrap().replace("9.wav,a", "9.wav,b"));
    let of = ["pretrain", &sounds, "--objective", "align", "--cache", &cache, "--out", &equal];
    wmic(&[&of[..], &SMALL, &["--labels", &file("equal.csv", &tagged)]].concat()).assert().success();
    for (text, why) in [
        ("bright 1 0\ndark 0 1\n", "has no vector for decay"),
        ("bright 1 0\ndark 0 1 1\ndecay 1 1\n", "line 2: dark has 3 values, the words before 2"),
        ("bright 1 nan\ndark 0 1\ndecay 1 1\n", "line 1: the vector of bright is not of finite numbers"),
        ("bright 0 0\ndark 0 1\ndecay 1 1\n", "line 1: the vector of bright has no direction"),
    ] {
        let words = file("words.txt", text);
        rejected(&[&pretrain("textual")[..], &["--labels", &labels, "--words", &words]].concat(), why);
    }
    let some = file("some.csv", "file,tags\n0.wav,a\n1.wav,b\n2.wav,a\n3.wav,b\n4.wav,a\nlost.wav,b\n");
    let done = wmic(&[&pretrain("tags")[..], &["--labels", &some, "--epochs", "1"]].concat()).assert().success();
    done.stderr(contains("5 of 10 sounds are left out: no labels").and(contains("1 file is not among the sounds")));
}

#[test]
fn a_comparison_pretrains_its_front_ends_once() {
    let folder = tempfile::tempdir().unwrap();
    let [sounds, labels] = sounds(folder.path());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let (experiment, out, cache, data) = (at("x.toml"), at("out"), at("cache"), shared().data());
    let entries = "title = 'x'\n\
        [[entry]]\nlabel = 'random'\nmodel = 'att-gn'\nfront_end = { weights = 'random' }\n\
        [[entry]]\nlabel = 'added'\nmodel = 'att-gn'\nfront_end = { weights = 'vggish' }\n\
        [[entry]]\nlabel = 'tags'\nmodel = 'att-gn'\npretrain = { objective = 'tags', epochs = 1, batch = 8 }\n";
    fs::write(&experiment, entries).unwrap();
    let of = ["--width", "1/8", "--epochs", "1", "--cache", &cache, "--out", &out];
    let compare = [&["compare", &data, "--experiment", &experiment][..], &of].concat();
    rejected(&compare, "entry tags: pre-trains its front end: give --pretrain-sounds");
    let without = [&compare[..], &["--pretrain-sounds", &sounds]].concat();
    rejected(&without, "entry tags: tags needs a table of the sounds' words and tags: give --pretrain-labels");
    rejected(&[&without[..], &["--pretrain-labels", &at("none.csv")]].concat(), "none.csv: does not exist");
    let compare = [&without[..], &["--pretrain-labels", &labels]].concat();
    rejected(&[&compare[..], &["--frontend-weights", "random"]].concat(), "remove --frontend-weights");
    let home = folder.path().join("home");
    let at_home = |args: &[&str]| at_home(&home, args).assert();
    let skipped =
        contains("skipped: added: VGGish's weights are not there: download them with wmic weights get vggish");
    at_home(&compare).code(1).stderr(contains("patches to train on").count(1).and(skipped));
    let [pretrained] = &names(&folder.path().join("out/pretrained"))[..] else { panic!("one front end") };
    let run = fs::read_to_string(at("out/tags/run.toml")).unwrap();
    assert!(run.contains(&format!("pretrained/{pretrained}/vggish.safetensors")), "{run}");
    if cfg!(windows) {
        return println!("skipped: weights that the user has added");
    }
    // Weights that the user has added have a width of their own.
    let front_end = folder.path().join("out/pretrained").join(pretrained);
    at_home(&["weights", "add", text(&front_end.join("vggish.safetensors"))]).success();
    at_home(&compare).success().stderr(contains("patches to train on").count(0));
    assert!(fs::read_to_string(at("out/added/run.toml")).unwrap().contains("weights = \"vggish\""));
    // Killed before its report was written.
    let report = front_end.join("report.html");
    fs::remove_file(&report).unwrap();
    at_home(&compare).success();
    assert!(report.is_file());
}
