//! `wmic.toml`: the user's defaults.

use std::fs;

use predicates::str::contains;

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
    for (text, why) in
        [("devise = \"x\"", "unknown field `devise`"), ("device = 3", "wmic.toml: "), ("device = ", "wmic.toml: ")]
    {
        with(text, &["devices"]).assert().code(2).stdout("").stderr(contains(why));
    }
    with("device = \"no such adapter\"", &["check", "--op", "add"])
        .assert()
        .code(2)
        .stderr(contains("no such adapter"));
    with("device = \"no such adapter\"", &["check", "--op", "add", "--device", "0"]).assert().success();
    let mut missing = wmic(&["devices"]);
    missing.env("WMIC_CONFIG", dir.path().join("none.toml")).assert().code(2).stderr(contains("none.toml"));
}

/// The run of `wmic.toml` answers where none is given, and one that is given before it.
#[test]
fn a_default_run_answers_where_none_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("run");
    crate::support::copy(shared().run(), &link);
    let file = dir.path().join("wmic.toml");
    fs::write(&file, "run = \"run\"\n").unwrap();
    let data = shared().data();
    let mut by_default = wmic(&["predict", &data, "--format", "csv"]);
    let done = by_default.env("WMIC_CONFIG", &file).assert().success().stderr(contains("as wmic.toml says"));
    let expected = stdout(&["predict", &shared().run(), &data, "--format", "csv"]);
    assert_eq!(String::from_utf8(done.get_output().stdout.clone()).unwrap(), expected);
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
