//! The law of the layers: a folder of `src/` imports only from folders before it, no two files import each other (a
//! file that hands on what its own submodules have, as `mod.rs` does with `pub use`, does not import it), and the
//! crates of one layer are named in no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The folders of `src/`, each importing only from those before it and itself.
const LAYERS: [&str; 19] = [
    "core", "gpu", "graph", "check", "ops", "audio", "metrics", "data", "nn", "features", "run", "predict", "train",
    "compare", "output", "report", "web", "bench", "cli",
];

/// Crates, and the modules that may name them, with all below.
const CRATES: [(&str, &[&str]); 6] = [
    ("wgpu", &["gpu"]),
    ("naga", &["gpu::kernel", "gpu::preprocess", "gpu::spirv", "gpu::uniforms"]),
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("ctrlc", &["cli"]),
    ("ureq", &["cli"]),
];

/// Violations that are still to be removed, none in the end: `module -> module`, or `module -> crate`.
const UPWARD: &[&str] = &[];
const CIRCLES: &[&str] = &[];
const ELSEWHERE: &[&str] = &[];

/// A source file, by its module: `gpu::kernel`.
struct Source {
    path: String,
    /// Paths that it names, but for those that it hands on, with their lines.
    names: Vec<(usize, Vec<String>)>,
    /// Names that it hands on (`pub use`), with their lines, and where they are from.
    exports: BTreeMap<String, (usize, Vec<String>)>,
}

/// The modules of the crate, and of the program on top of it.
fn sources() -> BTreeMap<String, Source> {
    fn visit(folder: &Path, module: &str, found: &mut BTreeMap<String, Source>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let name = match (module, stem) {
                (_, "lib") => String::new(),
                (of, "mod") => of.into(),
                ("", name) => name.into(),
                (of, name) => format!("{of}::{name}"),
            };
            if path.is_dir() {
                visit(&path, &name, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let source = read(&path, &name);
                found.insert(name, source);
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    found
}

fn read(path: &Path, module: &str) -> Source {
    let text = code_of(&fs::read_to_string(path).unwrap());
    let (mut names, mut exports) = (vec![], BTreeMap::new());
    let words: Vec<(usize, &str)> = words_of(&text);
    let mut at = 0;
    while at < words.len() {
        let (line, word) = words[at];
        if word == "use" {
            let end = at + words[at..].iter().position(|(_, w)| *w == ";").unwrap();
            let handed_on = at > 0 && (words[at - 1].1 == "pub" || words[at - 1].1 == ")");
            let (mut open, mut prefix) = (vec![], vec![]);
            let mut finish = |prefix: &[String], line: usize| {
                if prefix.is_empty() {
                    return;
                }
                let mut path = absolute(prefix, module);
                if path.last().is_some_and(|part| part == "self") {
                    path.pop();
                }
                match handed_on {
                    true => drop(exports.insert(prefix.last().unwrap().clone(), (line, path))),
                    false => names.push((line, path)),
                }
            };
            let mut i = at + 1;
            while i <= end {
                match words[i].1 {
                    "{" => open.push(prefix.len()),
                    "," | ";" | "}" => {
                        if words[i - 1].1 != "}" {
                            finish(&prefix, words[i - 1].0);
                        }
                        if words[i].1 == "}" {
                            open.pop();
                        }
                        prefix.truncate(open.last().copied().unwrap_or(0));
                    }
                    "as" => i += 1,
                    "::" => {}
                    part => prefix.push(part.to_owned()),
                }
                i += 1;
            }
            at = end;
        } else if at + 1 < words.len() && words[at + 1].1 == "::" && (at == 0 || words[at - 1].1 != "::") {
            let (first, mut path) = (at, vec![word.to_owned()]);
            while at + 2 < words.len() && words[at + 1].1 == "::" && is_name(words[at + 2].1) {
                at += 2;
                path.push(words[at].1.to_owned());
            }
            // `pub(in path)` says who may import, and is no import.
            if first < 2 || words[first - 1].1 != "in" || words[first - 2].1 != "(" {
                names.push((line, absolute(&path, module)));
            }
        }
        at += 1;
    }
    // A file that hands a name on may also use it itself.
    let used = |name: &str| words.iter().filter(|(_, word)| *word == name).count() > 1;
    let line = |name: &str| words.iter().rev().find(|(_, word)| *word == name).map_or(0, |(line, _)| *line);
    names.extend(exports.iter().filter(|(name, _)| used(name)).map(|(name, (_, path))| (line(name), path.clone())));
    let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
    Source { path, names, exports }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// A path from the root of the crate, `crate` in front; the program's own view of the crate is the same. Others stay as
/// they are.
fn absolute(path: &[String], module: &str) -> Vec<String> {
    let root = || std::iter::once("crate".to_owned());
    let own = || module.split("::").filter(|part| !part.is_empty()).map(str::to_owned);
    match path[0].as_str() {
        "crate" | "wmic" => root().chain(path[1..].iter().cloned()).collect(),
        "self" => root().chain(own()).chain(path[1..].iter().cloned()).collect(),
        "super" => {
            let up = path.iter().take_while(|part| *part == "super").count();
            let own: Vec<String> = own().collect();
            let kept = own[..own.len().saturating_sub(up)].iter();
            root().chain(kept.chain(&path[up..]).cloned()).collect()
        }
        _ => path.to_vec(),
    }
}

/// The text without comments, literals and tests, line by line.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    for (i, line) in text.lines().enumerate() {
        if line.starts_with("#[cfg(test)]") {
            // Nothing may hide behind the tests.
            let mut after = text.lines().skip(i + 1);
            assert_eq!(after.next(), Some("mod tests {"), "tests are the last module of a file");
            assert!(after.all(|line| line.is_empty() || line == "}" || line.starts_with(' ')), "code after the tests");
            break;
        }
        let (mut quoted, mut last) = (false, ' ');
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '/' if !quoted && chars.peek() == Some(&'/') => break,
                '\\' if quoted => drop(chars.next()),
                '"' if last != '\'' => quoted = !quoted,
                _ if !quoted => code.push(c),
                _ => {}
            }
            last = c;
        }
        code.push('\n');
    }
    code
}

