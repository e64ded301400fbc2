//! The command line: output, exit codes, files.

use std::path::Path;

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::support::{assert_rejected, rejected, stdout, subcommands, wmic};

#[test]
fn every_command_has_help_with_a_summary_for_every_option() {
    let top = stdout(&["--help"]);
    assert!(top.contains("Exit status: 0 success, 1 a check failed, 2 error"), "{top}");
    let commands = subcommands();
    for name in ["devices", "check", "bench", "completions"] {
        assert!(commands.iter().any(|command| command == name), "{name} is not among {commands:?}");
    }
    for name in commands {
        let short = stdout(&[&name, "-h"]);
        assert!(short.lines().next().is_some_and(|summary| summary.len() > 10), "{short}");
        // An option is indented; its summary is in the same line, or in the next ones, which are indented further.
        let indent = |line: &str| line.len() - line.trim_start().len();
        let lines: Vec<&str> = short.lines().skip_while(|line| !line.ends_with(':')).collect();
        for (i, line) in
            lines.iter().enumerate().filter(|(_, line)| indent(line) <= 6 && line.trim_start().starts_with('-'))
        {
            let after = lines.get(i + 1).is_some_and(|next| indent(next) > 8 && next.trim().len() > 5);
            let beside = line.trim_start().split_once("  ").is_some_and(|(_, summary)| summary.trim().len() > 3);
            assert!(beside || after, "{name}: no summary of {line}");
        }
    }
    let train = stdout(&["train", "-h"]);
    for heading in
        ["Arguments:", "Model:", "Loss:", "Optimisation:", "Data:", "Front end:", "Single notes:", "Run and output:"]
    {
        assert!(train.lines().any(|line| line == heading), "{heading} is not in {train}");
    }
    for (command, headings) in [
        ("features", &["Front end:", "Single notes:", "Run and output:"][..]),
        ("pretrain", &["Model:", "Loss:", "Optimisation:", "Data:", "Run and output:"]),
    ] {
        let help = stdout(&[command, "-h"]);
        headings.iter().for_each(|heading| assert!(help.lines().any(|line| line == *heading), "{heading}: {help}"));
    }
    let compare = stdout(&["compare", "-h"]);
    assert!(
        compare.contains("Number of epochs\n") && compare.contains("repr21"),
        "its defaults are the experiment's: {compare}"
    );
}

#[test]
fn nonsense_is_rejected_with_code_2() {
    wmic(&["dance"]).assert().code(2).stderr(contains("unrecognized subcommand 'dance'"));
    wmic(&["check", "--speed"]).assert().code(2);
    wmic(&["bench", "--csv", "a.csv"]).assert().code(2).stderr(contains("--compare"));
    wmic(&[]).assert().code(2);
    rejected(&["check", "--op", "lineer"], "unknown op lineer (known ops: ");
    rejected(&["bench", "--op", "lineer"], "unknown op lineer (known ops: ");
    rejected(&["check", "--device", "Voodoo 2"], "no adapter matches Voodoo 2; available: 0 ");
    rejected(&["check", "--device", "99"], "no adapter matches 99");
}

/// It was taken for an option that does not exist.
#[test]
fn a_negative_number_is_the_value_of_its_option() {
    for (command, option) in [
        ("train", "--epochs"),
        ("train", "--seeds"),
        ("pretrain", "--epochs"),
        ("compare", "--seed-list"),
        ("plan", "--batch"),
        ("predict", "--top"),
    ] {
        rejected(&[command, option, "-1"], &format!("invalid value '-1' for '{option} "));
    }
    rejected(&["predict", "x", "y", "--top", "-1"], "a whole number, 0 or above, is expected");
    // Numbers that are checked later.
    for option in ["--min-duration", "--median", "--hop", "--gate"] {
        rejected(&["predict", "no-run", "y", option, "-1"], "no-run");
    }
    rejected(&["train", "no-data", "--lr", "-1"], "--lr must be at least 0");
}

#[test]
#[cfg(target_os = "linux")]
fn without_an_adapter_the_error_explains_what_to_install() {
    let mut command = wmic(&["devices"]);
    command.env("VK_ICD_FILENAMES", "/nonexistent").env("VK_DRIVER_FILES", "/nonexistent");
    command.assert().code(2).stdout("").stderr(contains("apt install libvulkan1 mesa-vulkan-drivers"));
}

