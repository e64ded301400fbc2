//! `wmic tune`: what it measures and keeps, and which runs use it.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use wmic::Dataset;
use wmic::core::files::sha256;
use wmic::gpu::{Gpu, Tiling};
use wmic::run::config::Config;
use wmic::run::run_dir::RunDir;
use wmic::run::tuning::Tuning;
use wmic::train::session::Session;
use wmic::train::trainer::{End, Event};

use super::support::{assert_rejected, pipe, rejected, wmic};

/// A small dataset, and a user's cache folder.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        wmic(&["synth", &place.at("data"), "--clips", "60"]).assert().success();
        place
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    fn wmic(&self, args: &[&str]) -> Command {
        let mut command = wmic(args);
        command.env("XDG_CACHE_HOME", self.cache());
        command
    }

    /// The file that `wmic tune` has written.
    fn kept(&self) -> PathBuf {
        let folder = self.cache().join("wmic/tiles");
        fs::read_dir(folder).unwrap().next().expect("a file is kept").unwrap().path()
    }
}

/// Every product of `problems` in tiles of 64, and in two slices where it can be.
fn choose(file: &Path, problems: &[String]) {
    let text = fs::read_to_string(file).unwrap();
    let (_, body) = text.split_once('\n').unwrap();
    let mut tuning: Tuning = toml::from_str(body).unwrap();
    tuning.tiles.0 = problems.iter().map(|problem| (problem.clone(), Tiling { side: 64, slices: 2 })).collect();
    let body = toml::to_string(&tuning).unwrap();
    fs::write(file, format!("# sha256 {}\n{body}", sha256(&mut body.as_bytes()).unwrap())).unwrap();
}

fn model(run: &str) -> Vec<u8> {
    fs::read(Path::new(run).join("model.safetensors")).unwrap()
}

#[test]
fn choices_are_kept_used_by_new_runs_and_recorded_there() {
    let place = Place::new();
    let data = place.at("data");
    let tune = place.wmic(&["tune", &data, "--model", "att", "--batch", "20", "--quick", "--json"]).assert().success();
    let answer: serde_json::Value = serde_json::from_slice(&tune.get_output().stdout).unwrap();
    let products = answer["products"].as_array().unwrap();
    let problems: Vec<String> = products.iter().map(|of| of["problem"].as_str().unwrap().to_owned()).collect();
    for kernel in ["linear_forward 200 x ", "linear_backward_input 200 x ", "linear_backward_weight 128 x 128 x 200"] {
        assert!(problems.iter().any(|problem| problem.starts_with(kernel)), "{kernel} in {problems:?}");
    }
    for of in products {
        let tried = of["tried"].as_object().unwrap();
        assert!(tried.len() >= 4, "the default and three tiles: {of}");
        assert!(of["chosen_us"].as_f64() <= of["default_us"].as_f64(), "{of}");
    }
    assert_eq!(answer["file"].as_str(), place.kept().to_str());

    let train = |out: &str| {
        let out = place.at(out);
        let run = ["train", &data, "--batch", "20", "--epochs", "1", "--out", &out];
        (place.wmic(&run).assert().success(), out)
    };
    choose(&place.kept(), &problems);
    place.wmic(&["tune", "--status"]).assert().success().stdout(contains(&problems[0]).and(contains("64 / 2")));
    let (_, tuned) = train("tuned");
    let record = fs::read_to_string(Path::new(&tuned).join("run.toml")).unwrap();
    assert!(problems.iter().all(|problem| record.contains(&format!("\"{problem}\" = \"64 / 2\""))), "{record}");
    place.wmic(&["predict", &tuned, &data]).assert().success();
    // The settings of a run are taken over, but not what was measured.
    let settings = Path::new(&tuned).join("run.toml");
    place.wmic(&["tune", "--clear"]).assert().success().stderr(contains("are the default again"));
    place.wmic(&["tune", "--clear"]).assert().success().stderr(contains("no tiles are kept"));
    let plain = place.at("plain");
    let from = ["train", "--config", settings.to_str().unwrap(), "--out", &plain];
    place.wmic(&from).assert().success();
    assert!(!fs::read_to_string(Path::new(&plain).join("run.toml")).unwrap().contains("tuning"));
    assert_ne!(model(&tuned), model(&plain), "slices add in another order");

    // What is damaged is told, and not used.
    let file = Tuning::file(Gpu::open(None).unwrap().adapter()).unwrap();
    let file = place.cache().join("wmic/tiles").join(file.file_name().unwrap());
    for damage in ["garbage", "# sha256 0\nadapter = \"another\"\n"] {
        fs::write(&file, damage).unwrap();
        let status = place.wmic(&["tune", "--status"]);
        assert_rejected(status, "is damaged; measure again with wmic tune, or remove it");
    }
    for (body, why) in [("tiles = {}", "missing field `adapter`"), ("adapter = 3", "invalid type")] {
        fs::write(&file, format!("# sha256 {}\n{body}", sha256(&mut body.as_bytes()).unwrap())).unwrap();
        let advice = |line: &str| line.contains(why) && line.contains("measure again with wmic tune, or remove it");
        place.wmic(&["tune", "--status"]).assert().code(2).stderr(predicate::function(advice));
    }
    let (done, damaged) = train("damaged");
    let of_tiles = |line: &&str| line.contains("is damaged") && line.contains("the default tiles are used");
    done.stderr(predicate::function(move |text: &str| text.lines().filter(of_tiles).count() == 1));
    assert_eq!(model(&damaged), model(&plain));
}

