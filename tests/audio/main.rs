//! Audio files: decoding, excerpts, recognition.

mod archive;
mod decode;
mod files;
mod ingest;
mod recogniser;
mod recognition;
mod synth;
