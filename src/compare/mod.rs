//! Runs on the same clips and seeds side by side.

pub mod comparison;
pub mod entries;
pub mod experiment;
pub mod test_predictions;
