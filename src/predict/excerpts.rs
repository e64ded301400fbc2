//! Combines the predictions for the excerpts of a recording.

use std::ops::Range;
use std::path::PathBuf;

use crate::audio::Condition;
use crate::core::array::Array;
use crate::metrics::calibration::Calibration;
use crate::metrics::scores::{predicted_class, quantile, std_dev};
use crate::nn::{self, FeatureKind, Model};
use crate::predict::options::{Aggregate, Options};
use crate::predict::predictor::Predictions;
use crate::predict::recognition::{Glimpse, Instrument, Path, Recognition, band_edges};
use crate::predict::silence::Loudest;
use crate::predict::trained::Trained;

/// Of [`Aggregate::Power`].
const EXPONENT: f64 = 4.0;

/// Where an excerpt is in a recording, and which of its instances were analysed.
pub(super) struct Placement<'a> {
    /// Seconds.
    pub start: f64,
    /// The [parts](crate::nn::front_ends::kind::Row::part) that are not silent, rising.
    pub parts: &'a [usize],
    /// dB of full scale, of all its parts, the silent ones included.
    pub levels: &'a [f32],
    /// From the training clips, if it is known.
    pub distance: Option<f64>,
}

/// Probability and total attention (1 for models without attention), (R, K), of an excerpt.
struct Weighted {
    values: Vec<[f32; 2]>,
    /// dB of full scale of its loudest part.
    loudest: f32,
    /// Its cells.
    cells: Range<usize>,
    /// From the training clips, if it is known.
    distance: Option<f64>,
}

impl Weighted {
    fn is_outlier(&self) -> bool {
        self.distance.is_some_and(|distance| distance > 1.0)
    }
}

/// The predictions for the excerpts of one recording so far.
pub(super) struct Excerpts {
    classes: usize,
    seeds: Vec<u64>,
    /// (R, K)
    calibrations: Vec<Vec<Calibration>>,
    /// dB below the peak at which a part is silent.
    relative_gate: f32,
    /// Whether instruments can be present in excerpts that are unlike the training clips.
    keeps_outliers: bool,
    /// So far.
    loudest: Loudest,
    /// Seconds of a cell.
    cell: f64,
    kind: FeatureKind,
    /// Only the most probable class of a cell plays in it; in a silent cell none.
    pub single_label: bool,
    /// Cells of a part: of an excerpt that is one, as many as it has hops.
    steps: usize,
    /// Frequency bands of a cell.
    bands: usize,
    excerpts: Vec<Weighted>,
    /// (cells, K): sums over the excerpts of the seeds' means.
    activity: Vec<f32>,
    attention: Vec<f32>,
    /// (cells, K, bands): as `attention`, per band; empty for one band.
    attention_map: Vec<f32>,
    /// (cells): number of excerpts that cover a cell, and of those in which anything plays.
    covered: Vec<bool>,
    counted: Vec<f32>,
    /// (cells): dB of full scale.
    levels: Vec<f32>,
    paths: Vec<Path>,
    has_attention: bool,
}

impl Excerpts {
    pub fn new(trained: &Trained, hop: f64, options: &Options) -> Excerpts {
        let model: &Model = nn::find(&trained.about.model).expect("a trained model is known");
        let kind = trained.config.kind().expect("a trained model is known");
        let [steps, frequencies] = model.positions;
        let (steps, cell) = match kind.row().part {
            None => (((kind.window() / hop).round() as usize).max(1), hop),
            Some(_) => (steps, kind.part_seconds() / steps as f64),
        };
        Excerpts {
            classes: trained.about.classes.len(),
            seeds: trained.about.seeds.clone(),
            calibrations: trained.calibrations(),
            relative_gate: options.gate(),
            keeps_outliers: options.keep_unreliable,
            loudest: Loudest::NOTHING,
            cell,
            kind,
            single_label: model.single_label,
            steps,
            bands: frequencies,
            excerpts: vec![],
            activity: vec![],
            attention: vec![],
            attention_map: vec![],
            covered: vec![],
            counted: vec![],
            levels: vec![],
            paths: vec![],
            has_attention: model.has_attention,
        }
    }

    /// Seconds of an excerpt of this many instances.
    pub fn seconds(&self, instances: usize) -> f64 {
        self.kind.row().part.map_or(self.kind.window(), |_| instances as f64 * self.kind.row().seconds)
    }

    /// Takes the loudest level of the next excerpt into account.
    pub(crate) fn raise_loudest(&mut self, loudest: Loudest) {
        self.loudest = self.loudest.max(loudest);
    }

    /// dB of full scale below which a part of the recording so far is silent.
    pub fn gate(&self) -> f32 {
        self.loudest.gate(self.relative_gate)
    }

    /// Whether everything so far is silent.
    pub(crate) fn is_silent(&self) -> bool {
        self.loudest.instance < self.gate()
    }

