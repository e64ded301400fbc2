//! Mel filter banks, as librosa's and as VGGish's.
//!
//! Scales: HTK, m = 2595 log10(1 + f / 700) (Young et al., "The HTK Book"); Slaney, linear below 1 kHz and logarithmic
//! above (Slaney, "Auditory Toolbox", 1998).

use crate::core::error::{Error, Result};

/// How frequencies map to mel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MelScale {
    Htk,
    Slaney,
}

impl MelScale {
    /// Where Slaney's scale turns logarithmic: 1 kHz, at 15 mel.
    const KNEE: (f64, f64) = (1000.0, 15.0);
    /// Mel per e-fold of the frequency above the knee: 27 steps up to 6.4 kHz.
    fn slope() -> f64 {
        27.0 / 6.4f64.ln()
    }

    /// Mel of a frequency in Hz.
    pub fn mel(self, hz: f64) -> f64 {
        let (knee, at) = Self::KNEE;
        match self {
            MelScale::Htk => 2595.0 * (1.0 + hz / 700.0).log10(),
            MelScale::Slaney if hz < knee => hz * at / knee,
            MelScale::Slaney => at + (hz / knee).ln() * Self::slope(),
        }
    }

    /// Frequency in Hz of a mel.
    pub fn hz(self, mel: f64) -> f64 {
        let (knee, at) = Self::KNEE;
        match self {
            MelScale::Htk => 700.0 * (10f64.powf(mel / 2595.0) - 1.0),
            MelScale::Slaney if mel < at => mel * knee / at,
            MelScale::Slaney => knee * ((mel - at) / Self::slope()).exp(),
        }
    }
}

/// The axis on which a band's triangle has straight sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Triangles {
    /// librosa's.
    LinearInHz,
    /// VGGish's; these leave out the bin at 0 Hz.
    LinearInMel,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MelConfig {
    /// Sample rate, Hz.
    pub sr: u32,
    /// Points of the transform; the spectrogram has n_fft / 2 + 1 bins.
    pub n_fft: usize,
    /// Bands, at least 1.
    pub n_mels: usize,
    /// Lower edge of the first band, Hz.
    pub fmin: f64,
    /// Upper edge of the last band, Hz; above fmin, at most sr / 2.
    pub fmax: f64,
    pub scale: MelScale,
    pub triangles: Triangles,
    /// Divides each band by half its width in Hz (librosa's `norm="slaney"`), so that all have the same area.
    pub normalised: bool,
}

impl MelConfig {
    /// librosa's defaults: 128 normalised bands on Slaney's scale from 0 Hz to sr / 2.
    pub fn slaney(sr: u32, n_fft: usize) -> Self {
        MelConfig {
            sr,
            n_fft,
            n_mels: 128,
            fmin: 0.0,
            fmax: f64::from(sr) / 2.0,
            scale: MelScale::Slaney,
            triangles: Triangles::LinearInHz,
            normalised: true,
        }
    }

    /// librosa's with `htk=True, norm=None`.
    pub fn htk(sr: u32, n_fft: usize) -> Self {
        MelConfig { scale: MelScale::Htk, normalised: false, ..MelConfig::slaney(sr, n_fft) }
    }

    /// Hershey et al., "CNN architectures for large-scale audio classification" (2017): 64 HTK bands, 125 to 7500 Hz,
    /// at 16 kHz.
    pub fn vggish() -> Self {
        let (fmin, fmax, triangles) = (125.0, 7500.0, Triangles::LinearInMel);
        MelConfig { n_mels: 64, fmin, fmax, triangles, ..MelConfig::htk(16_000, 512) }
    }
}

impl MelConfig {
    /// The edges of all bands, in mel: band i reaches from edge i to edge i + 2, its peak is at i + 1.
    fn edges(&self) -> Vec<f64> {
        let (low, high) = (self.scale.mel(self.fmin), self.scale.mel(self.fmax));
        (0..self.n_mels + 2).map(|i| low + (high - low) * i as f64 / (self.n_mels + 1) as f64).collect()
    }

    /// Where each band peaks, Hz.
    pub fn band_hz(&self) -> Vec<f64> {
        self.edges()[1..=self.n_mels].iter().map(|&mel| self.scale.hz(mel)).collect()
    }
}

/// The weights of every band, sparse: a band covers consecutive bins.
#[derive(Clone, Debug, PartialEq)]
pub struct MelBank {
    bins: usize,
    bands: Vec<[u32; 3]>,
    weights: Vec<f32>,
}

impl MelBank {
    /// # Errors
    /// `Usage` for frequencies or numbers out of range.
    pub fn new(config: &MelConfig) -> Result<MelBank> {
        let MelConfig { sr, n_fft, n_mels, fmin, fmax, scale, .. } = *config;
        let nyquist = f64::from(sr) / 2.0;
        if !(0.0 <= fmin && fmin < fmax && fmax <= nyquist) {
            return Err(Error::Usage(format!(
                "mel bands need 0 <= fmin < fmax <= {nyquist} Hz, got {fmin} and {fmax}"
            )));
        }
        if !(1..=1 << 16).contains(&n_mels) || !(2..=1 << 20).contains(&n_fft) {
            return Err(Error::Usage(format!("no mel filter bank has {n_mels} bands over {n_fft} points")));
        }
        let bins = n_fft / 2 + 1;
        let edges = config.edges();
        // Positions on the axis where triangles have straight sides.
        let along = |hz: f64| if config.triangles == Triangles::LinearInMel { scale.mel(hz) } else { hz };
        let bin: Vec<f64> = (0..bins).map(|k| along(f64::from(sr) * k as f64 / n_fft as f64)).collect();
        let mut bank = MelBank { bins, bands: vec![], weights: vec![] };
        for corner in edges.windows(3) {
            let hz: Vec<f64> = corner.iter().map(|&mel| scale.hz(mel)).collect();
            let [left, top, right] = match config.triangles {
                Triangles::LinearInHz => [hz[0], hz[1], hz[2]],
                Triangles::LinearInMel => [corner[0], corner[1], corner[2]],
            };
            let area = if config.normalised { 2.0 / (hz[2] - hz[0]) } else { 1.0 };
            let weight = |k: usize| {
                let silent = k == 0 && config.triangles == Triangles::LinearInMel;
                let side = ((bin[k] - left) / (top - left)).min((right - bin[k]) / (right - top));
                if silent { 0.0 } else { (area * side.max(0.0)) as f32 }
            };
            let touched = (0..bins).filter(|&k| weight(k) > 0.0);
            let (first, count) = (touched.clone().next().unwrap_or(0), touched.count());
            bank.bands.push([first as u32, count as u32, bank.weights.len() as u32]);
            bank.weights.extend((first..first + count).map(weight));
        }
        if bank.weights.is_empty() {
            // No bin falls into any band; a buffer needs an element.
            bank.weights.push(0.0);
        }
        Ok(bank)
    }

    /// Bins of the spectrograms.
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// First bin, number of bins and index of the first weight of each band. A band narrower than a bin may have none.
    pub fn bands(&self) -> &[[u32; 3]] {
        &self.bands
    }

    /// Weights of all bands, one band after the other.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }
}
