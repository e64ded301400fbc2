//! Audio files: decoding, excerpts, recognition, pages.

mod archive;
mod decode;
mod files;
mod ingest;
mod pages;
mod recogniser;
mod recognition;
mod synth;
mod unreliable;
