//! What people read: tables for the terminal, plots, and benchmark files.

mod axis;
pub mod bench;
mod class_bars;
pub mod compare;
pub mod evaluation;
mod hidpi;
mod html;
mod learning_curves;
pub mod numbers;
pub mod plot;
mod plot_comparison;
pub mod recognition_page;
pub mod recognition_plot;
pub mod recognition_table;
mod seed_boxes;
mod spectrogram;
pub mod table;
pub mod training;

pub use spectrogram::Picture;
pub use table::{Align, Look, Table};
