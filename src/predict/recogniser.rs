//! Listens to recordings of any length with a trained run: excerpts of 10 s, their features, what the run says about them, and one
//! answer per recording.

use std::collections::VecDeque;
use std::path::PathBuf;

use crate::audio::{Cut, Excerpt, Item, ingest};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::data::Features;
use crate::features::extraction::{FrontEndRunner, Recipe};
use crate::gpu::Gpu;
use crate::metrics::scores::{answer, std_dev};
use crate::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES};
use crate::nn::front_ends::vggish::MAP;
use crate::nn::{self, Kind, Model};
use crate::predict::predictor::Predictions;
use crate::predict::recognition::{Glimpse, Instrument, Path, Recognition};
use crate::predict::timeline::segments;
use crate::predict::trained::Trained;

/// Seconds from one frame of a spectrogram to the next.
const FRAME: f64 = 0.01;
/// Seconds of a patch of frames, which is an instance of models on VGGish.
const INSTANCE: f64 = 0.96;
/// Seconds between two excerpts unless said otherwise: five instances, so that each is heard twice, in another context.
const HOP: f64 = 4.8;
/// Seconds: patience is finite.
const MIN_HOP: f64 = 0.01;

/// Amplitude below which an excerpt is silent for models that have to name a class whatever they hear: -80 dB of full scale, some
/// three steps of 16 bits.
const SILENCE: f32 = 1e-4;

/// Clips whose places are looked at at a time.
const PORTION: usize = 1024;

/// How the answers for the excerpts of a recording become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Aggregate {
    /// Mean over the excerpts.
    Mean,
    /// The highest: an instrument is in a recording if it is in any excerpt.
    Max,
    /// The excerpts' mean weighted by the attention that each draws, as if they were one bag.
    Attention,
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Seconds from one excerpt's start to the next, 0.01 (of notes 0.5) to the length of one. `None`: 4.8 of 10, or 1 of 1.
    pub hop: Option<f64>,
    /// `None`: max, or for models that name one class the mean.
    pub aggregate: Option<Aggregate>,
    /// (K), the probability from which on each class is present.
    pub thresholds: Vec<f64>,
    /// Whether to keep a spectrogram.
    pub spectrogram: bool,
}

/// What was heard in a recording.
pub struct Heard {
    pub recognition: Recognition,
    /// As [`crate::features::extractor::Extract`] has it, (columns, bands), at most some thousand columns for the whole recording; if asked for.
    pub spectrogram: Option<Array<f32>>,
    /// Packets of the file that were damaged and left out.
    pub damaged: u64,
}

pub struct Recogniser<'a> {
    gpu: &'a Gpu,
    trained: &'a Trained,
    options: Options,
    kind: Kind,
    /// Seconds.
    hop: f64,
    runner: FrontEndRunner,
}

