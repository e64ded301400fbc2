//! Settings in TOML files: read up to a limit, refused in one line that says where.

use std::path::Path;

use crate::core::error::{Error, Result};
use crate::core::files::read_limited;

/// No settings take more.
const LIMIT: u64 = 1 << 20;

/// Reads settings from a TOML file.
///
/// # Errors
/// `Data` with the line of what cannot be understood.
pub fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    parse_toml(path, &read_toml_text(path)?)
}

/// # Errors
/// `Io`, and `Data` for a file that is too large or no text.
pub fn read_toml_text(path: &Path) -> Result<String> {
    let bytes = read_limited(path, LIMIT)?;
    String::from_utf8(bytes).map_err(|_| Error::data(path, "is not UTF-8 text"))
}

/// What `text`, read from `path`, says.
///
/// # Errors
/// `Data` with the line of what cannot be understood.
pub fn parse_toml<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| toml_error(path, text, &e))
}

/// toml's own text draws the offending line over several lines; ours takes one and gives its number.
fn toml_error(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let line = error
        .span()
        .map(|span| 1 + text.as_bytes()[..span.start.min(text.len())].iter().filter(|b| **b == b'\n').count() as u64);
    Error::Data { path: path.into(), line, reason: one_line(error.message()) }
}

/// `text` on one line.
pub fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}