#[test]
fn devices_lists_what_there_is_and_what_is_used() {
    let listing: Value = serde_json::from_str(&stdout(&["devices", "--json"])).unwrap();
    let adapters = listing["adapters"].as_array().unwrap();
    let used = &adapters[listing["used"].as_u64().unwrap() as usize];
    assert!(used["max_binding"].as_u64().unwrap() >= 128 << 20, "{used}");
    assert!(used["features"]["timestamps"].is_boolean(), "{used}");
    let text = stdout(&["devices"]);
    for adapter in adapters {
        assert!(text.contains(adapter["name"].as_str().unwrap()), "{text}");
    }
    assert!(text.contains(&format!("Used: {}, {}", listing["used"], listing["why"].as_str().unwrap())), "{text}");
}

#[test]
fn drivers_do_not_complain_about_a_missing_runtime_dir() {
    let mut command = wmic(&["devices"]);
    command.env_remove("XDG_RUNTIME_DIR").assert().success().stderr(contains("XDG_RUNTIME_DIR").not());
}

#[test]
fn check_passes_and_reports_it() {
    let text = stdout(&["check", "--op", "activation"]);
    let rows = text.lines().filter(|line| line.starts_with("activation ") && line.ends_with("  ok")).count();
    assert!(rows >= 10 && text.starts_with("op ") && text.contains(&format!("All {rows} checks passed on ")), "{text}");

    let summary: Value = serde_json::from_str(&stdout(&["check", "--op", "activation", "--json"])).unwrap();
    let checks = summary["checks"].as_array().unwrap();
    assert_eq!((summary["passed"].as_u64(), summary["failed"].as_u64()), (Some(rows as u64), Some(0)));
    assert_eq!(checks.len(), rows);
    for check in checks {
        let below_tolerance = |key: &str| check[key].as_f64().is_some_and(|share| (0.0..=1.0).contains(&share));
        assert!(below_tolerance("forward") && below_tolerance("gradient") && check["passed"] == true, "{check}");
    }

    // Beside what a page has saved, where a case has failed.
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut page = summary.clone();
    (page["device"], page["agent"]) = ("Some\x1b[2JGPU".into(), "Browser/9".into());
    let failed = serde_json::json!({ "forward": null, "passed": false, "failures": ["output 0[0] is NaN"] });
    page["checks"][0].as_object_mut().unwrap().extend(failed.as_object().unwrap().clone());
    std::fs::write(at("here.json"), summary.to_string()).unwrap();
    std::fs::write(at("page.json"), page.to_string()).unwrap();
    let text = stdout(&["bench", "--compare", &at("here.json"), &at("page.json")]);
    assert!(text.contains(&format!("all {rows} checks passed")) && text.contains("Browser/9"), "{text}");
    assert!(text.contains(&format!("1 of {rows} checks FAILED")) && !text.contains('\x1b'), "{text}");
    let row = text.lines().find(|line| line.starts_with("activation ")).unwrap();
    assert!(row.contains(" %") && row.ends_with('-'), "the error of the page's is not finite: {row}");
    assert!(text.contains("FAILED on 2: activation: ") && text.contains("output 0[0] is NaN"), "{text}");
    rejected(&["bench", "--compare", &at("here.json"), "--csv", &at("a.csv")], "have checks alone");
    std::fs::write(at("page.json"), page.to_string().replace("\"case\"", "\"name\"")).unwrap();
    rejected(&["bench", "--compare", &at("page.json")], "page.json:1: not a benchmark file of wmic: missing field");
}

