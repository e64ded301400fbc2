//! Plans: results do not depend on memory sharing, and invalid plans are rejected with the op's name.

use wmic::core::random::Stream;
use wmic::gpu::{Buffer, Gpu, Target};
use wmic::graph::{Arenas, Draft, DraftOptions, Graph, Init, Mode, Spec, Tensor};
use wmic::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES};
use wmic::nn::front_ends::vggish::Width;
use wmic::nn::{Inputs, Labels, MODELS, Prediction};
use wmic::ops::adam::{Adam, adam};
use wmic::ops::attention_pool::{Pooling, attention_pool};
use wmic::ops::linear::Linear;
use wmic::ops::masked_bce::{Normalisation, masked_bce};
use wmic::ops::sgd::{Sgd, sgd};
use wmic::ops::{activation, add, linear};
use wmic::run::config::Config;

const BATCH: usize = 6;
const CLASSES: usize = 20;

fn noise(len: usize, stream: u32) -> Vec<f32> {
    let mut s = Stream::new(1, stream);
    (0..len).map(|_| (s.uniform(0.5) + 0.5) as f32).collect()
}

/// Instances of a clip and their values.
const EMBEDDINGS: [usize; 2] = [10, 128];
const PATCHES: [usize; 2] = [2, PATCH_FRAMES * BANDS];
const MUSICNN: [usize; 2] = [10, 1506];

/// Loss and gradients of one step, with memory shared (`guard` 0) or not.
fn step(
    gpu: &Gpu,
    build: impl Fn(&mut Graph, Inputs) -> Prediction,
    [instances, width]: [usize; 2],
    guard: usize,
) -> (Vec<u32>, Vec<u32>) {
    let mut g = Graph::new(Mode::Train);
    let x = g.input("x", Spec::f32([BATCH, instances, width]));
    let lengths = g.input("lengths", Spec::u32([BATCH]));
    let clock = g.input("clock", Spec::u32([4]));
    let target = g.input("target", Spec::f32([BATCH, CLASSES]));
    let observed = g.input("observed", Spec::f32([BATCH, CLASSES]));
    let prediction = build(
        &mut g,
        Inputs { x, lengths, clock, labels: Some(Labels { target, observed }), partners: None, instances: None },
    );
    let p = prediction.probabilities;
    let (loss, _) = masked_bce(&mut g, p, target, observed, lengths, Normalisation::Observed).unwrap();
    let seeds: Vec<(Tensor, &str)> =
        [loss].into_iter().chain(prediction.auxiliary_losses).map(|t| (t, "dloss")).collect();
    let options = DraftOptions { guard, ..Default::default() };
    let draft = Draft::with(&g, Target::PORTABLE, 1, &[loss], &seeds, options).unwrap();
    let arenas = Arenas::new(gpu, g.layout(), 1, true).unwrap();
    let (trained, stats) = g.layout().initial(3);
    gpu.write(&arenas.params, 0, &trained).unwrap();
    gpu.write(&arenas.stats, 0, &stats).unwrap();
    let up = |stream, len| gpu.upload("input", &noise(len, stream)).unwrap();
    let mut bound: Vec<(&str, Buffer)> = arenas.named().to_vec();
    bound.push(("x", up(0, BATCH * instances * width)));
    bound.push(("target", up(1, BATCH * CLASSES)));
    bound.push(("observed", up(2, BATCH * CLASSES)));
    bound.push(("lengths", gpu.upload("lengths", &[10u32, 10, 7, 10, 1, 0]).unwrap()));
    bound.push(("clock", gpu.upload("clock", &[5u32, 6, 7, 0]).unwrap()));
    bound.push(("dloss", gpu.upload("dloss", &[1.0f32]).unwrap()));
    let plan = draft.realise(gpu, &bound).unwrap();
    gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
    let (shared, unshared) = draft.memory();
    if guard == 0 {
        assert!(shared < unshared, "tensors share memory: {shared} of {unshared} bytes");
    }
    (plan.read(gpu, loss).unwrap(), gpu.read(&arenas.grads).unwrap())
}

#[test]
fn models_give_the_same_bits_whether_their_tensors_share_memory_or_not() {
    let gpu = Gpu::open(None).unwrap();
    // Those on feature maps also need VGGish's weights bound.
    for model in MODELS.iter().filter(|model| !model.trains_vggish() && !model.is_forest()) {
        let mut config = Config { dropout: 0.5, ..Config::of(model.name, "x").unwrap() };
        // The same tensors, of fewer channels.
        config.notes.iter_mut().for_each(|notes| notes.width = Width::Eighth);
        let build = |g: &mut Graph, inputs: Inputs| model.push(g, inputs, config.settings(CLASSES)).unwrap();
        let clips = match model.name {
            "cnn-att" => PATCHES,
            "musicnn-tags" => MUSICNN,
            _ => EMBEDDINGS,
        };
        assert!(step(&gpu, build, clips, 0) == step(&gpu, build, clips, 64), "{}", model.name);
    }
}

