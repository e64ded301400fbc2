//! RNN: a bidirectional GRU of three layers over the instances of a clip (ISMIR 2019, baseline). The prediction is
//! computed from the output at the clip's last instance.

use crate::core::error::Result;
use crate::graph::Graph;
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::layers::{Recurrent, WeightInit, linear_sigmoid};
use crate::nn::model::{Inputs, Model, ModelConfig, Prediction, Protocol};
use crate::ops::activation::{Activation, Dropout, dropout_activation};
use crate::ops::join_columns::join_columns;
use crate::ops::last_instance::last_instance;
use crate::ops::recurrent::{Cell, recurrent};

pub const MODEL: Model = Model {
    name: "rnn",
    about: "three bidirectional GRU layers (ISMIR 2019)",
    protocol: Protocol::EMBEDDINGS,
    fixed_instances: false,
    positions: [1, 1],
    has_attention: false,
    single_label: false,
    inputs: &[FeatureKind::Vggish],
    patches: &[],
    build: Some(build),
};

const LAYERS: usize = 3;
/// Per direction.
const HIDDEN: usize = 64;

fn build(g: &mut Graph, inputs: Inputs, config: ModelConfig) -> Result<Prediction> {
    let of = |layer: usize| Recurrent { name: "rnn", layer, cell: Cell::Gru, hidden: HIDDEN };
    let mut h = inputs.x;
    for layer in 0..LAYERS - 1 {
        h = of(layer).both_ways(g, h, inputs.lengths, None)?.y;
        let dropout = Dropout { p: config.dropout, clock: inputs.clock, stream: layer as u32 };
        h = dropout_activation(g, h, Activation::Identity, dropout)?;
    }
    // At the last instance the reverse direction has made its first step only: no further steps are computed.
    let last = last_instance(g, h, inputs.lengths)?;
    let [batch, width] = *g.shape(last).dims() else { unreachable!("last_instance gives (B, F)") };
    let last = g.reshape(last, [batch, 1, width]);
    let top = of(LAYERS - 1);
    let mut ends = vec![];
    for (x, reverse) in [(h, false), (last, true)] {
        let (input, direction) = top.directions(g, x, &[reverse])?;
        ends.push(recurrent(g, Cell::Gru, input, &direction, inputs.lengths, None, None)?.state.h);
    }
    let h = join_columns(g, &ends)?;
    Ok(Prediction::new(linear_sigmoid(g, "out", h, config.classes, WeightInit::Torch)?))
}
