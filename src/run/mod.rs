//! A run on disk and in memory: settings, directory, weights, state.

pub mod augmentation;
pub mod clips;
pub mod config;
pub mod front_end;
pub mod given;
pub mod network;
pub mod options;
pub mod patches;
mod patience;
pub mod pretraining;
pub mod run_dir;
pub mod setting;
pub mod settings;
pub mod splits;
pub mod state;
pub mod tuning;
mod validate;
pub mod weights;
