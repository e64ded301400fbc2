//! What a model is: its inputs and outputs, its configuration, the protocol of its paper.

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::graph::{Graph, Tensor};
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::front_ends::vggish::{TrainFrontEnd, Width};
use crate::ops::attention_pool::Pooling;
use crate::ops::glimpse::Patch;
use crate::ops::masked_bce::{FocalAlpha, Loss, LossMean};
use crate::ops::spec_augment::SpecAugment;
use crate::ops::standardise_columns::{Preparation, prepare};

/// Inputs of a model.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// (B, T, F), of the kind [`Model::input`].
    pub x: Tensor,
    /// u32 (B): valid instances of each clip, times [`Model::positions`]; 0 for the padding rows of a partial batch.
    pub lengths: Tensor,
    /// u32 (4): seed low, seed high, step, done.
    pub clock: Tensor,
    /// Only in training, for models with auxiliary losses on the labels; always for objectives of pre-training.
    pub labels: Option<Labels>,
    /// For objectives with pairs that should differ: targets (B, K) of other clips.
    pub partners: Option<Tensor>,
    /// Only in training on labels of instances: u32 (B T), valid positions of each instance.
    pub instances: Option<Tensor>,
}

/// Labels of a batch, (B, K) each.
#[derive(Clone, Copy, Debug)]
pub struct Labels {
    /// 1 if present, else 0; in between for mixed clips.
    pub target: Tensor,
    /// 1 if known, else 0.
    pub observed: Tensor,
}

/// Outputs of a model.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// (B, K)
    pub probabilities: Tensor,
    /// (B, T P, K) for P positions in an instance, sums to 1 over the valid ones; for models with attention.
    pub attention: Option<Tensor>,
    /// For models with attention, outside training.
    pub position_scores: Option<PositionScores>,
    /// For recurrent attention: glimpse locations, (B, 2) each, time and frequency in [-1, 1].
    pub glimpses: Vec<Tensor>,
    /// (B, K), before the softmax; for single-label models.
    pub logits: Option<Tensor>,
    /// (B T, K): the probabilities of each instance, if [`Inputs::instances`] is given; for models with attention.
    pub instance_probabilities: Option<Tensor>,
    /// Loss (1) and parts (2) instead of the loss of the probabilities, which are then not used.
    pub own_loss: Option<(Tensor, Tensor)>,
    /// (1) each, added to the loss of the probabilities; only in training.
    pub auxiliary_losses: Vec<Tensor>,
    /// For objectives of pre-training: VGGish's embedding (B, 128), then what the head makes of it. Denoising: the
    /// corrupted and the restored patches, (B, 96, 64). textual: word vectors (B, D). align: the encodings of the sound
    /// and of its tags, (B, E).
    pub learned: Vec<Tensor>,
}

impl Prediction {
    /// For a model without attention.
    pub fn new(probabilities: Tensor) -> Prediction {
        Prediction {
            probabilities,
            attention: None,
            position_scores: None,
            glimpses: vec![],
            logits: None,
            instance_probabilities: None,
            own_loss: None,
            auxiliary_losses: vec![],
            learned: vec![],
        }
    }
}

/// Scores and attention of each of the P positions of each instance, (B, T P, K).
#[derive(Clone, Copy, Debug)]
pub struct PositionScores {
    /// The probability of each class.
    pub scores: Tensor,
    /// Attention before normalisation, 0 to 1; with softmax the normalised weights.
    pub attention: Tensor,
}

/// Percentages of attention filters in the last two blocks.
pub const ATTENTION: [u32; 5] = [0, 25, 50, 75, 100];

/// Weight initialisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initialisation {
    /// N(0, 0.05), biases as well: Keras' "random normal", as in the paper. Networks of reduced width do not train from
    /// it.
    #[default]
    Normal,
    /// N(0, 2 / fan in), biases zero (He et al. 2015).
    He,
}

/// Configuration of `aacnn`.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct AacnnConfig {
    /// One of [`ATTENTION`].
    pub attention: u32,
    /// Fraction of the published filters. The dense layers are not scaled: with fewer units they learn little.
    pub width: Width,
    pub init: Initialisation,
}

/// Normalisation of embedded instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Of each clip: removes its level.
    #[default]
    Group,
    /// Of the batch.
    Batch,
}

/// Options of the objectives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Head {
    /// Whether VGGish ends with a ReLU, as in the paper; it can die.
    pub last_relu: bool,
    /// Textual: each patch also against the words of another one, which it should not resemble.
    pub negatives: bool,
    /// Denoising: mean absolute error instead of squared.
    pub absolute: bool,
    /// D: values of a word vector.
    pub vector: usize,
}

impl Default for Head {
    fn default() -> Head {
        Head { last_relu: true, negatives: false, absolute: false, vector: 300 }
    }
}

/// Configuration of a model.
#[derive(Clone, Copy, Debug)]
pub struct ModelConfig {
    /// K.
    pub classes: usize,
    /// Dropout probability.
    pub dropout: f64,
    /// Ignored by models without attention.
    pub pooling: Pooling,
    /// Width of VGGish; like `train_front_end` ignored by models on its embeddings.
    pub width: Width,
    pub train_front_end: TrainFrontEnd,
    /// Only for `att-gn`.
    pub norm: Norm,
    /// Only for objectives of pre-training.
    pub head: Head,
    /// Only for `aacnn`.
    pub aacnn: AacnnConfig,
    /// Of the inputs, before anything else.
    pub inputs: Preparation,
}

