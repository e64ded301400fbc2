//! Fully connected layer: y = f(x w^T + b) over the innermost axis, f nothing, or ReLU, plain or leaky, and dropout,
//! or sigmoid.
//!
//! x (..., K), w (N, K) as PyTorch stores it, b (N) or none, y (..., N). The outer axes fold into M rows.
//! Gradients, with g = dy f', f' from y: dx = g w; dw = g^T x; db = sum of g over the rows.
//!
//! Segmented: w (N, S K), and row i of x is multiplied by the columns of segment i mod S only. This is how
//! Watcharasupat, Gururani and Lerch ("Visual attention for musical instrument recognition", 2020) pass each
//! time-frequency position of VGGish's last feature maps through its own part of the dense layer that follows.
//!
//! Layers of one size on the same x can be computed side by side, in the dispatches of one: y (..., L N).
//!
//! Weights beyond a storage binding are bound in parts of outputs, forward and backward; how many there are depends on
//! the shapes alone, never on R. Replicas whose weights are further apart than the size of a binding are a `Limit`
//! error.

mod cases;
mod gradients;
mod kernels;
mod layer;

use super::{Entry, activation, joined, relu_gradient};
use crate::graph::slice_sums;
use kernels::BIASES;

pub(super) use gradients::{Gradient, Gradients, parameter_gradients};
pub use kernels::Linear;
pub(super) use kernels::{Dims, Layers, SUBGROUP8, TILES, span, tile_product_rounds};
pub use layer::{linear, linear_dropout, linear_layers, linear_with};

pub(crate) const OP: Entry = Entry {
    name: "linear",
    about: "fully connected layer, also grouped or several side by side, ReLU, dropout and sigmoid fused",
    shaders: &joined::<29>(&[
        TILES.plain.as_flattened().as_flattened(),
        TILES.cooperative.as_flattened(),
        &BIASES,
        &slice_sums::SHADERS,
        &activation::SHADERS,
        &activation::IN_PLACE,
        &SUBGROUP8,
        &relu_gradient::SHADERS,
    ]),
    cases: cases::cases,
};
