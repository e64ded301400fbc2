//! Calls of the program.

use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use tempfile::TempDir;

/// A folder that tests share and do not change.
pub struct Shared(TempDir);

impl Shared {
    pub fn new() -> Shared {
        Shared(tempfile::tempdir().unwrap())
    }

    pub fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn data(&self) -> String {
        self.at("data")
    }

    pub fn run(&self) -> String {
        self.at("run")
    }
}

pub fn wmic(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("wmic").unwrap();
    // Not the user's defaults.
    command.args(args).env("WMIC_CONFIG", "");
    command
}

/// The program of a user whose folders are in `home`. Windows asks no variable where they are.
pub fn at_home(home: &Path, args: &[&str]) -> Command {
    let mut command = wmic(args);
    command.env("XDG_DATA_HOME", home).env("HOME", home);
    command
}

/// Where the weights of that user are kept.
pub fn kept_weights(home: &Path) -> PathBuf {
    let data = if cfg!(target_os = "macos") { "Library/Application Support" } else { "" };
    home.join(data).join("wmic/weights")
}

/// Runs it, expects success and returns stdout.
pub fn stdout(args: &[&str]) -> String {
    let done = wmic(args).assert().success();
    String::from_utf8(done.get_output().stdout.clone()).unwrap()
}

/// The names of all subcommands.
pub fn subcommands() -> Vec<String> {
    let top = stdout(&["--help"]);
    let listed = top.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names =
        listed.filter_map(|line| line.strip_prefix("  ").filter(|l| !l.starts_with(' '))?.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

pub fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(args)).unwrap()
}

/// One line on stderr beside warnings, exit code 2, nothing on stdout.
pub fn assert_rejected(mut command: Command, why: &str) {
    let one_line = predicate::function(|text: &str| {
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("warning: ")).collect();
        lines.len() == 1 && lines[0].starts_with("wmic: ")
    });
    command.assert().code(2).stdout("").stderr(contains(why).and(one_line));
}

pub fn rejected(args: &[&str], why: &str) {
    assert_rejected(wmic(args), why);
}

/// Rewrites a safetensors file of wmic with changed metadata and a scaled first tensor.
pub fn rewrite(path: &Path, change: &dyn Fn(&mut Value), factor: f32) {
    use safetensors::tensor::{SafeTensors, TensorView, serialize};
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    let mut about: Value = serde_json::from_str(&metadata["wmic"]).unwrap();
    change(&mut about);
    metadata.insert("wmic".into(), about.to_string());
    let scale = |data: &[u8]| -> Vec<u8> {
        data.chunks_exact(4).flat_map(|b| (factor * f32::from_le_bytes(b.try_into().unwrap())).to_le_bytes()).collect()
    };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<(String, _, Vec<usize>, Vec<u8>)> = file
        .tensors()
        .into_iter()
        .map(|(name, t)| {
            let data = if name.ends_with("weight") { scale(t.data()) } else { t.data().to_vec() };
            (name, t.dtype(), t.shape().to_vec(), data)
        })
        .collect();
    let views = tensors.iter().map(|(n, d, s, data)| (n.as_str(), TensorView::new(*d, s.clone(), data).unwrap()));
    std::fs::write(path, serialize(views, Some(metadata)).unwrap()).unwrap();
}

pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.as_ref().join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(entry.path(), to),
            false => assert!(std::fs::copy(entry.path(), to).is_ok()),
        }
    }
}

/// `value` has exactly these keys, in any order.
pub fn has_keys(value: &Value, expected: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("not an object: {value}"));
    let (mut found, mut expected): (Vec<&str>, _) = (object.keys().map(String::as_str).collect(), expected.to_vec());
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

pub fn start(args: &[&str]) -> Child {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("wmic"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub fn send(signal: &str, child: &Child) {
    std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
}

pub fn end(child: Child) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// Waits until something is in a file.
pub fn wait_for(path: &Path) {
    let start = std::time::Instant::now();
    while !std::fs::metadata(path).is_ok_and(|about| about.len() > 0) {
        assert!(start.elapsed().as_secs() < 60, "{} does not appear", path.display());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Makes a pipe (FIFO) that nothing writes to.
pub fn pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Runs the program with a closed stdout.
pub fn unread(args: &[&str]) -> (Option<i32>, String) {
    let mut child = start(args);
    drop(child.stdout.take());
    end(child)
}