/// Criterion for the best epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// Lowest validation loss.
    ValLoss,
    /// Highest validation f1_pn (macro over classes); for single-label models highest accuracy.
    ValF1,
}

/// Optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimiser {
    #[default]
    Adam,
    /// Adam with decoupled weight decay.
    Adamw,
    /// Adagrad with Keras' defaults (initial accumulator 0.1, eps 1e-7).
    Adagrad,
    /// Gradient descent without momentum.
    Sgd,
}

impl Optimiser {
    /// State values per parameter.
    pub fn moments(self) -> usize {
        match self {
            Optimiser::Adam | Optimiser::Adamw => 2,
            Optimiser::Adagrad => 1,
            Optimiser::Sgd => 0,
        }
    }
}

/// How the learning rate changes in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    #[default]
    Constant,
    /// Up to it over three tenths of the steps, then down (see `ops::adam`).
    OneCycle,
}

/// Training protocol of the paper.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    pub optimiser: Optimiser,
    pub lr: f64,
    pub schedule: Schedule,
    pub weight_decay: f64,
    pub epochs: usize,
    /// 0 for models without.
    pub dropout: f64,
    /// Batch size in clips.
    pub batch: usize,
    pub select: Select,
    /// Epochs without improvement before a seed stops.
    pub patience: Option<usize>,
    /// Fraction of the training clips held out for validation.
    pub val_fraction: f64,
    pub loss: Loss,
    /// Of cross-entropy and focal loss.
    pub loss_mean: LossMean,
    /// For the focal loss.
    pub focal_alpha: FocalAlpha,
    /// `None` for models without the choice.
    pub norm: Option<Norm>,
    /// `None` for models whose input is no log-mel patches.
    pub spec_augment: Option<SpecAugment>,
    /// `None` for models whose input is no embedding.
    pub inputs: Option<Preparation>,
    /// Of the same model on other inputs than its first.
    pub on: &'static [(FeatureKind, Protocol)],
}

/// Adds a model to a graph.
pub type Build = fn(&mut Graph, Inputs, ModelConfig) -> Result<Prediction>;

impl Protocol {
    /// Default: ISMIR 2019's for its baselines.
    pub(super) const COMMON: Protocol = Protocol {
        optimiser: Optimiser::Adam,
        lr: 5e-4,
        schedule: Schedule::Constant,
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
        norm: None,
        spec_augment: None,
        inputs: None,
        on: &[],
    };

    /// The same of a model on embeddings.
    pub(super) const EMBEDDINGS: Protocol = Protocol { inputs: Some(Preparation::OFF), ..Protocol::COMMON };
}

pub struct Model {
    pub name: &'static str,
    /// One line for help texts.
    pub about: &'static str,
    pub protocol: Protocol,
    /// Whether T is part of the parameters' shapes.
    pub fixed_instances: bool,
    /// Time steps and frequency bands of an instance that are attended to separately, each a position.
    pub positions: [usize; 2],
    /// Whether it has attention over its instances.
    pub has_attention: bool,
    /// Whether it predicts one class per clip, by softmax; else it is multi-label.
    pub single_label: bool,
    /// Possible input kinds, the default first.
    pub inputs: &'static [FeatureKind],
    /// Patch sizes of a glimpse; empty for models without glimpses.
    pub patches: &'static [Patch],
    /// Adds it to a graph; `None` for the random forest (see `predict::forest`).
    pub build: Option<Build>,
}

impl Model {
    /// Adds it to a graph.
    ///
    /// # Errors
    /// `Usage` for the forest; `Shape` for inputs that do not fit.
    pub fn push(&self, g: &mut Graph, inputs: Inputs, config: ModelConfig) -> Result<Prediction> {
        let build = self
            .build
            .ok_or_else(|| Error::Usage(format!("{} is not a neural network and has no graph", self.name)))?;
        let x = prepare(g, inputs.x, inputs.clock, config.inputs)?;
        build(g, Inputs { x, ..inputs }, config)
    }

    /// P: positions of an instance.
    pub fn positions(&self) -> usize {
        self.positions[0] * self.positions[1]
    }

    /// Whether it is a random forest.
    pub fn is_forest(&self) -> bool {
        self.build.is_none()
    }

    /// Input kind: `chosen`, if possible, else the default; log-mel patches if all of VGGish is trained with it.
    pub fn input(&self, train_front_end: TrainFrontEnd, chosen: FeatureKind) -> FeatureKind {
        match train_front_end {
            TrainFrontEnd::All if self.trains_vggish() => FeatureKind::LogMel,
            _ if self.inputs.contains(&chosen) => chosen,
            _ => self.inputs[0],
        }
    }

    /// The protocol on an input; `None`: its first.
    pub fn protocol_on(&self, input: Option<FeatureKind>) -> &Protocol {
        let other = self.protocol.on.iter().find(|(kind, _)| input == Some(*kind));
        other.map_or(&self.protocol, |(_, protocol)| protocol)
    }

    /// Whether its input is computed by VGGish.
    pub fn needs_vggish(&self) -> bool {
        self.inputs[0].row().weights.is_some()
    }

    /// Whether VGGish, or a part, can be trained with it.
    pub fn trains_vggish(&self) -> bool {
        self.inputs.contains(&FeatureKind::Maps)
    }

    /// Whether it is a single-note model.
    pub fn is_single_note(&self) -> bool {
        self.inputs[0].is_single_note()
    }
}
