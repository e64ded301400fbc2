//! From sound to features: what turns recordings into a model's input, where it is kept, and the clips of a data set on the GPU.

pub mod corpus;
pub mod extraction;
pub mod extractor;
pub mod front_end;
pub mod scaling;
pub mod sound;
