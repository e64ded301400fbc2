//! The formats in which results are written.

pub mod audacity;
pub mod csv;
pub mod jams;
pub mod json;
