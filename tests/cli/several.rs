//! Several runs together: in one prediction, and in one file.

use std::fs;

use crate::audio::{names, recording, shared, text};
use crate::support::{json, rejected, wmic};
use predicates::str::contains;

#[test]
fn runs_are_combined_and_put_into_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let (run, data, file, recording) = (shared().run(), shared().data(), at("one.safetensors"), recording(0));
    let recording = text(&recording);
    let predict = |models: &[&str]| json(&[&["predict"], models, &[recording, "--json"]].concat())[0].clone();
    let together = predict(&[&run, &run]);
    assert_eq!((&together["model"], &together["seeds"].to_string()[..]), (&"att-tf".into(), "[0,1]"), "each once");

    let bundle = ["bundle", &run, "--calibrate", &data];
    let made = json(&[&bundle[..], &["--out", &file, "--name", "mine", "--json"]].concat());
    assert_eq!(made["bytes"].as_u64().unwrap(), fs::metadata(&file).unwrap().len());
    assert_eq!((made["models"].as_array().unwrap().len(), &made["mean"]["model"]), (1, &"mine".into()));
    let of_file = predict(&[&file]);
    assert_eq!(of_file["model"], "mine");
    assert_ne!(of_file["instruments"][0]["probability"], together["instruments"][0]["probability"], "calibrated");

    rejected(&["predict", &run, &file, recording], "is an ensemble: give it alone");
    rejected(&["predict", &run, &run, &at("x.npz")], "x.npz");
    rejected(&["predict", &format!("{run}/model.safetensors"), recording], "is not a file of wmic bundle");
    rejected(&[&bundle[..], &["--out", &file, "--weights", "1,2"]].concat(), "2 weights were given for 1 run");
    rejected(&[&bundle[..], &["--out", &at("x")]].concat(), "must end with .safetensors");
    let cut = at("cut.safetensors");
    fs::write(&cut, &fs::read(&file).unwrap()[..2000]).unwrap();
    wmic(&["predict", &cut, recording]).assert().code(2).stderr(contains("truncated"));
    assert_eq!(names(folder.path()), ["cut.safetensors", "one.safetensors"], "nothing half-made stays");
}
