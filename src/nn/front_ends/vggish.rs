//! VGGish, the network (Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017, as
//! released).
//!
//! Log-mel patches of 96 frames x 64 bands -> conv 3x3 and ReLU: 64, pool 2; 128, pool 2; 256, 256, pool 2; 512, 512,
//! pool 2 -> maps 6 x 4 x 512 -> dense 4096, 4096, 128, ReLU after each. Parameters are named and shaped as in
//! torchvggish's state dict (`features.N.*`, `embeddings.N.*`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::core::shape::Shape;
use crate::graph::{Graph, Init, Layout, Mode, Spec, Tensor};
use crate::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES};
use crate::nn::layers::WeightInit;
use crate::ops::conv2d::{Conv2d, conv2d};
use crate::ops::linear::{Linear, linear_with};
use crate::ops::max_pool2d::{Rounding, max_pool2d};

/// Time steps and frequency bands of the last feature maps of a patch.
pub(crate) const MAP: [usize; 2] = [6, 4];
/// Width of the embedding of a patch.
pub const EMBEDDING: usize = 128;

/// Filters of the convolutions at full width, in the blocks that end with a pool; torchvggish numbers its layers so.
const BLOCKS: [&[(usize, usize)]; 4] = [&[(0, 64)], &[(3, 128)], &[(6, 256), (8, 256)], &[(11, 512), (13, 512)]];
const DENSE: usize = 4096;

/// Width as a fraction of the published channels: 1, 1/2, 1/4 or 1/8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Width {
    #[default]
    Full,
    Half,
    Quarter,
    Eighth,
}

impl Width {
    const NAMES: [(Width, &str, usize); 4] =
        [(Width::Full, "1", 1), (Width::Half, "1/2", 2), (Width::Quarter, "1/4", 4), (Width::Eighth, "1/8", 8)];

    fn entry(self) -> (Width, &'static str, usize) {
        Width::NAMES[self as usize]
    }

    /// The width at which so many channels are left of `channels`.
    pub(crate) fn with_channels(left: usize, channels: usize) -> Option<Width> {
        Width::NAMES.iter().map(|entry| entry.0).find(|width| width.of(channels) == left)
    }

    /// Of `channels` at full width.
    pub fn of(self, channels: usize) -> usize {
        channels / self.entry().2
    }

    /// Channels of the last feature maps, 512 at full width.
    pub(crate) fn map_channels(self) -> usize {
        self.of(512)
    }

    /// Outputs of the first two dense layers, 4096 at full width.
    pub fn dense(self) -> usize {
        self.of(DENSE)
    }

    /// Values of the last feature maps of a patch.
    pub fn map_len(self) -> usize {
        MAP[0] * MAP[1] * self.map_channels()
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.entry().1)
    }
}

impl FromStr for Width {
    type Err = Error;

    fn from_str(text: &str) -> Result<Width> {
        let known = Width::NAMES.iter().find(|(_, name, _)| *name == text);
        known
            .map(|(width, ..)| *width)
            .ok_or_else(|| Error::Usage(format!("unknown width {text}; use 1, 1/2, 1/4 or 1/8")))
    }
}

impl TryFrom<String> for Width {
    type Error = Error;

    fn try_from(text: String) -> Result<Width> {
        text.parse()
    }
}

impl From<Width> for String {
    fn from(width: Width) -> String {
        width.to_string()
    }
}

/// Part of VGGish trained with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainFrontEnd {
    /// Frozen.
    #[default]
    None,
    /// The first dense layer; convolutions frozen.
    Dense,
    /// The convolutions and the first dense layer, from log-mel spectrograms.
    All,
}

/// Default initialisation: He's weights preserve the variance of the signal through ReLUs, so that the features of a
/// random network are useful.
pub const INIT: WeightInit = WeightInit::HeNormal;

/// Source of a layer's parameters.
#[derive(Clone, Copy, Debug)]
pub enum Weights {
    /// Parameters of the model, one set per replica, with these initial values.
    Trained(WeightInit),
    /// Bound by the caller under their names, one set for all replicas.
    Frozen,
}

impl Weights {
    fn param(self, g: &mut Graph, name: String, shape: &[usize], init: Init) -> Tensor {
        match self {
            Weights::Trained(_) => g.param(&name, Shape::new(shape), init),
            Weights::Frozen => g.shared_input(&name, Spec::f32(Shape::new(shape))),
        }
    }