#[test]
fn a_parameter_used_twice_gets_both_gradients() {
    let gpu = Gpu::open(None).unwrap();
    // w (20, 20) is used twice in the chain; as two parameters of the same values its gradients must add up to the
    // shared one's.
    let chain = |g: &mut Graph, inputs: Inputs, names: [&str; 2]| {
        let h = g.reshape(inputs.x, [BATCH, 1280]);
        let first = g.param("first", [20, 1280], Init::Constant(0.01));
        let mut h = linear::linear(g, h, first, None).unwrap();
        let mut known: Vec<(&str, Tensor)> = vec![];
        for name in names {
            let w = match known.iter().find(|(n, _)| *n == name) {
                Some((_, w)) => *w,
                None => g.param(name, [20, 20], Init::Constant(0.02)),
            };
            known.push((name, w));
            h = linear::linear(g, h, w, None).unwrap();
        }
        Prediction::new(activation::activation(g, h, activation::Activation::Sigmoid).unwrap())
    };
    let (loss, once) = step(&gpu, |g, i| chain(g, i, ["w", "w"]), EMBEDDINGS, 0);
    let (same, apart) = step(&gpu, |g, i| chain(g, i, ["a", "b"]), EMBEDDINGS, 0);
    assert_eq!(loss, same);
    let at = |grads: &[u32], offset: usize| f32::from_bits(grads[offset]);
    let (first, block) = (20 * 1280, (20 * 20usize).next_multiple_of(64));
    for i in 0..400 {
        let sum = at(&apart, first + i) + at(&apart, first + block + i);
        let got = at(&once, first + i);
        assert!((got - sum).abs() <= 1e-6 * sum.abs().max(1e-3), "element {i}: {got}, apart {sum}");
    }
    assert!((0..400).any(|i| at(&once, first + i) != 0.0));
}

#[test]
fn no_gradient_passes_through_a_detached_tensor() {
    let gpu = Gpu::open(None).unwrap();
    // y = 3 x detached, z = 5 (y + x + 0) for x = 2: by x only 5.
    let mut g = Graph::new(Mode::Train);
    let x = g.input_with_gradient("x", Spec::f32([1]));
    let [three, five] = ["three", "five"].map(|name| g.shared_input(name, Spec::f32([1, 1])));
    let zero = g.zeros(Spec::f32([1]));
    let y = linear::linear(&mut g, x, three, None).unwrap();
    let fixed = g.detach(y);
    let sum = add::add(&mut g, fixed, x).unwrap();
    let sum = add::add(&mut g, sum, zero).unwrap();
    let z = linear::linear(&mut g, sum, five, None).unwrap();
    let bound = [("x", 2.0f32), ("three", 3.0), ("five", 5.0), ("dz", 1.0)]
        .map(|(name, v)| (name, gpu.upload(name, &[v]).unwrap()));
    let plan = Draft::new(&g, Target::PORTABLE, 1, &[z, fixed], &[(z, "dz")]).unwrap().realise(&gpu, &bound).unwrap();
    gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
    assert_eq!(plan.read::<f32>(&gpu, fixed).unwrap(), [6.0]);
    assert_eq!(plan.read::<f32>(&gpu, z).unwrap(), [40.0]);
    assert_eq!(plan.read_gradient(&gpu, x).unwrap(), [5.0]);
}

/// As in models: weights and biases of the layers take turns in the arena.
#[test]
fn layers_side_by_side_in_parts_are_as_those_bound_at_once() {
    const OUTPUTS: usize = 100;
    let gpu = Gpu::open(None).unwrap();
    let run = |target: Target, part: usize| {
        let mut g = Graph::new(Mode::Train);
        let x = g.input_with_gradient("x", Spec::f32([7, 20]));
        let [[w, b], [w2, b2]] = ["first", "second"].map(|name| {
            let w = g.param(&format!("{name}.weight"), [OUTPUTS, 20], Init::Uniform { bound: 0.3 });
            [w, g.param(&format!("{name}.bias"), [OUTPUTS], Init::Uniform { bound: 0.3 })]
        });
        let y = g.push(Linear { layers: 2, part, ..Linear::PLAIN }, &[x, w, w2, b, b2]).unwrap()[0];
        let draft = Draft::new(&g, target, 2, &[y], &[(y, "dy")]).unwrap();
        let arenas = Arenas::new(&gpu, g.layout(), 2, true).unwrap();
        gpu.write(&arenas.params, 0, &[g.layout().initial(1).0, g.layout().initial(2).0].concat()).unwrap();
        let up = |name, len| (name, gpu.upload(name, &noise(len, 3)).unwrap());
        let bound = [&arenas.named()[..], &[up("x", 2 * 7 * 20), up("dy", 2 * 7 * 2 * OUTPUTS)]].concat();
        let plan = draft.realise(&gpu, &bound).unwrap();
        gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
        let (y, dx) = (plan.read::<f32>(&gpu, y).unwrap(), plan.read_gradient(&gpu, x).unwrap());
        (draft.steps().len(), [y, dx, gpu.read::<f32>(&arenas.grads).unwrap()])
    };
    for target in [Target::PORTABLE, gpu.adapter().target()] {
        let (few, want) = run(target, Linear::PLAIN.part);
        // Without room for both weights, and with room for them and the biases between.
        for part in [2 * 64 * 20, 4340] {
            let (more, got) = run(target, part);
            assert!(more > few, "{more} dispatches in parts of {part}, {few} at once");
            for (a, b) in got.iter().flatten().zip(want.iter().flatten()) {
                assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{target}, parts of {part}: {a}, at once {b}");
            }
        }
        assert!(want.iter().all(|values| values.iter().any(|v| *v != 0.0)));
    }
}

