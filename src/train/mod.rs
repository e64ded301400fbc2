//! L5: training and what is measured of it.

pub mod comparison;
pub mod config;
pub mod corpus;
pub mod evaluation;
pub mod experiment;
pub mod extraction;
pub mod extractor;
pub mod forest;
pub mod front_end;
pub mod learner;
pub mod metrics;
pub mod predictor;
pub mod recogniser;
pub mod run;
pub mod significance;
pub mod sound;
pub mod test_predictions;
pub mod thresholds;
pub mod trained;
pub mod trainer;
pub mod weights;

pub use crate::nn::vggish::TrainFrontEnd;
pub use crate::ops::masked_bce::{FocalAlpha, Loss};
pub use comparison::Comparison;
pub use config::{Augmentation, Config, Notes, Optimiser, Select};
pub use corpus::Corpus;
pub use evaluation::{Evaluation, SeedPredictions, SeedScores, Subject, evaluate};
pub use experiment::Experiment;
pub use front_end::FrontEnd;
pub use metrics::{ClassMetrics, Counts, Scores};
pub use run::RunDir;
pub use thresholds::Level;
pub use trained::{Fitted, Network, Split, Trained};
pub use trainer::{End, Event, Trainer};
