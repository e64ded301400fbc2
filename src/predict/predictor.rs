//! Runs trained weights over clips.

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::shape::Shape;
use crate::features::corpus::{Corpus, Feed};
use crate::gpu::{Buffer, Gpu};
use crate::graph::{Arenas, Draft, Graph, Layout, Mode, Spec};
use crate::nn::{self, Inputs};
use crate::ops::sample::Order;
use crate::ops::track::track;
use crate::run::config::Config;
use crate::run::network::push_model;
use crate::run::weights::Block;

/// What each replica says about each clip.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// Per replica, (N, K).
    pub probabilities: Vec<Array<f32>>,
    /// For models with attention.
    pub instances: Option<InstancePredictions>,
    /// Per replica, (N, J, 2): where models that look at one place after the other have looked, time and frequency in [-1, 1];
    /// empty for others.
    pub glimpses: Vec<Array<f32>>,
}

/// What models with attention say about each of the T P places of a clip (P in each of its T instances).
#[derive(Clone, Debug)]
pub struct InstancePredictions {
    /// Per replica, (N, T P, K): sums to 1 over the valid places.
    pub attention: Vec<Array<f32>>,
    /// Per replica, (N, T P, K): the probability that the place has by itself.
    pub scores: Vec<Array<f32>>,
    /// Per replica, (N, T P, K): the attention that the place asks for, 0 to 1, before all are weighed against each other.
    pub gates: Vec<Array<f32>>,
}

/// The parameters that the model of `config` has on clips of T = `instances` instances of F = `width` values.
pub fn layout(config: &Config, instances: usize, width: usize, classes: usize) -> Result<Layout> {
    let mut g = Graph::new(Mode::Eval);
    let x = g.input("x", Spec::f32([1, instances, width]));
    let lengths = g.input("lengths", Spec::u32([1]));
    let clock = g.input("clock", Spec::u32([4]));
    nn::find(&config.model)?.push(&mut g, Inputs { x, lengths, clock, labels: None }, config.settings(classes))?;
    Ok(g.layout().clone())
}

/// How much is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The probabilities of clips.
    Clips,
    /// And what models with attention say about each place, and where others have looked.
    Places,
}

/// Predicts the clips `rows[r]` of the corpus with replica r; all replicas have as many clips.
pub fn predict(
    gpu: &Gpu,
    config: &Config,
    blocks: &[Block],
    corpus: &Corpus,
    frozen: &[(String, Buffer)],
    rows: &[Vec<u32>],
    detail: Detail,
) -> Result<Predictions> {
    let replicas = blocks.len();
    let clips = rows[0].len();
    let batch = config.batch.min(clips);
    let batches = clips.div_ceil(batch);
    let mut g = Graph::new(Mode::Eval);
    let (clock, _, prediction) = push_model(&mut g, corpus.dims, config, clips, Order::InOrder)?;
    // The tracker is there for its clock: it moves on to the next batch.
    let [parts, totals] = ["parts", "totals"].map(|name| g.input(name, Spec::f32([2])));
    let diverged = g.input("diverged", Spec::u32([1]));
    track(&mut g, parts, clock, totals, diverged, batches)?;

    let mut keep = vec![prediction.probabilities];
    let mut looks = 0;
    if detail == Detail::Places {
        keep.extend(prediction.attention);
        keep.extend(prediction.places.into_iter().flat_map(|places| [places.scores, places.gates]));
        looks = prediction.glimpses.len();
        keep.extend(prediction.glimpses);
    }
    let draft = Draft::new(&g, gpu.adapter().target(), replicas, &keep, &[])?;
    draft.fits(gpu)?;
    let arenas = Arenas::new(gpu, g.layout(), replicas, false)?;
    for (r, block) in blocks.iter().enumerate() {
        gpu.write(&arenas.params, r * g.layout().trained, &block.trained)?;
        gpu.write(&arenas.stats, r * g.layout().stats, &block.stats)?;
    }
    let mut bound = arenas.named().to_vec();
    bound.extend(corpus.named());
    bound.extend(frozen.iter().map(|(name, buffer)| (name.as_str(), buffer.clone())));
    let feed = Feed::new(corpus, rows.to_vec(), &config.seeds, batch, vec![Order::InOrder])?;
    bound.push(("clock", gpu.buffer("clock", 4 * replicas)?));
    bound.push(("pool", gpu.upload("clips", &rows.concat())?));
    bound.push(("parts", gpu.buffer("parts", 2 * replicas)?));
    bound.push(("totals", gpu.buffer("totals", 2 * replicas)?));
    bound.push(("diverged", gpu.buffer("diverged", replicas)?));
    let plan = draft.realise(gpu, &bound)?;

    let mut collected: Vec<Vec<Vec<f32>>> = vec![vec![vec![]; replicas]; keep.len()];
    for b in 0..batches {
        feed.bring(gpu, b, 1)?;
        gpu.submit(|s| s.replay(&[&plan.recording], 1))?;
        let rows = batch.min(clips - b * batch);
        for (tensor, collected) in keep.iter().zip(&mut collected) {
            let values = plan.read::<f32>(gpu, *tensor)?;
            let each = values.len() / replicas;
            for (r, collected) in collected.iter_mut().enumerate() {
                collected.extend(&values[r * each..r * each + each / batch * rows]);
            }
        }
    }
    let mut arrays = keep.iter().zip(collected).map(|(tensor, collected)| {
        let shape = Shape::new([&[clips], &g.shape(*tensor).dims()[1..]].concat());
        collected.into_iter().map(|data| Array::new(shape.clone(), data)).collect::<Vec<_>>()
    });
    let probabilities = arrays.next().expect("probabilities are always kept");
    let mut rest: Vec<_> = arrays.collect();
    let steps = rest.split_off(rest.len() - looks);
    let path = |r: usize| Array::from_fn([clips, looks, 2], |i| steps[i / 2 % looks][r].row(i / 2 / looks)[i % 2]);
    let glimpses = if looks > 0 { (0..replicas).map(path).collect() } else { vec![] };
    let instances = match rest.len() {
        3 => {
            let (gates, scores) = (rest.pop(), rest.pop());
            let parts = rest.pop().zip(scores).zip(gates);
            parts.map(|((attention, scores), gates)| InstancePredictions { attention, scores, gates })
        }
        _ => None,
    };
    if probabilities.iter().any(|p| p.data().iter().any(|v| v.is_nan())) {
        return Err(Error::Gpu("the model answered NaN; its weights or features are damaged".into()));
    }
    Ok(Predictions { probabilities, instances, glimpses })
}
