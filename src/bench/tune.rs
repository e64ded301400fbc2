//! Measures the tilings of the matrix products of a model's training step and prediction.
//!
//! Each op with products is replayed on its own, on noise and for one replica, forward and backward: a tiling counts by
//! what it does to the whole pass, as it also decides which products share a dispatch and how many slices are summed
//! afterwards.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::bench::results::Time;
use crate::bench::steps::{Step, example};
use crate::bench::timer::Timer;
use crate::core::error::{Error, Result};
use crate::core::random::Stream;
use crate::gpu::{Buffer, Gpu, Pass, Precision, Target, TiledProduct, Tiling, Tilings, Tuned};
use crate::graph::{Alone, Arenas, Draft, Dtype};
use crate::nn::Model;
use crate::ops::sample::Order;
use crate::run::config::Config;
use crate::run::given::Given;
use crate::train::graphs::Graphs;
use crate::train::outline::Extent;

/// Another tiling must save at least this part of the time, and more than either time spreads.
const GAIN: f64 = 0.03;

/// A product and its tilings.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub op: &'static str,
    /// See [`crate::gpu::Problem`].
    pub problem: String,
    pub default: Option<Tiling>,
    pub chosen: Option<Tiling>,
    /// Of the whole pass of the op with the default.
    pub default_us: f64,
    pub chosen_us: f64,
    /// The larger spread of the two: interquartile range over median.
    pub spread: f64,
    /// All that were tried, in microseconds.
    pub tried: BTreeMap<String, f64>,
}

impl Measured {
    /// How many times as fast as with the default.
    pub fn ratio(&self) -> f64 {
        self.default_us / self.chosen_us
    }

    /// "64 / 4", or what has no tiles.
    pub fn name(tiling: Option<Tiling>) -> String {
        tiling.map_or("no tiles".into(), |tiling| tiling.to_string())
    }
}

/// The graphs of training `model` as `wmic bench` does, with other settings where they are given, and the precision.
///
/// # Errors
/// `Usage` for a forest, and settings that the model does not support.
pub fn example_graphs(gpu: &Gpu, model: &'static Model, given: &Given) -> Result<(Graphs, Precision)> {
    if model.is_forest() {
        return Err(Error::Usage(format!("{} is trained on the CPU: there is nothing to tune", model.name)));
    }
    let step = Step::of(model, None).swap_remove(0);
    let (config, data) = example(step)?;
    let config = given.apply_to(&config)?;
    config.validate()?;
    Ok((graphs(&config, &Extent::of_clips(gpu, &config, &data)?)?, config.precision))
}

/// The graphs of a training run.
///
/// # Errors
/// `Usage` for a forest, `Data` without training or validation clips.
pub fn graphs(config: &Config, extent: &Extent) -> Result<Graphs> {
    if config.model()?.is_forest() {
        return Err(Error::Usage(format!("{} is trained on the CPU: there is nothing to tune", config.model)));
    }
    let Extent { dims, train, val, .. } = *extent;
    if train == 0 || val == 0 {
        return Err(Error::data(&config.dataset, "has no training or no validation clips"));
    }
    Graphs::new(config, dims, train, val, Order::Shuffled)
}

/// Measures all products of `graphs` that are not in `done` yet, and adds them to it. `each` is told of every product.
///
/// # Errors
/// Those of running kernels; tilings that the adapter cannot run are left out.
pub fn tune(
    timer: &Timer,
    graphs: &Graphs,
    precision: Precision,
    done: &mut Vec<Measured>,
    each: &mut dyn FnMut(&Measured) -> Result<()>,
) -> Result<()> {
    let target = timer.gpu.adapter().target_of(precision)?;
    let drafts = graphs.drafts(target, 1)?;
    for (graph, draft) in [(&graphs.step, &drafts[0]), (&graphs.validation, &drafts[2])] {
        let ops: BTreeSet<&str> = draft.products().iter().map(|product| product.op).collect();
        for op in ops {
            for alone in graph.alone(op)? {
                let mut trial = Trial::new(timer, target, &alone)?;
                for product in trial.draft(&Tilings::default())?.products().to_vec() {
                    if done.iter().all(|known| known.problem != product.problem.to_string()) {
                        let measured = trial.choose(product)?;
                        each(&measured)?;
                        done.push(measured);
                    }
                }
            }
        }
    }
    Ok(())
}

