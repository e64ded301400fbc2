//! Predictions of trained models for clips and recordings.

pub mod bundle;
pub mod bundled;
pub(crate) mod clips;
mod condensed;
mod domain;
pub mod ensemble;
pub mod evaluator;
mod excerpts;
pub mod forest;
pub mod labelled;
pub mod mixture;
pub mod models;
mod noise;
pub mod onnx;
mod options;
pub mod predictor;
pub mod recogniser;
pub mod recognition;
pub mod run_evaluation;
mod silence;
mod stream;
mod summary;
pub mod tagger;
pub mod timeline;
pub mod trained;
pub mod truth;
