//! What people read: tables for the terminal, plots, and benchmark files.

pub mod bench;
pub mod compare;
pub mod evaluation;
mod hidpi;
pub mod numbers;
pub mod plot;
mod plot_comparison;
pub mod table;

pub use table::{Align, Look, Table};