#[test]
fn a_resumed_run_keeps_its_tiles() {
    let place = Place::new();
    let (gpu, data) = (Gpu::open(None).unwrap(), Dataset::load(place.at("data")).unwrap());
    let plain = Config { epochs: 2, batch: 20, ..Config::of("att", place.at("data")).unwrap() };
    let mut tuning = Tuning::none(gpu.adapter());
    // Two of the run, and one that it does not have.
    for problem in
        ["linear_forward 200 x 128 x 128", "linear_backward_weight 128 x 128 x 200", "linear_forward 1 x 2 x 3"]
    {
        tuning.tiles.0.insert(problem.into(), Tiling { side: 64, slices: 2 });
    }
    let tuned = Config { tuning: Some(tuning), ..plain.clone() };
    let folder = |name: &str| PathBuf::from(place.at(name));
    let train = |config: &Config, name: &str, stop_after: usize| {
        let mut session = Session::begin(&gpu, config, &data, &folder(name), false).unwrap();
        let epochs = std::sync::atomic::AtomicUsize::new(0);
        let stop = || epochs.load(std::sync::atomic::Ordering::Relaxed) >= stop_after;
        session
            .train(&stop, &mut |event| {
                if let Event::Epoch { .. } = event {
                    epochs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            })
            .unwrap()
    };
    assert_eq!(train(&tuned, "whole", usize::MAX), End::Finished);
    assert_eq!(train(&plain, "plain", usize::MAX), End::Finished);
    assert_eq!(train(&tuned, "parts", 1), End::Interrupted);
    let run = RunDir::reopen(&folder("parts")).unwrap();
    let recorded = run.record().unwrap().config;
    assert_eq!(recorded.tuning.as_ref().map(|tuning| tuning.tiles.0.len()), Some(2), "only what it uses");
    // The settings of a comparison, which are those of a new run after another tuning.
    let mut session = Session::resume(&gpu, &plain, &data, run).unwrap();
    assert_eq!(session.train(&|| false, &mut |_| {}).unwrap(), End::Finished);
    assert_eq!(model(&place.at("parts")), model(&place.at("whole")));
    assert_ne!(model(&place.at("parts")), model(&place.at("plain")));
}

/// A folder or a pipe in the place of the file.
#[cfg(unix)]
#[test]
fn what_is_no_file_of_tiles_is_neither_read_nor_removed() {
    let place = Place(tempfile::tempdir().unwrap());
    let file = Tuning::file(Gpu::open(None).unwrap().adapter()).unwrap();
    let file = place.cache().join("wmic/tiles").join(file.file_name().unwrap());
    fs::create_dir_all(&file).unwrap();
    for args in [&["tune", "--clear"][..], &["tune", "--status"], &["tune", "--quick"]] {
        assert_rejected(place.wmic(args), "is a folder, in the place of a file of tiles; remove it");
    }
    fs::remove_dir(&file).unwrap();
    pipe(&file);
    let mut status = place.wmic(&["tune", "--status"]);
    status.timeout(std::time::Duration::from_secs(60));
    assert_rejected(status, "is not a file; measure again with wmic tune, or remove it");
    place.wmic(&["tune", "--clear"]).assert().success();
    assert!(!file.exists());
}

#[test]
fn what_cannot_be_tuned_is_rejected() {
    rejected(&["tune", "--model", "rf"], "rf");
    rejected(&["tune", "--clear", "--status"], "--status");
}
