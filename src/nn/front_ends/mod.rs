//! What turns samples into the input of a model, as parts of its graph.

pub mod cqt;
pub mod kind;
pub mod log_mel;
pub mod spectrum;
pub mod vggish;
