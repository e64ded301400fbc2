//! Figures.

pub(crate) mod axis;
pub(crate) mod box_plot;
pub(crate) mod class_bars;
pub(crate) mod comparison;
pub(crate) mod confusion;
pub mod examples;
pub(crate) mod figure;
mod font;
pub(crate) mod hidpi;
pub(crate) mod learning_curves;
pub(crate) mod png;
pub mod recording;
pub(crate) mod reliability;
pub(crate) mod seed_boxes;
pub mod spectrogram;
