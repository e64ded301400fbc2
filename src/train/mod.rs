//! Training and what is measured of it.

pub mod evaluation;
pub mod metrics;

pub use evaluation::{Evaluation, SeedPredictions, SeedScores, Subject, evaluate};
pub use metrics::{ClassMetrics, Counts, Scores};
