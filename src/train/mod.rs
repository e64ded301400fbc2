//! Training: the learner that replays steps, the trainer that runs epochs, and the forest that grows.

pub mod forest;
pub mod learner;
pub mod session;
pub mod trainer;
