//! Datasets, metrics and reports.

mod calibration;
mod datasets;
mod domain;
mod events;
mod metrics;
mod mutations;
mod onnx;
mod own_labels;
mod report;
mod tflite;
mod torch;
mod training_report;
