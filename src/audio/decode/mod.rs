//! Decodes audio files to mono samples, block by block.
//!
//! Damaged files are decoded as far as possible, with a warning line for everything missing or unusual.
//! Only a file without any decodable sample is an error.
//!
//! WAV, RF64, BW64, Wave64, AIFF, AU and CAF with PCM or ADPCM; MPEG audio of all layers, also in WAV; FLAC; Ogg with
//! Vorbis, Opus or FLAC; AAC, ALAC and Opus in MP4 and QuickTime; Matroska and WebM; ADTS.

mod blocks;
mod caf;
mod chunks;
mod clip;
mod codec;
mod coding;
mod container;
mod decoder;
mod flac;
mod frames;
mod gapless;
mod header;
mod matroska;
mod mix;
mod mp4;
mod mpeg;
mod ogg;
mod open;
mod opus;
mod packets;
mod source;
mod stream;
mod window;

pub(super) use clip::check_rate;
pub use clip::{Clip, Condition};
pub use decoder::Decoder;
pub(super) use open::guarded;
pub use open::{decode, open};
pub(super) use source::STDIN;
