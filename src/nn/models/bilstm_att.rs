//! BiLSTM-ATT: a bidirectional LSTM over the instances of a clip, then attention as in ATT (Anhari, "Learning
//! multi-instrument classification with partial labels", 2020, section II.A). Its dropout draws once per clip, on the
//! input and on the state.

use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::layers::Recurrent;
use crate::nn::model::{Inputs, Model, Protocol};
use crate::nn::models::att::attention;
use crate::ops::activation::Dropout;
use crate::ops::clip_dropout::clip_dropout;
use crate::ops::masked_bce::Loss;
use crate::ops::recurrent::Cell;

/// Per direction.
const HIDDEN: usize = 64;

pub const MODEL: Model = Model {
    name: "bilstm-att",
    about: "bidirectional LSTM with attention (partial labels, 2020)",
    // The paper names no weight decay.
    protocol: Protocol {
        epochs: 200,
        dropout: 0.2,
        batch: 32,
        weight_decay: 0.0,
        loss: Loss::Focal,
        ..Protocol::EMBEDDINGS
    },
    fixed_instances: false,
    positions: [1, 1],
    has_attention: true,
    single_label: false,
    inputs: &[FeatureKind::Vggish],
    patches: &[],
    build: Some(|g, inputs, config| {
        let Inputs { x, lengths, clock, .. } = inputs;
        let dropout = |stream| Dropout { p: config.dropout, clock, stream };
        let x = clip_dropout(g, x, dropout(0))?;
        let lstm = Recurrent { name: "lstm", layer: 0, cell: Cell::Lstm, hidden: HIDDEN };
        let h = lstm.both_ways(g, x, lengths, Some(dropout(1)))?.y;
        attention(g, h, inputs, config)
    }),
};
