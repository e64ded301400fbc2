//! Layers and models, as functions that add ops and declare parameters.
//!
//! Parameter names are PyTorch's: a linear layer named `out` has `out.weight` (N, K) and `out.bias` (N), a batch norm
//! `bn_in` has `weight`, `bias`, `running_mean` and `running_var`.

pub mod front_ends;
pub mod layers;
pub mod model;
pub mod models;

pub use front_ends::kind::FeatureKind;
pub use model::{Inputs, Labels, Model, ModelConfig, Optimiser, Prediction, Protocol, Select};
pub use models::{MODELS, find, is_objective};
