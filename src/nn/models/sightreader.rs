//! Sightreader and RAM: a recurrent network that extracts 16 glimpses of a spectrogram and chooses their locations
//! (recurrent attention) (Watcharasupat, Gururani, Lerch: "Visual attention for musical instrument recognition", 2020,
//! section III.B and C, after Mnih, Heess, Graves, Kavukcuoglu: "Recurrent models of visual attention", NIPS 2014).
//!
//! x (B, T, F) log-mel, location l_j (B, 2) = (time, frequency) in [-1, 1]^2, state h_j (B, H), h_0 = 0. Step j of J:
//! glimpse q = FC(patches around l_j), rho = ReLU(FC(q + FC(l_j))); h_j = core(rho, h_{j-1}); probabilities p_j =
//! sigmoid(FC(h_j)), the last of which are the prediction; mu_j = tanh(FC(h_j)), from which l_{j+1} is drawn with
//! standard deviation 0.17.
//!
//! In training l_1 is uniform and later locations are drawn in each step. Otherwise l_1 is the centre and l_{j+1} =
//! mu_j: predictions are deterministic.
//!
//! Loss: that of p_J trains everything except the policy and the baseline, through all steps. The policy is trained by
//! REINFORCE on R_j = r_1 + ... + r_j, r_j the accuracy of p_j on the clip's known labels, with the baseline b_j =
//! FC(h_{j-1}) fitted to R_j by its squared error; both for j >= 2, as l_1 is not chosen. The baseline reads the state
//! that chose l_j: a baseline that depends on the glimpse would be correlated with the reward, and bias the gradient.
//! Neither the policy's nor the baseline's gradient passes into the core, which Mnih et al. train by the classification
//! alone (section 3), as do common implementations.

use crate::core::error::Result;
use crate::graph::{Graph, Mode, Spec, Tensor};
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::layers::{Core, Dense};
use crate::nn::model::{Inputs, Model, Prediction, Protocol, Select};
use crate::ops::activation::{Activation, activation};
use crate::ops::add::add;
use crate::ops::draw_location::{draw_normal, draw_uniform};
use crate::ops::glimpse::{Patch, glimpse, glimpse_len};
use crate::ops::masked_bce::{FocalAlpha, Loss, LossMean};
use crate::ops::recurrent_cell::{Cell, State};
use crate::ops::reinforce::reinforce;
use crate::ops::reward::reward;

/// After musicnn (Pons and Serra, 2019): tall patches for timbre, long ones for rhythm and dynamics.
const MUSICAL: &[Patch] = &[[7, 57], [7, 25], [128, 1], [64, 1], [32, 1]];
const SQUARE: &[Patch] = &[[12, 12]];

const PROTOCOL: Protocol = Protocol {
    epochs: 250,
    dropout: 0.0,
    batch: 32,
    select: Select::ValF1,
    patience: Some(10),
    loss_mean: LossMean::Clip,
    ..Protocol::COMMON
};

pub(crate) const SR16: Model = Model {
    name: "sr16",
    about: "Sightreader: 16 glimpses of a spectrogram with musically shaped patches, GRU (visual attention, 2020)",
    protocol: PROTOCOL,
    fixed_instances: false,
    positions: [1, 1],
    has_attention: false,
    single_label: false,
    inputs: &[FeatureKind::Spectrogram],
    patches: MUSICAL,
    build: Some(|g, inputs, config| Sightreader::new(MUSICAL, Cell::Gru).build(g, inputs, config.classes)),
};

pub(crate) const SR16_FL: Model = Model {
    name: "sr16-fl",
    about: "sr16 trained with the focal loss (visual attention, 2020)",
    protocol: Protocol { loss: Loss::Focal, focal_alpha: FocalAlpha::InverseFrequency, ..PROTOCOL },
    ..SR16
};

pub(crate) const RAM16_RNN: Model = Model {
    name: "ram16-rnn",
    about: "16 glimpses of 12 x 12, plain recurrent network (visual attention, 2020)",
    patches: SQUARE,
    build: Some(|g, inputs, config| Sightreader::new(SQUARE, Cell::Tanh).build(g, inputs, config.classes)),
    ..SR16
};

