//! The bundled model: `wmic song.mp3`, and training from it. None of this depends on how good it is.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use tempfile::TempDir;
use wmic::predict::bundled::{Parts, bundled};
use wmic::predict::trained::{Network, Trained, TrainedModel};
use wmic::run::run_dir::RunDir;

use crate::audio::{text, tone, wav};
use crate::support::{assert_rejected, at_home, has_keys, wmic};

const SR: u32 = 16_000;

/// The program of a user without weights of other networks.
fn without_weights(home: &TempDir, args: &[&str]) -> Command {
    at_home(home.path(), args)
}

#[test]
fn recordings_alone_are_recognised_by_the_bundled_model() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, samples: &[f32]| text(&wav(home.path(), name, samples)).to_owned();
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 0.5 - 0.25
    };
    let noise: Vec<f32> = (0..3 * SR).map(|_| noise()).collect();
    let files =
        [file("tone.wav", &tone(3.0, SR)), file("noise.wav", &noise), file("silence.wav", &vec![0.0; 3 * SR as usize])];
    let out = home.path().join("results");
    let predict = ["--out", text(&out), "--format", "jsonl", &files[0], &files[1], &files[2]];
    let done = without_weights(&home, &predict).assert().success();
    done.stderr(
        contains("model: bundled (musicnn), which hears accordion, ")
            .and(contains("is silent"))
            .and(contains("noise.wav: is steady noise, in which nothing counts as present")),
    );
    let written = fs::read_to_string(out.join("predictions.jsonl")).unwrap();
    let heard: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(heard.len(), files.len());
    for (i, of_file) in heard.iter().enumerate() {
        assert_eq!((&of_file["file"], &of_file["model"]), (&files[i].as_str().into(), &"bundled (musicnn)".into()));
        let instruments = of_file["instruments"].as_array().unwrap();
        assert_eq!(instruments.len(), 20);
        for instrument in instruments {
            has_keys(instrument, &["name", "probability", "spread", "threshold", "present", "segments"]);
            assert!((0.0..=1.0).contains(&instrument["probability"].as_f64().unwrap()));
            assert!(i == 0 || instrument["present"] == false, "{}: {instrument}", files[i]);
        }
    }
    let blip = file("blip.wav", &[0.5]);
    let done = without_weights(&home, &["--json", &blip]).assert().success();
    done.stderr(contains("blip.wav: is too short, ").and(contains("is silent").not()));
    // The archive knows what answered.
    let again = [&["predict"], &predict[..], &["--resume"]].concat();
    without_weights(&home, &again).assert().success().stderr(contains("3 of 3 recordings are done"));
    assert_eq!(fs::read_to_string(out.join("predictions.jsonl")).unwrap(), written);
    let otherwise = [&again[..], &["--precision", "0.9"]].concat();
    assert_rejected(without_weights(&home, &otherwise), "threshold");
}

#[test]
fn what_cannot_be_recognised_is_one_clear_line() {
    let home = tempfile::tempdir().unwrap();
    let song = text(&wav(home.path(), "song.wav", &tone(1.0, SR))).to_owned();
    for (args, why) in [
        (&["missing.mp3"][..], "missing.mp3: does not exist"),
        (&["--json", "missing.mp3"], "missing.mp3: does not exist"),
        (&["--html", "page.html", "missing.mp3"], "missing.mp3: does not exist"),
        (&["missing/"], "missing/: does not exist"),
        (&["missing*.mp3"], "missing*.mp3: matches no audio file"),
        (&["--json", "train", &song], "unexpected argument '--json' found"),
        (&["--json"], "unexpected argument '--json' found"),
        (&["predict", "no-run", &song], "no-run: does not exist"),
        (
            &["predit", &song],
            "unrecognized subcommand 'predit' tip: some similar subcommands exist: 'pretrain', 'predict'",
        ),
        (&[&song, "--jsn"], "unexpected argument '--jsn' found"),
        (
            &[&song, "--frontend", "yamnet"],
            "YAMNet's weights are not there: download them with wmic weights get yamnet",
        ),
        (&[&song, "--frontend-weights", "random"], "--frontend-weights needs a single run"),
        (&["predict"], "no recordings: give audio files, folders or patterns"),
    ] {
        assert_rejected(without_weights(&home, args), why);
    }
}

/// A folder of short recordings of two classes that the model knows and a new one.
fn recordings() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut table = "file,flute,kazoo,piano\n".to_owned();
    for i in 0..12 {
        let name = format!("{i:02}.wav");
        wav(folder.path(), &name, &tone(0.8 + 0.01 * f64::from(i), SR));
        table += &format!("{name},{},{},{}\n", i % 2, i / 2 % 2, i / 4 % 2);
    }
    fs::write(folder.path().join("labels.csv"), table).unwrap();
    folder
}

fn network(trained: &Trained) -> &Network {
    match &trained.model {
        TrainedModel::Network(network) => network,
        TrainedModel::Forest(_) => unreachable!("a network"),
    }
}

/// At a rate of 0, the weights are those that it began with: of the same model on musicnn, if nothing else is said.
#[test]
fn a_training_starts_from_the_bundled_model() {
    let (data, folder) = (recordings(), tempfile::tempdir().unwrap());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let train =
        ["train", text(data.path()), "--init", "bundled", "--epochs", "1", "--lr", "0", "--cache", &at("cache")];
    wmic(&[&train[..], &["--out", &at("run")]].concat()).assert().success();
    let settings = fs::read_to_string(at("run/run.toml")).unwrap();
    assert!(settings.contains("init = \"bundled\"\n") && settings.contains("input = \"musicnn\"\n"), "{settings}");
    wmic(&["train", "--resume", &at("run"), "--cache", &at("cache")]).assert().success();

    let run = Trained::load(&RunDir::open(Path::new(&at("run"))).unwrap()).unwrap();
    let model = bundled(Parts::Musicnn).unwrap().mixture;
    let from = model.models().find(|trained| trained.about.model == "att").unwrap();
    let place = |class: &str| from.about.classes.iter().position(|known| known == class).unwrap();
    let classes = [(0, place("flute")), (2, place("piano"))];
    for (p, q) in network(&run).layout.params.iter().zip(&network(from).layout.params).filter(|(p, _)| p.trainable) {
        let [to, from] = [(&run, p), (from, q)].map(|(of, p)| {
            let values = &network(of).blocks[0].trained;
            &values[p.offset..p.offset + p.shape.len()]
        });
        if to.len() == from.len() {
            assert_eq!(to, from, "{}", p.name);
            continue;
        }
        let row = to.len() / 3;
        for (new, old) in classes {
            assert_eq!(to[new * row..][..row], from[old * row..][..row], "{}", p.name);
        }
    }
}
