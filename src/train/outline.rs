//! What a training run takes: dispatches, memory and work, without running it.

use serde::Serialize;

use crate::core::error::{Error, Result};
use crate::data::Dataset;
use crate::features::device_dataset::Dims;
use crate::features::front_end::FrontEnd;
use crate::gpu::{Gpu, Tuned};
use crate::ops::gather::Encoding;
use crate::ops::sample::Order;
use crate::predict::forest;
use crate::run::clips::{Labels, audio_of, load_clips};
use crate::run::config::Config;
use crate::run::splits::splits;
use crate::train::graphs::Graphs;

/// The sizes of a run's clips.
#[derive(Clone, Debug)]
pub struct Extent {
    pub dims: Dims,
    /// Clips of a seed.
    pub train: usize,
    pub val: usize,
    /// A line each.
    pub warnings: Vec<String>,
}

impl Extent {
    /// Of the run with these settings. Audio is not decoded for it: there is one clip per file.
    ///
    /// # Errors
    /// As [`load_clips`] and [`AudioSet::splits`](crate::data::AudioSet::splits).
    pub fn of(gpu: &Gpu, config: &mut Config) -> Result<Extent> {
        config.front_end.iter_mut().try_for_each(FrontEnd::settle_width)?;
        let Some((set, feature_config)) = audio_of(config)? else {
            let data = load_clips(gpu, config, Labels::Required, &|| false, &mut |_| {})?;
            return Extent::of_clips(gpu, config, &data.expect("only an extraction is stopped"));
        };
        let kind = feature_config.kind;
        let (train, val) = set.splits(config.val_fraction, config.val_keys.as_deref())?;
        let (clips, instances, width) = (set.keys.len(), kind.instances(kind.samples()), feature_config.instance_len());
        let scalar = if feature_config.is_in_bytes() { Encoding::Bytes } else { Encoding::Halves };
        let dims = Dims {
            clips,
            instances,
            stored: instances,
            width,
            classes: set.classes.len(),
            encoding: scalar.of_clips(instances * width),
            slots: clips,
            strong: kind.has_patches() && (set.has_times() || config.times.is_some()),
        };
        let mut warnings = set.warnings;
        if config.notes.is_some() || set.own.is_some() {
            warnings.push("one clip per file is assumed; the true number is known after decoding".into());
        }
        let [held, clips] = config.mixtures();
        let dims = dims.fitted(gpu.max_binding()).with_room(held + clips, gpu.max_binding())?;
        Ok(Extent { dims, train: train.len() + clips, val: val.len() + held, warnings })
    }

    /// Of the run with these settings on clips that are loaded.
    ///
    /// # Errors
    /// As [`splits`]; `Limit` for mixtures that do not fit.
    pub fn of_clips(gpu: &Gpu, config: &Config, data: &Dataset) -> Result<Extent> {
        let [held, clips] = config.mixtures();
        let dims = Dims::of_training(data, config.model()?.fixed_instances, held + clips, gpu.max_binding())?;
        let (train, val) = splits(config, data)?.swap_remove(0);
        Ok(Extent { dims, train: train.len() + clips, val: val.len() + held, warnings: data.warnings.clone() })
    }
}

/// Sizes in bytes, work in floating-point operations, summed over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outline {
    pub model: String,
    pub seeds: usize,
    pub batch: usize,
    pub steps_per_epoch: usize,
    pub parameters_per_seed: usize,
    pub dispatches_forward: usize,
    pub dispatches_backward: usize,
    pub dispatches_update: usize,
    /// Of the forward and backward pass: how often a dispatch waits for all before it.
    pub barriers: usize,
    pub dispatches_validation: usize,
    pub memory_data: u64,
    pub memory_parameters: u64,
    pub memory_activations: u64,
    pub memory_activations_unshared: u64,
    pub forward_flops: f64,
    /// Why this adapter cannot run it, if it cannot.
    pub limit: Option<String>,
    /// (kernel, calls per step)
    pub kernels: Vec<(&'static str, usize)>,
}

impl Outline {
    /// Of a network on an adapter, with these kernels.
    ///
    /// # Errors
    /// `Data` without training or validation clips, `Shape` of building the plans, `Shader` for WGSL that does not
    /// compile.
    pub fn of(gpu: &Gpu, kernels: impl Into<Tuned>, config: &Config, extent: &Extent) -> Result<Outline> {
        let Extent { dims, train, val, .. } = *extent;
        if let Some((split, _)) = [("training", train), ("validation", val)].iter().find(|(_, clips)| *clips == 0) {
            return Err(Error::data(&config.dataset, format!("has no {split} clips")));
        }
        let graphs = Graphs::new(config, dims, train, val, Order::Shuffled)?;
        let replicas = config.seeds.len();
        let drafts = graphs.drafts(kernels, replicas)?;
        let drafts_fit = drafts.iter().try_for_each(|draft| draft.fits(gpu));
        let [step, update, validation] = drafts;
        let layout = graphs.step.layout();
        let (dispatches_forward, dispatches_backward) = step.dispatches();
        let (own, unshared) = step.memory();
        let floats = |n: usize| n as u64 * 4;
        let mut kernels: Vec<(&'static str, usize)> = vec![];
        for d in step.steps().iter().chain(update.steps()) {
            match kernels.iter_mut().find(|(name, _)| *name == d.entry) {
                Some((_, calls)) => *calls += 1,
                None => kernels.push((d.entry, 1)),
            }
        }
        Ok(Outline {
            model: config.model.clone(),
            seeds: replicas,
            batch: config.batch.min(train),
            steps_per_epoch: train.div_ceil(config.batch.min(train)),
            parameters_per_seed: layout.count(),
            dispatches_forward,
            dispatches_backward,
            dispatches_update: update.dispatches().0,
            barriers: step.barriers()?.placed,
            dispatches_validation: validation.dispatches().0,
            memory_data: dims.slots as u64 * dims.clip_bytes() + floats(dims.clips * (1 + dims.classes)),
            // Values, moments and the best so far; statistics and their best; gradients.
            memory_parameters: floats(
                replicas * ((2 + config.optimiser.moments()) * layout.trained + 2 * layout.stats) + step.gradients(),
            ),
            memory_activations: own + validation.memory().0,
            memory_activations_unshared: unshared + validation.memory().1,
            limit: drafts_fit.err().map(|error| error.to_string()),
            forward_flops: graphs.step.forward_cost().flops * replicas as f64,
            kernels,
        })
    }
}

/// Of a forest, which is trained on the CPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ForestOutline {
    pub model: String,
    pub seeds: usize,
    pub forests_per_seed: usize,
    pub trees_per_forest: usize,
    pub splits_to_a_leaf: usize,
    pub features_per_split: usize,
    pub threads: usize,
}

impl ForestOutline {
    pub fn of(config: &Config, dims: Dims) -> ForestOutline {
        ForestOutline {
            model: config.model.clone(),
            seeds: config.seeds.len(),
            forests_per_seed: dims.classes,
            trees_per_forest: forest::TREES,
            splits_to_a_leaf: forest::DEPTH,
            features_per_split: forest::features_per_split(dims.width),
            threads: forest::threads(),
        }
    }
}