/// A copy of the shaders in which `from` in `file` reads `to`, for WMIC_SHADERS.
fn altered_shaders(file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shaders = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    for directory in ["", "shared", "software8"] {
        std::fs::create_dir_all(folder.path().join(directory)).unwrap();
        for entry in std::fs::read_dir(shaders.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, folder.path().join(directory).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    let altered = folder.path().join(file);
    let text = std::fs::read_to_string(&altered).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    std::fs::write(&altered, text.replace(from, to)).unwrap();
    folder
}

#[test]
fn check_fails_with_code_1_on_a_wrong_or_broken_kernel() {
    let wrong = altered_shaders("activation.wgsl", "return safe_tanh(v);", "return safe_tanh(v) + 0.01;");
    let mut command = wmic(&["check", "--op", "activation"]);
    let said = contains("FAILED\n  output 0[0] is ").and(contains("checks FAILED on "));
    command.env("WMIC_SHADERS", wrong.path()).assert().code(1).stdout(said);

    let broken = altered_shaders("activation.wgsl", "return safe_tanh(v);", "return nothing;");
    let mut command = wmic(&["check", "--op", "activation"]);
    command
        .env("WMIC_SHADERS", broken.path())
        .assert()
        .code(1)
        .stdout(contains("shader activation.wgsl: ").and(contains("nothing")));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    use std::process::{Command, Stdio};
    let mut check = Command::new(assert_cmd::cargo::cargo_bin("wmic"));
    let mut child =
        check.args(["check", "--op", "linear"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn bench_writes_a_file_that_compares_with_itself() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, csv, png) = (at("a.json"), at("a.csv"), at("a.png"));
    let peer = r#"{"peer": "sloth", "model": "linear: att layer, forward", "batch": 1280, "ms_per_step": 1e9}"#;
    std::fs::write(at("peer.json"), peer).unwrap();
    let text = stdout(&["bench", "--quick", "--op", "linear", "--out", &json, "--peer", &at("peer.json")]);
    assert!(text.contains("measured peak ") && text.contains("linear: att layer\n"), "{text}");
    let beside: Vec<&str> = text.lines().filter(|line| line.ends_with(" of sloth")).collect();
    assert!(beside.len() == 1 && beside[0].starts_with("  forward "), "{text}");

    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let kernels = report["kernels"].as_array().unwrap();
    let forward = |k: &&Value| k["kernel"].as_str().unwrap().starts_with("linear_forward");
    assert_eq!(kernels.iter().filter(forward).count(), 6, "one for each bench case");
    assert!(kernels.iter().filter(forward).all(|k| k["gflops"].as_f64().unwrap() > 0.0));
    assert!(report["peak"]["f32_gflops"].as_f64().unwrap() > 0.0);
    let date = report["date"].as_str().unwrap();
    assert!(date.len() == 20 && date.starts_with("20") && date.ends_with('Z'), "{date}");

    let same = stdout(&["bench", "--compare", &json, &json, "--csv", &csv, "--plot", &png]);
    let row = same.lines().find(|line| line.starts_with("linear ")).unwrap();
    assert!(row.ends_with(" 1.00×"), "{same}");
    assert_eq!(std::fs::read_to_string(&csv).unwrap().lines().count(), 1 + 2 * kernels.len());
    assert!(std::fs::read(&png).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn the_profile_of_a_step_adds_up_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, page) = (at("a.json"), at("a.md"));
    let peer = r#"{"peer": "sloth", "model": "fc-t", "batch": 128, "ms_per_step": 1e9}"#;
    std::fs::write(at("peer.json"), peer).unwrap();
    let measure = ["bench", "--quick", "--model", "fc-t", "--out", &json, "--peer", &at("peer.json")];
    let printed: Value = serde_json::from_str(&stdout(&[&measure[..], &["--json"]].concat())).unwrap();
    let step = &printed["steps"][0];
    let kernels = step["profile"]["kernels"].as_array().unwrap();
    let sum: f64 = kernels.iter().map(|k| k["ms"].as_f64().unwrap()).sum();
    let whole = sum + step["profile"]["difference_ms"].as_f64().unwrap();
    assert!((whole / step["ms_per_step"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{printed}");
    assert_eq!((&step["peers"][0]["name"], &step["sampling"]["samples"]), (&"sloth".into(), &5.into()));
    assert!(printed["peak"]["launch_us"].as_f64().unwrap() > 0.0);

    // What is in the file is kept.
    stdout(&["bench", "--quick", "--op", "masked_bce", "--out", &json, "--append", "--markdown", &page]);
    let all: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((all["steps"].as_array().unwrap().len(), &all["kernels"][0]["op"]), (2, &"masked_bce".into()));
    let page = std::fs::read_to_string(&page).unwrap();
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings, ["Measured peak", "Training steps", "A step of fc-t", "Kernels"]);
}

#[test]
fn bench_rejects_garbage() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.json");
    std::fs::write(&garbage, "not\x1b[2J json").unwrap();
    let garbage = garbage.to_str().unwrap();
    rejected(&["bench", "--compare", garbage], "garbage.json:1: not a benchmark file of wmic");
    rejected(&["bench", "--compare", "no-such.json"], "no-such.json: ");
    rejected(&["bench", "--op", "linear", "--quick", "--out", "no/such/folder.json"], "no/such/folder.json: ");
}

#[test]
fn completions_are_scripts_for_the_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stdout(&["completions", shell]);
        assert!(script.contains("wmic") && script.contains("devices") && script.contains("op"), "{shell}");
    }
    wmic(&["completions", "cmd"]).assert().code(2);
}

#[test]
fn a_missing_dataset_is_named_by_its_full_path() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().canonicalize().unwrap().join("nowhere");
    for command in ["train", "plan"] {
        let mut command = wmic(&[command, "nowhere"]);
        command.current_dir(&folder);
        assert_rejected(command, missing.to_str().unwrap());
    }
}