/// Words and marks, with their lines.
fn words_of(code: &str) -> Vec<(usize, &str)> {
    let mut words = vec![];
    for (line, text) in code.lines().enumerate() {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                _ if is_name(rest) || first.is_ascii_digit() => {
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
                }
                ':' if rest.starts_with("::") => 2,
                other => other.len_utf8(),
            };
            words.push((line + 1, &rest[..length]));
            rest = rest[length..].trim_start();
        }
    }
    words
}

/// The module that has what `path` names, followed through those that hand it on; `None` outside of the crate.
fn module_of(path: &[String], from: &str, sources: &BTreeMap<String, Source>) -> Option<String> {
    // Without `crate` in front it begins at a child of the module, or outside of the crate.
    let path: Vec<String> = match path {
        [root, rest @ ..] if root == "crate" => rest.to_vec(),
        [child, ..] if sources.contains_key(&format!("{from}::{child}")) => {
            from.split("::").map(str::to_owned).chain(path.iter().cloned()).collect()
        }
        _ => return None,
    };
    let known = (1..=path.len()).rev().find(|&n| sources.contains_key(&path[..n].join("::")));
    let (module, rest) = match known {
        Some(n) => (path[..n].join("::"), &path[n..]),
        None => (String::new(), &path[..]),
    };
    match rest.first().and_then(|name| sources[&module].exports.get(name)) {
        Some((_, origin)) if origin[1..] != path => module_of(origin, &module, sources),
        _ => Some(module),
    }
}

fn layer(module: &str) -> usize {
    let folder = module.split("::").next().unwrap();
    let known = LAYERS.iter().position(|layer| *layer == folder);
    known.unwrap_or_else(|| panic!("src/{folder} is in no layer: add it to the list in {}", file!()))
}

