//! What several commands share.

use super::output::{print, print_json};
use wmic::metrics::evaluation::Evaluation;
use wmic::report::tables::evaluation::{calibration, class_table, summary};
use wmic::report::tables::table::Style;

/// The per-class table and the summary line, or the JSON object.
pub fn print_evaluation(evaluation: &Evaluation, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(evaluation);
    }
    let calibration = calibration(evaluation).map(|line| format!("{line}\n")).unwrap_or_default();
    print(&format!("{}\n{}\n{calibration}", class_table(evaluation, Style::of_stdout()), summary(evaluation)))
}
