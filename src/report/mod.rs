//! What people read: tables for the terminal, plots, and benchmark files.

pub mod bench;
pub mod compare;
pub mod evaluation;
mod hidpi;
pub mod numbers;
pub mod plot;
mod plot_comparison;
pub mod recognition_page;
pub mod recognition_plot;
pub mod recognition_table;
mod spectrogram;
pub mod table;

pub use spectrogram::Picture;
pub use table::{Align, Look, Table};
