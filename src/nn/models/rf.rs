//! RF: a random forest per class on the mean of a clip's embeddings over time (ISMIR 2019, the baseline RF_BR; binary
//! relevance).
//!
//! It is trained on the CPU, by `train::forest`.

use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::model::{Model, Protocol};

pub const MODEL: Model = Model {
    name: "rf",
    about: "random forest per class on the mean over time, on the CPU (ISMIR 2019)",
    // A forest has no steps: its settings are constants of `train::forest`. It is trained on the whole training split.
    protocol: Protocol { lr: 0.0, epochs: 1, dropout: 0.0, batch: 1, val_fraction: 0.0, ..Protocol::COMMON },
    fixed_instances: false,
    positions: [1, 1],
    has_attention: false,
    single_label: false,
    inputs: &[FeatureKind::Vggish],
    patches: &[],
    build: None,
};
