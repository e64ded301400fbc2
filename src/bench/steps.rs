//! Whole training steps: forward, backward and update of all replicas, on clips of noise.

use crate::bench::results::{Profile, StepKernel, StepResult, Work};
use crate::bench::timer::Timer;
use crate::core::error::Result;
use crate::core::random::Stream;
use crate::data::{Dataset, FeatureValues, Features, SplitBy};
use crate::features::device_dataset::DeviceDataset;
use crate::features::feature_config::FeatureConfig;
use crate::features::front_end::{FrontEnd, Source};
use crate::gpu::{Gpu, Precision};
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::front_ends::spectrum::Scale;
use crate::nn::front_ends::vggish::{TrainFrontEnd, Width};
use crate::nn::model::{Head, Initialisation, Model};
use crate::nn::models::pretraining::TEXTUAL;
use crate::nn::models::{MODELS, find, is_objective};
use crate::ops::sample::Order;
use crate::run::config::{Config, Notes, Pretraining};
use crate::run::network::frozen;
use crate::run::pretraining::words;
use crate::run::tuning::Tuning;
use crate::train::learner::Learner;

/// Of OpenMIC-2018.
const CLASSES: usize = 20;
/// Numbers of seeds side by side.
const REPLICAS: [usize; 2] = [1, 10];
/// Batches in the dataset of noise: enough to exceed caches, as in real training.
const BATCHES: usize = 16;
/// Width of VGGish for the models that use it, unless another is given.
const WIDTH: Width = Width::Quarter;

/// Settings of single-note models; the width unless another is given.
const NOTES: Notes = Notes {
    input: FeatureKind::Cqt,
    attention: 25,
    width: Width::Eighth,
    scale: Scale::Magnitude,
    init: Initialisation::Normal,
    split_by: SplitBy::File,
};

/// A training step to be timed.
#[derive(Clone, Copy)]
pub struct Step {
    pub model: &'static Model,
    pub train_front_end: TrainFrontEnd,
    /// Of VGGish, or of a single-note model.
    pub width: Width,
    /// Clips.
    pub batch: usize,
    pub replicas: usize,
    pub precision: Precision,
}

impl Step {
    /// As in the model's paper, except for the width of what is computed from audio: by default visual models with a
    /// frozen VGGish of 1/4 width, objectives of pre-training at this width, single-note models at 1/8 width.
    fn new(model: &'static Model, replicas: usize, width: Option<Width>) -> Step {
        let width = width.unwrap_or(if model.is_single_note() { NOTES.width } else { WIDTH });
        let (train_front_end, batch, precision) = (TrainFrontEnd::None, model.protocol.batch, Precision::F32);
        Step { model, train_front_end, width, batch, replicas, precision }
    }

    /// A visual model with all of VGGish trained, on 4 clips of 10 patches.
    fn with_front_end(model: &'static Model, width: Option<Width>) -> Step {
        Step { train_front_end: TrainFrontEnd::All, batch: 4, ..Step::new(model, 1, width) }
    }

    /// Of one network: with one seed, and with ten where they fit on small adapters.
    pub fn of(model: &'static Model, width: Option<Width>) -> Vec<Step> {
        let replicas = if on_embeddings(model) { &REPLICAS[..] } else { &REPLICAS[..1] };
        replicas.iter().map(|replicas| Step::new(model, *replicas, width)).collect()
    }

    /// Of every network; `audio`: of those that do not take embeddings.
    pub fn all(audio: bool, width: Option<Width>) -> Vec<Step> {
        let models = MODELS.iter().filter(|m| !m.is_forest()).filter(|m| !audio || !on_embeddings(m));
        let steps = models.flat_map(|m| Step::of(m, width));
        steps.chain([Step::with_front_end(find("att-tf").expect("a model"), width)]).collect()
    }

    /// Name, as in `benches/peers`.
    pub fn name(&self) -> String {
        let (model, width) = (self.model, self.width);
        match self.train_front_end {
            TrainFrontEnd::None if model.is_single_note() => {
                format!("{} {width}, CQT, {} %", model.name, NOTES.attention)
            }
            TrainFrontEnd::None if is_objective(model) => format!("{} {width}", model.name),
            TrainFrontEnd::None if model.trains_vggish() && width != WIDTH => {
                format!("{} on VGGish {width}", model.name)
            }
            TrainFrontEnd::None => model.name.into(),
            TrainFrontEnd::Dense => format!("{} + dense layer {width}", model.name),
            TrainFrontEnd::All => format!("{} + VGGish {width}", model.name),
        }
    }
}

