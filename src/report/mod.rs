//! What people read: tables for the terminal, pictures, and pages.

pub mod comparison;
pub mod numbers;
pub mod pages;
pub mod plots;
pub mod tables;

use crate::core::error::Result;
use crate::data::Dataset;
use crate::train::session::Outcome;
use plots::examples::Examples;

/// Writes the pictures and the page of a run that has ended on `data` into its directory; see [`pages::training::write`].
///
/// # Errors
/// `Io`, naming the file that cannot be written.
pub fn write(outcome: &Outcome, data: &Dataset) -> Result<()> {
    let Outcome { run, record, history, evaluation, answers, .. } = outcome;
    let examples = record.config.notes.map(|notes| Examples::new(data, &data.test, answers, &notes));
    pages::training::write(run.path(), record, history, evaluation, examples.as_ref())
}
