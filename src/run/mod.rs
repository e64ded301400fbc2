//! What a run is, on disk and in memory: its settings, its directory, its weights.

pub mod config;
pub mod given;
pub mod network;
pub mod run_dir;
pub mod settings;
pub mod splits;
pub mod state;
mod validate;
pub mod weights;
