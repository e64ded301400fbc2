//! Kernels, plans and training on this machine's adapter.

mod large;
mod long;
mod ops;
mod plan;
mod precision;
mod recording;
mod shaders;
mod step;
mod training;
mod windowed;

#[path = "../golden/formula.rs"]
mod formula;
