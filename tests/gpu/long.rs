//! Long clips and large batches: work beyond the loops and the grid of one dispatch is complete.

use std::collections::HashMap;

use wmic::Array;
use wmic::core::random::Stream;
use wmic::gpu::{Buffer, Gpu, Target};
use wmic::graph::{Arenas, Draft, Graph, Mode, Op, Spec, Tensor};
use wmic::nn::layers::Recurrent;
use wmic::nn::{Inputs, find};
use wmic::ops::conv2d::{Conv2d, conv2d};
use wmic::ops::cross_entropy::{CrossEntropy, cross_entropy};

use wmic::ops::masked_bce::{MaskedBce, Normalisation, masked_bce};
use wmic::ops::recurrent::Cell;
use wmic::run::config::Config;

const CLASSES: usize = 4;

fn noise(len: usize, stream: u32) -> Vec<f32> {
    let mut s = Stream::new(1, stream);
    (0..len).map(|_| (s.uniform(0.5) + 0.5) as f32).collect()
}

fn f64s(v: &[f32]) -> Vec<f64> {
    v.iter().map(|v| f64::from(*v)).collect()
}

/// The largest difference between what a graph makes of a clip of `instances` and what its ops' f64 references do.
fn error(
    gpu: &Gpu,
    target: Target,
    [instances, width]: [usize; 2],
    build: impl FnOnce(&mut Graph, Inputs) -> Tensor,
) -> f64 {
    let mut g = Graph::new(Mode::Eval);
    let x = g.input("x", Spec::f32([1, instances, width]));
    let lengths = g.input("lengths", Spec::u32([1]));
    let clock = g.input("clock", Spec::u32([4]));
    let p = build(&mut g, Inputs { x, lengths, clock, labels: None, partners: None, instances: None });

    let arenas = Arenas::new(gpu, g.layout(), 1, false).unwrap();
    let (trained, stats) = g.layout().initial(3);
    gpu.write(&arenas.params, 0, &trained).unwrap();
    gpu.write(&arenas.stats, 0, &stats).unwrap();
    let features = noise(instances * width, 0);
    let mut bound: Vec<(&str, Buffer)> = arenas.named().to_vec();
    bound.push(("x", gpu.upload("x", &features).unwrap()));
    bound.push(("lengths", gpu.upload("lengths", &[instances as u32]).unwrap()));
    bound.push(("clock", gpu.upload("clock", &[0u32; 4]).unwrap()));
    let plan = Draft::new(&g, target, 1, &[p], &[]).unwrap().realise(gpu, &bound).unwrap();
    gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
    let got = plan.read::<f32>(gpu, p).unwrap();

    let mut known: HashMap<String, Vec<f64>> = HashMap::from([
        ("x".into(), f64s(&features)),
        ("lengths".into(), vec![instances as f64]),
        ("clock".into(), vec![0.0; 4]),
    ]);
    known.extend(g.layout().unpack(&trained, &stats).into_iter().map(|(name, v)| (name, f64s(v.data()))));
    let want = g.reference(&|name| known[name].clone(), p);
    got.iter().zip(want.data()).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max)
}

#[test]
fn long_clips_match_the_references() {
    let gpu = Gpu::open(None).unwrap();
    let own = gpu.adapter().target();
    let long = [("bilstm-att", 3_000), ("rnn", 1_500), ("att", 100_000), ("fc-t", 100_000), ("fc", 5_000)];
    for (model, instances) in long {
        for target in [Target::PORTABLE, own] {
            let settings = Config::of(model, "x").unwrap().settings(CLASSES);
            let model = find(model).unwrap();
            let error =
                error(&gpu, target, [instances, 8], |g, inputs| model.push(g, inputs, settings).unwrap().probabilities);
            assert!(error < 2e-5, "{}, {instances} instances, {target}: off by {error:e}", model.name);
        }
    }
}

/// The walk over time of `rnn` and `bilstm-att`, in pieces, with few units. More steps would only take longer.
#[test]
fn recurrent_layers_are_right_after_twenty_thousand_steps() {
    let gpu = Gpu::open(None).unwrap();
    let own = gpu.adapter().target();
    for (cell, hidden, target) in [(Cell::Gru, 3, Target::PORTABLE), (Cell::Lstm, 4, own)] {
        let layer = Recurrent { name: "rnn", layer: 0, cell, hidden };
        let error =
            error(&gpu, target, [20_000, 2], |g, inputs| layer.both_ways(g, inputs.x, inputs.lengths, None).unwrap().y);
        assert!(error < 2e-5, "{cell:?}, {target}: off by {error:e}");
    }
}

/// Labels that need more workgroups than a grid is wide: 527 classes (AudioSet's) of 8192 clips.
const MANY: [usize; 2] = [8192, 527];

