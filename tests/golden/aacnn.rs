//! AACNN at 1/8 of its width against PyTorch: predictions and a training step, for all percentages of attention and
//! both spectra; and the ten published parameter counts.

use crate::formula::frac;
use crate::support::{Golden, formula_block};
use wmic::Array;
use wmic::data::{Dataset, FeatureValues, Features};
use wmic::features::device_dataset::{DeviceDataset, Dims};
use wmic::gpu::Gpu;
use wmic::graph::{Arenas, Draft, Graph, Mode, Spec};
use wmic::nn::FeatureKind;
use wmic::nn::front_ends::vggish::Width;
use wmic::nn::layers::{AugmentedConv2d, WeightInit};
use wmic::nn::model::ATTENTION;
use wmic::nn::models::aacnn::normed;
use wmic::ops::sample::Order;
use wmic::predict::predictor::{Detail, Predictor, layout};
use wmic::run::config::{Config, Notes};
use wmic::train::graphs::Graphs;
use wmic::train::learner::Learner;

const CLASSES: usize = 19;
const CLIPS: usize = 2;
const FRAMES: usize = 87;
/// Relative to the largest value of a tensor.
const PREDICTIONS: f64 = 2e-5;
const GRADIENTS: f64 = 1e-4;

fn config(input: FeatureKind, attention: u32, width: Width) -> Config {
    let notes = Notes { input, attention, width, ..Notes::default() };
    Config { notes: Some(notes), batch: CLIPS, ..Config::of("aacnn", "formula").unwrap() }
}

#[test]
fn the_ten_published_parameter_counts() {
    let counts = |input: FeatureKind| {
        ATTENTION.map(|attention| {
            let config = config(input, attention, Width::Full);
            layout(&config, FRAMES, input.spectrogram().bands, CLASSES).unwrap().count()
        })
    };
    assert_eq!(counts(FeatureKind::Stft), [65_692_403, 63_040_083, 60_469_683, 57_981_203, 55_574_643]);
    assert_eq!(counts(FeatureKind::Cqt), [26_370_803, 23_712_243, 21_135_603, 18_640_883, 16_228_083]);
}

/// As in `tests/golden/aacnn.py`; one more clip makes its batch partial.
fn dataset(input: FeatureKind, salt: u32) -> Dataset {
    let (width, clips) = (input.spectrogram().bands, CLIPS + 1);
    let value = |i: usize| (-1.5 + 3.0 * frac(i as u32, salt)) as f32;
    let target = |i: usize| f32::from(u8::from(i / CLASSES * 7 % CLASSES == i % CLASSES));
    Dataset {
        path: "formula".into(),
        classes: (0..CLASSES).map(|k| format!("class {k}")).collect(),
        keys: (0..clips).map(|i| i.to_string()).collect(),
        features: Features {
            values: FeatureValues::F32((0..clips * FRAMES * width).map(value).collect::<Vec<_>>().into()),
            instances: FRAMES,
            width,
            lengths: vec![FRAMES as u32; clips],
            spectrum: None,
        },
        targets: (0..clips * CLASSES).map(target).collect(),
        observed: vec![true; clips * CLASSES],
        strong: None,
        mixer: None,
        train: (0..CLIPS as u32).collect(),
        validation: None,
        test: vec![],
        drawn: None,
        word_vectors: vec![],
        warnings: vec![],
    }
}

/// The error as a fraction of `allowed`, and where it is largest.
fn worst(got: &[f32], want: &Array<f64>, relative: f64, absolute: f64) -> (f64, usize) {
    assert_eq!(got.len(), want.data().len());
    let largest = want.data().iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let share = |(g, w): (&f32, &f64)| (f64::from(*g) - w).abs() / (relative * largest + absolute);
    let shares = got.iter().zip(want.data()).map(share).zip(0..);
    shares.fold((0.0, 0), |worst, share| if share.0 >= worst.0 || share.0.is_nan() { share } else { worst })
}

#[track_caller]
fn assert_close(what: &str, got: &[f32], want: &Array<f64>, relative: f64, absolute: f64) {
    let (share, at) = worst(got, want, relative, absolute);
    assert!(
        share <= 1.0,
        "{what}[{at}] is {}, PyTorch gives {}: {share:.2} of the tolerance",
        got[at],
        want.data()[at]
    );
}

