//! `wmic.toml`: the user's defaults.

use std::fs;

use predicates::prelude::*;
use predicates::str::contains;

use crate::audio::text;
use crate::support::{rejected, stdout, wmic};
use crate::train::shared;

#[test]
fn defaults_are_read_and_mistakes_in_them_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wmic.toml");
    let with = |text: &str, args: &[&str]| {
        fs::write(&file, text).unwrap();
        let mut command = wmic(args);
        command.env("WMIC_CONFIG", &file);
        command
    };
    for (text, why) in [
        ("# mine\ndevise = \"x\"", "wmic.toml:2: unknown field `devise`"),
        ("device = true", "wmic.toml:1: a part of the adapter's name, or its index, is expected"),
        ("device = 99", "no adapter matches 99; available: 0 "),
        ("device = ", "wmic.toml:1: "),
        ("run = \"\"", "wmic.toml: has an empty path"),
    ] {
        with(text, &["check", "--op", "add"]).assert().code(2).stdout("").stderr(contains(why));
    }
    with("device = \"no such adapter\"", &["check", "--op", "add"])
        .assert()
        .code(2)
        .stderr(contains("no adapter matches no such adapter; available: 0 ").and(contains("the device is that of ")));
    with("device = \"no such adapter\"", &["check", "--op", "add", "--device", "0"]).assert().success();
    let mut missing = wmic(&["devices"]);
    missing.env("WMIC_CONFIG", dir.path().join("none.toml")).assert().code(2).stderr(contains("none.toml"));
}

/// The run of `wmic.toml` answers where none is given; paths are relative to the file, or to the user's folder.
#[test]
fn a_default_run_answers_where_none_is_given() {
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (file, run, data) = (dir.path().join("wmic.toml"), shared().run(), shared().data());
    let expected = stdout(&["predict", &run, &data, "--format", "csv"]);
    let with = |text: &str, args: &[&str]| {
        fs::write(&file, text).unwrap();
        let mut command = wmic(&[&["predict"][..], args, &[&data, "--format", "csv"]].concat());
        command.env("WMIC_CONFIG", &file).env("HOME", home.path()).assert().success().stdout(expected.clone())
    };
    crate::support::copy(&run, dir.path().join("run"));
    with("run = \"run\"\n", &[]).stderr(contains("as wmic.toml says"));
    if cfg!(unix) {
        crate::support::copy(&run, home.path().join("mine"));
        with("run = \"~/mine\"\n", &[]).stderr(contains("mine, as wmic.toml says"));
    }
    with("run = \"nowhere\"\n", &[&run]).stderr(contains("wmic.toml").not());
}

/// Features are kept in the folder of `wmic.toml`: those that are there are not extracted again.
#[test]
fn the_cache_is_where_wmic_toml_says() {
    let (dir, audio) = (tempfile::tempdir().unwrap(), crate::audio::shared());
    let (file, out) = (dir.path().join("wmic.toml"), dir.path().join("run"));
    fs::write(&file, format!("cache = {:?}\n", audio.at("cache"))).unwrap();
    let mut train = wmic(&["train", &audio.data(), "--model", "att-tf", "--epochs", "1", "--out", text(&out)]);
    train.args(["--frontend-weights", "random", "--width", "1/8"]);
    train.env("WMIC_CONFIG", &file).env("XDG_CACHE_HOME", dir.path()).assert().success();
    let mut elsewhere = fs::read_dir(dir.path().join("wmic")).into_iter().flatten().map(|entry| entry.unwrap().path());
    assert!(elsewhere.all(|path| path.extension().is_none_or(|e| e != "npz")));
}

#[test]
fn manual_pages_are_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("man1");
    wmic(&["manual", folder.to_str().unwrap()]).assert().success();
    for command in crate::support::subcommands() {
        let page = fs::read_to_string(folder.join(format!("wmic-{command}.1"))).unwrap();
        assert!(page.contains(".TH") && page.contains("OPTIONS"), "{command}: {page}");
    }
    let top = folder.join("wmic.1");
    rejected(&["manual", top.to_str().unwrap()], "wmic.1: is a file; a folder is expected");
    let top = fs::read_to_string(top).unwrap();
    assert!(top.contains("wmic\\-train(1)"), "{top}");
}
