//! Combines the predictions for the excerpts of a recording.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::audio::Condition;
use crate::core::array::Array;
use crate::core::error::Result;
use crate::metrics::scores::{predicted_class, std_dev};
use crate::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES};
use crate::nn::front_ends::vggish::MAP;
use crate::nn::{self, Kind, Model};
use crate::ops::filters::mel::MelConfig;
use crate::predict::condensed::CondensedSpectrogram;
use crate::predict::predictor::Predictions;
use crate::predict::recognition::{Glimpse, Instrument, Path, Recognition};
use crate::predict::timeline::segments;
use crate::predict::trained::Trained;

/// Hop of a spectrogram in seconds.
const FRAME: f64 = 0.01;
/// Seconds of a patch of frames, an instance of models on VGGish.
const INSTANCE: f64 = 0.96;

/// How the probabilities of the excerpts are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregate {
    /// Mean over the excerpts.
    Mean,
    /// Maximum over the excerpts: present in the recording if present in any.
    Max,
    /// Mean weighted by each excerpt's attention, as if they were one bag.
    Attention,
}

/// The predictions for the excerpts of one recording so far.
pub(super) struct Excerpts {
    classes: usize,
    seeds: Vec<u64>,
    /// Seconds of a cell.
    cell: f64,
    /// Instances are frames, 96 per cell; else an instance has one or more cells.
    frames: bool,
    /// An excerpt is a single instance, which covers as many cells as hops.
    whole: bool,
    /// Cells of such an excerpt.
    span: usize,
    /// Only the most probable class of a cell plays in it; in a silent cell none.
    pub single_label: bool,
    /// Cells, and frequency bands, of an instance that is not a frame.
    steps: usize,
    bands: usize,
    /// Per excerpt, (R, K): probability and total attention (1 for models without attention).
    excerpts: Vec<Vec<[f32; 2]>>,
    /// (cells, K): sums over the excerpts of the seeds' means.
    activity: Vec<f32>,
    attention: Vec<f32>,
    /// (cells, K, bands): as `attention`, per band; empty for one band.
    attention_map: Vec<f32>,
    /// (cells): number of excerpts that cover a cell, and of those in which anything plays.
    covered: Vec<bool>,
    counted: Vec<f32>,
    paths: Vec<Path>,
    has_attention: bool,
    pub spectrogram: CondensedSpectrogram,
}

impl Excerpts {
    /// `bands` of the spectrogram's frames.
    pub fn new(trained: &Trained, hop: f64, bands: usize) -> Excerpts {
        let model: &Model = nn::find(&trained.about.model).expect("a trained model is known");
        let steps = if model.trains_vggish() { MAP[0] } else { 1 };
        let whole = model.is_single_note();
        let kind = trained.config.kind().expect("a trained model is known");
        let (window, frame) = (kind.window(), kind.spectrogram().hop);
        Excerpts {
            classes: trained.about.classes.len(),
            seeds: trained.about.seeds.clone(),
            cell: if whole { hop } else { INSTANCE / steps as f64 },
            whole,
            span: ((window / hop).round() as usize).max(1),
            single_label: model.single_label,
            frames: kind == Kind::Spectrogram,
            steps,
            bands: model.positions / steps,
            excerpts: vec![],
            activity: vec![],
            attention: vec![],
            attention_map: vec![],
            covered: vec![],
            counted: vec![],
            paths: vec![],
            has_attention: model.has_attention,
            spectrogram: CondensedSpectrogram::new(bands, frame),
        }
    }

    /// Seconds of an excerpt of this many instances.
    pub fn seconds(&self, instances: usize, trained: &Trained) -> Result<f64> {
        Ok(match (self.whole, self.frames) {
            (true, _) => trained.config.kind()?.window(),
            (false, true) => instances as f64 * FRAME,
            (false, false) => instances as f64 * INSTANCE,
        })
    }

