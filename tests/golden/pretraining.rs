//! The references of pre-training's layers and losses against PyTorch, gradients by central differences.

use std::path::Path;

use crate::formula::frac;
use crate::support::{Golden, dataset, formula_block, gradient};
use serde_json::Value;
use wmic::Array;
use wmic::data::{Dataset, FeatureValues, Features};
use wmic::features::device_dataset::DeviceDataset;
use wmic::gpu::Gpu;
use wmic::graph::{Graph, Mode, Op, Spec};
use wmic::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES};
use wmic::nn::front_ends::vggish::Width;
use wmic::nn::models::pretraining::{OBJECTIVES, TEXTUAL, WORDS};
use wmic::nn::{Inputs, Labels, find};
use wmic::ops::contrastive::Contrastive;
use wmic::ops::cosine_loss::CosineLoss;
use wmic::ops::group_norm::GroupNorm;
use wmic::ops::linear::Linear;
use wmic::ops::overlap_add::OverlapAdd;
use wmic::ops::sample::Order;
use wmic::ops::sgd::Sgd;
use wmic::ops::squared_error::SquaredError;
use wmic::predict::predictor::layout;
use wmic::run::config::{Config, Optimiser};
use wmic::train::learner::Learner;

/// f32 rounding of the stored values, relative to numbers of this size.
const TOLERANCE: f64 = 1e-6;

#[track_caller]
fn assert_close(name: &str, got: &[f64], want: &Array<f64>) {
    assert_eq!(got.len(), want.data().len(), "{name}");
    for (i, (got, want)) in got.iter().zip(want.data()).enumerate() {
        assert!((got - want).abs() <= TOLERANCE * want.abs().max(1.0), "{name}[{i}] is {got}, PyTorch gives {want}");
    }
}

/// The first output of `op`, and its gradients by these inputs for the output gradient `dy`.
#[track_caller]
fn assert_op(op: &dyn Op, x: &[Array<f64>], y: (&str, &Array<f64>), dy: &Array<f64>, dx: &[(usize, &str, Array<f64>)]) {
    assert_close(y.0, op.reference(x)[0].data(), y.1);
    for (i, name, want) in dx {
        assert_close(name, &gradient(op, x, *i, dy), want);
    }
}

#[test]
fn group_norm_is_pytorchs() {
    let golden = Golden::open("pretraining.safetensors");
    let tensor = |name: &str| golden.tensor(&format!("group_norm.{name}"));
    let x = ["x", "lengths", "gamma", "beta"].map(tensor);
    let op = GroupNorm { groups: 3, eps: 1e-5 };
    let dx = [(0, "dx"), (2, "dgamma"), (3, "dbeta")].map(|(i, name)| (i, name, tensor(name)));
    assert_op(&op, &x, ("y", &tensor("y")), &tensor("dy"), &dx);
}

#[test]
fn a_linear_layer_and_overlap_add_are_pytorchs_transposed_convolution() {
    let golden = Golden::open("pretraining.safetensors");
    let tensor = |name: &str| golden.tensor(&format!("conv_transpose1d.{name}"));
    let (linear, op) = (Linear::PLAIN, OverlapAdd { size: 3 });
    let [x, w, b, dy] = ["x", "w", "b", "dy"].map(tensor);
    let frames = linear.reference(&[x.clone(), w.clone()])[0].clone();
    let inputs = [frames, b];
    assert_op(&op, &inputs, ("y", &tensor("y")), &dy, &[(1, "db", tensor("db"))]);
    let d_frames = Array::new(inputs[0].shape().clone(), gradient(&op, &inputs, 0, &dy));
    for (i, name) in [(0, "dx"), (1, "dw")] {
        assert_close(name, &gradient(&linear, &[x.clone(), w.clone()], i, &d_frames), &tensor(name));
    }
}

#[test]
fn losses_are_pytorchs() {
    let golden = Golden::open("pretraining.safetensors");
    let tensor = |name: &str| golden.tensor(name);
    let one = Array::new([1], vec![1.0]);
    for (margin, name, target) in [(None, "alike", "t"), (Some(0.5), "differ", "other")] {
        let mut x = vec![tensor("cosine.x"), tensor(&format!("cosine.{target}")), tensor("cosine.lengths")];
        x.extend(margin.map(|_| tensor("cosine.own")));
        let loss = tensor(&format!("cosine.{name}"));
        assert_op(&CosineLoss { margin }, &x, (name, &loss), &one, &[(0, name, tensor(&format!("cosine.{name}_dx")))]);
    }
    let x = ["a", "g", "lengths"].map(|name| tensor(&format!("contrastive.{name}")));
    let dx = [(0, "da"), (1, "dg")].map(|(i, name)| (i, name, tensor(&format!("contrastive.{name}"))));
    assert_op(&Contrastive { tau: 0.1 }, &x, ("loss", &tensor("contrastive.loss")), &one, &dx);
    let x = ["x", "t", "lengths"].map(|name| tensor(&format!("error.{name}")));
    for (absolute, name) in [(false, "squared"), (true, "absolute")] {
        let loss = tensor(&format!("error.{name}"));
        assert_op(
            &SquaredError { absolute },
            &x,
            (name, &loss),
            &one,
            &[(0, name, tensor(&format!("error.{name}_dx")))],
        );
    }
}

