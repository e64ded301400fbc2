//! Mono WAV files.

use std::path::Path;

use hound::{SampleFormat, WavSpec, WavWriter};

use crate::core::error::{Error, Result};
use crate::core::files::write_path_atomic;

/// Sample format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Int8,
    Int16,
    Int24,
    Int32,
    Float32,
}

/// Writes mono `samples` at `sr` Hz, atomically. Integer formats clip to [-1, 1].
///
/// # Errors
/// `Io` if the file cannot be written or would be longer than WAV allows (4 GiB).
pub fn write_wav(path: impl AsRef<Path>, sr: u32, samples: &[f32], depth: Depth) -> Result<()> {
    let path = path.as_ref();
    let (bits_per_sample, sample_format) = match depth {
        Depth::Int8 => (8, SampleFormat::Int),
        Depth::Int16 => (16, SampleFormat::Int),
        Depth::Int24 => (24, SampleFormat::Int),
        Depth::Int32 => (32, SampleFormat::Int),
        Depth::Float32 => (32, SampleFormat::Float),
    };
    let spec = WavSpec { channels: 1, sample_rate: sr, bits_per_sample, sample_format };
    let full = (1i64 << (bits_per_sample - 1)) as f64;
    let write = |part: &Path| -> hound::Result<()> {
        let mut file = WavWriter::create(part, spec)?;
        for &v in samples {
            match depth {
                Depth::Float32 => file.write_sample(v)?,
                _ => file.write_sample((f64::from(v) * full).round().clamp(-full, full - 1.0) as i32)?,
            }
        }
        file.finalize()
    };
    write_path_atomic(path, |part| {
        write(part).map_err(|fault| match fault {
            hound::Error::IoError(e) => Error::io(path)(e),
            other => Error::io(path)(std::io::Error::other(other)),
        })
    })
}
