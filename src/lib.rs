//! Recognises musical instruments in recordings from weak labels, on any GPU.
//!
//! Modules are layered: each imports only from those before it in the list, and no two files import each other (`tests/architecture.rs`).
//! core, gpu, graph, check, ops, audio, metrics, data, nn, features, run, predict, train, compare, output, report, bench, and the program's cli.
//!
//! Where the design left a choice: a training step is two
//! plans replayed in turn (model and optimiser, see [`train::learner`]), and the clock of seeds and steps is a tensor like any other.

pub mod audio;
pub mod bench;
pub mod check;
pub mod compare;
pub mod core;
pub mod data;
pub mod features;
pub mod gpu;
pub mod graph;
pub mod metrics;
pub mod nn;
pub mod ops;
pub mod output;
pub mod predict;
pub mod report;
pub mod run;
pub mod train;

pub use self::core::array::Array;
pub use self::core::error::{Error, Result};
pub use self::core::shape::Shape;
