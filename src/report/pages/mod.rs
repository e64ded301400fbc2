//! Self-contained HTML pages.

pub(crate) mod comparison;
pub(crate) mod html;
pub mod index;
pub mod pretraining;
pub mod recording;
pub mod training;
