//! Datasets, metrics and reports.

mod calibration;
mod datasets;
mod events;
mod metrics;
mod own_labels;
mod report;
mod training_report;
