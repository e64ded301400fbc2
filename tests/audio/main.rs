//! Audio files: decoding, excerpts, recognition, pages.

mod archive;
mod containers;
mod decode;
mod ensemble;
mod files;
mod fuzz;
mod ingest;
mod mix;
#[path = "../data/mutations.rs"]
mod mutations;
mod pages;
mod recogniser;
mod recognition;
mod synth;
mod unreliable;