impl<'a> Recogniser<'a> {
    /// `recipe`: how the model's features are made of sound.
    ///
    /// # Errors
    /// `Usage` for options that the model cannot follow; `Checkpoint` for weights of the front end that are missing or others.
    pub fn new(gpu: &'a Gpu, trained: &'a Trained, recipe: &Recipe, options: Options) -> Result<Recogniser<'a>> {
        options.check(trained)?;
        let mut recipe = recipe.clone();
        let weights = if recipe.kind == Kind::LogMel { None } else { recipe.load()? };
        let runner = FrontEndRunner::new(gpu, &recipe, weights.as_ref(), options.spectrogram)?;
        let hop = options.hop(recipe.kind);
        Ok(Recogniser { gpu, trained, options, kind: recipe.kind, hop, runner })
    }

    /// Listens to `files`, in order, and hands over what it heard, or why a file cannot be used, with the file's index.
    /// Memory does not grow with the length of a recording but for its timelines.
    ///
    /// # Errors
    /// `Gpu` for a lost device, and whatever `each` returns.
    pub fn listen(&self, files: &[PathBuf], each: &mut dyn FnMut(usize, Result<Heard>) -> Result<()>) -> Result<()> {
        let mut waiting: Vec<(usize, Excerpt)> = vec![];
        let mut open: VecDeque<Listening> = VecDeque::new();
        let Recogniser { kind, hop, .. } = *self;
        let cut = Cut { window: kind.window(), hop: Some(hop), form: kind.form(), to_the_end: true };
        for (file, item) in ingest(files.to_vec(), cut)? {
            if open.back().is_none_or(|last| last.file < file) {
                let answers = Answers::new(self.trained, hop, self.runner.extractor.bands());
                open.push_back(Listening { file, answers, end: None });
            }
            let current = open.back_mut().expect("just opened");
            match item {
                Item::Excerpt(excerpt) => waiting.push((file, excerpt)),
                Item::End { duration, .. } if kind.is_of_notes() && duration < kind.window() => {
                    let reason =
                        format!("is shorter than {} s, which is what the model listens to at a time", kind.window());
                    current.end = Some(Err(Error::data(&files[file], reason)));
                }
                Item::End { duration, damaged } => current.end = Some(Ok((duration, damaged))),
                Item::Failed(error) => {
                    waiting.retain(|(of, _)| *of != file);
                    current.end = Some(Err(error));
                }
            }
            if waiting.len() == self.runner.extractor.batch() {
                self.answer(&mut waiting, &mut open)?;
                // The excerpts of files that have ended were all in this batch or an earlier one.
                while open.front().is_some_and(|l| l.end.is_some()) {
                    let done = open.pop_front().expect("there is a front");
                    each(done.file, done.finish(files, self.trained, &self.options))?;
                }
            }
        }
        self.answer(&mut waiting, &mut open)?;
        open.into_iter().try_for_each(|l| each(l.file, l.finish(files, self.trained, &self.options)))
    }

    fn answer(&self, waiting: &mut Vec<(usize, Excerpt)>, open: &mut VecDeque<Listening>) -> Result<()> {
        if waiting.is_empty() {
            return Ok(());
        }
        let samples: Vec<&[f32]> = waiting.iter().map(|(_, e)| e.samples.as_slice()).collect();
        let extracts = self.runner.extractor.run(&samples)?;
        let predictions = self.trained.predict(self.gpu, &self.runner.features(&extracts)?)?;
        for (i, ((file, excerpt), extract)) in waiting.iter().zip(&extracts).enumerate() {
            let listening = open.iter_mut().find(|l| l.file == *file).expect("a file stays open until it is answered");
            let silent = listening.answers.exclusive && excerpt.samples.iter().all(|v| v.abs() < SILENCE);
            match silent {
                true => listening.answers.pause(excerpt.start),
                false => listening.answers.add(&predictions, i, excerpt.start, extract.instances),
            }
            listening.answers.strip.add(excerpt.start, &extract.spectrogram);
        }
        waiting.clear();
        Ok(())
    }
}

impl Options {
    fn hop(&self, kind: Kind) -> f64 {
        self.hop.unwrap_or(if kind.is_of_notes() { kind.window() } else { HOP })
    }

    fn check(&self, trained: &Trained) -> Result<()> {
        let model = nn::find(&trained.about.model)?;
        let (attends, kind) = (model.attends, trained.config.kind()?);
        let (hop, longest) = (self.hop(kind), kind.window());
        // Seconds that overlap more have nothing of their own to tell.
        let shortest = if kind.is_of_notes() { longest / 2.0 } else { MIN_HOP };
        if !(shortest..=longest).contains(&hop) {
            return Err(Error::Usage(format!("a hop of {hop} s: {shortest} to {longest} s are possible")));
        }
        if self.aggregate == Some(Aggregate::Attention) && !attends {
            return Err(Error::Usage(format!(
                "{} has no attention to aggregate by; mean and max are left",
                model.name
            )));
        }
        Ok(())
    }
}

/// What a run says about clips whose features are known: each as a recording of its own.
pub fn recognise_clips(
    gpu: &Gpu,
    trained: &Trained,
    keys: &[String],
    features: &Features,
    options: &Options,
) -> Result<Vec<Recognition>> {
    options.check(trained)?;
    let clips: Vec<u32> = (0..keys.len() as u32).collect();
    let mut all = Vec::with_capacity(keys.len());
    // What is said about each place of each clip does not fit memory for a whole dataset.
    for portion in clips.chunks(PORTION) {
        let predictions = trained.predict_some(gpu, features, portion)?;
        for (i, clip) in portion.iter().map(|&clip| clip as usize).enumerate() {
            let mut answers = Answers::new(trained, 1.0, 0);
            let instances = features.lengths[clip] as usize;
            answers.add(&predictions, i, 0.0, instances);
            let duration = match (answers.whole, answers.frames) {
                (true, _) => trained.config.kind()?.window(),
                (false, true) => instances as f64 * FRAME,
                (false, false) => instances as f64 * INSTANCE,
            };
            all.push(answers.recognition(PathBuf::from(&keys[clip]), duration, trained, options));
        }
    }
    Ok(all)
}

