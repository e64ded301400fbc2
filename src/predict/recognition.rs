//! What is recognised in a recording: how likely each instrument is in it, and when it plays.

use std::path::PathBuf;

use crate::audio::{Condition, is_audio};
use crate::core::array::Array;
use crate::nn::front_ends::log_mel;

/// A recording and what a trained run says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recognition {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// Seconds.
    pub duration: f64,
    /// Whether the file was whole.
    pub condition: Condition,
    pub model: String,
    /// The replicas whose answers were averaged.
    pub seeds: Vec<u64>,
    /// Seconds that an entry of the timelines stands for.
    pub cell: f64,
    /// All K, in the order of the class map.
    pub instruments: Vec<Instrument>,
    /// Of each excerpt, each seed's; empty for models that take in everything at once.
    pub paths: Vec<Path>,
    /// Hz, both ends of each band of the attention maps, the lowest first; empty for models that do not attend to
    /// frequency.
    pub bands: Vec<[f64; 2]>,
    /// (seconds, bands) of the patches that a glimpse sees, all around one place.
    pub patches: Vec<[f64; 2]>,
}

impl Recognition {
    /// Whether the model names one instrument at a time.
    pub fn exclusive(&self) -> bool {
        self.instruments.iter().all(|i| i.threshold.is_none())
    }

    /// What the recording is called in file names and tables of true times: its file's name, or its clip's key, without
    /// the folder and without the extension of a sound file. Other dots belong to the name.
    pub fn name(&self) -> String {
        let file = self.file.file_name().unwrap_or(self.file.as_os_str());
        let file = if is_audio(&self.file) { self.file.file_stem().unwrap_or(file) } else { file };
        file.to_string_lossy().into_owned()
    }

    /// The instruments, the likeliest first; equals in the order of the class map.
    pub fn ranked(&self) -> Vec<&Instrument> {
        let mut ranked: Vec<&Instrument> = self.instruments.iter().collect();
        ranked.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        ranked
    }
}

/// Where a seed has looked in an excerpt, one place after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    pub seed: u64,
    /// Of the excerpt, seconds from the start of the recording.
    pub start: f64,
    pub glimpses: Vec<Glimpse>,
}

/// A place in a spectrogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Glimpse {
    /// Seconds from the start of the recording.
    pub time: f64,
    /// Mel band, the lowest is 0; between two bands no whole number.
    pub band: f64,
}

impl Glimpse {
    /// Its frequency, between the centres of two bands in proportion.
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
    /// That it plays anywhere in the recording: mean over the seeds, 0 to 1.
    pub probability: f64,
    /// Sample standard deviation over the seeds; `None` for one seed.
    pub spread: Option<f64>,
    /// From this probability on it counts as present; `None` for models that name one instrument at a time: it is
    /// present where it is the likeliest of a cell.
    pub threshold: Option<f64>,
    pub present: bool,
    /// Its activity in each cell from the start on, 0 to 1.
    pub activity: Vec<f32>,
    /// Attention on each cell, 0 to 1, 1 where the instrument draws most of it; `None` for models without attention.
    pub attention: Option<Vec<f32>>,
    /// (cells, bands): the same by frequency, the lowest band first, 1 where the instrument draws most of it; `None`
    /// for models that do not attend to frequency.
    pub attention_map: Option<Array<f32>>,
    /// When it plays, in order of time, without overlaps; empty when it is absent.
    pub segments: Vec<Segment>,
}

/// A stretch in which an instrument plays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Seconds from the start of the recording.
    pub start: f64,
    pub end: f64,
    /// Mean activity within it, 0 to 1.
    pub confidence: f64,
}
