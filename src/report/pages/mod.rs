//! Pages of HTML that need nothing else.

pub mod comparison;
pub mod html;
pub mod recording;
pub mod training;