/// Every import between files of the crate: from, to, and where.
fn imports(sources: &BTreeMap<String, Source>) -> Vec<(String, String, String)> {
    let mut found = vec![];
    for (module, source) in sources.iter().filter(|(module, _)| !["", "main"].contains(&module.as_str())) {
        let mut add = |line: usize, path: &[String], target: String| {
            found.push((module.clone(), target, format!("{}:{line}: {}", source.path, path.join("::"))));
        };
        let other = |path: &[String]| module_of(path, module, sources).filter(|to| to != module && !to.is_empty());
        for (line, path) in &source.names {
            other(path).into_iter().for_each(|target| add(*line, path, target));
        }
        let own = format!("{module}::");
        for (line, path) in source.exports.values() {
            other(path).filter(|to| !to.starts_with(&own)).into_iter().for_each(|target| add(*line, path, target));
        }
    }
    found
}

/// Fails with the violations that are not among the exceptions, and with exceptions that are no longer needed.
#[track_caller]
fn check(what: &str, violations: &[(String, String)], exceptions: &[&str]) {
    let found: BTreeSet<&str> = violations.iter().map(|(name, _)| name.as_str()).collect();
    let known: BTreeSet<&str> = exceptions.iter().copied().collect();
    let stale = known.difference(&found).map(|name| format!("no longer occurs, remove the exception: {name}"));
    let new = violations.iter().filter(|(name, _)| !known.contains(name.as_str()));
    let wrong: Vec<String> = new.map(|(name, at)| format!("{at}  ({name})")).chain(stale).collect();
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

#[test]
fn folders_import_only_from_layers_before_them() {
    let sources = sources();
    let upward = imports(&sources).into_iter().filter(|(from, to, _)| layer(to) > layer(from));
    let violations: Vec<_> = upward.map(|(from, to, at)| (format!("{from} -> {to}"), at)).collect();
    check("imports from later layers", &violations, UPWARD);
}

#[test]
fn no_two_files_import_each_other() {
    let sources = sources();
    let imports = imports(&sources);
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to, _) in &imports {
        edges.entry(from).or_default().insert(to);
    }
    let reachable = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(next) = open.pop() {
            for to in edges.get(next).into_iter().flatten().filter(|to| seen.insert(**to)) {
                open.push(to);
            }
        }
        seen.into_iter().map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let closure: BTreeMap<&str, BTreeSet<String>> = edges.keys().map(|from| (*from, reachable(from))).collect();
    let circular = |from: &str, to: &str| closure.get(to).is_some_and(|of| of.contains(from));
    let circles = imports.iter().filter(|(from, to, _)| circular(from, to));
    let violations: Vec<_> = circles.map(|(from, to, at)| (format!("{from} -> {to}"), at.clone())).collect();
    check("imports that go in a circle", &violations, CIRCLES);
}

#[test]
fn crates_are_named_only_where_they_belong() {
    let mut violations = vec![];
    for (module, source) in sources() {
        let exports = source.exports.values().map(|(line, path)| (line, path));
        for (line, path) in source.names.iter().map(|(line, path)| (line, path)).chain(exports) {
            let Some((name, homes)) = CRATES.iter().find(|(name, _)| path[0] == *name) else { continue };
            if !homes.iter().any(|home| module == *home || module.starts_with(&format!("{home}::"))) && module != "main"
            {
                violations
                    .push((format!("{module} -> {name}"), format!("{}:{line}: {}", source.path, path.join("::"))));
            }
        }
    }
    check("crates that are named outside of their layer", &violations, ELSEWHERE);
}

/// The texts of the library name settings in backquotes; only the command line speaks of options.
#[test]
fn options_are_named_only_on_the_command_line() {
    let named = |line: &str| {
        let words = line.split(|c: char| c.is_whitespace() || "(\"'`".contains(c));
        let is_option = |word: &str| word.strip_prefix("--").is_some_and(|w| w.starts_with(char::is_alphabetic));
        !line.trim_start().starts_with("//") && line.contains('"') && words.filter(|w| is_option(w)).count() > 0
    };
    let mut found = vec![];
    for (module, source) in sources().iter().filter(|(module, _)| !module.starts_with("cli")) {
        let text = fs::read_to_string(&source.path).unwrap();
        let lines = text.lines().zip(1..).filter(|(line, _)| named(line) && !line.contains("style=\\\"--"));
        found.extend(lines.map(|(line, n)| format!("{module}:{n}: {}", line.trim())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