#[test]
fn sgd_is_pytorchs() {
    let golden = Golden::open("pretraining.safetensors");
    let [w, grad, after] = ["p0", "grad", "p"].map(|name| golden.tensor(&format!("sgd.{name}")));
    let op = Sgd { lr: 0.3, weight_decay: 0.1 };
    assert_close("p", op.reference(&[w, grad])[0].data(), &after);
}

#[test]
fn the_classifier_on_log_mel_frames_has_the_parameters_of_its_paper() {
    let config = Config::of("att-gn-logmel", "sounds").unwrap();
    assert_eq!(layout(&config, 10, 96 * 64, 20).unwrap().count(), 63_144);
}

/// Trained parameters of the objective's VGGish and of its head, for so many classes.
fn parameters(objective: &str, width: Width, classes: usize) -> [usize; 2] {
    let mut config = Config::of(objective, "sounds").unwrap();
    config.pretrain.as_mut().unwrap().width = width;
    let mut g = Graph::new(Mode::Train);
    let x = g.input("x", Spec::f32([2, 1, 96 * 64]));
    let [lengths, clock] = [("lengths", 2), ("clock", 4)].map(|(name, n)| g.input(name, Spec::u32([n])));
    let [target, observed] = ["target", "observed"].map(|name| g.input(name, Spec::f32([2, classes])));
    let labels = Some(Labels { target, observed });
    let inputs = Inputs { x, lengths, clock, labels, partners: None, instances: None };
    find(objective).unwrap().push(&mut g, inputs, config.settings(classes)).unwrap();
    let vggish = |name: &str| name.starts_with("features.") || name.starts_with("embeddings.");
    let trained = || g.layout().params.iter().filter(|p| p.trainable);
    [true, false].map(|of| trained().filter(|p| vggish(&p.name) == of).map(|p| p.shape.len()).sum())
}

#[test]
fn objectives_have_the_parameters_of_their_papers() {
    let eighth = 1_185_824;
    assert_eq!(parameters("tags", Width::Full, 1000), [72_141_184, 129_000]);
    assert_eq!(parameters("textual", Width::Eighth, 10), [eighth, 129_256]);
    assert_eq!(parameters("denoise-add", Width::Eighth, 1), [eighth, 614_720]);
    assert_eq!(parameters("denoise-mul", Width::Eighth, 1), [eighth, 614_720]);
    // The affine transformation of the sound, and the encoder of 1000 tags.
    assert_eq!(parameters("align", Width::Eighth, 1000), [eighth, 148_608 + 2_697_600]);
}

/// PyTorch's own f32 losses are within 3e-6 of its f64 ones.
const TRAJECTORY: f64 = 1e-5;

#[test]
fn ten_steps_of_every_objective_follow_pytorch() {
    const CLASSES: usize = 10;
    let gpu = Gpu::open(None).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/objectives.json");
    let trajectories: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(trajectories.as_array().unwrap().len(), OBJECTIVES.len());
    for of in trajectories.as_array().unwrap() {
        let [batch, patches] = ["batch", "patches"].map(|name| of[name].as_u64().unwrap() as usize);
        let objective = of["objective"].as_str().unwrap();
        let (lr, optimiser) = (of["lr"].as_f64().unwrap(), Optimiser::Sgd);
        let seeds = vec![of["seed"].as_u64().unwrap()];
        let mut config = Config { batch, lr, optimiser, seeds, ..Config::of(objective, "formula").unwrap() };
        config.pretrain.as_mut().unwrap().width = Width::Eighth;
        let len = PATCH_FRAMES * BANDS;
        let values = (0..patches * len).map(|i| (-4.5 + 6.5 * frac(i as u32, 2100)) as f32).collect::<Vec<_>>();
        let (values, lengths) = (FeatureValues::F32(values.into()), vec![1; patches]);
        let features = Features { values, instances: 1, width: len, lengths, spectrum: None };
        let data = Dataset { observed: vec![true; patches * CLASSES], ..dataset(features, CLASSES) };
        // (D, K), as the graph takes them.
        let vectors: Vec<f32> =
            (0..300 * CLASSES).map(|i| (i % CLASSES * 300 + i / CLASSES) as u32).map(word).collect();
        let words = (WORDS.to_owned(), gpu.upload(WORDS, &vectors).unwrap());
        let frozen = Vec::from_iter((objective == TEXTUAL).then_some(words));
        let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
        let split = (data.train.clone(), data.train.clone());
        let mut learner = Learner::new(&gpu, &config, &corpus, &frozen, &[split], Order::InOrder).unwrap();
        learner.set_weights(&[formula_block(learner.layout())]).unwrap();
        let mut errors = vec![];
        for want in of["loss"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()) {
            learner.run_steps(1).unwrap();
            errors.push((f64::from(learner.latest_loss().unwrap()[0]) - want).abs() / want);
        }
        assert!(errors.iter().all(|error| *error <= TRAJECTORY), "{objective}: relative errors {errors:?}");
    }
}

/// A value of the vectors (K, D) of words.
fn word(i: u32) -> f32 {
    (2.0 * frac(i, 160) - 1.0) as f32
}
