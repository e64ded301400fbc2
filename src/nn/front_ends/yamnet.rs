//! YAMNet, a network that was trained to recognise the 521 classes of AudioSet (Plakal and Ellis, tensorflow/models,
//! 2019), a MobileNet (Howard et al.: "MobileNets", 2017).
//!
//! Log-mel patches of 96 frames x 64 bands, ln(mel + 0.001), every 48 frames -> 3 x 3 convolution with stride 2 to 32
//! channels -> thirteen separable ones, each a 3 x 3 convolution of every channel alone and a linear layer of the
//! channels -> maps 3 x 2 x 1024, their mean is the embedding. Every layer has a bias, into which batch norm was
//! folded, and a ReLU. A dense layer makes the classes' probabilities of it. The level of the sound is not normalised.

use crate::core::error::{Error, Result};
use crate::core::shape::Shape;
use crate::graph::{Graph, Spec, Tensor};
use crate::nn::front_ends::log_mel::{BANDS, LogMel, PATCH_FRAMES};
use crate::ops::activation::{Activation, activation};
use crate::ops::conv2d::{Conv2d, conv2d};
use crate::ops::depthwise_conv2d::{DepthwiseConv2d, depthwise_conv2d};
use crate::ops::linear::{Linear, linear, linear_with};
use crate::ops::mean_pool::mean_pool;

/// Width of the embedding of a patch.
pub const EMBEDDING: usize = 1024;
/// Classes of AudioSet.
pub const CLASSES: usize = 521;
/// Patches overlap by half.
pub const LOG_MEL: LogMel = LogMel { offset: 0.001, hop: 48 };
/// Values of the widest layer, per value of the spectrogram.
pub(crate) const CHANNELS: usize = 32;

/// Channels of the first convolution.
const FIRST: usize = 32;
/// Of the separable convolutions: stride, and channels after them.
const BLOCKS: [(usize, usize); 13] = [
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (2, 1024),
    (1, EMBEDDING),
];

/// How the names of the convolutions' weights begin.
pub(crate) const CONVOLUTIONS: &str = "layer";

/// What a layer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerKind {
    /// 3 x 3, stride 2.
    Convolution,
    /// 3 x 3, each channel alone.
    Depthwise { stride: usize },
    /// Of the channels of a pixel.
    Pointwise,
    /// Of the embedding, without ReLU.
    Dense,
}

/// A layer.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub name: String,
    pub kind: LayerKind,
    pub inputs: usize,
    pub outputs: usize,
}

impl Layer {
    /// Names and shapes of the weights and the bias, as PyTorch's.
    pub fn parameters(&self) -> [(String, Vec<usize>); 2] {
        let weight = match self.kind {
            LayerKind::Convolution => vec![self.outputs, self.inputs, 3, 3],
            LayerKind::Depthwise { .. } => vec![self.outputs, 1, 3, 3],
            LayerKind::Pointwise | LayerKind::Dense => vec![self.outputs, self.inputs],
        };
        [(format!("{}.weight", self.name), weight), (format!("{}.bias", self.name), vec![self.outputs])]
    }

    /// Adds it. Its parameters are bound by the caller, one set for all replicas.
    fn push(&self, g: &mut Graph, x: Tensor) -> Result<Tensor> {
        let [w, b] = self.parameters().map(|(name, shape)| g.shared_input(&name, Spec::f32(Shape::new(shape))));
        match self.kind {
            LayerKind::Convolution => conv2d(g, x, w, Some(b), Conv2d { stride: 2, relu: true }),
            LayerKind::Depthwise { stride } => {
                depthwise_conv2d(g, x, w, Some(b), DepthwiseConv2d { stride, relu: true })
            }
            LayerKind::Pointwise => linear_with(g, x, w, Some(b), Linear::RELU),
            LayerKind::Dense => linear(g, x, w, Some(b)),
        }
    }
}

/// All layers, in their order, named as in TensorFlow's checkpoint.
pub(crate) fn layers() -> Vec<Layer> {
    let layer = |name: String, kind, inputs, outputs| Layer { name, kind, inputs, outputs };
    let mut layers = vec![layer(format!("{CONVOLUTIONS}1.conv"), LayerKind::Convolution, 1, FIRST)];
    let mut channels = FIRST;
    for (i, (stride, filters)) in BLOCKS.into_iter().enumerate() {
        let name = |part| format!("{CONVOLUTIONS}{}.{part}", i + 2);
        layers.push(layer(name("depthwise_conv"), LayerKind::Depthwise { stride }, channels, channels));
        layers.push(layer(name("pointwise_conv"), LayerKind::Pointwise, channels, filters));
        channels = filters;
    }
    layers.push(layer("dense".into(), LayerKind::Dense, EMBEDDING, CLASSES));
    layers
}

/// Adds the embeddings. `patches` log-mel (..., 96, 64) -> (M, 1024), a row for each.
///
/// # Errors
/// `Shape` for patches of other sizes.
pub fn embeddings(g: &mut Graph, patches: Tensor) -> Result<Tensor> {
    let shape = g.shape(patches).clone();
    let [.., PATCH_FRAMES, BANDS] = *shape.dims() else {
        return Err(Error::shape("yamnet", format!("patches (..., {PATCH_FRAMES}, {BANDS})"), shape.to_string()));
    };
    let m = shape.len() / (PATCH_FRAMES * BANDS);
    let mut x = g.reshape(patches, [m, PATCH_FRAMES, BANDS, 1]);
    for layer in layers().iter().filter(|layer| layer.kind != LayerKind::Dense) {
        x = layer.push(g, x)?;
    }
    let pixels = g.shape(x).rows() / m;
    let x = g.reshape(x, [m, pixels, EMBEDDING]);
    let all = g.constant(Spec::u32([m]), vec![pixels as u32; m]);
    mean_pool(g, x, all)
}

/// Adds the probabilities of the classes. `embedding` (..., 1024) -> (..., 521).
///
/// # Errors
/// `Shape` for other embeddings.
pub fn tags(g: &mut Graph, embedding: Tensor) -> Result<Tensor> {
    let layers = layers();
    let logits = layers.last().expect("there are layers").push(g, embedding)?;
    activation(g, logits, Activation::Sigmoid)
}
