//! Reports: tables for the terminal, figures, and HTML pages.

pub mod comparison;
pub mod model_card;
pub mod pages;
pub mod plots;
pub mod tables;

use crate::core::error::Result;
use crate::data::Dataset;
use crate::train::session::Outcome;
use plots::examples::Examples;

/// Writes the figures and the page of a finished run on `data` into its directory; see [`pages::training::write`].
///
/// # Errors
/// `Io`, naming the file that cannot be written.
pub fn write(outcome: &Outcome, data: &Dataset) -> Result<()> {
    let Outcome { run, record, history, evaluation, predictions, .. } = outcome;
    let examples = record.config.notes.map(|notes| Examples::new(data, &data.test, predictions, &notes));
    pages::training::write(run.path(), record, history, evaluation, examples.as_ref())
}
