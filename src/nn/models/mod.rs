//! The models, each a function from a graph's inputs to probabilities.

pub mod aacnn;
mod att;
mod bilstm_att;
mod fc;
mod fc_t;
mod rf;
mod rnn;
pub mod sightreader;
mod visual;

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::graph::{Graph, Tensor};
use crate::nn::front_ends::kind::Kind;
use crate::nn::front_ends::vggish::{TrainFrontEnd, Width};
use crate::ops::attention_pool::Pooling;
use crate::ops::glimpse::Patch;
use crate::ops::masked_bce::{FocalAlpha, Loss, LossMean};

/// What a model is given.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// (B, T, F), of the kind that [`Model::input`] says.
    pub x: Tensor,
    /// u32 (B): valid instances of each clip, times [`Model::positions`]; 0 for the padding rows of a partial batch.
    pub lengths: Tensor,
    /// u32 (4): seed low, seed high, step, 0.
    pub clock: Tensor,
    /// Only in training, for models whose own losses look at the labels.
    pub labels: Option<Labels>,
}

/// What is known of a batch's clips, (B, K) each.
#[derive(Clone, Copy, Debug)]
pub struct Labels {
    /// 1 where present, else 0; between them where clips were mixed.
    pub target: Tensor,
    /// 1 where known, else 0.
    pub observed: Tensor,
}

/// What a model answers.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// (B, K)
    pub probabilities: Tensor,
    /// (B, T P, K) for P positions in an instance, sums to 1 over the valid ones; for models with attention.
    pub attention: Option<Tensor>,
    /// For models with attention, outside training.
    pub position_scores: Option<PositionScores>,
    /// For models that look at one place after the other: where, (B, 2) each, time and frequency in [-1, 1].
    pub glimpses: Vec<Tensor>,
    /// (B, K), of which the probabilities are the softmax; for models that name one class.
    pub logits: Option<Tensor>,
    /// (1) each, minimised beside the loss of the probabilities; only in training.
    pub auxiliary_losses: Vec<Tensor>,
}

impl Prediction {
    /// Of a model without attention.
    pub fn new(probabilities: Tensor) -> Prediction {
        Prediction {
            probabilities,
            attention: None,
            position_scores: None,
            glimpses: vec![],
            logits: None,
            auxiliary_losses: vec![],
        }
    }
}

/// What each of the P positions of each instance has by itself, (B, T P, K).
#[derive(Clone, Copy, Debug)]
pub struct PositionScores {
    /// The probability of each class.
    pub scores: Tensor,
    /// The attention it asks for, 0 to 1, before all are weighed against each other; by softmax its share of all.
    pub attention: Tensor,
}

/// What of a model can be set.
#[derive(Clone, Copy, Debug)]
pub struct ModelConfig {
    /// K.
    pub classes: usize,
    /// Dropout chance.
    pub dropout: f64,
    /// Models without attention ignore it.
    pub pooling: Pooling,
    /// Of VGGish; models on its embeddings ignore it, and `train_front_end`.
    pub width: Width,
    pub train_front_end: TrainFrontEnd,
    /// Others than `aacnn` ignore it.
    pub aacnn: aacnn::Network,
}

/// What makes an epoch the best one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// Lowest validation loss.
    ValLoss,
    /// Highest validation f1_pn (macro over classes); where clips have one class the highest accuracy, which is their micro F1.
    ValF1,
}

/// What turns gradients into steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimiser {
    #[default]
    Adam,
    /// With Keras' constants.
    Adagrad,
}

impl Optimiser {
    /// Values that it keeps for each parameter from step to step.
    pub fn moments(self) -> usize {
        match self {
            Optimiser::Adam => 2,
            Optimiser::Adagrad => 1,
        }
    }
}

/// How a model is trained in its paper.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    pub optimiser: Optimiser,
    pub lr: f64,
    pub weight_decay: f64,
    pub epochs: usize,
    /// 0 for models without.
    pub dropout: f64,
    /// Clips per step.
    pub batch: usize,
    pub select: Select,
    /// Stops after so many epochs without a better one.
    pub patience: Option<usize>,
    /// Share of the training clips that are for validation.
    pub val_fraction: f64,
    pub loss: Loss,
    /// Of cross-entropy and focal loss.
    pub loss_mean: LossMean,
    /// Where the loss is focal.
    pub focal_alpha: FocalAlpha,
}

