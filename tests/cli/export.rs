//! Weights for other programs. Whether ONNX models compute the same is a test in Python, with a runtime.

use std::fs;

use serde_json::Value;

use crate::support::{json, rejected, stdout, wmic};
use crate::train::shared;

#[test]
fn the_extension_chooses_the_format_and_another_than_its_own_is_rejected() {
    let (dir, run) = (tempfile::tempdir().unwrap(), shared().run());
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let onnx = at("a.onnx");
    let told = json(&["export", &run, "--seed", "3", &onnx, "--json"]);
    assert_eq!((&told["seed"], &told["format"], &told["file"]), (&3.into(), &"onnx".into(), &onnx.as_str().into()));
    let bytes = fs::read(&onnx).unwrap();
    // Field 1, the version of the format.
    assert_eq!(bytes[..2], [0x08, 8]);
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(["features", "lengths", "probabilities", "attention", "mallet_percussion"].iter().all(|name| holds(name)));
    wmic(&["export", &run, "--seed", "5", &onnx]).assert().success();
    assert_ne!(fs::read(&onnx).unwrap(), bytes, "each seed has its weights");

    for (args, why) in [
        (&["--seed", "3", &at("a.pt")][..], "ends neither in .safetensors nor in .onnx"),
        (&["--seed", "3", &at("a.safetensors"), "--format", "onnx"], "must end in .onnx"),
        (&["--seed", "3", &at("a.onnx"), "--format", "safetensors"], "must end in .safetensors"),
        (&["--seed", "3", &at("a.onnx"), "--format", "huggingface"], "writes a folder"),
        (&[&at("a.onnx")], "the run has the seeds [3, 5]: choose one, --seed"),
    ] {
        rejected(&[&["export", run.as_str()], args].concat(), why);
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing else was written");

    // Neither the run itself nor what is in a folder is written over.
    let copy = at("run");
    crate::support::copy(&run, &copy);
    rejected(&["export", &copy, "--seed", "3", &format!("{copy}/model.safetensors")], "the weights of all seeds");
    rejected(&["export", &copy, "--seed", "3", "--format", "huggingface", &copy], "");
    assert_eq!(
        fs::read(format!("{copy}/model.safetensors")).unwrap(),
        fs::read(format!("{run}/model.safetensors")).unwrap()
    );
}

/// Also on standardised inputs, as ATT's on musicnn are by default.
#[test]
fn noise_and_dropout_of_inputs_have_no_part_in_onnx() {
    let dir = tempfile::tempdir().unwrap();
    let [run, onnx] = ["run", "a.onnx"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    let inputs = ["--standardise", "true", "--input-noise", "0.1", "--input-dropout", "0.2"];
    stdout(&[&["train", &shared().data(), "--epochs", "1", "--out", &run][..], &inputs].concat());
    stdout(&["export", &run, &onnx]);
    let bytes = fs::read(&onnx).unwrap();
    assert!(!bytes.windows(5).any(|window| window == b"clock"));
}

#[test]
fn a_folder_for_publishing_has_a_card_that_can_be_read() {
    let (dir, run) = (tempfile::tempdir().unwrap(), shared().run());
    let folder = dir.path().join("att");
    wmic(&["export", &run, "--seed", "3", "--format", "huggingface", folder.to_str().unwrap()]).assert().success();
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let (own, alone) = (read("model.safetensors"), dir.path().join("alone.safetensors"));
    wmic(&["export", &run, "--seed", "3", alone.to_str().unwrap()]).assert().success();
    assert!(own == fs::read(alone).unwrap() && !read("model.onnx").is_empty());
    let config: Value = serde_json::from_slice(&read("config.json")).unwrap();
    assert_eq!((&config["model_type"], &config["about"]["seeds"]), (&"wmic-att".into(), &serde_json::json!([3])));
    for name in ["config.json", "README.md", "model.onnx", "model.safetensors"] {
        let text = String::from_utf8_lossy(&read(name)).into_owned();
        assert!(!text.contains(&shared().data()), "{name} names a folder of the trainer's");
    }
    let card = String::from_utf8(read("README.md")).unwrap();
    let mut parts = card.splitn(3, "---\n").skip(1);
    let (front, text) = (parts.next().unwrap(), parts.next().unwrap());
    let entry = |key: &str| -> Value {
        let line = front.lines().find_map(|line| line.strip_prefix(&format!("{key}: "))).unwrap();
        serde_json::from_str(line).unwrap()
    };
    assert_eq!(entry("library_name"), "wmic");
    let test: Value = serde_json::from_slice(&fs::read(format!("{run}/test.json")).unwrap()).unwrap();
    let result = &entry("model-index")[0]["results"][0];
    assert_eq!(result["metrics"][0], serde_json::json!({ "type": "map", "value": test["per_seed"][0]["map"] }));
    assert!(!text.contains(dir.path().to_str().unwrap()) && !text.contains(&shared().data()), "no paths: {text}");
    assert!(text.contains("| accordion |") && text.contains("licence"), "{text}");
}

#[test]
fn a_forest_has_no_onnx_form() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (run, data) = (at("rf"), shared().data());
    stdout(&["train", &data, "--model", "rf", "--out", &run]);
    rejected(&["export", &run, &at("rf.onnx")], "rf is no neural network");
    wmic(&["export", &run, "--format", "huggingface", &at("rf-card")]).assert().success();
    assert!(!dir.path().join("rf-card/model.onnx").exists());
}