/// Unless anyone but the loss reads what the op computes.
#[test]
fn an_op_does_both_passes_with_the_gradient_of_its_loss() {
    let gpu = Gpu::open(None).unwrap();
    let run = |read: usize| {
        let mut g = Graph::new(Mode::Train);
        let logits = g.input_with_gradient("logits", Spec::f32([BATCH, 3, 2 * CLASSES]));
        let [lengths, others] = ["lengths", "others"].map(|name| g.input(name, Spec::u32([BATCH])));
        let [target, observed] = ["target", "observed"].map(|name| g.input(name, Spec::f32([BATCH, CLASSES])));
        let (p, weights) = attention_pool(&mut g, logits, lengths, Pooling::Sigmoid).unwrap();
        let of_loss = if read == 4 { others } else { lengths };
        let (loss, _) = masked_bce(&mut g, p, target, observed, of_loss, Normalisation::Observed).unwrap();
        let keep = match read {
            1 => vec![loss, p],
            2 => vec![loss, weights],
            _ => vec![loss],
        };
        if read == 3 {
            activation::activation(&mut g, p, activation::Activation::Relu).unwrap();
        }
        let draft = Draft::new(&g, Target::PORTABLE, 1, &keep, &[(loss, "dloss")]).unwrap();
        let entries: Vec<_> = draft.steps().iter().map(|d| d.entry).filter(|e| !e.starts_with("activation")).collect();
        let up = |name, len, stream| (name, gpu.upload(name, &noise(len, stream)).unwrap());
        let [lengths, others] = ["lengths", "others"].map(|n| (n, gpu.upload(n, &[3u32, 2, 1, 0, 3, 3]).unwrap()));
        let [target, observed] = ["target", "observed"].map(|name| up(name, BATCH * CLASSES, name.len() as u32));
        let dloss = ("dloss", gpu.upload("dloss", &[0.7f32]).unwrap());
        let bound = [up("logits", BATCH * 3 * 2 * CLASSES, 0), lengths, others, target, observed, dloss];
        let plan = draft.realise(&gpu, &bound).unwrap();
        gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
        (entries, plan.read::<f32>(&gpu, loss).unwrap(), plan.read_gradient(&gpu, logits).unwrap())
    };
    let (entries, loss, gradient) = run(0);
    assert_eq!(entries, ["attention_pool_forward_backward", "masked_bce_forward"]);
    assert!(loss[0] > 0.0 && gradient.iter().any(|v| *v != 0.0));
    for read in 1..=4 {
        let (entries, same, gradients) = run(read);
        assert_eq!(entries, ["attention_pool_forward", "masked_bce_forward_backward", "attention_pool_backward"]);
        assert!((loss[0] - same[0]).abs() < 1e-6, "{loss:?}, apart {same:?}");
        assert!(gradient.iter().zip(&gradients).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs().max(1e-3)));
    }
}

#[test]
fn invalid_plans_are_rejected_by_name() {
    let draft =
        |g: &Graph, seeds: &[(Tensor, &str)]| Draft::new(g, Target::PORTABLE, 1, &[], seeds).err().unwrap().to_string();
    let mut g = Graph::new(Mode::Train);
    let x = g.input("x", Spec::f32([4, 8]));
    let w = g.param("w", [8, 8], Init::Constant(1.0));
    g.param("idle", [8], Init::Constant(1.0));
    let y = linear::linear(&mut g, x, w, None).unwrap();
    assert!(draft(&g, &[(y, "dy")]).contains("idle"));
    let z = linear::linear(&mut g, y, w, None).unwrap();
    assert!(draft(&g, &[(y, "dy"), (z, "dz")]).contains("dy"), "a tensor with a given gradient is used by another op");
    let narrow = g.input("narrow", Spec::f32([4, 7]));
    assert!(linear::linear(&mut g, narrow, w, None).unwrap_err().to_string().starts_with("linear"));
    // As long as a clock, but of whole numbers.
    let [clock, four] = [Spec::u32([4]), Spec::f32([4])].map(|spec| g.input("four", spec));
    let config = Sgd { lr: 0.1, weight_decay: 0.0 };
    for arenas in [[clock, clock], [clock, four], [four, clock]] {
        assert!(sgd(&mut g, arenas, config, None).unwrap_err().to_string().starts_with("sgd"));
    }
    assert!(sgd(&mut g, [four, four], config, None).is_ok());
    assert!(adam(&mut g, [four, four, clock, four], clock, Adam::default(), None).is_err());
    assert!(adam(&mut g, [four; 4], four, Adam::default(), None).is_err());
    assert!(adam(&mut g, [four; 4], clock, Adam::default(), None).is_ok());
}
