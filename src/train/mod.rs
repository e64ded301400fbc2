//! Training: the learner (steps on the GPU), the trainer (epochs), the session (a run), and forests.

pub mod findings;
pub mod forest;
mod front_ends;
pub mod graphs;
mod init;
pub mod learner;
mod mixtures;
pub mod outline;
pub mod session;
pub mod trainer;
