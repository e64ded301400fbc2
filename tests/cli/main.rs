//! The command line: output, files, errors.

mod archive;
mod audio;
mod browser;
mod bundled;
mod commands;
mod compare;
mod demo;
mod docs;
mod export;
mod forest;
mod notes;
mod own_labels;
mod pretrain;
mod several;
mod train;
// Elsewhere the cache folder is not chosen by a variable.
#[cfg(target_os = "linux")]
mod tune;
mod user_config;
mod web;
// Windows asks no variable where they are kept.
#[cfg(unix)]
mod weights;

#[path = "../golden/formula.rs"]
mod formula;
mod support;
