//! The log-mel front end of VGGish (Hershey et al., "CNN architectures for large-scale audio classification", ICASSP
//! 2017).
//!
//! Mono at 16 kHz; windows of 25 ms every 10 ms; magnitudes of 512 points; 64 mel bands; ln(mel + 0.01). YAMNet's has
//! another offset, and patches that overlap.

use crate::core::error::Result;
use crate::graph::{Graph, Tensor};
use crate::ops::mel::{Mel, Patches, Scale, mel};
use crate::ops::stft::{Framing, Hann, Spectrum, Stft, stft};

use crate::ops::filters::mel::{MelBank, MelConfig};

/// Sample rate, Hz.
pub const SR: u32 = 16_000;
/// Mel bands.
pub const BANDS: usize = 64;
/// Frames of a patch (0.96 s).
pub const PATCH_FRAMES: usize = 96;

/// How a network takes patches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogMel {
    /// Added to mel magnitudes before the logarithm.
    pub offset: f32,
    /// Frames from one patch to the next.
    pub hop: usize,
}

/// VGGish's: patches do not overlap.
pub const VGGISH: LogMel = LogMel { offset: OFFSET, hop: PATCH_FRAMES };
/// VGGish's.
pub(crate) const OFFSET: f32 = 0.01;
pub const SCALE: Scale = Scale::log(OFFSET);

impl LogMel {
    /// Complete patches of a clip of `samples`; of VGGish's 10 for 10 s.
    pub fn patches(&self, samples: usize) -> usize {
        match frames(samples).checked_sub(PATCH_FRAMES) {
            Some(rest) => rest / self.hop + 1,
            None => 0,
        }
    }
}

pub const STFT: Stft = Stft {
    n_fft: 512,
    hop_length: 160,
    win_length: 400,
    window: Hann::Periodic,
    framing: Framing::Window,
    spectrum: Spectrum::Magnitude,
};

/// Frames of a clip of `samples` (998 for 10 s), 0 if it is shorter than a window.
pub fn frames(samples: usize) -> usize {
    STFT.frames(samples).unwrap_or(0)
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
    bands(g, magnitudes, VGGISH.offset, None)
}

/// Adds the log-mel spectrogram in patches, without the frames after the last complete one, and with `whole` VGGish's
/// spectrogram with them: one transform for both. `samples` (B, S) at 16 kHz -> (B, patches(S), 96, 64) and (B,
/// frames(S), 64).
///
/// # Errors
/// `Shape` if S is too short for one patch (15 600 samples).
pub fn log_mel_patches(
    g: &mut Graph,
    samples: Tensor,
    config: LogMel,
    whole: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (b, count) = (g.shape(samples).rows(), config.patches(g.shape(samples).last()));
    let magnitudes = stft(g, samples, STFT)?;
    let patches = Patches { count, frames: PATCH_FRAMES, hop: config.hop };
    let in_patches = bands(g, magnitudes, config.offset, Some(patches))?;
    let spectrogram = whole.then(|| bands(g, magnitudes, VGGISH.offset, None)).transpose()?;
    Ok((g.reshape(in_patches, [b, count, PATCH_FRAMES, BANDS]), spectrogram))
}

fn bands(g: &mut Graph, magnitudes: Tensor, offset: f32, patches: Option<Patches>) -> Result<Tensor> {
    mel(g, magnitudes, &MelBank::new(&MelConfig::vggish())?, Mel { scale: Scale::log(offset), patches })
}
