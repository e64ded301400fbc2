//! Recurrent attention: against PyTorch, against theory, and on a task whose label is visible in one corner only.

use crate::formula::frac;
use crate::support::{Golden, formula_block};
use wmic::Array;
use wmic::core::random::Stream;
use wmic::data::{Dataset, FeatureValues, Features};
use wmic::features::device_dataset::DeviceDataset;
use wmic::gpu::{Buffer, Gpu};
use wmic::graph::{Arenas, Draft, Graph, Layout, Mode, Plan, Spec, Tensor};
use wmic::nn::models::sightreader::Sightreader;
use wmic::nn::{Inputs, Labels};
use wmic::ops::activation::{Activation, activation};
use wmic::ops::adam::{Adam, adam};
use wmic::ops::draw_location::draw_normal;
use wmic::ops::linear::linear;
use wmic::ops::masked_bce::{FocalAlpha, Loss, LossMean, Normalisation, masked_bce};
use wmic::ops::recurrent_cell::Cell;
use wmic::ops::reinforce::reinforce;
use wmic::ops::reward::reward;
use wmic::ops::sample::Order;
use wmic::predict::predictor::{Detail, Predictor, layout};
use wmic::run::config::Config;
use wmic::train::learner::Learner;

const MODELS: [&str; 3] = ["sr16", "ram16-rnn", "ram16-gru"];
const BANDS: usize = 64;

/// Spectrograms of the formula, of up to `frames` frames.
fn dataset(lengths: &[u32], frames: usize, classes: usize) -> Dataset {
    let clips = lengths.len();
    let features = Features {
        values: FeatureValues::F32(
            (0..clips * frames * BANDS).map(|i| (-4.5 + 6.5 * frac(i as u32, 2500)) as f32).collect::<Vec<_>>().into(),
        ),
        instances: frames,
        width: BANDS,
        lengths: lengths.to_vec(),
        spectrum: None,
    };
    crate::support::dataset(features, classes)
}

#[test]
fn predictions_and_paths_are_those_of_pytorch() {
    let (gpu, golden) = (Gpu::open(None).unwrap(), Golden::open("sightreader.safetensors"));
    let data = dataset(&[40, 23, 31], 40, 20);
    let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
    for model in MODELS {
        // Two at a time, for several batches; glimpses must not depend on the seed.
        let config = Config { batch: 2, seeds: vec![5], ..Config::of(model, "formula").unwrap() };
        let block = formula_block(&layout(&config, 40, BANDS, 20).unwrap());
        let rows = std::slice::from_ref(&data.train);
        let predictions = Predictor::new(&gpu, &config, std::slice::from_ref(&block), &corpus, &[], Detail::Positions)
            .unwrap()
            .predict(rows)
            .unwrap();
        for (what, got) in [("p", &predictions.probabilities[0]), ("glimpses", &predictions.glimpses[0])] {
            let want = golden.tensor(&format!("{model}.{what}"));
            assert_eq!(got.dims(), want.dims(), "{model} {what}");
            // Errors pass through 16 steps.
            assert_close(&format!("{model} {what}"), got.data(), &want, 2e-5);
        }
    }
}

/// Relative to the largest value.
#[track_caller]
fn assert_close(what: &str, got: &[f32], want: &Array<f64>, relative: f64) {
    assert_eq!(got.len(), want.data().len(), "{what}");
    let largest = want.data().iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want.data()).enumerate() {
        let error = (f64::from(*g) - w).abs();
        assert!(error <= relative * largest, "{what}[{i}] is {g}, PyTorch gives {w} (largest {largest})");
    }
}

