//! Result for a recording: the probability of each instrument, and when it plays.

use std::path::PathBuf;

use crate::audio::{Condition, is_audio};
use crate::core::array::Array;
use crate::nn::front_ends::log_mel::{self, BANDS};
use crate::ops::filters::mel::MelConfig;

/// The result for a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Recognition {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// Seconds.
    pub duration: f64,
    /// Whether the file was complete.
    pub condition: Condition,
    /// Distance from the training clips (see [`crate::metrics::domain`]), the median over the excerpts; the limit is 1.
    /// `None` if the run does not know them, and for less than two instances of sound.
    pub distance: Option<f64>,
    pub model: String,
    /// The replicas whose predictions were averaged.
    pub seeds: Vec<u64>,
    /// Seconds per entry of the timelines.
    pub cell: f64,
    /// All K, in the order of the class map.
    pub instruments: Vec<Instrument>,
    /// Glimpse paths of each excerpt and seed; empty for models without glimpses.
    pub paths: Vec<Path>,
    /// Hz, both ends of each band of the attention maps, the lowest first; empty for models that do not attend to
    /// frequency.
    pub bands: Vec<[f64; 2]>,
    /// (seconds, bands) of the patches of a glimpse, all with the same centre.
    pub patches: Vec<[f64; 2]>,
    /// musicnn's tags, in its order; empty unless they were asked for, and for silence.
    pub tags: Vec<Tag>,
}

/// What music sounds like, as listeners would tag it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tag {
    pub name: &'static str,
    /// Mean over the recording, 0 to 1.
    pub probability: f64,
}

impl Recognition {
    /// The tags, the most probable first; equals in musicnn's order.
    pub fn ranked_tags(&self) -> Vec<Tag> {
        let mut ranked = self.tags.clone();
        ranked.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        ranked
    }

    /// The segments of all instruments with their names, in order of time.
    pub fn segments(&self) -> Vec<(&str, &Segment)> {
        let mut segments: Vec<_> =
            self.ranked().into_iter().flat_map(|i| i.segments.iter().map(|s| (i.name.as_str(), s))).collect();
        segments.sort_by(|(_, a), (_, b)| a.start.total_cmp(&b.start));
        segments
    }

    /// Whether it is unlike the training clips, so that nothing is known of the model's answers.
    pub fn is_unreliable(&self) -> bool {
        self.distance.is_some_and(|distance| distance > 1.0)
    }

    /// Whether the model is single-label.
    pub fn single_label(&self) -> bool {
        self.instruments.iter().all(|i| i.threshold.is_none())
    }

    /// The recording's name in file names and tables of true times: its file's name, or its clip's key, without the
    /// folder and without the extension of an audio file. Other dots belong to the name.
    pub fn name(&self) -> String {
        let file = self.file.file_name().unwrap_or(self.file.as_os_str());
        let file = if is_audio(&self.file) { self.file.file_stem().unwrap_or(file) } else { file };
        file.to_string_lossy().into_owned()
    }

    /// The instruments, the most probable first; equals in the order of the class map.
    pub fn ranked(&self) -> Vec<&Instrument> {
        let mut ranked: Vec<&Instrument> = self.instruments.iter().collect();
        ranked.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        ranked
    }

    /// The present instruments, then the others; each the most probable first.
    pub(crate) fn present_first(&self) -> Vec<&Instrument> {
        let mut ranked = self.ranked();
        ranked.sort_by_key(|i| !i.present);
        ranked
    }
}

/// Glimpse path of a seed in an excerpt.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    pub seed: u64,
    /// Of the excerpt, seconds from the start of the recording.
    pub start: f64,
    pub glimpses: Vec<Glimpse>,
}

/// A location in a spectrogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Glimpse {
    /// Seconds from the start of the recording.
    pub time: f64,
    /// Mel band, the lowest is 0; fractional between two bands.
    pub band: f64,
}

impl Glimpse {
    /// Its frequency, interpolated between the centres of two bands.
    pub fn hz(&self) -> f64 {
        let hz = log_mel::band_hz();
        let at = self.band.clamp(0.0, (hz.len() - 1) as f64);
        let (low, high) = (at.floor() as usize, at.ceil() as usize);
        hz[low] + (hz[high] - hz[low]) * at.fract()
    }
}

/// An instrument in a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Instrument {
    pub name: String,
    /// Probability that it plays anywhere in the recording: mean over the seeds, 0 to 1.
    pub probability: f64,
    /// Sample standard deviation over the seeds; `None` for one seed.
    pub spread: Option<f64>,
    /// Decision threshold; `None` for single-label models: the instrument is present if it is the most probable one of
    /// a cell.
    pub threshold: Option<f64>,
    pub present: bool,
    /// Its activity in each cell from the start on, 0 to 1.
    pub activity: Vec<f32>,
    /// Attention on each cell, relative to its maximum, 0 to 1; `None` for models without attention.
    pub attention: Option<Vec<f32>>,
    /// (cells, bands): the same by frequency, the lowest band first; `None` for models that do not attend to frequency.
    pub attention_map: Option<Array<f32>>,
    /// When it plays, in order of time, without overlaps; empty when it is absent.
    pub segments: Vec<Segment>,
}

impl Instrument {
    /// How sure it is that the instrument plays, in each cell from the start on, 0 to 1: its activity relative to its
    /// maximum in the recording, times its probability. For single-label models the activity is that probability.
    pub fn answer(&self) -> Vec<f32> {
        let most = self.activity.iter().copied().fold(0.0, f32::max);
        match self.threshold {
            Some(_) if most > 0.0 => self.activity.iter().map(|a| a / most * self.probability as f32).collect(),
            _ => self.activity.clone(),
        }
    }
}

/// A segment in which an instrument plays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Seconds from the start of the recording.
    pub start: f64,
    pub end: f64,
    /// Mean activity within it, 0 to 1.
    pub confidence: f64,
}

/// Hz, both ends of each of `bands` equal groups of mel bands: half-way between the centres on either side. Empty for
/// one.
pub(super) fn band_edges(bands: usize) -> Vec<[f64; 2]> {
    if bands < 2 {
        return vec![];
    }
    let (mel, each) = (MelConfig::vggish(), BANDS / bands);
    let centres = mel.band_hz();
    let edge = |at: usize| match (at.checked_sub(1), centres.get(at)) {
        (Some(below), Some(above)) => (centres[below] + above) / 2.0,
        (None, _) => mel.fmin,
        (_, None) => mel.fmax,
    };
    (0..bands).map(|band| [edge(band * each), edge((band + 1) * each)]).collect()
}