/// A file that is being listened to.
struct Listening {
    file: usize,
    answers: Answers,
    /// Its duration and damaged packets, or what is wrong with it.
    end: Option<Result<(f64, u64)>>,
}

impl Listening {
    fn finish(self, files: &[PathBuf], trained: &Trained, options: &Options) -> Result<Heard> {
        let (duration, damaged) = self.end.expect("called when it has ended")?;
        let spectrogram = options.spectrogram.then(|| self.answers.strip.array());
        let recognition = self.answers.recognition(files[self.file].clone(), duration, trained, options);
        Ok(Heard { recognition, spectrogram, damaged })
    }
}

/// The answers for the excerpts of one recording so far.
struct Answers {
    classes: usize,
    seeds: Vec<u64>,
    /// Seconds of a cell.
    cell: f64,
    /// Instances are frames, of which a cell has 96; else instances have cells.
    frames: bool,
    /// An excerpt is one thing; it covers so many cells as hops.
    whole: bool,
    /// Cells of such an excerpt.
    span: usize,
    /// What a cell's likeliest class is plays in it, and nothing else; in a silent one nothing.
    exclusive: bool,
    /// Cells, and frequency bands, of an instance that is no frame.
    steps: usize,
    bands: usize,
    /// Per excerpt, (R, K): probability, and the attention it draws (1 for models without).
    excerpts: Vec<Vec<[f32; 2]>>,
    /// (cells, K): sums over the excerpts of the seeds' means.
    activity: Vec<f32>,
    attention: Vec<f32>,
    /// (cells): whether an excerpt covers a cell, and how many cover it in which anything plays.
    covered: Vec<bool>,
    heard: Vec<f32>,
    paths: Vec<Path>,
    attends: bool,
    strip: Strip,
}

impl Answers {
    /// `bands` of the spectrogram's frames.
    fn new(trained: &Trained, hop: f64, bands: usize) -> Answers {
        let model: &Model = nn::find(&trained.about.model).expect("a trained model is known");
        let steps = if model.trains_vggish() { MAP[0] } else { 1 };
        let whole = model.is_of_notes();
        let kind = trained.config.kind().expect("a trained model is known");
        let (window, frame) = (kind.window(), kind.spectrogram().hop);
        Answers {
            classes: trained.about.classes.len(),
            seeds: trained.about.seeds.clone(),
            cell: if whole { hop } else { INSTANCE / steps as f64 },
            whole,
            span: ((window / hop).round() as usize).max(1),
            exclusive: model.exclusive,
            frames: kind == Kind::Spectrogram,
            steps,
            bands: model.positions / steps,
            excerpts: vec![],
            activity: vec![],
            attention: vec![],
            covered: vec![],
            heard: vec![],
            paths: vec![],
            attends: model.attends,
            strip: Strip { bands, frame, ..Strip::default() },
        }
    }

