//! A graph for evaluation as an ONNX model: one replica, batches of any size.
//!
//! Each op says what it is in ONNX's operators, [`Op::onnx`](super::Op::onnx). The graph has been built for a batch of
//! one clip; the inner axes keep their sizes, and the outermost is the batch's wherever it is in the graph.

pub mod export;
pub mod operators;
