//! What AACNN21 hears: one second of a single note at 44.1 kHz, as an STFT or as a constant-Q transform.

use crate::ops::stft::{Framing, Hann, Spectrum, Stft};

use super::cqt::Cqt;

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
    max_frames: None,
};

/// Seven octaves from C1 in steps of a sixth of a tone: 87 frames of 252 magnitudes for 1 s.
pub const CQT: Cqt = Cqt { sr: SR, hop_length: 512, fmin: 32.703, bins_per_octave: 36, n_bins: 252 };
