//! The graphs of a training run: a step's forward pass and loss, the update of the weights, and validation.

use crate::core::error::{Error, Result};
use crate::features::device_dataset::Dims;
use crate::gpu::Tuned;
use crate::graph::{Draft, DraftOptions, Graph, Mode, Spec, Tensor};
use crate::nn::model::Schedule;
use crate::nn::{self, Prediction};
use crate::ops::adagrad::{Adagrad, adagrad};
use crate::ops::adam::{Adam, adam};
use crate::ops::cross_entropy::cross_entropy;
use crate::ops::gather::Batch;
use crate::ops::masked_bce::{Focal, FocalAlpha, Loss, Normalisation, focal_loss, masked_bce};
use crate::ops::sample::Order;
use crate::ops::sgd::{Sgd, sgd};
use crate::ops::tally::{Decision, Tally, tally};
use crate::ops::track::{End, track};
use crate::run::config::{Config, Optimiser};
use crate::run::network::push_model;

/// The graphs of a training run, before any device is involved.
pub struct Graphs {
    pub step: Graph,
    /// (1) each: the loss of the probabilities, the model's auxiliary losses and the loss of instances, with the name
    /// of the buffer of its weight.
    losses: Vec<(Tensor, &'static str)>,
    pub(super) parts: Tensor,
    pub update: Graph,
    pub validation: Graph,
}

impl Graphs {
    /// The graphs for training on splits of `train` and `val` clips, taken in `order`.
    pub fn new(config: &Config, dims: Dims, train: usize, val: usize, order: Order) -> Result<Graphs> {
        let mut step = Graph::new(Mode::Train);
        let (clock, batch, prediction) = push_model(&mut step, dims, config, train, order)?;
        let BatchLoss { loss, parts, of_instances } = push_loss(&mut step, config, batch, &prediction)?;
        let summed = [loss].into_iter().chain(prediction.auxiliary_losses).map(|loss| (loss, "dloss"));
        let losses = summed.chain(of_instances.map(|loss| (loss, "dloss_instances"))).collect();
        let single_label = nn::find(&config.model)?.single_label;
        let decision = if single_label { Decision::Largest } else { Decision::Threshold };
        if single_label {
            let counts = step.input("train_counts", Spec::u32([dims.classes, 4]));
            let decisions = Tally { decision, batches: batches(config, train) };
            tally(&mut step, prediction.probabilities, batch.target, batch.observed, clock, counts, decisions)?;
        }

        let mut update = Graph::new(Mode::Train);
        let arena = Spec::f32([step.layout().trained]);
        let [w, grad] = ["params", "grads"].map(|name| update.input(name, arena.clone()));
        let clock = update.input("clock", Spec::u32([4]));
        let sums = update.input("parts", Spec::f32([2]));
        let end = Some(push_end(&mut update, clock, sums, batches(config, train)));
        match config.optimiser {
            Optimiser::Adam | Optimiser::Adamw => {
                let [m, v] = ["m", "v"].map(|name| update.input(name, arena.clone()));
                let steps = config.epochs.saturating_mul(batches(config, train));
                let settings = Adam {
                    lr: config.lr,
                    weight_decay: config.weight_decay,
                    decoupled: config.optimiser == Optimiser::Adamw,
                    one_cycle: (config.schedule == Schedule::OneCycle).then(|| steps.try_into().unwrap_or(u32::MAX)),
                    ..Adam::default()
                };
                adam(&mut update, [w, grad, m, v], clock, settings, end)?;
            }
            Optimiser::Adagrad => {
                let sums = update.input("m", arena);
                adagrad(&mut update, [w, grad, sums], Adagrad { lr: config.lr, ..Adagrad::default() }, end)?;
            }
            Optimiser::Sgd => {
                sgd(&mut update, [w, grad], Sgd { lr: config.lr, weight_decay: config.weight_decay }, end)?
            }
        }

        let mut validation = Graph::new(Mode::Eval);
        let g = &mut validation;
        let (clock, batch, prediction) = push_model(g, dims, config, val, Order::InOrder)?;
        let val_parts = push_loss(g, config, batch, &prediction)?.parts;
        let counts = g.input("counts", Spec::u32([dims.classes, 4]));
        let val_batches = batches(config, val);
        let decisions = Tally { decision, batches: val_batches };
        if prediction.own_loss.is_none() {
            tally(g, prediction.probabilities, batch.target, batch.observed, clock, counts, decisions)?;
        }
        let end = push_end(g, clock, val_parts, val_batches);
        track(g, end)?;
        Ok(Graphs { step, losses, parts, update, validation })
    }