/// Of all losses together, through 16 steps: classification, policy and baseline, with the draws of seed 5.
#[test]
fn the_gradients_of_a_training_step_are_those_of_pytorch() {
    let (gpu, golden) = (Gpu::open(None).unwrap(), Golden::open("sightreader.safetensors"));
    let data = dataset(&[40, 23, 31], 40, 20);
    let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
    let split = [(data.train.clone(), data.train.clone())];
    for model in MODELS {
        let loss_mean = LossMean::Batch;
        let config = Config { batch: 3, seeds: vec![5], loss_mean, ..Config::of(model, "formula").unwrap() };
        let mut learner = Learner::new(&gpu, &config, &corpus, &[], &split, Order::InOrder).unwrap();
        learner.set_weights(&[formula_block(learner.layout())]).unwrap();
        learner.run_steps(1).unwrap();
        let tensor = |what: &str| golden.tensor(&format!("{model}.{what}"));
        assert_close(&format!("{model} loss"), &learner.latest_loss().unwrap(), &tensor("loss"), 1e-5);
        for (parameter, grad) in &learner.latest_gradients().unwrap()[0] {
            let (name, grad) = (format!("grad.{parameter}"), grad.data());
            let what = format!("{model} {name}");
            if grad.len() <= 600 {
                assert_close(&what, grad, &tensor(&name), 1e-4);
                continue;
            }
            let samples: Vec<f32> = grad.iter().step_by((grad.len() / 64) | 1).take(64).copied().collect();
            assert_close(&what, &samples, &tensor(&format!("{name}.samples")), 1e-4);
            let sum = |f: fn(f64) -> f64| grad.iter().map(|v| f(f64::from(*v))).sum::<f64>();
            let norm_sum = [sum(|v| v * v).sqrt() as f32, sum(|v| v) as f32];
            assert_close(&what, &norm_sum, &tensor(&format!("{name}.norm_sum")), 1e-4);
        }
    }
}

/// The parameters after two steps of training on 6 clips, replicas one after the other.
fn trained(gpu: &Gpu, model: &str, seeds: &[u64]) -> Vec<f32> {
    let corpus = DeviceDataset::of_dataset(gpu, &dataset(&[30; 6], 30, 5)).unwrap();
    let config = Config { batch: 4, seeds: seeds.to_vec(), ..Config::of(model, "formula").unwrap() };
    let clips: Vec<u32> = (0..6).collect();
    let splits = vec![(clips.clone(), clips); seeds.len()];
    let mut learner = Learner::new(gpu, &config, &corpus, &[], &splits, Order::Shuffled).unwrap();
    learner.run_steps(2).unwrap();
    learner.state().unwrap().params
}

#[test]
fn a_replica_among_three_is_the_same_seed_alone() {
    let gpu = Gpu::open(None).unwrap();
    let seeds = [3, 11, 1 << 40];
    for model in ["sr16", "ram16-rnn"] {
        let together = trained(&gpu, model, &seeds);
        let blocks: Vec<&[f32]> = together.chunks(together.len() / 3).collect();
        assert!(trained(&gpu, model, &seeds[..1]) == blocks[0], "{model}: weights of the first seed");
        assert!(trained(&gpu, model, &seeds[2..]) == blocks[2], "{model}: weights of the last seed");
        assert!(blocks[0] != blocks[1], "{model}: seeds differ");
    }
}

#[test]
fn sr16_fl_trains_by_the_focal_loss() {
    let config = Config::of("sr16-fl", "formula").unwrap();
    assert_eq!((config.loss, config.focal_gamma), (Loss::Focal, 2.0));
    assert_eq!(config.focal_alpha, FocalAlpha::InverseFrequency);

    let gpu = Gpu::open(None).unwrap();
    let together = trained(&gpu, "sr16-fl", &[3, 11]);
    assert!(together.iter().all(|v| v.is_finite()));
    let last = &together[together.len() / 2..];
    assert!(trained(&gpu, "sr16-fl", &[11]) == last, "weights of seed 11");
    assert!(trained(&gpu, "sr16", &[11]) != last, "as without the focal loss");
}

/// A NaN must reach the losses, or a run would continue with invalid weights.
#[test]
fn a_nan_in_any_parameter_is_seen_in_the_losses() {
    let gpu = Gpu::open(None).unwrap();
    let corpus = DeviceDataset::of_dataset(&gpu, &dataset(&[30; 4], 30, 5)).unwrap();
    let config = Config { batch: 2, ..Config::of("ram16-gru", "formula").unwrap() };
    let clips: Vec<u32> = (0..4).collect();
    let split = [(clips.clone(), clips)];
    let mut learner = Learner::new(&gpu, &config, &corpus, &[], &split, Order::Shuffled).unwrap();
    let clean = learner.state().unwrap();
    for p in learner.layout().params.clone() {
        let mut poisoned = clean.clone();
        poisoned.params[p.offset] = f32::NAN;
        learner.restore(&poisoned).unwrap();
        // The baseline's reaches them through the policy, from the first of two steps.
        assert!(learner.train(&|| false, &mut |_| {}).unwrap());
        let sums = learner.validate().unwrap();
        let losses = [sums.train_loss[0], sums.val_loss[0]];
        assert!(losses.iter().all(|loss| !loss.is_finite()), "a NaN in {} leaves losses of {losses:?}", p.name);
    }
}