/// A loss of these inputs, and its gradient by the first of them, on the GPU.
fn loss_of(
    gpu: &Gpu,
    values: [&[f32]; 3],
    build: impl Fn(&mut Graph, [Tensor; 4]) -> (Tensor, Tensor),
) -> (f64, Vec<f64>) {
    let mut g = Graph::new(Mode::Train);
    let p = g.input_with_gradient("p", Spec::f32(MANY));
    let [target, observed] = ["target", "observed"].map(|name| g.input(name, Spec::f32(MANY)));
    let lengths = g.input("lengths", Spec::u32([MANY[0]]));
    let (loss, _) = build(&mut g, [p, target, observed, lengths]);
    let up = |name, v: &[f32]| (name, gpu.upload(name, v).unwrap());
    let [p_values, targets, mask] = values;
    let bound = [
        up("p", p_values),
        up("target", targets),
        up("observed", mask),
        ("lengths", gpu.upload("lengths", &vec![1u32; MANY[0]]).unwrap()),
        up("dloss", &[1.0]),
    ];
    let draft = Draft::new(&g, gpu.adapter().target(), 1, &[loss], &[(loss, "dloss")]).unwrap();
    let plan = draft.realise(gpu, &bound).unwrap();
    gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
    (f64::from(plan.read::<f32>(gpu, loss).unwrap()[0]), f64s(&plan.read_gradient(gpu, p).unwrap()))
}

#[test]
fn losses_of_many_classes_and_clips_have_gradients_everywhere() {
    let gpu = Gpu::open(None).unwrap();
    let [clips, classes] = MANY;
    let p: Vec<f32> = noise(clips * classes, 0).iter().map(|v| 0.1 + 0.8 * v).collect();
    let target: Vec<f32> =
        (0..clips * classes).map(|i| f32::from(u8::from(i % classes == i / classes % classes))).collect();
    let observed: Vec<f32> = noise(clips * classes, 1).iter().map(|v| f32::from(u8::from(*v < 0.3))).collect();
    let array = |v: &[f32]| Array::new(MANY, f64s(v));
    let inputs = [array(&p), array(&target), array(&observed), Array::new([clips], vec![1.0; clips])];
    let known: f64 = inputs[2].data().iter().sum();

    let (loss, slopes) = loss_of(&gpu, [&p, &target, &observed], |g, [p, target, observed, lengths]| {
        masked_bce(g, p, target, observed, lengths, Normalisation::Observed).unwrap()
    });
    let want = MaskedBce { norm: Normalisation::Observed, focusing: None }.reference(&inputs)[0][0];
    assert!((loss - want).abs() < 1e-5 * want, "loss {loss}, the reference gives {want}");
    for (i, slope) in slopes.iter().enumerate() {
        let (p, t) = (inputs[0][i], inputs[1][i]);
        let want = inputs[2][i] * (p - t) / (p * (1.0 - p)) / known;
        assert!((slope - want).abs() <= 1e-5 * want.abs(), "slope {i} is {slope}, not {want}");
    }

    let (loss, slopes) = loss_of(&gpu, [&p, &target, &observed], |g, [p, target, _, lengths]| {
        cross_entropy(g, p, target, lengths).unwrap()
    });
    let want = CrossEntropy.reference(&[inputs[0].clone(), inputs[1].clone(), inputs[3].clone()])[0][0];
    assert!((loss - want).abs() < 1e-5 * want, "loss {loss}, the reference gives {want}");
    for (row, slopes) in slopes.chunks(classes).enumerate() {
        let total: f64 = inputs[0].row(row).iter().map(|v| v.exp()).sum();
        for (k, slope) in slopes.iter().enumerate() {
            let want = (inputs[0].row(row)[k].exp() / total - inputs[1].row(row)[k]) / clips as f64;
            assert!((slope - want).abs() <= 1e-9 + 1e-5 * want.abs(), "slope {row}, {k} is {slope}, not {want}");
        }
    }
}

/// Without a check such a plan would return sums of about the first 65 535 terms.
#[test]
fn sums_beyond_the_loop_limit_are_rejected() {
    let gpu = Gpu::open(None).unwrap();
    if gpu.adapter().kind != wmic::gpu::AdapterKind::Software {
        return;
    }
    let mut g = Graph::new(Mode::Eval);
    let x = g.input("x", Spec::f32([1, 1, 1, 40_000]));
    let w = g.input("w", Spec::f32([1, 40_000, 1, 1]));
    conv2d(&mut g, x, w, None, Conv2d::default()).unwrap();
    let draft = Draft::new(&g, Target::PORTABLE, 1, &[], &[]).unwrap();
    let rejected = draft.fits(&gpu).unwrap_err();
    assert!(matches!(rejected, wmic::Error::Limit { .. }), "compare leaves such an entry out: {rejected}");
    let rejected = rejected.to_string();
    assert!(rejected.contains("conv2d") && rejected.contains("loop iterations"), "{rejected}");
}
