//! Training: the learner that replays steps, and the trainer that runs epochs.

pub mod learner;
pub mod trainer;
