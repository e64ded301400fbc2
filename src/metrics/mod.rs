//! Scores, evaluation, significance and decision thresholds: plain functions on arrays.

pub mod evaluation;
pub mod scores;
pub mod significance;
pub mod thresholds;
