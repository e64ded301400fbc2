//! Sound files in and out: finding, decoding, resampling, cutting into excerpts, mel filter banks, the log-mel front end of
//! VGGish, the constant-Q transform, and spectra of single notes.
//!
//! Every file is hostile until decoded: memory is bounded, nothing panics, and what is wrong is one line that names the file.

mod decode;
mod find;
mod ingest;
mod resample;
mod write;

pub use decode::{Clip, Condition, Decoder, decode, open};
pub(crate) use find::sound_files_in;
pub use find::{Found, is_sound, sound_files};
pub use ingest::{Cut, Excerpt, Form, Ingest, Item, cut_samples, ingest};
pub use resample::{PASS_BAND, Resampler, resample};
pub use write::{Depth, write_wav};
