//! Whole training steps as the trainer replays them: draw a batch, model, loss, backward; then the update, which ends
//! the step.

use wmic::gpu::{Buffer, Gpu, Target};
use wmic::graph::{Arenas, Draft, DraftOptions, Graph, Init, Mode, Spec};
use wmic::ops::activation::{Activation, activation};
use wmic::ops::adagrad::{Adagrad, adagrad};
use wmic::ops::adam::{Adam, adam};
use wmic::ops::gather::{Clips, Encoding, Gather, Rows, gather};
use wmic::ops::linear::linear;
use wmic::ops::masked_bce::{Normalisation, masked_bce};
use wmic::ops::sample::{Order, Sample};
use wmic::ops::sgd::{Sgd, sgd};
use wmic::ops::track::{End, NEVER};

const CLIPS: usize = 50;
const WIDTH: usize = 8;
const BATCH: usize = 16;
const BATCHES: usize = CLIPS.div_ceil(BATCH);

/// The results of a run, all replicas concatenated.
struct Trained {
    first_epoch: Vec<f32>,
    last_epoch: Vec<f32>,
    params: Vec<f32>,
    diverged: Vec<u32>,
    clock: Vec<u32>,
}

/// Logistic regression: is the first feature larger than the second? `poison` puts a NaN into the first weight.
fn train(gpu: &Gpu, target: Target, seeds: &[u32], epochs: usize, poison: bool) -> Trained {
    let replicas = seeds.len();
    let mut g = Graph::new(Mode::Train);
    let clock = g.input("clock", Spec::u32([4]));
    let pool = g.input("pool", Spec::u32([CLIPS]));
    let features = g.shared_input("features", Spec::u32([CLIPS, WIDTH / 4]));
    let labels = g.shared_input("labels", Spec::u32([2, CLIPS]));
    let rows = Rows::Drawn { clock, pool, how: Sample { batch: BATCH, order: Order::Shuffled } };
    let clips = Clips { features, labels, clip_slots: None };
    let how = Gather { instances: 1, width: WIDTH, encoding: Encoding::Bytes, positions: 1 };
    let batch = gather(&mut g, rows, clips, how).unwrap();
    let x = g.reshape(batch.x, [BATCH, WIDTH]);
    let w = g.param("weight", [1, WIDTH], Init::Constant(0.0));
    let b = g.param("bias", [1], Init::Constant(0.0));
    let logits = linear(&mut g, x, w, Some(b)).unwrap();
    let p = activation(&mut g, logits, Activation::Sigmoid).unwrap();
    let (loss, parts) =
        masked_bce(&mut g, p, batch.target, batch.observed, batch.lengths, Normalisation::Observed).unwrap();
    let len = g.layout().trained;

    let mut end = Graph::new(Mode::Train);
    let [w, grad, m, v] = ["params", "grads", "m", "v"].map(|name| end.input(name, Spec::f32([len])));
    let clock = end.input("clock", Spec::u32([4]));
    let end_parts = end.input("parts", Spec::f32([2]));
    let totals = end.input("totals", Spec::f32([2]));
    let diverged = end.input("diverged", Spec::u32([1]));
    let config = Adam { lr: 0.1, ..Default::default() };
    let tail = End { parts: end_parts, clock, totals, diverged, batches: BATCHES };
    adam(&mut end, [w, grad, m, v], clock, config, Some(tail)).unwrap();

    let bytes: Vec<u8> = (0..CLIPS * WIDTH).map(|i| (i * 7919 % 251) as u8).collect();
    let words: Vec<u32> = bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect();
    let label = |clip: usize| if bytes[clip * WIDTH] > bytes[clip * WIDTH + 1] { 2 } else { 1 };
    let labels: Vec<u32> = [1; CLIPS].into_iter().chain((0..CLIPS).map(label)).collect();
    let arenas = Arenas::new(gpu, g.layout(), replicas, true).unwrap();
    if poison {
        gpu.write(&arenas.params, 0, &[f32::NAN]).unwrap();
    }
    let clocks: Vec<u32> = seeds.iter().flat_map(|seed| [*seed, 0, 0, 0]).collect();
    let mut bound: Vec<(&str, Buffer)> = arenas.named().to_vec();
    bound.extend([
        ("clock", gpu.upload("clock", &clocks).unwrap()),
        ("pool", gpu.upload("pool", &(0..CLIPS as u32).collect::<Vec<_>>().repeat(replicas)).unwrap()),
        ("features", gpu.upload("features", &words).unwrap()),
        ("labels", gpu.upload("labels", &labels).unwrap()),
        ("dy", gpu.upload("dy", &vec![1f32; replicas]).unwrap()),
        ("m", gpu.buffer("m", len * replicas).unwrap()),
        ("v", gpu.buffer("v", len * replicas).unwrap()),
        ("totals", gpu.buffer("totals", 2 * replicas).unwrap()),
        ("diverged", gpu.upload("diverged", &vec![NEVER; replicas]).unwrap()),
    ]);
    let options = DraftOptions { leaves_sums: true, ..Default::default() };
    let draft = Draft::with(&g, target, replicas, &[parts], &[(loss, "dy")], options).unwrap();
    let step = draft.realise(gpu, &bound).unwrap();
    let (buffer, at) = step.buffer(parts);
    assert_eq!(at, 0);
    bound.push(("parts", buffer.clone()));
    let update = draft.update(&end, target).unwrap().realise(gpu, &bound).unwrap();

    let epoch = |n: usize| gpu.run(|s| s.replay(&[&step.recording, &update.recording], n * BATCHES)).unwrap();
    epoch(1);
    let first_epoch = update.read(gpu, totals).unwrap();
    epoch(epochs - 1);
    Trained {
        first_epoch,
        last_epoch: update.read(gpu, totals).unwrap(),
        params: gpu.read(&arenas.params).unwrap(),
        diverged: update.read(gpu, diverged).unwrap(),
        clock: update.read(gpu, clock).unwrap(),
    }
}

