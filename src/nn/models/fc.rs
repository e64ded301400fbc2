//! FC: a fully connected network over the concatenated ten instances of a clip (ISMIR 2019, baseline).

use crate::core::error::Result;
use crate::graph::Graph;
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::layers::{WeightInit, linear_dropout, linear_sigmoid};
use crate::nn::model::{Inputs, Model, ModelConfig, Prediction, Protocol};
use crate::ops::activation::Dropout;

pub const MODEL: Model = Model {
    name: "fc",
    about: "fully connected network over all instances at once (ISMIR 2019)",
    protocol: Protocol { lr: 1e-4, ..Protocol::EMBEDDINGS },
    fixed_instances: true,
    positions: [1, 1],
    has_attention: false,
    single_label: false,
    inputs: &[FeatureKind::Vggish],
    patches: &[],
    build: Some(build),
};

const WIDTHS: [usize; 3] = [512, 512, 128];

/// Of leaky ReLU.
const NEGATIVE_SLOPE: f64 = 0.01;

fn build(g: &mut Graph, inputs: Inputs, config: ModelConfig) -> Result<Prediction> {
    let [batch, instances, width] = *g.shape(inputs.x).dims() else { unreachable!("gather gives (B, T, F)") };
    let mut h = g.reshape(inputs.x, [batch, instances * width]);
    for (i, width) in WIDTHS.into_iter().enumerate() {
        let dropout = Dropout { p: config.dropout, clock: inputs.clock, stream: i as u32 };
        h = linear_dropout(g, &format!("fc.{i}"), h, width, WeightInit::XavierNormal, NEGATIVE_SLOPE, dropout)?;
    }
    Ok(Prediction::new(linear_sigmoid(g, "out", h, config.classes, WeightInit::XavierNormal)?))
}
