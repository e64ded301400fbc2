//! Tables for the terminal.

pub mod comparison;
pub mod evaluation;
pub mod recording;
pub mod table;
pub mod truth;
