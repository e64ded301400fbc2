//! What several commands share.

use super::output::{print, print_json};
use wmic::core::files::read_limited;
use wmic::metrics::evaluation::Evaluation;
use wmic::report::tables::evaluation::{calibration, class_table, summary};
use wmic::report::tables::table::Style;
use wmic::run::run_dir::RunDir;
use wmic::{Error, Result};

/// Maximum size of a test.json.
const TEST_LIMIT: u64 = 64 << 20;

/// The per-class table and the summary line, or the JSON object.
pub fn print_evaluation(evaluation: &Evaluation, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(evaluation);
    }
    let calibration = calibration(evaluation).map(|line| format!("{line}\n")).unwrap_or_default();
    print(&format!("{}\n{}\n{calibration}", class_table(evaluation, Style::of_stdout()), summary(evaluation)))
}

/// Reads the run's `test.json`.
///
/// # Errors
/// `Checkpoint` for a damaged file.
pub fn read_evaluation(run: &RunDir) -> Result<Evaluation> {
    let path = run.test();
    let bytes = read_limited(&path, TEST_LIMIT)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::checkpoint(&path, format!("is damaged ({e})")))
}
