//! Runs trained weights over clips: a plan, made once and replayed batch by batch.

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::shape::Shape;
use crate::features::device_dataset::DeviceDataset;
use crate::gpu::{Buffer, Gpu, Pace};
use crate::graph::{Arenas, Draft, Graph, Layout, Mode, Plan, Spec, Tensor};
use crate::nn::{self, Inputs, Prediction};
use crate::ops::sample::PADDING;
use crate::run::config::Config;
use crate::run::weights::Block;

/// What each replica says about each clip.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// Per replica, (N, K).
    pub probabilities: Vec<Array<f32>>,
    /// For models with attention.
    pub instances: Option<InstancePredictions>,
    /// Per replica, (N, J, 2): where models that look at one place after the other have looked, time and frequency in
    /// [-1, 1]; empty for others.
    pub glimpses: Vec<Array<f32>>,
}

/// What models with attention say about each of the T P places of a clip (P in each of its T instances).
#[derive(Clone, Debug)]
pub struct InstancePredictions {
    /// Per replica, (N, T P, K): sums to 1 over the valid places.
    pub attention: Vec<Array<f32>>,
    /// Per replica, (N, T P, K): the probability that the place has by itself.
    pub scores: Vec<Array<f32>>,
    /// Per replica, (N, T P, K): the attention that the place asks for, 0 to 1, before all are weighed against each
    /// other.
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

/// A network on a GPU that predicts clips of one corpus: its weights are uploaded once, and a plan is replayed for each
/// batch.
pub struct Predictor {
    gpu: Gpu,
    config: Config,
    corpus: DeviceDataset,
    detail: Detail,
    replicas: usize,
    /// The weights by the names that graphs have for them.
    weights: Vec<(String, Buffer)>,
    /// A plan for each size of batch that was asked for: the setting `batch`, and powers of two below it.
    batches: Vec<Batch>,
}

/// A plan for `size` clips at a time, and what is read back after it.
struct Batch {
    size: usize,
    /// u32 (R, size): which clips each replica predicts next.
    rows: Buffer,
    plan: Plan,
    pace: Pace,
    /// Of probabilities, attention, scores, gates and glimpses, as far as there are any.
    outputs: Vec<Output>,
}

/// A tensor (size, ...) that is read back.
struct Output {
    tensor: Tensor,
    /// Its shape for one clip.
    dims: Vec<usize>,
}

impl Predictor {
    /// Uploads the weights `blocks`, one for each replica; `frozen` are those that the model's graph asks for by name.
    /// `corpus` is shared, not copied: what is written to it later is what is predicted then.
    ///
    /// # Errors
    /// `Limit` or `Gpu` when memory does not suffice.
    pub fn new(
        gpu: &Gpu,
        config: &Config,
        blocks: &[Block],
        corpus: &DeviceDataset,
        frozen: &[(String, Buffer)],
        detail: Detail,
    ) -> Result<Predictor> {
        let replicas = blocks.len();
        let [trained, stats] = [blocks[0].trained.len(), blocks[0].stats.len()];
        let arenas = Arenas::new(gpu, &Layout { params: vec![], trained, stats }, replicas, false)?;
        for (r, block) in blocks.iter().enumerate() {
            gpu.write(&arenas.params, r * trained, &block.trained)?;
            gpu.write(&arenas.stats, r * stats, &block.stats)?;
        }
        let mut weights = frozen.to_vec();
        weights.extend(arenas.named().map(|(name, buffer)| (name.to_owned(), buffer)));
        // Nothing is drawn at random in a prediction.
        weights.push(("clock".into(), gpu.buffer("clock", 4 * replicas)?));
        let (gpu, config, corpus) = (gpu.clone(), config.clone(), corpus.clone());
        Ok(Predictor { gpu, config, corpus, detail, replicas, weights, batches: vec![] })
    }