    /// Adds what clip `i` of the predictions says, an excerpt that begins at `start` and has so many instances.
    ///
    /// The activity in a cell is the mean score of its places, weighted by attention, times the probability of the excerpt: an
    /// instrument plays here if it plays in the excerpt at all, and here. Of the combinations of score, attention and probability that
    /// were tried on rendered clips with known times it finds these best.
    fn add(&mut self, p: &Predictions, i: usize, start: f64, instances: usize) {
        let k = self.classes;
        let cells = match (self.whole, self.frames) {
            (true, _) => self.span,
            (false, true) => (instances / PATCH_FRAMES).max(1),
            (false, false) => instances * self.steps,
        };
        let first = self.cover(start, cells, 1.0);
        let share = 1.0 / self.seeds.len() as f32;
        let mut answers = vec![];
        for r in 0..self.seeds.len() {
            for class in 0..k {
                let probability = p.probabilities[r].row(i)[class];
                let Some(instance) = &p.instances else {
                    answers.push([probability, 1.0]);
                    (first..first + cells).for_each(|cell| self.activity[cell * k + class] += share * probability);
                    continue;
                };
                let places = instance.gates[r].dims()[1];
                let at = |table: &Array<f32>, cell: usize, band: usize| {
                    table.row(i * places + cell * self.bands + band)[class]
                };
                let mut drawn = 0.0;
                for cell in 0..cells {
                    let (mut gates, mut heard) = (0.0, 0.0);
                    for band in 0..self.bands {
                        let gate = at(&instance.gates[r], cell, band);
                        gates += gate;
                        heard += gate * at(&instance.scores[r], cell, band);
                    }
                    drawn += gates;
                    let into = (first + cell) * k + class;
                    self.activity[into] += share * probability * heard / gates.max(f32::MIN_POSITIVE);
                    self.attention[into] += share * gates / self.bands as f32;
                }
                answers.push([probability, drawn]);
            }
        }
        self.excerpts.push(answers);
        for (seed, glimpses) in self.seeds.iter().zip(&p.glimpses) {
            let looks = glimpses.dims()[1];
            // As in `ops::glimpse`: the first cell of an axis lies at -1, the last at 1.
            let cell = |place: f32, cells: usize| 0.5 * (f64::from(place) + 1.0) * (cells - 1) as f64;
            let glimpse = |j: usize| {
                let [time, band] = *glimpses.row(i * looks + j) else { unreachable!("a location has two axes") };
                Glimpse { time: start + (cell(time, instances) + 0.5) * FRAME, band: cell(band, BANDS) }
            };
            self.paths.push(Path { seed: *seed, start, glimpses: (0..looks).map(glimpse).collect() });
        }
    }

    /// Adds an excerpt in which nothing plays. It has no say in the recording's probabilities.
    fn pause(&mut self, start: f64) {
        self.cover(start, self.span, 0.0);
    }

    /// Makes room for an excerpt of so many cells, in which `say` is 1 if anything plays, else 0. Returns the first of them.
    fn cover(&mut self, start: f64, cells: usize, say: f32) -> usize {
        let at = start / self.cell;
        // The last excerpt of a recording may begin within a cell; it is there for the one after.
        let first = if self.whole { (at - 1e-6).ceil() } else { at.round() } as usize;
        let end = self.covered.len().max(first + cells);
        self.covered.resize(end, false);
        self.activity.resize(end * self.classes, 0.0);
        self.attention.resize(end * self.classes, 0.0);
        self.heard.resize(end, 0.0);
        self.covered[first..first + cells].fill(true);
        self.heard[first..first + cells].iter_mut().for_each(|c| *c += say);
        first
    }

    /// The probability of a class by one seed; 0 if all is silent.
    fn aggregate(&self, r: usize, class: usize, how: Aggregate) -> f64 {
        let answers = || self.excerpts.iter().map(|e| e[r * self.classes + class].map(f64::from));
        match how {
            Aggregate::Max => answers().map(|[p, _]| p).fold(0.0, f64::max),
            Aggregate::Mean => answers().fold(0.0, |sum, [p, _]| sum + p) / self.excerpts.len().max(1) as f64,
            Aggregate::Attention => {
                let drawn: f64 = answers().map(|[_, drawn]| drawn).sum();
                answers().map(|[p, drawn]| p * drawn).sum::<f64>() / drawn.max(f64::MIN_POSITIVE)
            }
        }
    }

