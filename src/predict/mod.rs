//! What a trained run says of clips and recordings.

pub mod forest;
pub mod predictor;
pub mod recogniser;
pub mod recognition;
pub mod timeline;
pub mod trained;
