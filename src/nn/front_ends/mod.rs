//! Front ends: audio samples to model inputs, as parts of a graph.

pub mod cqt;
pub mod kind;
pub mod log_mel;
pub mod musicnn;
pub mod network;
pub mod spectrum;
pub mod vggish;
pub mod yamnet;
