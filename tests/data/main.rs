//! Datasets, metrics and reports.

mod calibration;
mod datasets;
mod events;
mod metrics;
mod report;
mod training_report;
