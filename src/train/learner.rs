//! The GPU side of training: plans, arenas, and the state between steps.
//!
//! A step is two recordings: gather (after sample on software adapters), augmentation, model, loss and backward; then
//! the optimiser over the whole arena, which ends the step. Nothing is read back within an epoch: step number, batch,
//! random state and the epoch's sums are all on the GPU.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::random::key;
use crate::features::column_statistics::column_statistics;
use crate::features::device_dataset::{BatchSchedule, DeviceDataset};
use crate::gpu::{Buffer, Gpu, Pace};
use crate::graph::{Arenas, Draft, Layout, Plan};
use crate::metrics::counts::Counts;
use crate::nn;
use crate::ops::adagrad;
use crate::ops::masked_bce::{FocalAlpha, Loss};
use crate::ops::sample::Order;
use crate::ops::standardise_columns::{DEVIATION, MEAN};
use crate::ops::track::NEVER;
use crate::run::config::{Config, Optimiser};
use crate::run::splits::Split;
use crate::run::state::State;
use crate::run::tuning::Tuning;
use crate::run::weights::Block;
use crate::train::graphs::{Graphs, batches};

/// What is read back after an epoch, one entry per replica.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochSums {
    pub train_loss: Vec<f32>,
    pub val_loss: Vec<f32>,
    /// Of validation, per replica, per class.
    pub counts: Vec<Vec<Counts>>,
    /// Of training, for single-label models; else empty.
    pub train_counts: Vec<Vec<Counts>>,
    /// The first step with a non-finite loss.
    pub diverged: Vec<Option<u32>>,
}

/// Parameters by name.
pub(crate) type NamedArrays = Vec<(String, Array<f32>)>;

pub struct Learner<'g> {
    gpu: &'g Gpu,
    layout: Layout,
    seeds: Vec<u64>,
    classes: usize,
    /// Steps per epoch, of training and of validation.
    batches: usize,
    val_batches: usize,
    step: Plan,
    update: Plan,
    validation: Plan,
    schedule: BatchSchedule,
    val_schedule: BatchSchedule,
    arenas: Arenas,
    best: [Buffer; 2],
    moments: [Buffer; 2],
    clock: Buffer,
    val_clock: Buffer,
    totals: Buffer,
    diverged: Buffer,
    parts: Buffer,
    val_totals: Buffer,
    counts: Buffer,
    /// Of training; only for single-label models.
    train_counts: Option<Buffer>,
    /// The problems with a choice of tiles.
    products: BTreeSet<String>,
    /// Steps done.
    done: usize,
    pace: Pace,
    val_pace: Pace,
}

/// The orders of the clips of a training step: its own, and those of the partners in augmentation, or in pairs that
/// should differ.
fn orders(config: &Config, order: Order) -> Vec<Order> {
    [order].into_iter().chain(config.augment.iter().map(|a| a.partners())).chain(config.negatives()).collect()
}