/// Adds the tolerances of the gradients to `tolerances`.
fn case(gpu: &Gpu, golden: &Golden, input: FeatureKind, attention: u32, tolerances: &mut Vec<f64>) {
    let kind = if input == FeatureKind::Stft { "stft" } else { "cqt" };
    let name = |what: &str| format!("{kind}.{attention}.{what}");
    let tensor = |what: &str| golden.tensor(&name(what));
    let config = config(input, attention, Width::Eighth);
    // As there: where the usual inputs are near kinks.
    let salt = match (kind, attention) {
        ("stft", 25 | 75) | ("cqt", 75) => 5001,
        _ => 5000,
    };
    let data = dataset(input, salt);
    assert_eq!(config.kind().unwrap() == FeatureKind::Stft, input == FeatureKind::Stft);
    let corpus = DeviceDataset::of_dataset(gpu, &data).unwrap();
    let layout = layout(&config, FRAMES, input.spectrogram().bands, CLASSES).unwrap();
    let block = formula_block(&layout);

    // With the third clip the second batch is partial.
    let rows = vec![(0..data.keys.len() as u32).collect::<Vec<u32>>()];
    let blocks = std::slice::from_ref(&block);
    let predictions =
        Predictor::new(gpu, &config, blocks, &corpus, &[], Detail::Clips).unwrap().predict(&rows).unwrap();
    assert_close(&name("p"), &predictions.probabilities[0].data()[..CLIPS * CLASSES], &tensor("p"), PREDICTIONS, 0.0);

    let split = (data.train.clone(), data.train.clone());
    let mut learner = Learner::new(gpu, &config, &corpus, &[], &[split], Order::InOrder).unwrap();
    learner.set_weights(blocks).unwrap();
    learner.run_steps(1).unwrap();
    assert_close(&name("loss"), &learner.latest_loss().unwrap(), &tensor("loss"), PREDICTIONS, 0.0);
    let gradients = learner.latest_gradients().unwrap().remove(0);
    let trained = |name: &str| layout.params.iter().any(|p| p.name == name && p.trainable);
    for (parameter, grad) in gradients.iter().filter(|(name, _)| trained(name)) {
        let (what, grad) = (format!("grad.{parameter}"), grad.data());
        // Near kinks of ReLU and max-pool f32 can be on the other side, and sums cancel before the next batch norm:
        // PyTorch's own f32 differs by as much.
        let tolerance = GRADIENTS.max(3.0 * tensor(&format!("f32.{parameter}"))[0]);
        // Batch norm removes a bias before it: its gradient is a true 0, here the rounding of a sum over all positions,
        // whose terms are those of the weights' gradient. Up to 4e-6 of that was observed.
        let is_zero =
            parameter.ends_with(".conv.bias") || parameter.starts_with("block") && parameter.ends_with(".out.bias");
        let weights = gradients.iter().find(|(name, _)| is_zero && *name == parameter.replace("bias", "weight"));
        let largest = weights.map_or(0.0, |(_, g)| g.data().iter().fold(0.0f32, |m, v| m.max(v.abs())));
        let absolute = 2e-5 * f64::from(largest) + 1e-8;
        if !is_zero {
            tolerances.push(tolerance);
        }
        if grad.len() <= 40 {
            assert_close(&name(&what), grad, &tensor(&what), tolerance, absolute);
            continue;
        }
        let samples: Vec<f32> = grad.iter().step_by((grad.len() / 64) | 1).take(64).copied().collect();
        assert_close(&name(&what), &samples, &tensor(&format!("{what}.samples")), tolerance, absolute);
        let sum = |f: fn(f64) -> f64| grad.iter().map(|v| f(f64::from(*v))).sum::<f64>();
        let norm_sum = [sum(|v| v * v).sqrt() as f32, sum(|v| v) as f32];
        assert_close(&name(&what), &norm_sum, &tensor(&format!("{what}.norm_sum")), tolerance, absolute);
    }
    let state = learner.state().unwrap();
    for (statistic, value) in layout.unpack(&state.params, &state.stats).iter().filter(|(n, _)| n.contains("running")) {
        assert_close(&name(statistic), value.data(), &tensor(&format!("after.{statistic}")), PREDICTIONS, 1e-9);
    }
}

