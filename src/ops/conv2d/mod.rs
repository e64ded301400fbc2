//! Convolution of images with channels last, stride 1 or 2 and 'same' padding (zeros around), bias and ReLU fused.
//!
//! x (B, H, W, C), w (N, C, S, S) with S odd, b (N) or none, y (B, H', W', N), H' = H / stride rounded up:
//! `y[b, h, w, n] = f(b[n] + sum over i, j, c of w[n, c, i, j] x[b, stride h + i - top, stride w + j - left, c])`, f
//! nothing or ReLU. With stride 1 top and left are S/2; with 2 they are TensorFlow's, see [`same_padding`].
//! The weights are PyTorch's, in memory as on disk; every pass packs them for its product, which costs one pass over
//! them where the product takes B H W. Gradients, with g = dy where y > 0 (all of dy without ReLU): dx is the same
//! convolution of g, with zeros between its pixels where the stride is 2, with the weights rotated by 180 degrees and
//! their channels exchanged, dw = g^T patches(x), db = the sum of g over pixels.

mod cases;
mod kernels;

use std::slice::from_ref;

use super::{Entry, joined, relu_gradient};
use crate::graph::slice_sums;
use kernels::{RUNS, RUNS_UNALIGNED, SQUARE3_ALIGNED, SQUARE3_SINGLE, SUBGROUP8, TILES, UNALIGNED, WEIGHTS};

pub use kernels::{Conv2d, conv2d, same_padding};

pub(crate) const OP: Entry = Entry {
    name: "conv2d",
    about: "convolution of images, stride 1 or 2, 'same' padding, ReLU fused",
    shaders: &joined::<32>(&[
        TILES.plain.as_flattened().as_flattened(),
        TILES.cooperative.as_flattened(),
        from_ref(&WEIGHTS),
        &slice_sums::SHADERS,
        from_ref(&SUBGROUP8),
        from_ref(&UNALIGNED),
        from_ref(&RUNS),
        from_ref(&RUNS_UNALIGNED),
        &SQUARE3_ALIGNED,
        &SQUARE3_SINGLE,
        &relu_gradient::SHADERS,
    ]),
    cases: cases::cases,
};