    /// The three dispatch lists: step, update, validation.
    pub fn drafts(&self, kernels: impl Into<Tuned>, replicas: usize) -> Result<[Draft; 3]> {
        let kernels = kernels.into();
        let options = DraftOptions { leaves_sums: true, ..Default::default() };
        let step = Draft::with(&self.step, kernels.clone(), replicas, &[self.parts], &self.losses, options)?;
        let update = step.update(&self.update, kernels.clone())?;
        Ok([step, update, Draft::new(&self.validation, kernels, replicas, &[], &[])?])
    }
}

/// What ends a step whose loss has these parts, in an epoch of so many batches.
fn push_end(g: &mut Graph, clock: Tensor, parts: Tensor, batches: usize) -> End {
    let totals = g.input("totals", Spec::f32([2]));
    let diverged = g.input("diverged", Spec::u32([1]));
    End { parts, clock, totals, diverged, batches }
}

/// Batches of a split of `clips`.
pub(super) fn batches(config: &Config, clips: usize) -> usize {
    clips.div_ceil(config.batch.min(clips))
}

/// The loss of a batch.
struct BatchLoss {
    /// (1)
    loss: Tensor,
    /// (2)
    parts: Tensor,
    /// (1): that of the instances, if they are trained on.
    of_instances: Option<Tensor>,
}

/// The loss of the settings.
fn push_loss(g: &mut Graph, config: &Config, batch: Batch, prediction: &Prediction) -> Result<BatchLoss> {
    let Batch { target, observed, lengths, .. } = batch;
    if let Some((loss, parts)) = prediction.own_loss {
        return Ok(BatchLoss { loss, parts, of_instances: None });
    }
    let p = prediction.probabilities;
    let norm = match config.loss {
        Loss::CrossEntropy => {
            let logits = prediction.logits.ok_or_else(|| Error::Usage(format!("{} has no logits", config.model)))?;
            let (loss, parts) = cross_entropy(g, logits, target, lengths)?;
            return Ok(BatchLoss { loss, parts, of_instances: None });
        }
        Loss::Bce | Loss::Focal => config.loss_mean.into(),
        Loss::PartialBce => {
            let Config { alpha, beta, gamma, .. } = *config;
            Normalisation::Partial { alpha, beta, gamma }
        }
    };
    let focal = (config.loss == Loss::Focal).then(|| {
        let classes = Spec::f32([g.shape(p).last()]);
        let alpha = match config.focal_alpha {
            FocalAlpha::Same(alpha) => {
                let words = vec![(alpha as f32).to_bits(); classes.shape.len()];
                g.constant(classes, words)
            }
            FocalAlpha::InverseFrequency | FocalAlpha::InverseClassFrequency => g.input("alpha", classes),
        };
        Focal { alpha, gamma: config.focal_gamma }
    });
    let mut known = |p, target, observed, lengths, norm| match focal {
        Some(focal) => focal_loss(g, p, target, observed, lengths, norm, focal),
        None => masked_bce(g, p, target, observed, lengths, norm),
    };
    let (loss, parts) = known(p, target, observed, lengths, norm)?;
    let of_instances = match (prediction.instance_probabilities, batch.instances) {
        // Which labels of an instance are known says nothing of its clip: there are no partial weights.
        (Some(p), Some(of)) => Some(known(p, of.target, of.observed, of.lengths, config.loss_mean.into())?.0),
        _ => None,
    };
    Ok(BatchLoss { loss, parts, of_instances })
}
