//! The directives of WGSL files, each on a line of its own:
//!
//! - `#import name` is replaced by `shaders/shared/name.wgsl`, or `shaders/name.wgsl` for a name with a slash; a file
//!   is imported only once.
//! - `#ifdef NAME`, `#ifndef NAME`, `#else`, `#endif` select lines by the shader's defines. They nest.

use crate::core::error::{Error, Result};

/// The text of an import by its path under `shaders/`, `None` if there is none.
pub(super) type Find<'a> = &'a dyn Fn(&str) -> Result<Option<String>>;

/// The text of `file` without directives.
///
/// # Errors
/// `Shader` with file and line for an unknown or unmatched directive, an import that is missing or imports
/// itself, and an unused define.
pub(super) fn preprocess(file: &str, text: &str, defines: &[&str], find: Find) -> Result<String> {
    let mut state = State { defines, find, asked: vec![false; defines.len()], imported: vec![], out: String::new() };
    state.file(&[file], text)?;
    match defines.iter().zip(&state.asked).find(|(_, asked)| !**asked) {
        Some((name, _)) => Err(fail(file, 0, format!("{name} is defined, but no #ifdef uses it"))),
        None => Ok(state.out),
    }
}

struct State<'a> {
    defines: &'a [&'a str],
    find: Find<'a>,
    /// For each define, whether an `#ifdef` uses it.
    asked: Vec<bool>,
    imported: Vec<String>,
    out: String,
}

/// An open `#ifdef`.
struct Branch {
    line: usize,
    /// Whether the lines around it are kept.
    outer: bool,
    /// Whether this `#ifdef` selects the current branch.
    kept: bool,
    has_else: bool,
}

impl State<'_> {
    /// `path`: the chain of imports that leads to this file.
    fn file(&mut self, path: &[&str], text: &str) -> Result<()> {
        let file = path[path.len() - 1];
        let mut open: Vec<Branch> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let at = i + 1;
            let keep = open.last().is_none_or(|b| b.outer && b.kept);
            let Some(directive) = line.trim_start().strip_prefix('#') else {
                if keep {
                    self.out.push_str(line);
                    self.out.push('\n');
                }
                continue;
            };
            match directive.split_whitespace().collect::<Vec<_>>()[..] {
                ["import", name] => {
                    if keep {
                        self.import(path, name, at)?;
                    }
                }
                [when @ ("ifdef" | "ifndef"), name] => {
                    let kept = self.defined(name) == (when == "ifdef");
                    open.push(Branch { line: at, outer: keep, kept, has_else: false });
                }
                ["else"] => match open.last_mut() {
                    Some(branch) if !branch.has_else => {
                        branch.kept = !branch.kept;
                        branch.has_else = true;
                    }
                    _ => return Err(fail(file, at, "#else without an #ifdef".into())),
                },
                ["endif"] => {
                    open.pop().ok_or_else(|| fail(file, at, "#endif without an #ifdef".into()))?;
                }
                _ => return Err(fail(file, at, format!("unknown directive: {}", line.trim()))),
            }
        }
        match open.pop() {
            Some(branch) => Err(fail(file, branch.line, "no #endif for this #ifdef".into())),
            None => Ok(()),
        }
    }

    fn import(&mut self, path: &[&str], name: &str, line: usize) -> Result<()> {
        let file = path[path.len() - 1];
        let import = if name.contains('/') { format!("{name}.wgsl") } else { format!("shared/{name}.wgsl") };
        if path.contains(&import.as_str()) {
            return Err(fail(file, line, format!("{import} imports itself, via {}", path.join(" > "))));
        }
        if self.imported.contains(&import) {
            return Ok(());
        }
        let text =
            (self.find)(&import)?.ok_or_else(|| fail(file, line, format!("{import} to import does not exist")))?;
        self.imported.push(import.clone());
        self.file(&[path, &[&import]].concat(), &text)
    }

    fn defined(&mut self, name: &str) -> bool {
        let at = self.defines.iter().position(|d| *d == name);
        at.map(|i| self.asked[i] = true).is_some()
    }
}

fn fail(file: &str, line: usize, reason: String) -> Error {
    let reason = if line > 0 { format!("line {line}: {reason}") } else { reason };
    Error::Shader { file: file.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves `text` as main.wgsl beside two files that import each other, and others.
    fn resolve(text: &str, defines: &[&str]) -> std::result::Result<String, String> {
        let find = |path: &str| {
            Ok(match path {
                "shared/a.wgsl" => Some("a\n"),
                "shared/both.wgsl" => Some("#import a\nboth\n"),
                "shared/open.wgsl" => Some("open\n#ifdef X\n"),
                "shared/circle.wgsl" => Some("#import dir/circle\n"),
                "dir/circle.wgsl" => Some("#import circle\n"),
                "dir/b.wgsl" => Some("b\n"),
                _ => None,
            }
            .map(str::to_owned))
        };
        preprocess("main.wgsl", text, defines, &find).map_err(|e| e.to_string())
    }

    #[test]
    fn imports_are_put_in_place_once() {
        assert_eq!(resolve("#import both\nx\n  #import a\n#import dir/b", &[]).unwrap(), "a\nboth\nx\nb\n");
    }

    #[test]
    fn branches_follow_the_defines_and_nest() {
        let text = "1\n#ifdef A\n2\n#ifdef B\n3\n#else\n4\n#endif\n5\n#else\n6\n#ifndef B\n7\n#endif\n8\n#endif\n9";
        let lines = |defines: &[&str]| resolve(text, defines).unwrap().replace('\n', "");
        assert_eq!(lines(&[]), "16789");
        assert_eq!(lines(&["A"]), "12459");
        assert_eq!(lines(&["B"]), "1689");
        assert_eq!(lines(&["B", "A"]), "12359");
        assert_eq!(resolve("#ifdef A\n#import nothing\n#endif", &[]).unwrap(), "");
    }

    #[test]
    fn faults_are_told_with_file_and_line() {
        for (text, defines, wanted) in [
            ("\n#import lost", &[][..], "main.wgsl: line 2: shared/lost.wgsl to import does not exist"),
            (
                "#import circle",
                &[],
                "dir/circle.wgsl: line 1: shared/circle.wgsl imports itself, via main.wgsl > shared",
            ),
            ("#import open", &[], "shared/open.wgsl: line 2: no #endif for this #ifdef"),
            ("x\n#endif", &[], "main.wgsl: line 2: #endif without an #ifdef"),
            ("#else", &[], "main.wgsl: line 1: #else without an #ifdef"),
            ("#ifdef A\n#else\n#else\n#endif", &[], "main.wgsl: line 3: #else without an #ifdef"),
            ("#ifdef", &[], "main.wgsl: line 1: unknown directive: #ifdef"),
            ("#define A", &[], "main.wgsl: line 1: unknown directive: #define A"),
            ("x", &["VEC4"], "main.wgsl: VEC4 is defined, but no #ifdef uses it"),
        ] {
            let got = resolve(text, defines).unwrap_err();
            assert!(got.contains(wanted), "{text:?} gives {got:?}, not {wanted:?}");
        }
    }
}
