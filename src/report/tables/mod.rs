//! Tables for the terminal.

pub mod archive;
pub mod comparison;
pub mod evaluation;
pub mod recording;
pub mod table;
pub mod truth;
