//! The models, each a function from a graph's inputs to probabilities.

pub mod aacnn;
mod att;
mod att_gn;
mod bilstm_att;
mod cnn_att;
mod fc;
mod fc_t;
mod musicnn_tags;
pub mod pretraining;
mod rf;
mod rnn;
pub mod sightreader;
mod visual;

use crate::core::error::{Error, Result};
use crate::nn::model::Model;
use pretraining::OBJECTIVES;

/// Every model of wmic.
pub const MODELS: &[Model] = &[
    att::MODEL,
    fc::MODEL,
    fc_t::MODEL,
    rnn::MODEL,
    rf::MODEL,
    bilstm_att::MODEL,
    att_gn::MODEL,
    att_gn::ON_FRAMES,
    visual::ATT_TF,
    visual::ATT_TF_ID,
    visual::ATT_T,
    visual::FC_TF,
    sightreader::SR16,
    sightreader::SR16_FL,
    sightreader::RAM16_RNN,
    sightreader::RAM16_GRU,
    aacnn::MODEL,
    cnn_att::MODEL,
    musicnn_tags::MODEL,
];

/// Whether a model is an objective of pre-training.
pub fn is_objective(model: &Model) -> bool {
    OBJECTIVES.iter().any(|objective| objective.name == model.name)
}

/// A model, or an objective of pre-training.
///
/// # Errors
/// `Usage` for an unknown name, with the known models.
pub fn find(name: &str) -> Result<&'static Model> {
    MODELS.iter().chain(OBJECTIVES).find(|m| m.name == name).ok_or_else(|| {
        let known: Vec<&str> = MODELS.iter().map(|m| m.name).collect();
        Error::Usage(format!("unknown model {name}; known models: {}", known.join(", ")))
    })
}