/// Pushes a model onto a graph.
pub type Build = fn(&mut Graph, Inputs, ModelConfig) -> Result<Prediction>;

impl Protocol {
    /// What most models share: ISMIR 2019's for its baselines.
    const COMMON: Protocol = Protocol {
        optimiser: Optimiser::Adam,
        lr: 5e-4,
        weight_decay: 1e-5,
        epochs: 100,
        dropout: 0.5,
        batch: 128,
        select: Select::ValLoss,
        patience: None,
        val_fraction: 0.15,
        loss: Loss::Bce,
        loss_mean: LossMean::Batch,
        focal_alpha: FocalAlpha::PUBLISHED,
    };
}

pub struct Model {
    pub name: &'static str,
    /// One line for help texts.
    pub about: &'static str,
    pub protocol: Protocol,
    /// Whether T is part of the parameters' shapes.
    pub fixed_instances: bool,
    /// P: places within an instance that are attended to one by one.
    pub positions: usize,
    /// Whether it weighs its instances.
    pub has_attention: bool,
    /// Whether it names one class per clip, by softmax; else it says of each class whether it is present.
    pub single_label: bool,
    /// The kinds of features that it can be fed, the usual one first.
    pub inputs: &'static [Kind],
    /// What it sees of a spectrogram in a glimpse; empty for models that take in everything at once.
    pub patches: &'static [Patch],
    /// Pushes it onto a graph; `None` for the forest, which is no network and has none (see `train::forest`).
    pub build: Option<Build>,
}

impl Model {
    /// Pushes it onto a graph.
    ///
    /// # Errors
    /// `Usage` for the forest; whatever is wrong with the shapes.
    pub fn push(&self, g: &mut Graph, inputs: Inputs, config: ModelConfig) -> Result<Prediction> {
        let build = self.build.ok_or_else(|| Error::Usage(format!("{} is no network and has no graph", self.name)))?;
        build(g, inputs, config)
    }

    /// Grown of decision trees rather than trained by gradients.
    pub fn is_forest(&self) -> bool {
        self.build.is_none()
    }

    /// What it is fed: `chosen`, if it can be, else the usual kind; where all of VGGish is trained with it, the patches that VGGish takes.
    pub fn input(&self, train_front_end: TrainFrontEnd, chosen: Kind) -> Kind {
        match train_front_end {
            TrainFrontEnd::All if self.trains_vggish() => Kind::LogMel,
            _ if self.inputs.contains(&chosen) => chosen,
            _ => self.inputs[0],
        }
    }

    /// Whether VGGish's weights make what it is fed.
    pub fn needs_vggish(&self) -> bool {
        self.inputs[0].row().weights.is_some()
    }

    /// Whether VGGish, or a part of it, can be trained with it.
    pub fn trains_vggish(&self) -> bool {
        self.inputs.contains(&Kind::Maps)
    }

    /// Whether it is for single notes.
    pub fn is_single_note(&self) -> bool {
        self.inputs[0].is_single_note()
    }
}

/// Every model of wmic.
pub const MODELS: &[Model] = &[
    att::MODEL,
    fc::MODEL,
    fc_t::MODEL,
    rnn::MODEL,
    rf::MODEL,
    bilstm_att::MODEL,
    visual::ATT_TF,
    visual::ATT_TF_ID,
    visual::ATT_T,
    visual::FC_TF,
    sightreader::SR16,
    sightreader::SR16_FL,
    sightreader::RAM16_RNN,
    sightreader::RAM16_GRU,
    aacnn::MODEL,
];

/// # Errors
/// `Usage` for an unknown name, with the known ones.
pub fn find(name: &str) -> Result<&'static Model> {
    MODELS.iter().find(|m| m.name == name).ok_or_else(|| {
        let known: Vec<&str> = MODELS.iter().map(|m| m.name).collect();
        Error::Usage(format!("unknown model {name}; there are {}", known.join(", ")))
    })
}
