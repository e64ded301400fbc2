//! Downmixing to mono.

/// Threshold of the mean's level below the channels' for opposite channels: 40 dB.
const FAR: f64 = 1e4;

/// Averages channels, as `librosa.to_mono`; of opposite ones, which cancel, takes the louder one.
#[derive(Default)]
pub(super) struct Mix {
    /// Sums of squares so far, of the mean and of each channel.
    mean: f64,
    each: Vec<f64>,
    /// The selected channel.
    only: Option<usize>,
    /// Whether a channel was ever selected.
    pub opposite: bool,
}

impl Mix {
    /// Appends a block's samples to `mono`.
    pub fn push(&mut self, interleaved: &[f32], channels: usize, mono: &mut Vec<f32>) {
        let begin = mono.len();
        let mean = |frame: &[f32]| (frame.iter().map(|v| f64::from(*v)).sum::<f64>() / channels as f64) as f32;
        mono.extend(interleaved.chunks_exact(channels).map(mean));
        if channels < 2 {
            return;
        }
        if self.each.len() != channels {
            *self = Mix { each: vec![0.0; channels], opposite: self.opposite, ..Mix::default() };
        }
        let square = |v: &f32| f64::from(*v) * f64::from(*v);
        self.mean += mono[begin..].iter().map(square).sum::<f64>();
        for frame in interleaved.chunks_exact(channels) {
            self.each.iter_mut().zip(frame).for_each(|(sum, v)| *sum += square(v));
        }
        let loudest = (0..channels).max_by(|a, b| self.each[*a].total_cmp(&self.each[*b])).unwrap_or(0);
        // By the recording so far, and then always the same: changes between blocks would be audible as clicks.
        self.only = match self.mean * FAR < self.each[loudest] {
            true => self.only.or(Some(loudest)),
            false => None,
        };
        if let Some(only) = self.only {
            self.opposite = true;
            mono.truncate(begin);
            mono.extend(interleaved.chunks_exact(channels).map(|frame| frame[only]));
        }
    }
}