#[test]
fn replicas_learn_side_by_side_as_they_would_alone() {
    let gpu = Gpu::open(None).expect("an adapter");
    for target in [gpu.adapter().target(), Target::PORTABLE] {
        learn_side_by_side(&gpu, target);
    }
}

fn learn_side_by_side(gpu: &Gpu, target: Target) {
    let seeds = [1, 2, 3];
    let all = train(gpu, target, &seeds, 40, false);
    for r in 0..seeds.len() {
        let alone = train(gpu, target, &seeds[r..=r], 40, false);
        let len = alone.params.len();
        assert_eq!(all.params[r * len..(r + 1) * len], alone.params);
        assert_eq!(all.last_epoch[2 * r..2 * r + 2], alone.last_epoch);
        assert_eq!(alone.last_epoch[1], CLIPS as f32, "an epoch sees every clip once");
        assert!(alone.last_epoch[0] < 0.6 * alone.first_epoch[0], "{:?}", alone.last_epoch);
        assert_eq!(alone.clock, [seeds[r], 0, 40 * BATCHES as u32 - 1, 40 * BATCHES as u32]);
    }
    let len = all.params.len() / seeds.len();
    assert_ne!(all.params[..len], all.params[len..2 * len], "seeds draw other batches");
    assert_eq!(all.diverged, [NEVER; 3]);
}

#[test]
fn a_nan_loss_is_recorded() {
    let gpu = Gpu::open(None).expect("an adapter");
    assert_eq!(train(&gpu, gpu.adapter().target(), &[1, 2], 3, true).diverged, [0, NEVER]);
}

