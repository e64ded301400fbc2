//! The documentation agrees with the program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use wmic::audio::is_audio;
use wmic::ops::OPS;

use crate::support::subcommands;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The README, everything in `docs/`, and the other pages of the root, with their texts.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(ROOT);
    let mut paths: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].iter().map(|name| root.join(name)).collect();
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(docs.filter(|path| path.extension().is_some_and(|e| e == "md")));
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn docs(name: &str) -> String {
    let (_, text) = pages().into_iter().find(|(path, _)| path.ends_with(name)).unwrap();
    text
}

/// Splits a page into the lines of its code blocks (with their language) and the others.
fn blocks(text: &str) -> (Vec<(&str, &str)>, Vec<&str>) {
    let (mut code, mut prose, mut language) = (vec![], vec![], None);
    for line in text.lines() {
        match (line.strip_prefix("```"), language) {
            (Some(name), None) => language = Some(name),
            (Some(_), Some(_)) => language = None,
            (None, Some(name)) => code.push((name, line)),
            (None, None) => prose.push(line),
        }
    }
    assert_eq!(language, None, "a code block has no end");
    (code, prose)
}

/// The texts between single backquotes, which may continue on the next line.
fn spans(prose: &[&str]) -> Vec<String> {
    prose.join(" ").split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Exit status of the program and what it prints.
fn run(args: &[&str]) -> (bool, String) {
    let output = Command::cargo_bin("wmic").unwrap().args(args).output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn the_readme_is_short_and_lines_are_too() {
    let readme = docs("README.md");
    assert!(readme.lines().count() <= 250, "the README has {} lines", readme.lines().count());
    for (path, text) in pages() {
        for (i, line) in text.lines().enumerate() {
            // The rows of the op registry are as long as the names of its shaders.
            let registry = path.ends_with("kernels.md") && line.contains(".wgsl` |");
            let width = line.chars().count();
            assert!(width <= 120 || registry, "{}:{} is {width} wide", path.display(), i + 1);
        }
    }
}

/// rustfmt breaks code alone, and not all of it.
#[test]
fn lines_of_code_and_comments_are_short() {
    fn check(folder: &Path) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                check(&path);
            } else if path
                .extension()
                .is_none_or(|e| ["rs", "wgsl", "py", "pyi", "sh", "mjs"].iter().any(|known| e == *known))
            {
                for (i, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
                    let width = line.chars().count();
                    assert!(width <= 120, "{}:{} is {width} wide", path.display(), i + 1);
                }
            }
        }
    }
    for folder in ["src", "tests", "examples", "python", "shaders", "scripts"] {
        check(&Path::new(ROOT).join(folder));
    }
}

#[test]
fn every_op_is_in_the_table_of_kernels() {
    let page = docs("docs/kernels.md");
    for entry in OPS {
        let mut files: Vec<String> = entry.shaders.iter().map(|s| format!("`{}`", s.file)).collect();
        files.dedup(); // a file has several variants
        let row = format!("| `{}` | {} | {} |", entry.name, entry.about, files.join(" "));
        assert!(page.contains(&row), "docs/kernels.md lacks this row:\n{row}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `") && line.contains(".wgsl`")).count();
    assert_eq!(rows, OPS.len(), "docs/kernels.md has rows of ops that do not exist");
}

#[test]
fn every_model_is_named() {
    let page = docs("docs/models.md");
    for model in wmic::nn::MODELS {
        assert!(page.contains(&format!("| `{}` |", model.name)), "docs/models.md lacks {}", model.name);
    }
}

/// The anchor of a heading in Markdown renderers.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

#[test]
fn links_lead_somewhere() {
    for (path, text) in pages() {
        let (_, prose) = blocks(&text);
        for link in prose.iter().flat_map(|line| line.split("](").skip(1)) {
            let target = link.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, section) = target.split_once('#').unwrap_or((target, ""));
            let to = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(to.exists(), "{}: {target} does not exist", path.display());
            if !section.is_empty() {
                let there = std::fs::read_to_string(&to).unwrap();
                let found =
                    there.lines().filter(|l| l.starts_with('#')).any(|l| anchor(l.trim_start_matches('#')) == section);
                assert!(found, "{}: {target} is no heading", path.display());
            }
        }
    }
}

/// Words of a shell command, without its comment; quotes are taken off.
fn words(line: &str) -> Vec<String> {
    let words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
    words.map(|word| word.trim_matches(['\'', '"']).to_owned()).collect()
}

#[test]
fn commands_in_code_blocks_parse() {
    let mut seen = 0;
    for (path, text) in pages() {
        for (_, line) in blocks(&text).0.into_iter().filter(|(language, _)| *language == "sh") {
            let words = words(line);
            let words: Vec<&str> = words.iter().map(String::as_str).skip_while(|word| word.contains('=')).collect();
            let Some((&("wmic" | "target/release/wmic"), args)) = words.split_first() else { continue };
            // Everything before --help is parsed, nothing runs.
            let args: Vec<&str> = args.iter().copied().take_while(|w| *w != ">").chain(["--help"]).collect();
            let (accepted, said) = run(&args);
            assert!(accepted, "{}: {line}\n{said}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} commands were found");
}

#[test]
fn every_command_is_in_the_table_of_commands() {
    let page = docs("docs/using.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `wmic ")).collect();
    for name in subcommands() {
        assert!(rows.iter().any(|row| row.contains(&format!("`wmic {name}`"))), "docs/using.md lacks wmic {name}");
    }
}

#[test]
fn commands_and_options_in_the_text_exist() {
    let help: BTreeMap<String, String> =
        subcommands().into_iter().map(|name| (name.clone(), run(&[&name, "--help"]).1)).collect();
    let has = |help: &str, option: &str| help.split_whitespace().any(|word| word.trim_end_matches(',') == option);
    for (path, text) in pages() {
        for span in spans(&blocks(&text).1) {
            let words = words(&span);
            // Options of other programs are not checked.
            if !words.first().is_some_and(|word| word == "wmic" || word.starts_with("--")) {
                continue;
            }
            let command = words.get(1).filter(|word| words[0] == "wmic" && help.contains_key(word.as_str()));
            let known = words.first().unwrap() != "wmic"
                || command.is_some()
                || words.len() == 1
                || words[1] == "COMMAND"
                || is_audio(Path::new(&words[1]));
            assert!(known, "{}: `{span}` is no command", path.display());
            for option in words.iter().filter(|word| word.starts_with("--")) {
                let found = match command {
                    Some(command) => has(&help[command.as_str()], option),
                    None => option == "--version" || help.values().any(|text| has(text, option)),
                };
                assert!(found, "{}: `{span}`: there is no {option}", path.display());
            }
        }
    }
}
