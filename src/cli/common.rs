//! What several commands do alike.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::data::Dataset;
use crate::error::Result;
use crate::files::write_atomic;
use crate::report::Look;
use crate::report::evaluation::{class_table, summary};
use crate::train::Evaluation;

/// Loads a dataset and says on stderr what is odd about it.
pub fn load_dataset(path: &Path) -> Result<Dataset> {
    let data = Dataset::load(path)?;
    for warning in &data.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(data)
}

/// The per-class table and the summary line, or the JSON object.
pub fn print_evaluation(evaluation: &Evaluation, json: bool) -> Result<()> {
    if json {
        return print_json(evaluation);
    }
    let text = format!("{}\n{}", class_table(evaluation, Look::of_stdout()), summary(evaluation));
    print(&text)
}

/// Writes to stdout; a reader that has gone away ends the program quietly (see `main`).
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(crate::Error::io("stdout"))
}

pub fn print_json(value: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value).expect("results serialise"))
}

pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("results serialise");
    write_atomic(path, |out| writeln!(out, "{text}"))
}