    /// Adds clip `i` of the predictions, an excerpt that begins at `start` and has this many instances.
    ///
    /// The activity in a cell is the mean score of its positions, weighted by attention, times the probability of the
    /// excerpt: an instrument plays here if it plays in the excerpt at all, and here. Of the combinations of score,
    /// attention and probability that were tried on synthetic clips with known times, this one finds them best.
    pub fn add(&mut self, p: &Predictions, i: usize, start: f64, instances: usize) {
        let k = self.classes;
        let cells = match (self.whole, self.frames) {
            (true, _) => self.span,
            (false, true) => (instances / PATCH_FRAMES).max(1),
            (false, false) => instances * self.steps,
        };
        let first = self.cover(start, cells, 1.0);
        let weight = 1.0 / self.seeds.len() as f32;
        let mut of_excerpt = vec![];
        for r in 0..self.seeds.len() {
            for class in 0..k {
                let probability = p.probabilities[r].row(i)[class];
                let Some(instance) = &p.instances else {
                    of_excerpt.push([probability, 1.0]);
                    (first..first + cells).for_each(|cell| self.activity[cell * k + class] += weight * probability);
                    continue;
                };
                let positions = instance.gates[r].dims()[1];
                let at = |table: &Array<f32>, cell: usize, band: usize| {
                    table.row(i * positions + cell * self.bands + band)[class]
                };
                let mut drawn = 0.0;
                for cell in 0..cells {
                    let into = (first + cell) * k + class;
                    let (mut gates, mut scores) = (0.0, 0.0);
                    for band in 0..self.bands {
                        let gate = at(&instance.gates[r], cell, band);
                        gates += gate;
                        scores += gate * at(&instance.scores[r], cell, band);
                        if self.bands > 1 {
                            self.attention_map[into * self.bands + band] += weight * gate;
                        }
                    }
                    drawn += gates;
                    self.activity[into] += weight * probability * scores / gates.max(f32::MIN_POSITIVE);
                    self.attention[into] += weight * gates / self.bands as f32;
                }
                of_excerpt.push([probability, drawn]);
            }
        }
        self.excerpts.push(of_excerpt);
        for (seed, glimpses) in self.seeds.iter().zip(&p.glimpses) {
            let count = glimpses.dims()[1];
            // As in `ops::glimpse`: the first cell of an axis is at -1, the last at 1.
            let cell = |at: f32, cells: usize| 0.5 * (f64::from(at) + 1.0) * (cells - 1) as f64;
            let glimpse = |j: usize| {
                let [time, band] = *glimpses.row(i * count + j) else { unreachable!("a location has two axes") };
                Glimpse { time: start + (cell(time, instances) + 0.5) * FRAME, band: cell(band, BANDS) }
            };
            self.paths.push(Path { seed: *seed, start, glimpses: (0..count).map(glimpse).collect() });
        }
    }

    /// Adds an excerpt in which nothing plays. It does not contribute to the recording's probabilities.
    pub fn add_silence(&mut self, start: f64) {
        self.cover(start, self.span, 0.0);
    }

    /// Extends the timelines for an excerpt of `cells` cells; `weight` is 1 if anything plays, else 0. Returns its
    /// first cell.
    fn cover(&mut self, start: f64, cells: usize, weight: f32) -> usize {
        let at = start / self.cell;
        // The last excerpt of a recording may begin within a cell; it then starts at the next one.
        let first = if self.whole { (at - 1e-6).ceil() } else { at.round() } as usize;
        let end = self.covered.len().max(first + cells);
        self.covered.resize(end, false);
        self.activity.resize(end * self.classes, 0.0);
        self.attention.resize(end * self.classes, 0.0);
        if self.has_attention && self.bands > 1 {
            self.attention_map.resize(end * self.classes * self.bands, 0.0);
        }
        self.counted.resize(end, 0.0);
        self.covered[first..first + cells].fill(true);
        self.counted[first..first + cells].iter_mut().for_each(|c| *c += weight);
        first
    }

    /// The probability of a class from one seed; 0 if everything is silent.
    fn aggregate(&self, r: usize, class: usize, how: Aggregate) -> f64 {
        let values = || self.excerpts.iter().map(|e| e[r * self.classes + class].map(f64::from));
        match how {
            Aggregate::Max => values().map(|[p, _]| p).fold(0.0, f64::max),
            Aggregate::Mean => values().fold(0.0, |sum, [p, _]| sum + p) / self.excerpts.len().max(1) as f64,
            Aggregate::Attention => {
                let drawn: f64 = values().map(|[_, drawn]| drawn).sum();
                values().map(|[p, drawn]| p * drawn).sum::<f64>() / drawn.max(f64::MIN_POSITIVE)
            }
        }
    }

