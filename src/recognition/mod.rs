//! What is heard in a recording: how likely each instrument is in it, and when it plays.

pub mod audacity;
pub mod csv;
pub mod jams;
pub mod json;
pub mod timeline;

use std::path::PathBuf;

/// A recording and what a trained run says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recognition {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// Seconds.
    pub duration: f64,
    pub model: String,
    /// The replicas whose answers were averaged.
    pub seeds: Vec<u64>,
    /// Seconds that an entry of the timelines stands for.
    pub cell: f64,
    /// All K, in the order of the class map.
    pub instruments: Vec<Instrument>,
}

impl Recognition {
    /// The instruments, the likeliest first; equals in the order of the class map.
    pub fn ranked(&self) -> Vec<&Instrument> {
        let mut ranked: Vec<&Instrument> = self.instruments.iter().collect();
        ranked.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        ranked
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
    /// From this probability on it counts as present.
    pub threshold: f64,
    /// Its activity in each cell from the start on, 0 to 1.
    pub activity: Vec<f32>,
    /// Attention on each cell, 0 to 1, 1 where the instrument draws most of it; `None` for models without attention.
    pub attention: Option<Vec<f32>>,
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

impl Instrument {
    pub fn present(&self) -> bool {
        self.probability >= self.threshold
    }
}