    /// Predicts the clips `rows[r]` of the corpus with replica r; all replicas have as many clips.
    ///
    /// # Errors
    /// `Limit` when a batch does not fit; `Gpu` if the device fails, or a model answers NaN.
    pub fn predict(&mut self, rows: &[Vec<u32>]) -> Result<Predictions> {
        assert_eq!(rows.len(), self.replicas, "clips for each replica");
        let clips = rows[0].len();
        let size = clips.next_power_of_two().min(self.config.batch);
        let at = match self.batches.iter().position(|batch| batch.size == size) {
            Some(known) => known,
            None => {
                let made = self.batch(size)?;
                self.batches.push(made);
                self.batches.len() - 1
            }
        };
        let Batch { rows: input, plan, pace, outputs, .. } = &mut self.batches[at];
        let mut collected: Vec<Vec<Vec<f32>>> = vec![vec![vec![]; self.replicas]; outputs.len()];
        for first in (0..clips).step_by(size) {
            let valid = size.min(clips - first);
            let taken = rows.iter().flat_map(|rows| {
                let padding = std::iter::repeat_n(&PADDING, size - valid);
                rows[first..first + valid].iter().chain(padding).copied()
            });
            let taken: Vec<u32> = taken.collect();
            self.corpus.upload(&self.gpu, taken.iter().copied())?;
            self.gpu.write(input, 0, &taken)?;
            pace.replay(&self.gpu, &[&plan.recording], 1, 1, &mut |_| Ok(()), &mut |_| true)?;
            for (output, collected) in outputs.iter().zip(&mut collected) {
                let values = plan.read::<f32>(&self.gpu, output.tensor)?;
                let each = values.len() / self.replicas;
                for (values, collected) in values.chunks_exact(each).zip(collected) {
                    collected.extend_from_slice(&values[..each / size * valid]);
                }
            }
        }
        let arrays = outputs.iter().zip(collected).map(|(output, collected)| {
            let shape = Shape::new([&[clips], output.dims.as_slice()].concat());
            collected.into_iter().map(|data| Array::new(shape.clone(), data)).collect()
        });
        let arrays = arrays.collect();
        let predictions = self.predictions(arrays, clips)?;
        if predictions.probabilities.iter().any(|p| p.data().iter().any(|v| v.is_nan())) {
            return Err(Error::Gpu("the model answered NaN; its weights or features are damaged".into()));
        }
        Ok(predictions)
    }

    /// Makes the plan for batches of so many clips.
    fn batch(&self, size: usize) -> Result<Batch> {
        self.corpus.max_steps(size * self.replicas)?;
        let Config { model, .. } = &self.config;
        let (model, dims) = (nn::find(model)?, self.corpus.dims);
        self.config.accepts(dims.width)?;
        let mut g = Graph::new(Mode::Eval);
        let clock = g.input("clock", Spec::u32([4]));
        let rows = g.input("rows", Spec::u32([size]));
        let clips = dims.clips(&mut g);
        let taken = dims.gather(&mut g, clips, rows, model.positions)?;
        let inputs = Inputs { x: taken.x, lengths: taken.lengths, clock, labels: None };
        let prediction = model.push(&mut g, inputs, self.config.settings(dims.classes))?;
        let tensors = kept(&prediction, self.detail);

        let draft = Draft::new(&g, self.gpu.adapter().target(), self.replicas, &tensors, &[])?;
        draft.fits(&self.gpu)?;
        let rows = self.gpu.buffer("rows", size * self.replicas)?;
        let mut bound: Vec<(&str, Buffer)> =
            self.weights.iter().map(|(name, buffer)| (name.as_str(), buffer.clone())).collect();
        bound.extend(self.corpus.named());
        bound.push(("rows", rows.clone()));
        let plan = draft.realise(&self.gpu, &bound)?;
        let output = |tensor: Tensor| Output { tensor, dims: g.shape(tensor).dims()[1..].to_vec() };
        Ok(Batch { size, rows, plan, pace: Pace::default(), outputs: tensors.into_iter().map(output).collect() })
    }

    /// `arrays` in the order of [`kept`], each per replica.
    fn predictions(&self, mut arrays: Vec<Vec<Array<f32>>>, clips: usize) -> Result<Predictions> {
        let mut rest = arrays.split_off(1);
        let probabilities = arrays.remove(0);
        let places = if nn::find(&self.config.model)?.has_attention { rest.len().min(3) } else { 0 };
        let steps = rest.split_off(places);
        let instances = match <[_; 3]>::try_from(rest) {
            Ok([attention, scores, gates]) => Some(InstancePredictions { attention, scores, gates }),
            Err(_) => None,
        };
        let looks = steps.len();
        let path = |r: usize| Array::from_fn([clips, looks, 2], |i| steps[i / 2 % looks][r].row(i / 2 / looks)[i % 2]);
        let glimpses = if looks > 0 { (0..self.replicas).map(path).collect() } else { vec![] };
        Ok(Predictions { probabilities, instances, glimpses })
    }
}

/// What is read back of a prediction, in order: probabilities; attention, scores and gates of models that attend;
/// glimpses of others.
fn kept(prediction: &Prediction, detail: Detail) -> Vec<Tensor> {
    let mut kept = vec![prediction.probabilities];
    if detail == Detail::Places {
        kept.extend(prediction.attention);
        kept.extend(prediction.position_scores.into_iter().flat_map(|p| [p.scores, p.attention]));
        kept.extend(&prediction.glimpses);
    }
    kept
}
