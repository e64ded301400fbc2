//! Channels to one.

/// How far their mean may lie below the channels before it is not taken for them: 40 dB.
const FAR: f64 = 1e4;

/// Averages channels, as `librosa.to_mono` does; but of opposite ones, which cancel, takes the louder.
#[derive(Default)]
pub(super) struct Mix {
    /// Sums of squares so far, of the mean and of each channel.
    mean: f64,
    each: Vec<f64>,
    /// The channel that is taken.
    only: Option<usize>,
    /// Whether one ever was.
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
        // Of the whole so far, and once taken the same one: a change from block to block would be heard as clicks.
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