fn realise(gpu: &Gpu, g: &Graph, keep: &[Tensor], seeds: &[(Tensor, &str)], bound: &[(&str, Buffer)]) -> Plan {
    Draft::new(g, gpu.adapter().target(), 1, keep, seeds).unwrap().realise(gpu, bound).unwrap()
}

/// A two-armed bandit: a reward of 1 for a location in the later half, else 0. Its mean is Phi(mu / std), with a known
/// slope.
#[test]
fn the_policy_gradient_is_the_analytic_one() {
    const BATCH: usize = 4096;
    const STEPS: u32 = 128;
    const STD: f64 = 0.17;
    let mu = [0.1f32, -0.3];
    let gpu = Gpu::open(None).unwrap();
    let mut g = Graph::new(Mode::Train);
    let clock = g.input("clock", Spec::u32([4]));
    let means = g.input_with_gradient("mu", Spec::f32([BATCH, 2]));
    let arms = g.shared_input("arms", Spec::f32([1, 2]));
    let ones = g.input("ones", Spec::f32([BATCH, 1]));
    let baseline = g.input("baseline", Spec::f32([BATCH]));
    let drawn = draw_normal(&mut g, clock, means, STD, 1).unwrap();
    // A probability of at least one half marks the later half.
    let side = linear(&mut g, drawn.location, arms, None).unwrap();
    let p = activation(&mut g, side, Activation::Sigmoid).unwrap();
    let earned = reward(&mut g, p, ones, ones, None).unwrap();
    let loss = reinforce(&mut g, means, drawn.uncut, STD, baseline, earned).unwrap();

    let z = f64::from(mu[0]) / STD;
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    let mut errors = vec![];
    for expected in [0.0f32, 0.7] {
        let clocks = gpu.buffer("clock", 4).unwrap();
        let bound = [
            ("clock", clocks.clone()),
            ("mu", gpu.upload("mu", &mu.repeat(BATCH)).unwrap()),
            ("arms", gpu.upload("arms", &[1.0f32, 0.0]).unwrap()),
            ("ones", gpu.upload("ones", &[1.0f32; BATCH]).unwrap()),
            ("baseline", gpu.upload("baseline", &[expected; BATCH]).unwrap()),
            ("dy", gpu.upload("dy", &[1.0f32]).unwrap()),
        ];
        let plan = realise(&gpu, &g, &[], &[(loss, "dy")], &bound);
        // Of each draw, by time and by frequency: minus the gradient of a loss that is a mean over the batch.
        let mut draws = [vec![], vec![]];
        for step in 0..STEPS {
            gpu.write(&clocks, 0, &[7, 0, step, 0]).unwrap();
            gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
            for (i, v) in plan.read_gradient(&gpu, means).unwrap().iter().enumerate() {
                draws[i % 2].push(-f64::from(*v) * BATCH as f64);
            }
        }
        for (draws, want) in draws.iter().zip([density / STD, 0.0]) {
            let n = draws.len() as f64;
            let mean = draws.iter().sum::<f64>() / n;
            let error = (draws.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n / n).sqrt();
            assert!((mean - want).abs() < 3.0 * error, "slope {mean} +- {error}, theory gives {want}");
            errors.push(error);
        }
    }
    let [without, _, with, _] = errors[..] else { unreachable!("two axes, two baselines") };
    assert!(with < 0.8 * without, "a baseline near the mean reward steadies the gradient: {with}, else {without}");
}

/// Pictures of noise with a square in the last corner, late and high, that is brighter or darker than the rest, which
/// is the label. A glimpse of the centre does not contain it.
mod corner {
    use super::*;

    const SIDE: usize = 24;
    const SQUARE: usize = 7;
    const BATCH: usize = 128;

    /// A small `sr16`: one square patch instead of five musical ones, 4 glimpses instead of 16, layers of 32 instead of
    /// 128, a GRU of 32 instead of 256, and wider draws, 0.3 instead of 0.17. Losses and gradients are the same.
    const NETWORK: Sightreader =
        Sightreader { patches: &[[9, 9]], cell: Cell::Gru, glimpses: 4, features: 32, hidden: 32, std: 0.3 };