/// The choices among what was measured.
pub fn choices(measured: &[Measured]) -> Tilings {
    let chosen = measured.iter().filter(|of| of.chosen != of.default);
    Tilings(chosen.filter_map(|of| Some((of.problem.clone(), of.chosen?))).collect())
}

/// An op on its own, with what it reads.
struct Trial<'a> {
    timer: &'a Timer<'a>,
    target: Target,
    alone: &'a Alone,
    bound: Vec<(String, Buffer)>,
    /// Chosen so far.
    tilings: Tilings,
}

impl<'a> Trial<'a> {
    fn new(timer: &'a Timer, target: Target, alone: &'a Alone) -> Result<Trial<'a>> {
        let (gpu, graph) = (timer.gpu, &alone.graph);
        let mut stream = Stream::new(0, 0);
        let mut noise = |len: usize| -> Vec<f32> { (0..len).map(|_| stream.uniform(1.0) as f32).collect() };
        let arenas = Arenas::new(gpu, graph.layout(), 1, true)?;
        gpu.write(&arenas.params, 0, &noise(graph.layout().trained))?;
        let mut bound: Vec<(String, Buffer)> = arenas.named().map(|(name, buffer)| (name.to_owned(), buffer)).into();
        for (name, spec) in graph.external() {
            let len = spec.shape.len();
            let buffer = match spec.dtype {
                Dtype::F32 => gpu.upload(name, &noise(len))?,
                Dtype::U32 => gpu.buffer(name, len)?,
            };
            bound.push((name.to_owned(), buffer));
        }
        for (y, name) in &alone.seeds {
            bound.push((name.clone(), gpu.upload(name, &noise(graph.shape(*y).len()))?));
        }
        Ok(Trial { timer, target, alone, bound, tilings: Tilings::default() })
    }

    fn draft(&self, tilings: &Tilings) -> Result<Draft> {
        let Alone { graph, outputs, seeds } = self.alone;
        let kernels = Tuned { tilings: tilings.clone(), ..self.target.into() };
        let seeds: Vec<_> = seeds.iter().map(|(y, name)| (*y, name.as_str())).collect();
        Draft::new(graph, kernels, 1, outputs, &seeds)
    }

    /// Of a pass, forward or backward; `None` if the adapter cannot run it.
    fn time(&self, tilings: &Tilings, forward: bool) -> Result<Option<Time>> {
        let (gpu, draft) = (self.timer.gpu, self.draft(tilings)?);
        match draft.fits(gpu) {
            Err(Error::Limit { .. }) => return Ok(None),
            fits => fits?,
        }
        let bound: Vec<_> = self.bound.iter().map(|(name, buffer)| (name.as_str(), buffer.clone())).collect();
        let plan = draft.realise(gpu, &bound)?;
        gpu.run(|s| s.replay(&[&plan.recording], 1))?;
        let of_pass = draft.steps().iter().filter(|d| (d.pass == Pass::Forward) == forward);
        let part = plan.part(gpu, &of_pass.cloned().collect::<Vec<_>>())?;
        self.timer.time(&[&part]).map(Some)
    }

    /// The fastest tiling of a product, with those of other products chosen before.
    fn choose(&mut self, product: TiledProduct) -> Result<Measured> {
        let TiledProduct { op, problem, default, .. } = product;
        let forward = problem.kernel.ends_with("_forward");
        self.draft(&self.tilings)?.fits(self.timer.gpu)?;
        let own = self.time(&self.tilings, forward)?.ok_or_else(|| {
            let reason = format!("this adapter cannot run {problem} on its own");
            Error::Usage(reason)
        })?;
        let mut tried = BTreeMap::from([(Measured::name(default), own.seconds * 1e6)]);
        let mut best = (default, own);
        for tiling in product.others() {
            if let Some(time) = self.time(&self.tilings.with(&problem, tiling), forward)? {
                tried.insert(tiling.to_string(), time.seconds * 1e6);
                if time.seconds < best.1.seconds {
                    best = (Some(tiling), time);
                }
            }
        }
        let spread = own.sampling.spread.max(best.1.sampling.spread);
        if best.1.seconds * (1.0 + GAIN.max(spread)) > own.seconds {
            best = (default, own);
        }
        if let (Some(tiling), true) = (best.0, best.0 != default) {
            self.tilings = self.tilings.with(&problem, tiling);
        }
        Ok(Measured {
            op,
            problem: problem.to_string(),
            default,
            chosen: best.0,
            default_us: own.seconds * 1e6,
            chosen_us: best.1.seconds * 1e6,
            spread,
            tried,
        })
    }
}