pub(crate) const RAM16_GRU: Model = Model {
    name: "ram16-gru",
    about: "16 glimpses of 12 x 12, GRU (visual attention, 2020)",
    patches: SQUARE,
    build: Some(|g, inputs, config| Sightreader::new(SQUARE, Cell::Gru).build(g, inputs, config.classes)),
    ..SR16
};

/// Sizes of the network.
#[derive(Clone, Copy, Debug)]
pub struct Sightreader {
    pub patches: &'static [Patch],
    pub cell: Cell,
    /// J, at least 2.
    pub glimpses: usize,
    /// Width of the glimpse features.
    pub features: usize,
    /// H.
    pub hidden: usize,
    /// Standard deviation of the draws around mu.
    pub std: f64,
}

/// A drawn location, and its baseline.
#[derive(Clone, Copy)]
struct LocationDraw {
    mu: Tensor,
    drawn: Tensor,
    baseline: Tensor,
}

impl Sightreader {
    /// With the sizes of the paper.
    pub fn new(patches: &'static [Patch], cell: Cell) -> Sightreader {
        Sightreader { patches, cell, glimpses: 16, features: 128, hidden: 256, std: 0.17 }
    }

    /// Adds the network. In training `inputs` must have labels.
    ///
    /// # Errors
    /// `Shape` for an input that is not (B, T, F).
    pub fn build(&self, g: &mut Graph, inputs: Inputs, classes: usize) -> Result<Prediction> {
        let batch = g.shape(inputs.x).dims()[0];
        let sensor = Dense::new(g, "sensor.patches", glimpse_len(self.patches), self.features);
        let place = Dense::new(g, "sensor.location", 2, self.features);
        let joint = Dense::new(g, "sensor.joint", self.features, self.features);
        let core = Core::new(g, "core", self.cell, self.features, self.hidden);
        let policy = Dense::new(g, "location", self.hidden, 2);
        let expected = Dense::new(g, "baseline", self.hidden, 1);
        let classifier = Dense::new(g, "classifier", self.hidden, classes);

        let training = g.mode() == Mode::Train;
        let mut location = match training {
            true => draw_uniform(g, inputs.clock, batch, 0)?,
            false => g.zeros(Spec::f32([batch, 2])),
        };
        let mut first = || g.zeros(Spec::f32([batch, self.hidden]));
        let mut state = State { h: first(), c: (self.cell == Cell::Lstm).then(first) };
        let (mut glimpses, mut auxiliary_losses) = (vec![], vec![]);
        let (mut draw, mut rewards): (Option<LocationDraw>, Option<Tensor>) = (None, None);
        loop {
            glimpses.push(location);
            let patches = glimpse(g, inputs.x, location, inputs.lengths, self.patches)?;
            let (q, place) = (sensor.apply(g, patches)?, place.apply(g, location)?);
            let sum = add(g, q, place)?;
            let rho = joint.apply_relu(g, sum)?;
            state = core.step(g, rho, state)?;
            let last = glimpses.len() == self.glimpses;
            if training || last {
                let logits = classifier.apply(g, state.h)?;
                let probabilities = activation(g, logits, Activation::Sigmoid)?;
                if training {
                    let labels = inputs.labels.expect("training graphs have labels");
                    let reward = reward(g, probabilities, labels.target, labels.observed, rewards)?;
                    rewards = Some(reward.sum);
                    if let Some(LocationDraw { mu, drawn, baseline }) = draw {
                        auxiliary_losses.push(reinforce(g, mu, drawn, self.std, baseline, reward)?);
                    }
                }
                if last {
                    return Ok(Prediction { glimpses, auxiliary_losses, ..Prediction::new(probabilities) });
                }
            }
            let h = g.detach(state.h);
            let nominal = policy.apply(g, h)?;
            let mu = activation(g, nominal, Activation::Tanh)?;
            location = mu;
            if training {
                let drawn = draw_normal(g, inputs.clock, mu, self.std, glimpses.len() as u32)?;
                let baseline = expected.apply(g, h)?;
                let baseline = g.reshape(baseline, [batch]);
                draw = Some(LocationDraw { mu, drawn: drawn.uncut, baseline });
                location = drawn.location;
            }
        }
    }
}
