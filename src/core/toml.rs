//! Settings in TOML files: size-limited input, one-line errors with the line number.

use std::path::Path;

use crate::core::error::{Error, Result};
use crate::core::files::read_limited;

/// Largest file, bytes.
const LIMIT: u64 = 1 << 20;

/// Reads settings from a TOML file.
///
/// # Errors
/// `Io` for a file that cannot be read; `Data` for one that is too large or not text, else with the line of the error.
pub fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    parse_toml(path, &read_toml_text(path)?)
}

/// # Errors
/// `Io`, and `Data` for a file that is too large or not text.
pub(crate) fn read_toml_text(path: &Path) -> Result<String> {
    let bytes = read_limited(path, LIMIT)?;
    String::from_utf8(bytes).map_err(|_| Error::data(path, "is not UTF-8 text"))
}

/// Parses `text`, read from `path`.
///
/// # Errors
/// `Data` with the line of the error.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| toml_error(path, text, &e))
}

/// toml's own message spans several lines; this one takes one, with the line number.
fn toml_error(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let line = error
        .span()
        .map(|span| 1 + text.as_bytes()[..span.start.min(text.len())].iter().filter(|b| **b == b'\n').count() as u64);
    Error::Data { path: path.into(), line, reason: one_line(error.message()) }
}

/// What is wrong with a value, for people: its key as the file has it, and types in words.
pub(crate) fn value_error(error: &toml::de::Error) -> String {
    let text = one_line(&error.to_string());
    let text = ["expected f64", "expected f32"].iter().fold(text, |text, of| text.replace(of, "expected a number"));
    let whole = ["expected usize", "expected u64", "expected u32"];
    let text = whole.iter().fold(text, |text, of| text.replace(of, "expected a whole number, 0 or above"));
    match text.rsplit_once(" in `") {
        Some((what, key)) => format!("{what} in {}", key.trim_end_matches('`')),
        None => text,
    }
}

/// `text` on one line.
pub fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}
