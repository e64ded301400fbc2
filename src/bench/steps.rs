//! Whole training steps: forward, backward and update of all replicas, on clips of noise.

use super::Timer;
use crate::data::{Dataset, FeatureValues, Features};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::ops::sample::Order;
use crate::random::Stream;
use crate::report::bench::StepResult;
use crate::train::learner::Learner;
use crate::train::{Config, Corpus};

/// Sizes of OpenMIC-2018's features.
const INSTANCES: usize = 10;
const WIDTH: usize = 128;
const CLASSES: usize = 20;
/// Batches in the dataset of noise: what a step reads should not lie in a cache more than in real training.
const BATCHES: usize = 16;

/// A kernel's part of a training step.
pub struct Part {
    pub kernel: &'static str,
    /// Calls per step.
    pub calls: usize,
    /// Of all calls, each timed on its own.
    pub seconds: f64,
}

/// Times a training step of a model with `replicas` seeds on batches of `batch` clips each.
pub fn step(timer: &Timer, model: &str, batch: usize, replicas: usize) -> Result<StepResult> {
    let learner = learner(timer.gpu, model, batch, replicas)?;
    let seconds = timer.seconds(&learner.step_plans().map(|plan| &plan.recording))?;
    Ok(StepResult {
        model: model.into(),
        batch,
        replicas,
        ms_per_step: seconds * 1e3,
        clips_per_s: (batch * replicas) as f64 / seconds,
        peer: None,
    })
}

/// Times every dispatch of such a step on its own, longest first.
pub fn profile(timer: &Timer, model: &str, batch: usize, replicas: usize) -> Result<Vec<Part>> {
    let learner = learner(timer.gpu, model, batch, replicas)?;
    let mut parts: Vec<Part> = vec![];
    for plan in learner.step_plans() {
        for dispatch in &plan.dispatches {
            let seconds = timer.seconds(&[&plan.single(timer.gpu, dispatch)?])?;
            match parts.iter_mut().find(|p| p.kernel == dispatch.entry) {
                Some(part) => {
                    part.calls += 1;
                    part.seconds += seconds;
                }
                None => parts.push(Part { kernel: dispatch.entry, calls: 1, seconds }),
            }
        }
    }
    parts.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(parts)
}

fn learner<'g>(gpu: &'g Gpu, model: &str, batch: usize, replicas: usize) -> Result<Learner<'g>> {
    let clips = BATCHES * batch;
    let mut noise = Stream::new(0, 0);
    let data = Dataset {
        path: "noise".into(),
        classes: (0..CLASSES).map(|k| k.to_string()).collect(),
        keys: (0..clips).map(|i| i.to_string()).collect(),
        features: Features {
            values: FeatureValues::U8(
                (0..clips * INSTANCES * WIDTH).map(|_| (noise.uniform(127.0) + 128.0) as u8).collect(),
            ),
            instances: INSTANCES,
            width: WIDTH,
            lengths: vec![INSTANCES as u32; clips],
        },
        targets: (0..clips * CLASSES).map(|_| f32::from(noise.uniform(1.0) > 0.0)).collect(),
        observed: (0..clips * CLASSES).map(|_| noise.uniform(1.0) > 0.7).collect(),
        train: (0..clips as u32).collect(),
        test: vec![],
        warnings: vec![],
    };
    let config = Config { seeds: (0..replicas as u64).collect(), batch, ..Config::of(model, "noise")? };
    let corpus = Corpus::of_dataset(gpu, &data)?;
    let splits = vec![(data.train.clone(), data.train.clone()); replicas];
    Learner::new(gpu, &config, &corpus, &[], &splits, Order::Shuffled)
}
