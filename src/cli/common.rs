//! What several commands do alike.

use std::path::Path;

use serde::Serialize;

use super::output::{print, print_json};
use wmic::Result;
use wmic::files::write_atomic;
use wmic::report::Look;
use wmic::report::evaluation::{class_table, summary};
use wmic::train::Evaluation;

/// The per-class table and the summary line, or the JSON object.
pub fn print_evaluation(evaluation: &Evaluation, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(evaluation);
    }
    print(&format!("{}\n{}\n", class_table(evaluation, Look::of_stdout()), summary(evaluation)))
}

pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("results serialise");
    write_atomic(path, |out| writeln!(out, "{text}"))
}
