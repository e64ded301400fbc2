//! The visual attention models against PyTorch, on clips of 2, 1, 3 and 2 patches: probabilities, attention, loss and
//! gradients.

use crate::formula::frac;
use crate::support::{Golden, assert_close, block};
use wmic::data::{Dataset, FeatureValues, Features};
use wmic::features::device_dataset::DeviceDataset;
use wmic::features::front_end::{FrontEnd, Source};
use wmic::gpu::{Buffer, Gpu};
use wmic::graph::Layout;
use wmic::nn::FeatureKind;
use wmic::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES};
use wmic::nn::front_ends::vggish::{self, TrainFrontEnd, Width};
use wmic::ops::masked_bce::LossMean;
use wmic::ops::sample::Order;
use wmic::predict::predictor::{Detail, Predictor, layout};
use wmic::run::config::Config;
use wmic::run::weights::Block;
use wmic::train::learner::Learner;

const CLASSES: usize = 20;
const WIDTH: Width = Width::Eighth;
const INSTANCES: usize = 3;
const LENGTHS: [u32; 4] = [2, 1, 3, 2];

/// Of f32 kernels, relative to the largest value of a tensor; gradients pass up to nine layers and sum over thousands
/// of positions.
const PREDICTIONS: f64 = 1e-5;
const GRADIENTS: f64 = 1e-4;

/// As `clips` in `tests/golden/visual.py`.
fn dataset(all: bool) -> Dataset {
    let width = if all { PATCH_FRAMES * BANDS } else { WIDTH.map_len() };
    let value = |i: usize| {
        let (clip, patch) = (i / (INSTANCES * width), i / width % INSTANCES);
        let frac = frac(i as u32, 2400);
        match patch < LENGTHS[clip] as usize {
            true if all => (-4.5 + 6.5 * frac) as f32,
            true => (2.0 * frac - 1.0).max(0.0) as f32,
            false => 0.0,
        }
    };
    let clips = LENGTHS.len();
    let features = Features {
        values: FeatureValues::F32((0..clips * INSTANCES * width).map(value).collect::<Vec<_>>().into()),
        instances: INSTANCES,
        width,
        lengths: LENGTHS.to_vec(),
        spectrum: None,
    };
    crate::support::dataset(features, CLASSES)
}

/// The formula's weights, trained and frozen, numbered together.
fn weights(gpu: &Gpu, layout: &Layout, frozen: bool) -> (Block, Vec<(String, Buffer)>) {
    let front_end = vggish::layout(WIDTH, vggish::INIT);
    let dense = front_end.params.iter().filter(|p| frozen && p.name.starts_with("embeddings.0."));
    let all: Vec<_> = layout.params.iter().chain(dense).collect();
    let tensors: Vec<_> = all.iter().map(|p| (p.name.as_str(), p.shape.dims())).collect();
    let mut values = crate::formula::weights(&tensors);
    let frozen = values.split_off(layout.params.len());
    let block = block(layout, values);
    let upload =
        |(p, values): (&&wmic::graph::Param, Vec<f32>)| (p.name.clone(), gpu.upload(&p.name, &values).unwrap());
    (block, all[layout.params.len()..].iter().zip(frozen).map(upload).collect())
}

#[test]
fn visual_models_predict_and_learn_as_pytorch() {
    let golden = Golden::open("visual.safetensors");
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    for (model, trained, train_front_end) in [
        ("att-tf", "none", TrainFrontEnd::None),
        ("att-tf-id", "none", TrainFrontEnd::None),
        ("att-t", "none", TrainFrontEnd::None),
        ("fc-tf", "none", TrainFrontEnd::None),
        ("att-tf", "dense", TrainFrontEnd::Dense),
        ("att-t", "dense", TrainFrontEnd::Dense),
        ("att-tf", "all", TrainFrontEnd::All),
    ] {
        let name = |what: &str| format!("{model}.{trained}.{what}");
        let tensor = |what: &str| golden.tensor(&name(what));
        let config = Config {
            dropout: 0.0,
            batch: LENGTHS.len(),
            front_end: Some(FrontEnd::new(Source::Random(0), WIDTH)),
            train_front_end,
            loss_mean: LossMean::Batch,
            ..Config::of(model, "formula").unwrap()
        };
        let data = dataset(train_front_end == TrainFrontEnd::All);
        let kind = wmic::nn::find(model).unwrap().input(train_front_end, FeatureKind::Stft);
        assert_eq!(data.features.width, kind.instance_len(WIDTH));
        let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
        let layout = layout(&config, INSTANCES, data.features.width, CLASSES).unwrap();
        let (block, frozen) = weights(&gpu, &layout, train_front_end == TrainFrontEnd::None);

        // Two at a time, for several batches.
        let by_two = Config { batch: 2, ..config.clone() };
        let rows = std::slice::from_ref(&data.train);
        let predictions =
            Predictor::new(&gpu, &by_two, std::slice::from_ref(&block), &corpus, &frozen, Detail::Positions)
                .unwrap()
                .predict(rows)
                .unwrap();
        assert_close(&name("p"), predictions.probabilities[0].data(), &tensor("p"), PREDICTIONS);
        if let (Some(instances), "none") = (predictions.instances, trained) {
            assert_close(&name("attention"), instances.attention[0].data(), &tensor("attention"), PREDICTIONS);
        }

        let split = (data.train.clone(), data.train.clone());
        let mut learner = Learner::new(&gpu, &config, &corpus, &frozen, &[split], Order::InOrder).unwrap();
        learner.set_weights(&[block]).unwrap();
        learner.run_steps(1).unwrap();
        assert_close(&name("loss"), &learner.latest_loss().unwrap(), &tensor("loss"), PREDICTIONS);
        let state = learner.state().unwrap();
        for (parameter, grad) in &learner.latest_gradients().unwrap()[0] {
            let (what, grad) = (format!("grad.{parameter}"), grad.data());
            if !layout.params.iter().any(|p| p.name == *parameter && p.trainable) {
                continue;
            }
            if grad.len() <= 600 {
                assert_close(&name(&what), grad, &tensor(&what), GRADIENTS);
                continue;
            }
            let samples: Vec<f32> = grad.iter().step_by((grad.len() / 64) | 1).take(64).copied().collect();
            assert_close(&name(&what), &samples, &tensor(&format!("{what}.samples")), GRADIENTS);
            let sum = |f: fn(f64) -> f64| grad.iter().map(|v| f(f64::from(*v))).sum::<f64>();
            let norm_sum = [sum(|v| v * v).sqrt() as f32, sum(|v| v) as f32];
            assert_close(
                &name(&format!("norm and sum of {what}")),
                &norm_sum,
                &tensor(&format!("{what}.norm_sum")),
                GRADIENTS,
            );
        }
        for (statistic, value) in
            layout.unpack(&state.params, &state.stats).iter().filter(|(n, _)| n.contains("running"))
        {
            assert_close(&name(statistic), value.data(), &tensor(&format!("after.{statistic}")), PREDICTIONS);
        }
    }
}