impl<'g> Learner<'g> {
    /// Lays everything out on the GPU. `splits` holds each replica's (train, validation) clips, the same counts for
    /// all; `order` is that of the training clips; `frozen` are weights that the model's graph uses by name.
    pub fn new(
        gpu: &'g Gpu,
        config: &Config,
        corpus: &DeviceDataset,
        frozen: &[(String, Buffer)],
        splits: &[Split],
        order: Order,
    ) -> Result<Learner<'g>> {
        let replicas = config.seeds.len();
        let (train, val) = (splits[0].0.len(), splits[0].1.len());
        let graphs = Graphs::new(config, corpus.dims, train, val, order)?;
        let drafts =
            graphs.drafts(Tuning::kernels(config.tuning.as_ref(), gpu.adapter(), config.precision)?, replicas)?;
        let products = drafts.iter().flat_map(Draft::products).map(|product| product.problem.to_string()).collect();
        drafts.iter().try_for_each(|draft| draft.fits(gpu))?;
        let layout = graphs.step.layout().clone();
        let grads = gpu.buffer("gradients", drafts[0].gradients().max(1))?;
        let arenas = Arenas { grads, ..Arenas::new(gpu, &layout, replicas, false)? };
        let arena = |label, len: usize| gpu.buffer(label, len.max(1) * replicas);
        let best = [arena("best parameters", layout.trained)?, arena("best statistics", layout.stats)?];
        let moments = match config.optimiser {
            Optimiser::Adam | Optimiser::Adamw => {
                [arena("first moment", layout.trained)?, arena("second moment", layout.trained)?]
            }
            Optimiser::Adagrad => {
                // A replica's at a time: large models have large arenas.
                let sums = arena("sums of squares", layout.trained)?;
                let first = vec![adagrad::INITIAL; layout.trained];
                (0..replicas).try_for_each(|r| gpu.write(&sums, r * layout.trained, &first))?;
                [sums, arena("none", 0)?]
            }
            Optimiser::Sgd => [arena("none", 0)?, arena("none", 0)?],
        };
        let (train_pools, val_pools): (Vec<_>, Vec<_>) = splits.iter().cloned().unzip();
        let train_pool = gpu.upload("training clips", &train_pools.concat())?;
        let val_pool = gpu.upload("validation clips", &val_pools.concat())?;
        let schedule =
            BatchSchedule::new(corpus, train_pools, &config.seeds, config.batch.min(train), orders(config, order))?;
        let val_schedule = BatchSchedule::new(
            corpus,
            val_pools,
            &config.seeds,
            config.batch.min(val),
            [Order::InOrder].into_iter().chain(config.negatives()).collect(),
        )?;
        let clocks: Vec<u32> = config.seeds.iter().flat_map(|&s| [key(s)[0], key(s)[1], 0, 0]).collect();
        let clock = gpu.upload("clock", &clocks)?;
        let val_clock = gpu.upload("validation clock", &clocks)?;
        let totals = gpu.buffer("totals", 2 * replicas)?;
        let val_totals = gpu.buffer("validation totals", 2 * replicas)?;
        let diverged = gpu.upload("diverged", &vec![NEVER; replicas])?;
        let val_diverged = gpu.upload("validation diverged", &vec![NEVER; replicas])?;
        let counts = gpu.buffer("counts", 4 * corpus.dims.classes * replicas)?;
        let single_label = nn::find(&config.model)?.single_label;
        let count = || gpu.buffer("training counts", 4 * corpus.dims.classes * replicas);
        let train_counts = single_label.then(count).transpose()?;
        let ones = gpu.upload("loss gradient", &vec![1.0f32; replicas])?;
        let weight = config.weight_of_instances(corpus.dims.strong) as f32;
        let of_instances = gpu.upload("instance loss gradient", &vec![weight; replicas])?;
        // Computed again on resuming, from the same clips.
        let alpha = match (config.loss, config.focal_alpha) {
            (Loss::Focal, FocalAlpha::InverseFrequency | FocalAlpha::InverseClassFrequency) => {
                let pools = splits.iter().map(|(train, _)| train.as_slice());
                Some(("alpha", gpu.upload("alpha", &corpus.focal_alphas(gpu, config.focal_alpha, pools)?)?))
            }
            _ => None,
        };

        let [step, update, validation] = drafts;
        let mut bound = arenas.named().to_vec();
        bound.extend(corpus.named());
        bound.extend(frozen.iter().map(|(name, buffer)| (name.as_str(), buffer.clone())));
        bound.extend([("clock", clock.clone()), ("pool", train_pool), ("dloss", ones)]);
        bound.push(("dloss_instances", of_instances));
        bound.extend(alpha.clone());
        bound.extend(train_counts.iter().map(|counts| ("train_counts", counts.clone())));
        let step = step.realise(gpu, &bound)?;
        let mut bound = arenas.named().to_vec();
        bound.extend([("m", moments[0].clone()), ("v", moments[1].clone()), ("clock", clock.clone())]);
        bound.extend([("totals", totals.clone()), ("diverged", diverged.clone())]);
        let parts = step.buffer(graphs.parts).0.clone();
        bound.push(("parts", parts.clone()));
        let update = update.realise(gpu, &bound)?;
        let mut bound = arenas.named().to_vec();
        bound.extend(corpus.named());
        bound.extend(frozen.iter().map(|(name, buffer)| (name.as_str(), buffer.clone())));
        bound.extend([("clock", val_clock.clone()), ("pool", val_pool), ("counts", counts.clone())]);
        bound.extend([("totals", val_totals.clone()), ("diverged", val_diverged)]);
        bound.extend(alpha);
        let validation = validation.realise(gpu, &bound)?;

