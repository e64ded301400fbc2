//! Figures.

pub mod axis;
pub mod box_plot;
pub mod class_bars;
pub mod comparison;
pub mod confusion;
pub mod examples;
pub mod figure;
mod font;
pub mod hidpi;
pub mod learning_curves;
pub(crate) mod png;
pub mod recording;
pub mod reliability;
pub mod seed_boxes;
pub mod spectrogram;
