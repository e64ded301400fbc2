//! FC_T: a fully connected network per instance with a skip connection, averaged over the instances (ISMIR 2019,
//! baseline).

use crate::core::error::Result;
use crate::graph::Graph;
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::layers::{WeightInit, linear_dropout, linear_sigmoid};
use crate::nn::model::{Inputs, Model, ModelConfig, Prediction, Protocol};
use crate::ops::activation::Dropout;
use crate::ops::mean_pool::mean_pool_with_skip;

pub const MODEL: Model = Model {
    name: "fc-t",
    about: "fully connected network per instance, averaged over time (ISMIR 2019)",
    protocol: Protocol::EMBEDDINGS,
    fixed_instances: false,
    positions: [1, 1],
    has_attention: false,
    single_label: false,
    inputs: &[FeatureKind::Vggish],
    patches: &[],
    build: Some(build),
};

/// Of leaky ReLU.
const NEGATIVE_SLOPE: f64 = 0.01;

fn build(g: &mut Graph, inputs: Inputs, config: ModelConfig) -> Result<Prediction> {
    let width = g.shape(inputs.x).last();
    let mut h = inputs.x;
    for i in 0..3 {
        let dropout = Dropout { p: config.dropout, clock: inputs.clock, stream: i };
        h = linear_dropout(g, &format!("fc.{i}"), h, width, WeightInit::XavierNormal, NEGATIVE_SLOPE, dropout)?;
    }
    h = mean_pool_with_skip(g, h, inputs.x, inputs.lengths)?;
    Ok(Prediction::new(linear_sigmoid(g, "out", h, config.classes, WeightInit::XavierNormal)?))
}
