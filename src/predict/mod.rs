//! Predictions of trained models for clips and recordings.

pub(crate) mod clips;
mod condensed;
mod domain;
pub mod evaluator;
mod excerpts;
pub mod forest;
mod options;
pub mod predictor;
pub mod recogniser;
pub mod recognition;
mod silence;
mod summary;
pub mod tagger;
pub mod timeline;
pub mod trained;
pub mod truth;