    /// Adds clip `i` of the predictions, of this many instances: the audible ones of an excerpt.
    ///
    /// The activity in a cell is the mean score of its positions, weighted by attention, times the probability of the
    /// excerpt: an instrument plays here if it plays in the excerpt at all, and here. Of the combinations of score,
    /// attention and probability that were tried on synthetic clips with known times, this one finds them best.
    pub fn add(&mut self, p: &Predictions, i: usize, instances: usize, at: &Placement) {
        let k = self.classes;
        let each = self.steps;
        let cells = self.kind.parts(instances) * each;
        let first = self.cover(at);
        // Which of the excerpt's cells each analysed one is.
        let places: Vec<usize> = (0..cells).map(|cell| first + at.parts[cell / each] * each + cell % each).collect();
        // Nothing is known of what plays in an excerpt that is unlike the training clips.
        let known = self.keeps_outliers || at.distance.is_none_or(|distance| distance <= 1.0);
        let counted = f32::from(u8::from(known));
        for &cell in &places {
            (self.covered[cell], self.counted[cell]) = (true, self.counted[cell] + counted);
        }
        let weight = counted / self.seeds.len() as f32;
        let mut of_excerpt = vec![];
        for r in 0..self.seeds.len() {
            for class in 0..k {
                let probability = self.calibrations[r][class].apply(f64::from(p.probabilities[r].row(i)[class])) as f32;
                let Some(instance) = &p.instances else {
                    of_excerpt.push([probability, 1.0]);
                    places.iter().for_each(|cell| self.activity[cell * k + class] += weight * probability);
                    continue;
                };
                let positions = instance.gates[r].dims()[1];
                let value = |table: &Array<f32>, cell: usize, band: usize| {
                    table.row(i * positions + cell * self.bands + band)[class]
                };
                let mut drawn = 0.0;
                for (cell, place) in places.iter().enumerate() {
                    let into = place * k + class;
                    let (mut gates, mut scores) = (0.0, 0.0);
                    for band in 0..self.bands {
                        let gate = value(&instance.gates[r], cell, band);
                        gates += gate;
                        scores += gate * value(&instance.scores[r], cell, band);
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
        let loudest = at.levels.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let cells = first..first + at.levels.len() * each;
        self.excerpts.push(Weighted { values: of_excerpt, loudest, cells, distance: at.distance });
        // The frame of the excerpt that an analysed frame is.
        let row = self.kind.row();
        let frame_of = |frame: f64| {
            let size = row.part.unwrap_or(instances);
            let part = (frame as usize / size).min(at.parts.len() - 1);
            frame + ((at.parts[part] - part) * size) as f64
        };
        for (seed, glimpses) in self.seeds.iter().zip(&p.glimpses) {
            let count = glimpses.dims()[1];
            // As in `ops::glimpse`: the first cell of an axis is at -1, the last at 1.
            let cell = |at: f32, cells: usize| 0.5 * (f64::from(at) + 1.0) * (cells - 1) as f64;
            let glimpse = |j: usize| {
                let [time, band] = *glimpses.row(i * count + j) else { unreachable!("a location has two axes") };
                let frame = frame_of(cell(time, instances));
                Glimpse { time: at.start + (frame + 0.5) * row.seconds, band: cell(band, row.spectrogram.bands) }
            };
            self.paths.push(Path { seed: *seed, start: at.start, glimpses: (0..count).map(glimpse).collect() });
        }
    }

    /// Adds an excerpt in which nothing plays. It does not contribute to the recording's probabilities.
    pub(crate) fn add_silence(&mut self, start: f64, levels: &[f32]) {
        self.cover(&Placement { start, parts: &[], levels, distance: None });
    }

    /// Extends the timelines for an excerpt, whose silent parts are covered by it. Returns its first cell.
    fn cover(&mut self, excerpt: &Placement) -> usize {
        let at = excerpt.start / self.cell;
        // The last excerpt of a recording may begin within a cell; it then starts at the next one.
        let first = if self.kind.row().part.is_none() { (at - 1e-6).ceil() } else { at.round() } as usize;
        let each = self.steps;
        let end = self.covered.len().max(first + excerpt.levels.len() * each);
        self.covered.resize(end, false);
        self.activity.resize(end * self.classes, 0.0);
        self.attention.resize(end * self.classes, 0.0);
        if self.has_attention && self.bands > 1 {
            self.attention_map.resize(end * self.classes * self.bands, 0.0);
        }
        self.counted.resize(end, 0.0);
        self.levels.resize(end, f32::NEG_INFINITY);
        for (part, level) in excerpt.levels.iter().enumerate() {
            let silent = excerpt.parts.binary_search(&part).is_err();
            for cell in first + part * each..first + (part + 1) * each {
                self.covered[cell] |= silent;
                self.levels[cell] = self.levels[cell].max(*level);
            }
        }
        first
    }

    /// The excerpts that no louder part has made silent since.
    fn audible(&self) -> impl Iterator<Item = &Weighted> {
        let gate = self.gate();
        self.excerpts.iter().filter(move |excerpt| excerpt.loudest >= gate)
    }

    /// The median distance of the excerpts from the training clips.
    fn distance(&self) -> Option<f64> {
        let mut distances: Vec<f64> = self.audible().filter_map(|excerpt| excerpt.distance).collect();
        distances.sort_by(f64::total_cmp);
        (!distances.is_empty()).then(|| quantile(&distances, 0.5))
    }

    /// Seconds of the parts that are unlike the training clips, if others are not: of these excerpts, without what
    /// others cover too.
    pub(crate) fn outlying(&self) -> Vec<(f64, f64)> {
        let mut of_others = vec![false; self.covered.len()];
        let (outliers, others): (Vec<_>, Vec<_>) = self.audible().partition(|excerpt| excerpt.is_outlier());
        others.iter().for_each(|excerpt| of_others[excerpt.cells.clone()].fill(true));
        let mut spans: Vec<(f64, f64)> = vec![];
        for cell in outliers.iter().flat_map(|excerpt| excerpt.cells.clone()).filter(|cell| !of_others[*cell]) {
            let (start, end) = (cell as f64 * self.cell, (cell + 1) as f64 * self.cell);
            match spans.last_mut() {
                Some((_, latest)) if start <= *latest + 1e-6 => *latest = latest.max(end),
                _ => spans.push((start, end)),
            }
        }
        if others.is_empty() || self.keeps_outliers { vec![] } else { spans }
    }

    /// The probability of a class from one seed; 0 if everything is silent. Of a reliable recording only the excerpts
    /// count that are like the training clips.
    fn aggregate(&self, r: usize, class: usize, how: Aggregate, reliable: bool) -> f64 {
        let counts = |excerpt: &&Weighted| !reliable || self.keeps_outliers || !excerpt.is_outlier();
        let excerpts: Vec<&Weighted> = self.audible().filter(counts).collect();
        let values = || excerpts.iter().map(|excerpt| excerpt.values[r * self.classes + class].map(f64::from));
        let mean = |of: fn(f64) -> f64| values().map(|[p, _]| of(p)).sum::<f64>() / excerpts.len().max(1) as f64;
        match how {
            Aggregate::Power => mean(|p| p.powf(EXPONENT)).powf(1.0 / EXPONENT),
            Aggregate::Max => values().map(|[p, _]| p).fold(0.0, f64::max),
            Aggregate::Mean => mean(|p| p),
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
        options: &Options,
    ) -> Recognition {
        let k = self.classes;
        // Time after the last complete part of an excerpt, and in no other excerpt, belongs to that part.
        let cells = ((duration / self.cell).ceil() as usize).max(1);
        let (gate, distance) = (self.gate(), self.distance());
        let reliable = distance.is_none_or(|distance| distance <= 1.0);
        // Values per cell: `width` for each class.
        let curve = |of: &[f32], width: usize, class: usize| -> Vec<f32> {
            let mut latest = vec![0.0; width];
            let values = |cell: usize| {
                if self.covered.get(cell) == Some(&true) && self.levels[cell] < gate {
                    latest.fill(0.0);
                } else if self.covered.get(cell) == Some(&true) {
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
        let default = if self.single_label { Aggregate::Mean } else { Aggregate::Power };
        let aggregate = options.aggregate.unwrap_or(default);
        let instrument = |(class, name): (usize, &String)| {
            let of_seed = |r| self.aggregate(r, class, aggregate, reliable);
            let by_seed: Vec<f64> = (0..self.seeds.len()).map(of_seed).collect();
            let probability = by_seed.iter().sum::<f64>() / self.seeds.len() as f64;
            let activity = curves[class].clone();
            let (threshold, present, segments) = if self.single_label {
                let mut wins = activity.clone();
                wins.iter_mut()
                    .zip(&winners)
                    .filter(|(_, winner)| **winner != Some(class))
                    .for_each(|(v, _)| *v = -1.0);
                let segments = options.segmentation.above(&wins, self.cell, duration, [0.0, 0.0]);
                (None, !segments.is_empty(), segments)
            } else {
                let threshold = thresholds[class];
                // Silence does not play, whatever the threshold; nor does what is unlike the training clips.
                let present = (reliable || options.keep_unreliable)
                    && probability >= threshold
                    && activity.iter().any(|a| *a > 0.0);
                let segments =
                    if present { options.segmentation.of_present(&activity, self.cell, duration) } else { vec![] };
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
        let frame = self.kind.row().seconds;
        Recognition {
            file,
            duration,
            condition: Condition::default(),
            distance,
            model: trained.about.model.clone(),
            seeds: self.seeds.clone(),
            cell: self.cell,
            instruments: trained.about.classes.iter().enumerate().map(instrument).collect(),
            paths: self.paths.clone(),
            bands: if self.has_attention { band_edges(self.bands) } else { vec![] },
            patches: patches.iter().map(|[frames, bands]| [*frames as f64 * frame, *bands as f64]).collect(),
            tags: vec![],
        }
    }
}