fn on_embeddings(model: &Model) -> bool {
    model.inputs[0].row().embedding
}

/// Times a training step with what is kept of `wmic tune`; `profiled`: also every dispatch of it on its own.
pub fn step(timer: &Timer, step: Step, tuning: Option<&Tuning>, profiled: bool) -> Result<StepResult> {
    let learner = learner(timer.gpu, step, tuning)?;
    let time = timer.time(&learner.step_plans().map(|plan| &plan.recording))?;
    let mut result = StepResult::new(Work::Training, step.name(), step.batch, step.replicas, time);
    if profiled {
        result.profile = Some(profile(timer, &learner, result.ms_per_step)?);
    }
    Ok(result)
}

fn profile(timer: &Timer, learner: &Learner, ms_per_step: f64) -> Result<Profile> {
    let mut kernels: Vec<StepKernel> = vec![];
    for plan in learner.step_plans() {
        for dispatch in &plan.dispatches {
            let time = timer.time(&[&plan.part(timer.gpu, std::slice::from_ref(dispatch))?])?;
            let (ms, sampling) = (time.seconds * 1e3, time.sampling);
            match kernels.iter_mut().find(|k| k.kernel == dispatch.entry) {
                Some(k) => {
                    k.calls += 1;
                    k.ms += ms;
                    if sampling.spread > k.sampling.spread {
                        k.sampling = sampling;
                    }
                }
                None => kernels.push(StepKernel { kernel: dispatch.entry.into(), calls: 1, ms, sampling }),
            }
        }
    }
    kernels.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    let difference_ms = ms_per_step - kernels.iter().map(|k| k.ms).sum::<f64>();
    Ok(Profile { kernels, difference_ms })
}

fn learner<'a>(gpu: &'a Gpu, step: Step, tuning: Option<&Tuning>) -> Result<Learner<'a>> {
    let (mut config, data) = example(step)?;
    config.tuning = tuning.cloned();
    let dataset = DeviceDataset::of_dataset(gpu, &data)?;
    let splits = vec![(data.train.clone(), data.train.clone()); step.replicas];
    let frozen = [frozen(gpu, &config)?, words(gpu, &data)?].concat();
    Learner::new(gpu, &config, &dataset, &frozen, &splits, Order::Shuffled)
}

/// The settings and the dataset of noise of a step.
pub(super) fn example(step: Step) -> Result<(Config, Dataset)> {
    let Step { model, train_front_end, width, batch, replicas, precision } = step;
    let clips = BATCHES * batch;
    let kind = model.input(train_front_end, NOTES.input);
    let instance_len = kind.instance_len(width);
    let mut noise = Stream::new(0, 0);
    let objective = is_objective(model);
    let instances = if objective { 1 } else { kind.instances(kind.samples()) };
    let count = clips * instances * instance_len;
    let data = Dataset {
        path: "noise".into(),
        classes: (0..CLASSES).map(|k| k.to_string()).collect(),
        keys: (0..clips).map(|i| i.to_string()).collect(),
        features: Features {
            values: if FeatureConfig::of(kind).is_in_bytes() {
                let bytes: Vec<u8> = (0..count).map(|_| (noise.uniform(127.0) + 128.0) as u8).collect();
                FeatureValues::U8(bytes.into())
            } else {
                let floats: Vec<f32> = (0..count).map(|_| noise.uniform(1.0) as f32).collect();
                FeatureValues::F32(floats.into())
            },
            instances,
            width: instance_len,
            lengths: vec![instances as u32; clips],
            spectrum: None,
        },
        targets: (0..clips * CLASSES).map(|_| f32::from(noise.uniform(1.0) > 0.0)).collect(),
        observed: (0..clips * CLASSES).map(|_| noise.uniform(1.0) > 0.7).collect(),
        strong: None,
        mixer: None,
        train: (0..clips as u32).collect(),
        validation: None,
        test: vec![],
        drawn: None,
        word_vectors: if model.name == TEXTUAL { vec![vec![0.1; Head::default().vector]; CLASSES] } else { vec![] },
        warnings: vec![],
    };
    let config = Config {
        seeds: (0..replicas as u64).collect(),
        batch,
        front_end: model.trains_vggish().then(|| FrontEnd::new(Source::Random(0), width)),
        train_front_end,
        precision,
        notes: model.is_single_note().then_some(Notes { width, ..NOTES }),
        pretrain: objective.then(|| Pretraining { width, ..Default::default() }),
        ..Config::of(model.name, "noise")?
    };
    Ok((config, data))
}