    /// Weight and bias of a layer.
    fn layer(self, g: &mut Graph, name: &str, shape: &[usize]) -> [Tensor; 2] {
        let area: usize = shape[2..].iter().product();
        let init = if let Weights::Trained(init) = self { init } else { INIT };
        let [weight, bias] = init.first(area * shape[1], area * shape[0]);
        let weight = self.param(g, format!("{name}.weight"), shape, weight);
        [weight, self.param(g, format!("{name}.bias"), &shape[..1], bias)]
    }
}

/// Adds the convolutions. `patches` log-mel (M, 96, 64) -> maps (M, 6, 4, C).
///
/// # Errors
/// `Shape` for patches of other sizes.
pub fn convolutions(g: &mut Graph, patches: Tensor, width: Width, weights: Weights) -> Result<Tensor> {
    let [m, PATCH_FRAMES, BANDS] = *g.shape(patches).dims() else {
        return Err(Error::shape(
            "vggish",
            format!("patches (M, {PATCH_FRAMES}, {BANDS})"),
            g.shape(patches).to_string(),
        ));
    };
    let mut x = g.reshape(patches, [m, PATCH_FRAMES, BANDS, 1]);
    for block in BLOCKS {
        for (i, (index, filters)) in block.iter().enumerate() {
            let shape = [width.of(*filters), g.shape(x).last(), 3, 3];
            let [w, b] = weights.layer(g, &format!("features.{index}"), &shape);
            // The pool has the ReLU of the last one.
            x = conv2d(g, x, w, Some(b), Conv2d { relu: i + 1 < block.len(), ..Conv2d::default() })?;
        }
        x = max_pool2d(g, x, Rounding::Down, true)?;
    }
    Ok(x)
}

/// Adds the first dense layer with ReLU, each position of the maps through its own segment of the weights.
/// `maps` (M, 6, 4, C) -> (M, 6, 4, D) with `per_band`; else the bands of a time step are summed before the ReLU: (M,
/// 6, 1, D).
pub(crate) fn segmented_dense(
    g: &mut Graph,
    maps: Tensor,
    width: Width,
    weights: Weights,
    per_band: bool,
) -> Result<Tensor> {
    let m = g.shape(maps).dims()[0];
    // The bands of a time step are adjacent, in the maps and in the weights: their sum is one longer product.
    let bands = if per_band { MAP[1] } else { 1 };
    let segments = MAP[0] * bands;
    let x = g.reshape(maps, [m * segments, width.map_len() / segments]);
    let [w, b] = weights.layer(g, "embeddings.0", &[width.dense(), width.map_len()]);
    let y = linear_with(g, x, w, Some(b), Linear { segments, ..Linear::RELU })?;
    Ok(g.reshape(y, [m, MAP[0], bands, width.dense()]))
}

/// Adds the dense layers. `maps` (M, 6, 4, C) -> embeddings (M, 128). The release of 2017, used for OpenMIC's features,
/// has a ReLU after the last layer (`last_relu`); later ones do not.
pub fn embeddings(g: &mut Graph, maps: Tensor, width: Width, weights: Weights, last_relu: bool) -> Result<Tensor> {
    let m = g.shape(maps).dims()[0];
    let mut x = g.reshape(maps, [m, width.map_len()]);
    for (index, outputs, relu) in [(0, width.dense(), true), (2, width.dense(), true), (4, EMBEDDING, last_relu)] {
        let inputs = g.shape(x).last();
        let [w, b] = weights.layer(g, &format!("embeddings.{index}"), &[outputs, inputs]);
        x = linear_with(g, x, w, Some(b), if relu { Linear::RELU } else { Linear::PLAIN })?;
    }
    Ok(x)
}

/// All parameters, convolutions first.
pub fn layout(width: Width, init: WeightInit) -> Layout {
    let mut g = Graph::new(Mode::Eval);
    let patches = g.input("patches", Spec::f32([1, PATCH_FRAMES, BANDS]));
    let maps = convolutions(&mut g, patches, width, Weights::Trained(init)).expect("patches of the right size");
    embeddings(&mut g, maps, width, Weights::Trained(init), true).expect("maps of the right size");
    g.layout().clone()
}
