//! The models, each a function from a graph's inputs to probabilities.

mod att;
mod fc;
mod fc_t;

use crate::error::{Error, Result};
use crate::graph::{Graph, Tensor};

/// What a model is given.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// (B, T, F), 0 to 1.
    pub x: Tensor,
    /// u32 (B): valid instances of each clip; 0 for the padding rows of a partial batch.
    pub lengths: Tensor,
    /// u32 (4): seed low, seed high, step, 0.
    pub clock: Tensor,
}

/// What a model answers.
#[derive(Clone, Copy, Debug)]
pub struct Prediction {
    /// (B, K)
    pub probabilities: Tensor,
    /// (B, T, K), sums to 1 over the valid instances; for models with attention.
    pub attention: Option<Tensor>,
}

/// What of a model can be set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// K.
    pub classes: usize,
    /// Dropout chance.
    pub dropout: f64,
}

pub struct Model {
    pub name: &'static str,
    /// One line for help texts.
    pub about: &'static str,
    /// Defaults of its paper's training protocol.
    pub lr: f64,
    pub epochs: usize,
    pub dropout: f64,
    /// Whether T is part of the parameters' shapes.
    pub fixed_instances: bool,
    pub build: fn(&mut Graph, Inputs, Settings) -> Result<Prediction>,
}

/// Every model of wmic.
pub const MODELS: &[Model] = &[att::MODEL, fc::MODEL, fc_t::MODEL];

/// # Errors
/// `Usage` for an unknown name, with the known ones.
pub fn find(name: &str) -> Result<&'static Model> {
    MODELS.iter().find(|m| m.name == name).ok_or_else(|| {
        let known: Vec<&str> = MODELS.iter().map(|m| m.name).collect();
        Error::Usage(format!("unknown model {name}; there are {}", known.join(", ")))
    })
}
