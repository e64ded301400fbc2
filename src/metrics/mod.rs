//! Scores, evaluation, significance, calibration and decision thresholds, agreement in time: plain functions on arrays.

pub mod calibration;
pub mod counts;
pub mod domain;
pub mod evaluation;
pub mod events;
pub mod scores;
pub mod significance;
pub mod thresholds;
