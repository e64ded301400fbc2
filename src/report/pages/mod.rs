//! Self-contained HTML pages.

pub mod comparison;
pub mod html;
pub mod index;
pub mod recording;
pub mod training;
