//! Audio files: decoding, excerpts, and what is recognised in them.

mod decode;
mod files;
mod ingest;
mod recogniser;
mod recognition;
mod synth;
