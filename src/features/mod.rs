//! Features of recordings: front ends, extraction, the feature cache, and datasets on the GPU.

pub mod audio_files;
pub(crate) mod column_statistics;
pub mod device_dataset;
pub(crate) mod extraction;
pub mod extractor;
pub mod feature_config;
pub mod front_end;
pub mod runner;
pub mod scaling;
pub(crate) mod spectrum;
pub mod weight_store;
pub mod weights;
mod yamnet;
