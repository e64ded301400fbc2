//! `wmic demo` without training.

use std::collections::BTreeSet;

use wmic::audio::decode;
use wmic::data::Piece;

use crate::support::{at_home, rejected};

const INSTRUMENTS: [&str; 7] = ["bass", "cello", "cymbals", "drums", "mallet_percussion", "trombone", "ukulele"];

#[test]
fn the_demo_shows_when_instruments_play_and_when_they_were_heard() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/demo");
    // Without the weights of other networks that this user may have.
    let mut demo = at_home(folder.path(), &["demo", "--no-open", "--out", out.to_str().unwrap()]);
    let done = demo.assert().success();
    let text = String::from_utf8(done.get_output().stdout.clone()).unwrap();
    let piece = decode(out.join("piece.wav"), 60.0).unwrap();
    assert!((20.0..30.0).contains(&piece.duration()) && piece.samples.iter().any(|v| v.abs() > 0.1));
    let again: Vec<f32> = Piece::play().unwrap().samples.iter().map(|v| (v * 32_768.0).round() / 32_768.0).collect();
    assert!(piece.samples == again, "every time the same bits");

    let times = std::fs::read_to_string(out.join("piece.csv")).unwrap();
    let rows: Vec<Vec<&str>> = times.lines().skip(1).map(|row| row.split(',').collect()).collect();
    let instruments: BTreeSet<&str> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(Vec::from_iter(instruments), INSTRUMENTS);
    for row in &rows {
        let [start, end] = [2, 3].map(|i| row[i].parse::<f64>().unwrap());
        assert!(row[0] == "piece.wav" && 0.0 <= start && start < end && end <= piece.duration(), "{row:?}");
    }
    let page = std::fs::read_to_string(out.join("piece.html")).unwrap();
    for part in ["<audio controls", "src=\"data:audio/wav;base64,", "truth"] {
        assert!(page.contains(part), "the page has no {part}");
    }

    let lines: Vec<&str> = text.lines().collect();
    for instrument in INSTRUMENTS {
        let name = format!("{} ", instrument.replace('_', " "));
        let at = lines.iter().position(|line| line.starts_with(&name));
        let at = at.unwrap_or_else(|| panic!("{instrument} is not in {text}"));
        assert!(lines[at].contains("  plays ") && lines[at].contains('━'), "{text}");
        let answer = lines[at + 1].trim_start();
        assert!(answer.starts_with("heard ") || answer.starts_with("missed "), "{text}");
    }
    assert!(text.contains(" of 7 instruments, and "), "{text}");
    assert!(lines.iter().all(|line| line.chars().count() <= 120), "{text}");
}

#[test]
fn files_of_the_user_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (out, own) = (folder.path().to_str().unwrap(), folder.path().join("piece.wav"));
    std::fs::write(&own, "mine").unwrap();
    rejected(&["demo", "--no-open", "--out", out], "piece.wav: is no file of an earlier demo; choose another folder");
    assert_eq!(std::fs::read(&own).unwrap(), b"mine");
    rejected(&["demo", "--no-open", "--out", own.to_str().unwrap()], "is a file; a folder is expected");
    let piece = Piece::play().unwrap();
    piece.write(folder.path(), "piece").unwrap();
    assert!(piece.is_in(folder.path(), "piece") && !piece.is_in(folder.path(), "other"));
}

#[test]
fn options_of_one_demo_are_not_those_of_the_other() {
    rejected(&["demo", "--train", "--no-open"], "cannot be used with");
}
