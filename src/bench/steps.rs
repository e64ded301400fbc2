//! Whole training steps: forward, backward and update of all replicas, on clips of noise.

use crate::bench::results::{StepResult, Work};
use crate::bench::timer::Timer;
use crate::core::error::Result;
use crate::core::random::Stream;
use crate::data::{Dataset, FeatureValues, Features, SplitBy};
use crate::features::device_dataset::DeviceDataset;
use crate::features::feature_config::FeatureConfig;
use crate::features::front_end::{FrontEnd, Source};
use crate::gpu::Gpu;
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
use crate::train::learner::Learner;

/// Of OpenMIC-2018.
const CLASSES: usize = 20;
/// Numbers of seeds side by side.
const REPLICAS: [usize; 2] = [1, 10];
/// Batches in the dataset of noise: enough to exceed caches, as in real training.
const BATCHES: usize = 16;
/// Width of VGGish for the models that use it.
const WIDTH: Width = Width::Quarter;

/// Settings of single-note models.
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
    /// Clips.
    pub batch: usize,
    pub replicas: usize,
}

impl Step {
    /// As in the model's paper; visual models with a frozen VGGish of 1/4 width, objectives of pre-training at this
    /// width, single-note models at 1/8 width.
    pub fn of(model: &'static Model, replicas: usize) -> Step {
        Step { model, train_front_end: TrainFrontEnd::None, batch: model.protocol.batch, replicas }
    }

    /// A visual model with all of VGGish trained, on 4 clips of 10 patches.
    pub(crate) fn with_front_end(model: &'static Model) -> Step {
        Step { train_front_end: TrainFrontEnd::All, batch: 4, ..Step::of(model, 1) }
    }

    /// Of every network, with one seed and with ten, as far as they fit on small adapters; `audio`: of those that do
    /// not take embeddings.
    pub fn all(audio: bool) -> Vec<Step> {
        let on_embeddings = |m: &Model| m.inputs[0].row().embedding;
        let models = MODELS.iter().filter(|m| !m.is_forest()).filter(|m| !audio || !on_embeddings(m));
        let replicas = |m: &Model| if on_embeddings(m) { &REPLICAS[..] } else { &REPLICAS[..1] };
        let steps = models.flat_map(|m| replicas(m).iter().map(|r| Step::of(m, *r)));
        steps.chain([Step::with_front_end(find("att-tf").expect("a model"))]).collect()
    }

    /// Name, as in `benches/peers`.
    pub fn name(&self) -> String {
        match self.train_front_end {
            TrainFrontEnd::None if self.model.is_single_note() => {
                format!("{} {}, CQT, {} %", self.model.name, NOTES.width, NOTES.attention)
            }
            TrainFrontEnd::None if is_objective(self.model) => format!("{} {WIDTH}", self.model.name),
            TrainFrontEnd::None => self.model.name.into(),
            TrainFrontEnd::Dense => format!("{} + dense layer {WIDTH}", self.model.name),
            TrainFrontEnd::All => format!("{} + VGGish {WIDTH}", self.model.name),
        }
    }
}

/// A kernel's part of a training step.
pub struct Share {
    pub kernel: &'static str,
    /// Calls per step.
    pub calls: usize,
    /// Of all calls, each timed on its own.
    pub seconds: f64,
}

/// Times a training step.
pub fn step(timer: &Timer, step: Step) -> Result<StepResult> {
    let learner = learner(timer.gpu, step)?;
    let seconds = timer.seconds(&learner.step_plans().map(|plan| &plan.recording))?;
    Ok(StepResult {
        work: Work::Training,
        model: step.name(),
        batch: step.batch,
        replicas: step.replicas,
        ms_per_step: seconds * 1e3,
        clips_per_s: (step.batch * step.replicas) as f64 / seconds,
        peer: None,
    })
}

/// Times every dispatch of such a step on its own, longest first.
pub fn profile(timer: &Timer, step: Step) -> Result<Vec<Share>> {
    let learner = learner(timer.gpu, step)?;
    let mut parts: Vec<Share> = vec![];
    for plan in learner.step_plans() {
        for dispatch in &plan.dispatches {
            let seconds = timer.seconds(&[&plan.single(timer.gpu, dispatch)?])?;
            match parts.iter_mut().find(|p| p.kernel == dispatch.entry) {
                Some(part) => {
                    part.calls += 1;
                    part.seconds += seconds;
                }
                None => parts.push(Share { kernel: dispatch.entry, calls: 1, seconds }),
            }
        }
    }
    parts.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(parts)
}

fn learner(gpu: &Gpu, step: Step) -> Result<Learner<'_>> {
    let Step { model, train_front_end, batch, replicas } = step;
    let clips = BATCHES * batch;
    let kind = model.input(train_front_end, NOTES.input);
    let width = kind.instance_len(WIDTH);
    let mut noise = Stream::new(0, 0);
    let objective = is_objective(model);
    let instances = if objective { 1 } else { kind.instances(kind.samples()) };
    let count = clips * instances * width;
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
            width,
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
        front_end: model.trains_vggish().then(|| FrontEnd::new(Source::Random(0), WIDTH)),
        train_front_end,
        notes: model.is_single_note().then_some(NOTES),
        pretrain: objective.then(|| Pretraining { width: WIDTH, ..Default::default() }),
        ..Config::of(model.name, "noise")?
    };
    let dataset = DeviceDataset::of_dataset(gpu, &data)?;
    let splits = vec![(data.train.clone(), data.train.clone()); replicas];
    let frozen = [frozen(gpu, &config)?, words(gpu, &data)?].concat();
    Learner::new(gpu, &config, &dataset, &frozen, &splits, Order::Shuffled)
}