#[test]
fn aacnn_predicts_and_learns_as_pytorch() {
    let golden = Golden::open("aacnn.safetensors");
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let mut tolerances = vec![];
    ATTENTION.iter().for_each(|attention| case(&gpu, &golden, FeatureKind::Cqt, *attention, &mut tolerances));
    // The same layers on larger maps.
    [25, 100].iter().for_each(|attention| case(&gpu, &golden, FeatureKind::Stft, *attention, &mut tolerances));
    // A gradient of another network would be off by its own size. Single layers are compared to 1e-4.
    tolerances.sort_by(f64::total_cmp);
    let (median, largest) = (tolerances[tolerances.len() / 2], *tolerances.last().unwrap());
    assert!(median <= 1e-3 && largest <= 0.5, "tolerances of {median} in the median, {largest} at most, show little");
}

#[test]
fn an_augmented_block_is_pytorchs() {
    let golden = Golden::open("aacnn.safetensors");
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let mut g = Graph::new(Mode::Train);
    let x = g.input_with_gradient("x", Spec::f32([CLIPS, 6, 33, 16]));
    let lengths = g.input("lengths", Spec::u32([CLIPS]));
    let clock = g.input("clock", Spec::u32([4]));
    let conv = AugmentedConv2d { filters: 32, attention: 16, heads: 8, size: 5 };
    let h = conv.push(&mut g, "layer", x, WeightInit::HeNormal).unwrap();
    let y = normed(&mut g, "layer.bn", h, lengths, clock).unwrap();
    let draft = Draft::new(&g, gpu.adapter().target(), 1, &[y], &[(y, "dy")]).unwrap();
    let layout = g.layout().clone();
    let arenas = Arenas::new(&gpu, &layout, 1, true).unwrap();
    let tensors: Vec<_> = layout.params.iter().map(|p| (p.name.as_str(), p.shape.dims())).collect();
    for (p, values) in layout.params.iter().zip(crate::formula::weights(&tensors)) {
        gpu.write(if p.trainable { &arenas.params } else { &arenas.stats }, p.offset, &values).unwrap();
    }
    let uniform = |len: usize, salt: u32, bound: f64| -> Vec<f32> {
        (0..len).map(|i| (bound * (2.0 * frac(i as u32, salt) - 1.0)) as f32).collect()
    };
    let upload = |name: &'static str, values: &[f32]| (name, gpu.upload(name, values).unwrap());
    let mut bound = arenas.named().to_vec();
    bound.extend([
        upload("x", &uniform(CLIPS * 6 * 33 * 16, 5100, 1.5)),
        upload("dy", &uniform(CLIPS * 6 * 33 * 32, 5101, 1.0)),
    ]);
    bound.push(("lengths", gpu.upload("lengths", &[u32::MAX; CLIPS]).unwrap()));
    bound.push(("clock", gpu.upload("clock", &[0u32; 4]).unwrap()));
    let plan = draft.realise(&gpu, &bound).unwrap();
    gpu.submit(|s| s.replay(&[&plan.recording], 1)).unwrap();
    assert_close("y", &plan.read::<f32>(&gpu, y).unwrap(), &golden.tensor("block.y"), PREDICTIONS, 0.0);
    let dx = plan.read_gradient(&gpu, x).unwrap();
    assert_close("dx", &dx, &golden.tensor("block.grad.x"), GRADIENTS, 0.0);
    let grads = gpu.read::<f32>(&arenas.grads).unwrap();
    for p in layout.params.iter().filter(|p| p.trainable) {
        let got = &grads[p.offset..p.offset + p.shape.len()];
        let name = &p.name;
        // True zeros before batch norm, as above: sums over 396 positions of terms of about 1.
        let absolute = if matches!(name.as_str(), "layer.conv.bias" | "layer.out.bias") { 1e-4 } else { 0.0 };
        assert_close(name, got, &golden.tensor(&format!("block.grad.{name}")), GRADIENTS, absolute);
    }
}

#[test]
fn the_full_network_fits_bindings_of_128_mib() {
    // Eight clips: of sixteen the first maps alone take 183 MB.
    let config = Config { batch: 8, ..config(FeatureKind::Stft, 25, Width::Full) };
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let data = dataset(FeatureKind::Stft, 5000);
    let dims = Dims { clips: 64, slots: 64, ..Dims::new(&data.features, CLASSES, u64::MAX) };
    let graphs = Graphs::new(&config, dims.fitted(128 << 20), 56, 8, Order::Shuffled).unwrap();
    for draft in graphs.drafts(gpu.adapter().target(), 1).unwrap() {
        for dispatch in draft.steps() {
            for (name, view) in &dispatch.bindings {
                assert!(view.len * 4 <= 128 << 20, "{name} of {}: {} MiB", dispatch.entry, view.len >> 18);
            }
        }
    }
}