/// Gradients of weights are computed in slices, which an optimiser adds up as their own kernel does, bit for bit.
#[test]
fn an_optimiser_sums_the_slices_of_gradients() {
    const ROWS: usize = 300;
    let gpu = Gpu::open(None).expect("an adapter");
    let mut g = Graph::new(Mode::Train);
    let mut h = g.input("x", Spec::f32([ROWS, 20]));
    // A weight of 40 x 20, after which there is padding in the arena, one without, and one of no whole vec4, whose
    // slices have a kernel in any case.
    for (name, [n, k]) in [("a", [40, 20]), ("b", [32, 40]), ("c", [7, 32])] {
        let w = g.param(&format!("{name}.weight"), [n, k], Init::Uniform { bound: 0.3 });
        let b = g.param(&format!("{name}.bias"), [n], Init::Constant(0.1));
        h = linear(&mut g, h, w, Some(b)).unwrap();
    }
    let len = g.layout().trained;
    let x: Vec<f32> = (0..ROWS * 20).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect();
    let dy: Vec<f32> = (0..ROWS * 7).map(|i| (i * 613 % 997) as f32 / 997.0 - 0.5).collect();
    let config = Adam { lr: 0.1, ..Default::default() };
    for (optimiser, replicas) in [("adam", 1), ("adam", 2), ("adagrad", 2), ("sgd", 2)] {
        let mut end = Graph::new(Mode::Train);
        let [w, grad, m, v] = ["params", "grads", "m", "v"].map(|name| end.input(name, Spec::f32([len])));
        match optimiser {
            "adam" => {
                let clock = end.input("clock", Spec::u32([4]));
                adam(&mut end, [w, grad, m, v], clock, config, None)
            }
            "adagrad" => adagrad(&mut end, [w, grad, m], Adagrad::default(), None),
            _ => sgd(&mut end, [w, grad], Sgd { lr: 0.1, weight_decay: 0.0 }, None),
        }
        .unwrap();
        let run = |is_left: bool| {
            let options = DraftOptions { leaves_sums: is_left, ..Default::default() };
            let step = Draft::with(&g, Target::PORTABLE, replicas, &[], &[(h, "dy")], options).unwrap();
            let update = step.update(&end, Target::PORTABLE).unwrap();
            let grads = gpu.buffer("grads", step.gradients()).unwrap();
            let arenas = Arenas { grads, ..Arenas::new(&gpu, g.layout(), replicas, false).unwrap() };
            let initial: Vec<f32> = (0..replicas as u64).flat_map(|seed| g.layout().initial(seed).0).collect();
            gpu.write(&arenas.params, 0, &initial).unwrap();
            let mut bound: Vec<(&str, Buffer)> = arenas.named().to_vec();
            bound.extend([
                ("x", gpu.upload("x", &x.repeat(replicas)).unwrap()),
                ("dy", gpu.upload("dy", &dy.repeat(replicas)).unwrap()),
                ("m", gpu.buffer("m", len * replicas).unwrap()),
                ("v", gpu.buffer("v", len * replicas).unwrap()),
                ("clock", gpu.upload("clock", &[0u32; 4].repeat(replicas)).unwrap()),
            ]);
            let [first, second] = [&step, &update].map(|draft| draft.realise(&gpu, &bound).unwrap());
            gpu.run(|s| s.replay(&[&first.recording, &second.recording], 2)).unwrap();
            let grads = gpu.read_at::<f32>(&arenas.grads, 0, len * replicas).unwrap();
            (gpu.read::<f32>(&arenas.params).unwrap(), grads, first.dispatches.len())
        };
        let ((params, grads, dispatches), (want_params, want_grads, more)) = (run(true), run(false));
        assert!(params == want_params && grads == want_grads, "{optimiser}, {replicas} replicas");
        assert!(want_grads.iter().any(|v| *v != 0.0));
        // Those of whole vec4 had one kernel, and the others have another one.
        assert_eq!((dispatches + 1, more), (more, 3 + 3 + 2));
    }
}