    fn recognition(&self, file: PathBuf, duration: f64, trained: &Trained, options: &Options) -> Recognition {
        let k = self.classes;
        // What lies after the last whole instance of an excerpt, and in no other excerpt, belongs to it.
        let cells = ((duration / self.cell).ceil() as usize).max(1);
        let curve = |of: &[f32], class: usize| -> Vec<f32> {
            let mut latest = 0.0;
            let value = |cell: usize| {
                if self.covered.get(cell) == Some(&true) {
                    latest = of[cell * k + class] / self.heard[cell].max(1.0);
                }
                latest
            };
            (0..cells).map(value).collect()
        };
        let curves: Vec<Vec<f32>> = (0..k).map(|class| curve(&self.activity, class)).collect();
        // Of each cell, the first of the likeliest classes, unless it is silent.
        let winner = |cell: usize| {
            let best = answer(&curves.iter().map(|curve| curve[cell]).collect::<Vec<f32>>());
            (curves[best][cell] > 0.0).then_some(best)
        };
        let winners: Vec<Option<usize>> = if self.exclusive { (0..cells).map(winner).collect() } else { vec![] };
        let usual = if self.exclusive { Aggregate::Mean } else { Aggregate::Max };
        let aggregate = options.aggregate.unwrap_or(usual);
        let instrument = |(class, name): (usize, &String)| {
            let by_seed: Vec<f64> = (0..self.seeds.len()).map(|r| self.aggregate(r, class, aggregate)).collect();
            let probability = by_seed.iter().sum::<f64>() / self.seeds.len() as f64;
            let activity = curves[class].clone();
            let (threshold, present, segments) = if self.exclusive {
                let mut wins = activity.clone();
                wins.iter_mut()
                    .zip(&winners)
                    .filter(|(_, winner)| **winner != Some(class))
                    .for_each(|(v, _)| *v = -1.0);
                let segments = segments(&wins, self.cell, 0.0, duration);
                (None, !segments.is_empty(), segments)
            } else {
                let threshold = options.thresholds[class];
                let present = probability >= threshold;
                let segments = if present { segments(&activity, self.cell, threshold, duration) } else { vec![] };
                (Some(threshold), present, segments)
            };
            let attention = self.attends.then(|| {
                let drawn = curve(&self.attention, class);
                let most = drawn.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
                drawn.iter().map(|v| v / most).collect()
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
            }
        };
        let patches = nn::find(&trained.about.model).expect("a trained model is known").patches;
        Recognition {
            file,
            duration,
            model: trained.about.model.clone(),
            seeds: self.seeds.clone(),
            cell: self.cell,
            instruments: trained.about.classes.iter().enumerate().map(instrument).collect(),
            paths: self.paths.clone(),
            patches: patches.iter().map(|[frames, bands]| [*frames as f64 * FRAME, *bands as f64]).collect(),
        }
    }
}

/// A spectrogram of bounded width: when it grows too long, neighbouring columns become their mean.
#[derive(Default)]
struct Strip {
    /// Values of a frame.
    bands: usize,
    /// Seconds from one frame to the next.
    frame: f64,
    /// Frames that a column stands for, less one.
    merged: usize,
    columns: Vec<f32>,
    /// Frames that have gone into the last, unfinished column, and their sum.
    pending: usize,
    sum: Vec<f32>,
    /// Frames seen.
    frames: usize,
}

impl Strip {
    const MAX_COLUMNS: usize = 2000;

    /// Adds the frames of an excerpt that are new.
    fn add(&mut self, start: f64, spectrogram: &[f32]) {
        let first = (start / self.frame).round() as usize;
        let skip = self.frames.saturating_sub(first);
        let bands = self.bands;
        for frame in spectrogram.chunks_exact(bands.max(1)).skip(skip) {
            self.frames += 1;
            self.sum.resize(bands, 0.0);
            self.sum.iter_mut().zip(frame).for_each(|(sum, v)| *sum += v);
            self.pending += 1;
            if self.pending == self.merged + 1 {
                let n = self.pending as f32;
                self.columns.extend(self.sum.drain(..).map(|v| v / n));
                self.pending = 0;
                if self.columns.len() == Strip::MAX_COLUMNS * bands {
                    let pairs = self.columns.chunks_exact(2 * bands);
                    self.columns = pairs.flat_map(|p| (0..bands).map(|b| (p[b] + p[bands + b]) / 2.0)).collect();
                    self.merged = 2 * self.merged + 1;
                }
            }
        }
    }

    fn array(&self) -> Array<f32> {
        let mut columns = self.columns.clone();
        if columns.is_empty() {
            // Shorter than a column: whatever there is.
            columns = self.sum.iter().map(|v| v / self.pending.max(1) as f32).collect();
        }
        columns.resize(columns.len().max(self.bands), 0.0);
        Array::new([columns.len() / self.bands, self.bands], columns)
    }
}