        let mut learner = Learner {
            gpu,
            layout,
            seeds: config.seeds.clone(),
            classes: corpus.dims.classes,
            batches: batches(config, train),
            val_batches: batches(config, val),
            step,
            update,
            validation,
            schedule,
            val_schedule,
            arenas,
            best,
            moments,
            clock,
            val_clock,
            totals,
            diverged,
            parts,
            val_totals,
            counts,
            train_counts,
            products,
            done: 0,
            pace: Pace::default(),
            val_pace: Pace::default(),
        };
        let blocks: Vec<Block> = config
            .seeds
            .iter()
            .map(|&seed| {
                let (trained, stats) = learner.layout.initial(seed);
                Block { trained, stats }
            })
            .collect();
        learner.set_weights(&blocks)?;
        Ok(learner)
    }

    /// The problems with a choice of tiles in its plans.
    pub(super) fn products(&self) -> &BTreeSet<String> {
        &self.products
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Training steps of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.batches
    }

    /// Training steps done so far.
    pub(crate) fn steps_done(&self) -> usize {
        self.done
    }

    /// Replaces the weights of all replicas, the best ones as well.
    pub fn set_weights(&mut self, blocks: &[Block]) -> Result<()> {
        for (r, block) in blocks.iter().enumerate() {
            for (buffer, part) in [(&self.arenas.params, &block.trained), (&self.best[0], &block.trained)] {
                self.gpu.write(buffer, r * part.len(), part)?;
            }
            for (buffer, part) in [(&self.arenas.stats, &block.stats), (&self.best[1], &block.stats)] {
                self.gpu.write(buffer, r * part.len(), part)?;
            }
        }
        Ok(())
    }

    /// Measures the statistics of standardised inputs on the training clips, where the weights do not have them yet.
    fn measure_inputs(&mut self) -> Result<()> {
        let range = |name| {
            let param = self.layout.params.iter().find(|param| param.name == name)?;
            Some(param.offset..param.offset + param.shape.len())
        };
        let (Some(mean), Some(deviation)) = (range(MEAN), range(DEVIATION)) else { return Ok(()) };
        let mut blocks = self.best_weights()?;
        let is_unknown = |block: &Block| block.stats[deviation.start] == 0.0;
        if !blocks.iter().any(is_unknown) {
            return Ok(());
        }
        let (data, pools) = self.schedule.clips();
        let measured = column_statistics(self.gpu, data, pools)?;
        for (block, columns) in blocks.iter_mut().zip(measured).filter(|(block, _)| is_unknown(block)) {
            block.stats[mean.clone()].copy_from_slice(&columns.mean);
            block.stats[deviation.clone()].copy_from_slice(&columns.deviation);
        }
        self.set_weights(&blocks)
    }

    /// Trains to the end of the epoch, or until `stop` returns true. `progress` is called with the number of steps done
    /// after each submission. Returns whether the epoch is complete.
    pub fn train(&mut self, stop: &dyn Fn() -> bool, progress: &mut dyn FnMut(usize)) -> Result<bool> {
        let left = self.batches - self.done % self.batches;
        Ok(self.run(left, stop, progress)? == left)
    }

    /// Runs the validation split and reads back the epoch's sums.
    pub fn validate(&mut self) -> Result<EpochSums> {
        let Learner { gpu, val_schedule, val_pace, validation, val_batches, .. } = self;
        // Every epoch has the same pairs that should differ, also in a resumed run.
        (0..self.seeds.len()).try_for_each(|r| gpu.write(&self.val_clock, 4 * r + 2, &[0u32; 2]))?;
        let mut upload = |steps: Range<usize>| val_schedule.upload(gpu, steps.start, steps.len());
        let most = val_schedule.most_steps();
        val_pace.replay(gpu, &[&validation.recording], *val_batches, most, &mut upload, &mut |_| true)?;
        let read = self.gpu.read_many(&[&self.totals, &self.val_totals, &self.diverged, &self.counts])?;
        let loss = |words: &[u32]| -> Vec<f32> {
            // An epoch without any observed label has no loss; it is zero, as in the kernel.
            words.chunks(2).map(|w| f32::from_bits(w[0]) / f32::from_bits(w[1]).max(1.0)).collect()
        };
        let class = |w: &[u32]| Counts { tp: w[0].into(), fp: w[1].into(), fn_: w[2].into(), tn: w[3].into() };
        let by_class = |words: &[u32]| -> Vec<Vec<Counts>> {
            words.chunks(4 * self.classes).map(|of| of.chunks(4).map(class).collect()).collect()
        };
        let of_training = self.train_counts.as_ref().map(|counts| self.gpu.read::<u32>(counts)).transpose()?;
        Ok(EpochSums {
            train_loss: loss(&read[0]),
            val_loss: loss(&read[1]),
            diverged: read[2].iter().map(|&s| (s != NEVER).then_some(s)).collect(),
            counts: by_class(&read[3]),
            train_counts: by_class(&of_training.unwrap_or_default()),
        })
    }

    /// Copies the current weights of these replicas to their best, on the GPU.
    pub(crate) fn save_best(&self, replicas: &[usize]) -> Result<()> {
        self.gpu.submit(|s| {
            for &r in replicas {
                let (p, q) = (self.layout.trained, self.layout.stats);
                s.copy(&self.arenas.params, r * p, &self.best[0], r * p, p);
                s.copy(&self.arenas.stats, r * q, &self.best[1], r * q, q);
            }
        })?;
        Ok(())
    }

    /// The best weights so far.
    pub fn best_weights(&self) -> Result<Vec<Block>> {
        let (p, q) = (self.layout.trained, self.layout.stats);
        let block = |r: usize| {
            let trained = self.gpu.read_at(&self.best[0], r * p, p)?;
            let stats = self.gpu.read_at(&self.best[1], r * q, q)?;
            Ok(Block { trained, stats })
        };
        (0..self.seeds.len()).map(block).collect()
    }

    pub fn state(&self) -> Result<State> {
        let read = |buffer: &Buffer| self.gpu.read::<f32>(buffer);
        Ok(State {
            params: read(&self.arenas.params)?,
            stats: read(&self.arenas.stats)?,
            m: read(&self.moments[0])?,
            v: read(&self.moments[1])?,
            best_params: read(&self.best[0])?,
            best_stats: read(&self.best[1])?,
            totals: read(&self.totals)?,
            diverged: self.gpu.read(&self.diverged)?,
            counts: self.train_counts.as_ref().map_or(Ok(vec![]), |counts| self.gpu.read(counts))?,
            step: self.done as u32,
        })
    }

    /// Restores a saved state.
    ///
    /// # Errors
    /// `Usage` when it is of another model or another number of seeds.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let pairs = [
            (&self.arenas.params, &state.params),
            (&self.arenas.stats, &state.stats),
            (&self.moments[0], &state.m),
            (&self.moments[1], &state.v),
            (&self.best[0], &state.best_params),
            (&self.best[1], &state.best_stats),
            (&self.totals, &state.totals),
        ];
        for (buffer, values) in pairs {
            if buffer.len() != values.len() {
                return Err(Error::Usage("the saved state is of another model or another number of seeds".into()));
            }
            self.gpu.write(buffer, 0, values)?;
        }
        if self.diverged.len() != state.diverged.len() {
            return Err(Error::Usage("the saved state is of another number of seeds".into()));
        }
        self.gpu.write(&self.diverged, 0, &state.diverged)?;
        if self.train_counts.as_ref().map_or(0, Buffer::len) != state.counts.len() {
            return Err(Error::Usage("the saved state is of another number of classes".into()));
        }
        if let Some(counts) = &self.train_counts {
            self.gpu.write(counts, 0, &state.counts)?;
        }
        for r in 0..self.seeds.len() {
            self.gpu.write(&self.clock, 4 * r + 2, &[state.step; 2])?;
        }
        self.done = state.step as usize;
        Ok(())
    }

    /// The plans of a training step: model and update. For benchmarks; replaying them trains without counting steps.
    pub(crate) fn step_plans(&self) -> [&Plan; 2] {
        [&self.step, &self.update]
    }

    /// Each replica's loss in the latest training step.
    pub fn latest_loss(&self) -> Result<Vec<f32>> {
        let parts = self.gpu.read::<f32>(&self.parts)?;
        Ok(parts.chunks(2).map(|p| p[0] / p[1]).collect())
    }

    /// Each replica's gradients of the latest training step, by name.
    pub fn latest_gradients(&self) -> Result<Vec<NamedArrays>> {
        let grads = self.gpu.read::<f32>(&self.arenas.grads)?;
        let no_stats = vec![0.0; self.layout.stats];
        let blocks = grads.chunks(self.layout.trained).take(self.seeds.len());
        Ok(blocks.map(|block| self.layout.unpack(block, &no_stats)).collect())
    }

    /// Trains `steps` steps, across epochs. Returns the time taken.
    pub fn run_steps(&mut self, steps: usize) -> Result<Duration> {
        let start = Instant::now();
        self.run(steps, &|| false, &mut |_| {})?;
        Ok(start.elapsed())
    }

    /// Trains up to `steps` steps and returns how many were done; `progress` is called with the total.
    fn run(&mut self, steps: usize, stop: &dyn Fn() -> bool, progress: &mut dyn FnMut(usize)) -> Result<usize> {
        if self.done == 0 {
            self.measure_inputs()?;
        }
        let Learner { gpu, schedule, pace, done: first, .. } = self;
        let first = *first;
        let recordings = [&self.step.recording, &self.update.recording];
        let mut upload = |steps: Range<usize>| schedule.upload(gpu, first + steps.start, steps.len());
        let mut on_progress = |n: usize| {
            progress(first + n);
            !stop()
        };
        let done = pace.replay(gpu, &recordings, steps, schedule.most_steps(), &mut upload, &mut on_progress)?;
        self.done += done;
        Ok(done)
    }
}
