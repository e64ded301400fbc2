//! Spectra of single notes, one second each, as AACNN takes them (Wise, Maida, Kumar: "Attention augmented CNNs for
//! musical instrument identification", 2021, section IV.A). Both have 87 frames and equal librosa's.

use serde::{Deserialize, Serialize};

use crate::core::error::Result;
use crate::graph::{Graph, Tensor};
use crate::ops::filters::wavelet::Cqt;
use crate::ops::standardise::{Standardise, standardise};
use crate::ops::stft::{Framing, Hann, Spectrum, Stft};

/// Sample rate, Hz.
pub const SR: u32 = 44_100;

/// `librosa.stft(n_fft=2048, hop_length=512)`: 87 frames of 1025 magnitudes for 1 s.
pub const STFT: Stft = Stft {
    n_fft: 2048,
    hop_length: 512,
    win_length: 2048,
    window: Hann::Periodic,
    framing: Framing::CentredZero,
    spectrum: Spectrum::Magnitude,
};

/// Seven octaves from C1, 36 bins per octave: 87 frames of 252 magnitudes for 1 s.
pub const CQT: Cqt = Cqt { sr: SR, hop_length: 512, fmin: 32.703, bins_per_octave: 36, n_bins: 252 };

/// Scaling of magnitudes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Linear magnitudes, as in the paper.
    #[default]
    Magnitude,
    /// ln(magnitude + 1e-4), standardised over the second: independent of loudness.
    Log,
}

impl Scale {
    pub(crate) fn is_magnitude(&self) -> bool {
        *self == Scale::Magnitude
    }
}

/// Offset of magnitudes before the logarithm: -80 dB of a sine's peak in the STFT would be 0.05.
pub(crate) const OFFSET: f32 = 1e-4;

impl Scale {
    /// Adds the scaling of magnitudes (B, frames, bins).
    pub fn apply(self, g: &mut Graph, magnitudes: Tensor) -> Result<Tensor> {
        let shape = g.shape(magnitudes).clone();
        match self {
            Scale::Magnitude => Ok(magnitudes),
            Scale::Log => {
                let flat = g.reshape(magnitudes, [shape.dims()[0], shape.dims()[1] * shape.last()]);
                let z = standardise(g, flat, Standardise { offset: OFFSET, floor: 1e-3 })?;
                Ok(g.reshape(z, shape))
            }
        }
    }
}