    /// The result for a recording of `duration` seconds. `thresholds`: (K) decision thresholds.
    pub fn recognition(
        &self,
        file: PathBuf,
        duration: f64,
        trained: &Trained,
        thresholds: &[f64],
        aggregate: Option<Aggregate>,
    ) -> Recognition {
        let k = self.classes;
        // Time after the last complete instance of an excerpt, and in no other excerpt, belongs to that instance.
        let cells = ((duration / self.cell).ceil() as usize).max(1);
        // Values per cell: `width` for each class.
        let curve = |of: &[f32], width: usize, class: usize| -> Vec<f32> {
            let mut latest = vec![0.0; width];
            let values = |cell: usize| {
                if self.covered.get(cell) == Some(&true) {
                    let sums = of[(cell * k + class) * width..].iter();
                    latest.iter_mut().zip(sums).for_each(|(v, sum)| *v = sum / self.counted[cell].max(1.0));
                }
                latest.clone()
            };
            (0..cells).flat_map(values).collect()
        };
        let curves: Vec<Vec<f32>> = (0..k).map(|class| curve(&self.activity, 1, class)).collect();
        // The most probable class of each cell, the first among equals, unless it is silent.
        let winner = |cell: usize| {
            let best = predicted_class(&curves.iter().map(|curve| curve[cell]).collect::<Vec<f32>>());
            (curves[best][cell] > 0.0).then_some(best)
        };
        let winners: Vec<Option<usize>> = if self.single_label { (0..cells).map(winner).collect() } else { vec![] };
        let default = if self.single_label { Aggregate::Mean } else { Aggregate::Max };
        let aggregate = aggregate.unwrap_or(default);
        let instrument = |(class, name): (usize, &String)| {
            let by_seed: Vec<f64> = (0..self.seeds.len()).map(|r| self.aggregate(r, class, aggregate)).collect();
            let probability = by_seed.iter().sum::<f64>() / self.seeds.len() as f64;
            let activity = curves[class].clone();
            let (threshold, present, segments) = if self.single_label {
                let mut wins = activity.clone();
                wins.iter_mut()
                    .zip(&winners)
                    .filter(|(_, winner)| **winner != Some(class))
                    .for_each(|(v, _)| *v = -1.0);
                let segments = segments(&wins, self.cell, 0.0, duration);
                (None, !segments.is_empty(), segments)
            } else {
                let threshold = thresholds[class];
                let present = probability >= threshold;
                let segments = if present { segments(&activity, self.cell, threshold, duration) } else { vec![] };
                (Some(threshold), present, segments)
            };
            // Relative to the maximum.
            let relative = |drawn: Vec<f32>| -> Vec<f32> {
                let most = drawn.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
                drawn.iter().map(|v| v / most).collect()
            };
            let attention = self.has_attention.then(|| relative(curve(&self.attention, 1, class)));
            let attention_map = (self.has_attention && self.bands > 1).then(|| {
                let map = relative(curve(&self.attention_map, self.bands, class));
                Array::new([cells, self.bands], map)
            });
            Instrument {
                name: name.clone(),
                probability,
                spread: std_dev(by_seed.into_iter().map(Some)),
                threshold,
                present,
                segments,
                activity,
                attention,
                attention_map,
            }
        };
        let patches = nn::find(&trained.about.model).expect("a trained model is known").patches;
        Recognition {
            file,
            duration,
            condition: Condition::default(),
            model: trained.about.model.clone(),
            seeds: self.seeds.clone(),
            cell: self.cell,
            instruments: trained.about.classes.iter().enumerate().map(instrument).collect(),
            paths: self.paths.clone(),
            bands: if self.has_attention { band_edges(self.bands) } else { vec![] },
            patches: patches.iter().map(|[frames, bands]| [*frames as f64 * FRAME, *bands as f64]).collect(),
        }
    }
}

/// Hz, both ends of each of `bands` equal groups of mel bands: half-way between the centres on either side. Empty for
/// one.
fn band_edges(bands: usize) -> Vec<[f64; 2]> {
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
