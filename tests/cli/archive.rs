//! `wmic predict --out`: many recordings, killed, resumed, in shards, from a list.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::audio::{corrupt, names, shared, text, tone, wav};
use crate::support::{end, rejected, send, start, wait_for, wmic};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| (name.clone(), std::fs::read(folder.join(name)).unwrap());
    names(folder).into_iter().map(read).collect()
}

#[test]
#[cfg(unix)]
fn a_folder_of_recordings_is_killed_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let sounds = at("sounds");
    for i in 0..40 {
        wav(&sounds, &format!("{}/{i}.wav", i % 3), &tone(0.2 + 0.01 * f64::from(i), 16_000));
    }
    corrupt(&sounds);
    let run = shared().run();
    let args = |out: &str| ["predict", &run, text(&sounds), "--format", "jsonl", "--out", out].map(str::to_owned);
    let (whole, pieces) = (at("whole"), at("pieces"));
    let said = wmic(&[]).args(args(text(&whole))).assert().code(1).stdout("");
    said.stderr(
        contains("40 recordings, 15.")
            .and(contains(format!("3 failed, see {}/journal.jsonl; --resume --retry ", whole.display()))),
    );
    assert_eq!(names(&whole), ["journal.jsonl", "predictions.jsonl"]);

    let arguments = args(text(&pieces));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let child = start(&arguments);
    // The journal is written after the result.
    wait_for(&pieces.join("predictions.jsonl"));
    wait_for(&pieces.join("journal.jsonl"));
    send("-KILL", &child);
    end(child);
    rejected(&arguments, "results of an earlier run are there; --resume continues it");
    let resume = [&arguments[..], &["--resume"]].concat();
    rejected(&[&resume[..], &["--hop", "2"]].concat(), "was begun with hop 4.8, not 2.0");
    let length = || std::fs::metadata(pieces.join("journal.jsonl")).unwrap().len();
    let (before, mut child) = (length(), start(&resume));
    while length() <= before && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    send("-INT", &child);
    // Interrupted, or done by then.
    assert!([Some(130), Some(1)].contains(&end(child).0));
    let done = wmic(&resume).arg("--json").assert().code(1);
    let summary: Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    assert_eq!((&summary["recordings"], &summary["failed"]), (&40.into(), &3.into()));
    assert!(files(&whole) == files(&pieces));

    // Part of them, from a list; a missing one fails.
    let list: Vec<u8> = (0..4).flat_map(|i| format!("{}/{}/{i}.wav\0", sounds.display(), i % 3).into_bytes()).collect();
    let args = ["predict", &run, "--files-from", "-", "-0", "--shard", "1/1", "--format", "jsonl"];
    let part = wmic(&args).write_stdin([&list[..], b"missing.wav\0"].concat()).assert().code(1);
    let lines = |bytes: &[u8]| -> Vec<Vec<u8>> { bytes.split(|b| *b == b'\n').map(Vec::from).collect() };
    let all = lines(&files(&whole)["predictions.jsonl"]);
    let part = lines(&part.stderr(contains("skipped: missing.wav: ")).get_output().stdout);
    assert!(part.len() == 5 && part.iter().all(|line| all.contains(line)), "the same, whatever the others are");
}

#[test]
fn options_of_folders_belong_together() {
    let run = shared().run();
    for (options, why) in [
        (&["--resume"][..], "--out <DIR>"),
        (&["--retry", "--out", "x"], "--resume"),
        (&["--resume", "--out", "x", "--truth", "x.csv"], "--truth"),
        (&["--shard", "3/2"], "i/n with i from 1 to n is expected, e.g. 2/4"),
        (&["--files-from", "list"], "recordings are read from --files-from"),
        (&["--format", "csv", "--json"], "--json is a format of its own without --out: remove --format"),
    ] {
        rejected(&[&["predict", &run, "."], options].concat(), why);
    }
    let missing = PathBuf::from(&run).join("no-list");
    rejected(&["predict", &run, "--files-from", text(&missing)], "no-list: ");
}
