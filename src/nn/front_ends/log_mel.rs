//! The log-mel front end of VGGish (Hershey et al., "CNN architectures for large-scale audio classification", ICASSP
//! 2017).
//!
//! Mono at 16 kHz; windows of 25 ms every 10 ms; magnitudes of 512 points; 64 mel bands; ln(mel + 0.01).

use crate::core::error::Result;
use crate::graph::{Graph, Tensor};
use crate::ops::mel::{Mel, Scale, mel};
use crate::ops::stft::{Framing, Hann, Spectrum, Stft, stft};

use crate::ops::filters::mel::{MelBank, MelConfig};

/// Sample rate, Hz.
pub const SR: u32 = 16_000;
/// Mel bands.
pub const BANDS: usize = 64;
/// Frames of a patch (0.96 s); patches do not overlap.
pub const PATCH_FRAMES: usize = 96;

pub const STFT: Stft = Stft {
    n_fft: 512,
    hop_length: 160,
    win_length: 400,
    window: Hann::Periodic,
    framing: Framing::Window,
    spectrum: Spectrum::Magnitude,
};
pub const SCALE: Scale = Scale::log(OFFSET);
/// Added to mel magnitudes before the logarithm.
pub(crate) const OFFSET: f32 = 0.01;

/// Frames of a clip of `samples` (998 for 10 s), 0 if it is shorter than a window.
pub fn frames(samples: usize) -> usize {
    STFT.frames(samples).unwrap_or(0)
}

/// Complete patches of a clip of `samples` (10 for 10 s).
pub fn patches(samples: usize) -> usize {
    frames(samples) / PATCH_FRAMES
}

/// Centre frequency of each band, Hz.
pub fn band_hz() -> Vec<f64> {
    MelConfig::vggish().band_hz()
}

/// Adds the log-mel spectrogram. `samples` (B, S) at 16 kHz -> (B, frames(S), 64).
///
/// # Errors
/// `Shape` if S is shorter than a window of 400 samples.
pub fn log_mel(g: &mut Graph, samples: Tensor) -> Result<Tensor> {
    let magnitudes = stft(g, samples, STFT)?;
    bands(g, magnitudes, None)
}

/// Adds the log-mel spectrogram split into patches, without the frames after the last complete one, and with `whole`
/// the spectrogram with them: one transform for both. `samples` (B, S) at 16 kHz -> (B, patches(S), 96, 64) and (B,
/// frames(S), 64).
///
/// # Errors
/// `Shape` if S is too short for one patch (15 600 samples).
pub fn log_mel_patches(g: &mut Graph, samples: Tensor, whole: bool) -> Result<(Tensor, Option<Tensor>)> {
    let (b, patches) = (g.shape(samples).rows(), patches(g.shape(samples).last()));
    let magnitudes = stft(g, samples, STFT)?;
    let in_patches = bands(g, magnitudes, Some(patches * PATCH_FRAMES))?;
    let spectrogram = whole.then(|| bands(g, magnitudes, None)).transpose()?;
    Ok((g.reshape(in_patches, [b, patches, PATCH_FRAMES, BANDS]), spectrogram))
}

fn bands(g: &mut Graph, magnitudes: Tensor, max_frames: Option<usize>) -> Result<Tensor> {
    mel(g, magnitudes, &MelBank::new(&MelConfig::vggish())?, Mel { scale: SCALE, max_frames })
}
