//! Datasets, metrics and reports.

mod datasets;
mod metrics;
mod report;
mod training_report;
