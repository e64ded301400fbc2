//! The graph of a run's model: the clips of a batch, augmented in training, and the model's outputs.

use crate::core::error::{Error, Result};
use crate::features::device_dataset::Dims;
use crate::features::weights::Weights;
use crate::gpu::{Buffer, Gpu};
use crate::graph::{Graph, Mode, Spec, Tensor};
use crate::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES};
use crate::nn::front_ends::vggish::TrainFrontEnd;
use crate::nn::{self, Inputs, Labels, Prediction};
use crate::ops::concat::{Concat, concat};
use crate::ops::gather::{Batch, Rows};
use crate::ops::mixup::{Mixup, mixup};
use crate::ops::sample::{Order, Sample, sample};
use crate::ops::spec_augment::{SpecAugment, spec_augment};
use crate::run::augmentation::Augmentation;
use crate::run::config::Config;

/// Probability that concat appends another clip: half of the clips stay as they are in prediction.
const JOINED: f64 = 0.5;

/// Adds the model on the clips of `pool` to the graph, shared by training, validation and prediction. In training,
/// clips are augmented.
pub(crate) fn push_model(
    g: &mut Graph,
    dims: Dims,
    config: &Config,
    clips: usize,
    order: Order,
) -> Result<(Tensor, Batch, Prediction)> {
    let clock = g.input("clock", Spec::u32([4]));
    let pool = g.input("pool", Spec::u32([clips]));
    let model = nn::find(&config.model)?;
    config.accepts(dims.width)?;
    if nn::is_objective(model) && dims.instances != 1 {
        return Err(Error::shape(model.name, "clips of one patch", format!("{} instances", dims.instances)));
    }
    let (size, positions, all) = (config.batch.min(clips), model.positions(), dims.clips(g));
    let drawn = |order: Order| Rows::Drawn { clock, pool, how: Sample { batch: size, order } };
    let mut batch = match g.mode() == Mode::Train && config.weight_of_instances(dims.strong) > 0.0 {
        false => dims.gather(g, all, drawn(order), positions)?,
        true => {
            let rows = sample(g, clock, pool, Sample { batch: size, order })?;
            let instances = Some(dims.instance_labels(g, all, rows, positions)?);
            Batch { instances, ..dims.gather(g, all, Rows::Given(rows), positions)? }
        }
    };
    let partners = |g: &mut Graph, of: Augmentation| dims.gather(g, all, drawn(of.partners()), positions);
    let asked = |a: Augmentation| g.mode() == Mode::Train && config.augment.contains(&a);
    let (mixes, joins) = (asked(Augmentation::Mixup), asked(Augmentation::Concat));
    if mixes {
        let partners = partners(g, Augmentation::Mixup)?;
        batch = mixup(g, clock, batch, partners, Mixup { alpha: config.mixup_alpha, positions })?;
    }
    if joins {
        let partners = partners(g, Augmentation::Concat)?;
        batch = concat(g, clock, batch, partners, Concat { probability: JOINED, positions })?;
    }
    if g.mode() == Mode::Train
        && let Some(how) = config.spec_augment.filter(|how| *how != SpecAugment::OFF)
    {
        let [clips, patches, values] = *g.shape(batch.x).dims() else { unreachable!("gather gives (B, T, F)") };
        let frames = g.reshape(batch.x, [clips, patches * PATCH_FRAMES, BANDS]);
        let frames = spec_augment(g, frames, batch.lengths, clock, PATCH_FRAMES / positions, how)?;
        batch.x = g.reshape(frames, [clips, patches, values]);
    }
    let others = config.negatives().map(|order| dims.gather(g, all, drawn(order), positions));
    let partners = others.transpose()?.map(|batch| batch.target);
    let labels = (g.mode() == Mode::Train || nn::is_objective(model))
        .then_some(Labels { target: batch.target, observed: batch.observed });
    let instances = batch.instances.map(|of| of.lengths);
    let inputs = Inputs { x: batch.x, lengths: batch.lengths, clock, labels, partners, instances };
    let prediction = model.push(g, inputs, config.settings(dims.classes))?;
    Ok((clock, batch, prediction))
}

/// Prefix of the names of [`frozen_weights`].
pub(crate) const FROZEN: &str = "embeddings.0.";

/// The front end's weights of which the model of `config` uses those that begin with [`FROZEN`], if it uses any.
pub(crate) fn frozen_weights(config: &Config) -> Result<Option<Weights>> {
    match &config.front_end {
        Some(front_end) if config.trains(TrainFrontEnd::None)? => front_end.load().map(Some),
        _ => Ok(None),
    }
}

/// The frozen weights of the model of `config`, on the GPU.
pub fn frozen(gpu: &Gpu, config: &Config) -> Result<Vec<(String, Buffer)>> {
    frozen_weights(config)?.map_or(Ok(vec![]), |weights| weights.upload(gpu, FROZEN))
}
