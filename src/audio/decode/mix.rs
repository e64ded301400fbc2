//! Downmixing to mono.

/// Threshold of the mean's level below the channels' for opposite channels: 40 dB.
const FAR: f64 = 1e4;

/// Frames by which channels are judged: with those of the window before, .1 to .2 s at 44.1 kHz.
const WINDOW: usize = 4096;

/// Averages channels, as `librosa.to_mono`; of opposite ones, which cancel, takes the louder one.
#[derive(Default)]
pub(super) struct Mix {
    /// Of the window before, and of this one so far.
    before: Energies,
    now: Energies,
    /// The selected channel.
    only: Option<usize>,
    /// Whether a channel was ever selected.
    pub opposite: bool,
}

/// Sums of squares of the mean and of each channel.
#[derive(Default)]
struct Energies {
    frames: usize,
    mean: f64,
    each: Vec<f64>,
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
        if self.now.each.len() != channels {
            let none = || Energies { each: vec![0.0; channels], ..Energies::default() };
            *self = Mix { before: none(), now: none(), opposite: self.opposite, only: None };
        }
        let square = |v: &f32| f64::from(*v) * f64::from(*v);
        self.now.mean += mono[begin..].iter().map(square).sum::<f64>();
        for frame in interleaved.chunks_exact(channels) {
            self.now.each.iter_mut().zip(frame).for_each(|(sum, v)| *sum += square(v));
        }
        self.now.frames += mono.len() - begin;
        let each = |channel: usize| self.before.each[channel] + self.now.each[channel];
        let loudest = (0..channels).max_by(|a, b| each(*a).total_cmp(&each(*b))).unwrap_or(0);
        // As long as they cancel always the same: changes between blocks would be audible as clicks.
        self.only = match (self.before.mean + self.now.mean) * FAR < each(loudest) {
            true => self.only.or(Some(loudest)),
            false => None,
        };
        if self.now.frames >= WINDOW {
            let next = Energies { each: vec![0.0; channels], ..Energies::default() };
            self.before = std::mem::replace(&mut self.now, next);
        }
        if let Some(only) = self.only {
            self.opposite = true;
            mono.truncate(begin);
            mono.extend(interleaved.chunks_exact(channels).map(|frame| frame[only]));
        }
    }
}
