//! What people read: tables for the terminal, plots, and benchmark files.

mod axis;
pub mod bench;
pub mod bench_comparison;
mod bench_comparison_plot;
mod box_plot;
mod class_bars;
pub mod comparison;
mod comparison_page;
mod comparison_plot;
pub mod comparison_table;
pub mod confusion;
pub mod evaluation;
pub mod examples;
mod hidpi;
mod html;
mod learning_curves;
pub mod numbers;
pub mod plot;
pub mod recognition_page;
pub mod recognition_plot;
pub mod recognition_table;
mod seed_boxes;
mod spectrogram;
pub mod table;
pub mod training;

pub use spectrogram::Picture;
pub use table::{Align, Look, Table};