    /// The visible part of a picture.
    #[derive(Clone, Copy, PartialEq)]
    pub enum View {
        Whole,
        /// The patch of a central glimpse; all else is 0. Wherever the model looks, it gets no more information than
        /// from the centre.
        Centre,
    }

    /// Pictures (n, SIDE, SIDE) and labels (n), the same ones in each view.
    fn pictures(noise: &mut Stream, n: usize, view: View) -> (Vec<f32>, Vec<f32>) {
        let labels: Vec<f32> = (0..n).map(|_| f32::from(noise.uniform(1.0) > 0.0)).collect();
        let [side, _] = NETWORK.patches[0];
        // As in `ops::glimpse`.
        let centre = (SIDE + 1 - side) / 2..(SIDE + 1 + side) / 2;
        let pixel = |i: usize, noise: &mut Stream| {
            let (t, f) = (i / SIDE % SIDE, i % SIDE);
            let square = t >= SIDE - SQUARE && f >= SIDE - SQUARE;
            let level = if square { labels[i / SIDE / SIDE] - 0.5 } else { 0.0 };
            let pixel = level + noise.uniform(1.0) as f32;
            let seen = view == View::Whole || centre.contains(&t) && centre.contains(&f);
            if seen { pixel } else { 0.0 }
        };
        ((0..n * SIDE * SIDE).map(|i| pixel(i, noise)).collect(), labels)
    }

    pub struct Task<'g> {
        gpu: &'g Gpu,
        step: Plan,
        update: Plan,
        eval: Plan,
        layout: Layout,
        params: Buffer,
        clock: Buffer,
        x: Buffer,
        target: Buffer,
        probabilities: Tensor,
        path: Vec<Tensor>,
    }

    fn inputs(g: &mut Graph) -> Inputs {
        let x = g.input("x", Spec::f32([BATCH, SIDE, SIDE]));
        let lengths = g.input("lengths", Spec::u32([BATCH]));
        let clock = g.input("clock", Spec::u32([4]));
        let labels = (g.mode() == Mode::Train).then(|| Labels {
            target: g.input("target", Spec::f32([BATCH, 1])),
            observed: g.input("observed", Spec::f32([BATCH, 1])),
        });
        Inputs { x, lengths, clock, labels, partners: None, instances: None }
    }

    impl Task<'_> {
        pub fn new(gpu: &Gpu) -> Task<'_> {
            let mut g = Graph::new(Mode::Train);
            let given = inputs(&mut g);
            let labels = given.labels.expect("in training");
            let prediction = NETWORK.build(&mut g, given, 1).unwrap();
            let (loss, _) = masked_bce(
                &mut g,
                prediction.probabilities,
                labels.target,
                labels.observed,
                given.lengths,
                Normalisation::Observed,
            )
            .unwrap();
            let losses: Vec<Tensor> = [loss].into_iter().chain(prediction.auxiliary_losses).collect();
            assert_eq!(losses.len(), 1 + NETWORK.glimpses - 1, "the first location is not chosen");

            let arenas = Arenas::new(gpu, g.layout(), 1, true).unwrap();
            gpu.write(&arenas.params, 0, &g.layout().initial(1).0).unwrap();
            let [clock, x, target] = [("clock", 4), ("x", BATCH * SIDE * SIDE), ("target", BATCH)]
                .map(|(name, len)| gpu.buffer(name, len).unwrap());
            let mut bound: Vec<(&str, Buffer)> = arenas.named().to_vec();
            bound.extend([
                ("clock", clock.clone()),
                ("x", x.clone()),
                ("target", target.clone()),
                ("observed", gpu.upload("observed", &[1.0f32; BATCH]).unwrap()),
                ("lengths", gpu.upload("lengths", &[SIDE as u32; BATCH]).unwrap()),
                ("dloss", gpu.upload("dloss", &[1.0f32]).unwrap()),
                ("m", gpu.buffer("m", g.layout().trained).unwrap()),
                ("v", gpu.buffer("v", g.layout().trained).unwrap()),
            ]);
            let seeds: Vec<(Tensor, &str)> = losses.iter().map(|loss| (*loss, "dloss")).collect();
            let step = realise(gpu, &g, &[], &seeds, &bound);
            let layout = g.layout().clone();

            let mut end = Graph::new(Mode::Train);
            let len = layout.trained;
            let [w, grad, m, v] = ["params", "grads", "m", "v"].map(|name| end.input(name, Spec::f32([len])));
            let now = end.input("clock", Spec::u32([4]));
            adam(&mut end, [w, grad, m, v], now, Adam { lr: 1e-2, ..Adam::default() }, None).unwrap();
            let update = realise(gpu, &end, &[], &[], &bound);

            let mut g = Graph::new(Mode::Eval);
            let given = inputs(&mut g);
            let prediction = NETWORK.build(&mut g, given, 1).unwrap();
            let keep: Vec<Tensor> = [prediction.probabilities].iter().chain(&prediction.glimpses).copied().collect();
            let eval = realise(gpu, &g, &keep, &[], &bound);
            let (probabilities, path) = (prediction.probabilities, prediction.glimpses);
            let params = arenas.params;
            Task { gpu, step, update, eval, layout, params, clock, x, target, probabilities, path }
        }

        pub fn train(&self, steps: u32, view: View) {
            let mut noise = Stream::new(1, 1);
            for step in 0..steps {
                let (x, target) = pictures(&mut noise, BATCH, view);
                self.gpu.write(&self.x, 0, &x).unwrap();
                self.gpu.write(&self.target, 0, &target).unwrap();
                self.gpu.write(&self.clock, 0, &[9, 0, step, 0]).unwrap();
                self.gpu.run(|s| s.replay(&[&self.step.recording, &self.update.recording], 1)).unwrap();
            }
        }

        /// Restricts glimpses to the centre.
        pub fn hold(&self) {
            for p in self.layout.params.iter().filter(|p| p.name.starts_with("location.")) {
                self.gpu.write(&self.params, p.offset, &vec![0.0f32; p.shape.len()]).unwrap();
            }
        }

        /// The accuracy on new pictures, and the mean glimpse location of each step.
        pub fn evaluate(&self, view: View) -> (f64, Vec<[f64; 2]>) {
            const BATCHES: usize = 8;
            let mut noise = Stream::new(2, 2);
            let mut right = 0;
            let mut path = vec![[0.0; 2]; self.path.len()];
            for _ in 0..BATCHES {
                let (x, target) = pictures(&mut noise, BATCH, view);
                self.gpu.write(&self.x, 0, &x).unwrap();
                self.gpu.run(|s| s.replay(&[&self.eval.recording], 1)).unwrap();
                let p: Vec<f32> = self.eval.read(self.gpu, self.probabilities).unwrap();
                right += p.iter().zip(&target).filter(|(p, t)| (**p >= 0.5) == (**t == 1.0)).count();
                for (mean, tensor) in path.iter_mut().zip(&self.path) {
                    for (i, v) in self.eval.read::<f32>(self.gpu, *tensor).unwrap().iter().enumerate() {
                        mean[i % 2] += f64::from(*v) / (BATCH * BATCHES) as f64;
                    }
                }
            }
            (right as f64 / (BATCH * BATCHES) as f64, path)
        }
    }
}

