//! Comparison of runs on the same clips and seeds.

pub mod comparison;
pub mod entries;
pub mod entry;
pub mod experiment;
pub mod runs;
pub mod test_predictions;
