//! Audio files: finding, decoding, resampling, splitting into excerpts, writing.
//!
//! Files are untrusted: memory is bounded, nothing panics, and every error is one line that names the file.

mod decode;
mod find;
mod ingest;
mod list;
mod resample;
mod write;

pub use decode::{Clip, Condition, Decoder, decode, open};
pub(crate) use find::audio_files_in;
pub use find::{Found, audio_files, is_audio, place};
pub use ingest::{AudioFormat, Excerpt, Ingest, Item, Level, SPARE, Windowing, cut_samples, ingest};
pub use list::listed_files;
pub use resample::{PASS_BAND, Resampler, resample};
pub use write::{Depth, write_wav};