#[test]
fn four_glimpses_find_the_corner_with_the_label() {
    use corner::View;
    const STEPS: u32 = 200;
    let gpu = Gpu::open(None).unwrap();
    let task = corner::Task::new(&gpu);
    // On 1024 pictures; chance level is 0.5 with a standard error of 0.016.
    let chance = |right: f64| (right - 0.5).abs() < 0.08;
    let corner = |path: &[[f64; 2]]| path.iter().any(|[time, frequency]| *time > 0.5 && *frequency > 0.5);
    let (right, path) = task.evaluate(View::Whole);
    assert!(chance(right) && !corner(&path), "before training the accuracy is {right}, on the path {path:?}");

    task.train(STEPS, View::Whole);
    let (right, path) = task.evaluate(View::Whole);
    assert!(right >= 0.95, "the accuracy is {right}");
    assert!(corner(&path), "the path is {path:?}");
    task.hold();
    let (right, path) = task.evaluate(View::Whole);
    assert!(path.iter().flatten().all(|v| *v == 0.0), "held at the centre it goes {path:?}");
    assert!(chance(right), "restricted to the centre the accuracy is {right}");

    // The same pictures and labels. Nothing is there to be learned, in fewer steps or more.
    let blinkered = corner::Task::new(&gpu);
    blinkered.train(STEPS / 4, View::Centre);
    let (right, _) = blinkered.evaluate(View::Centre);
    assert!(chance(right), "with the centre alone the accuracy is {right}");
}
