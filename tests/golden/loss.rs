//! Losses and optimisers against PyTorch: values by the f64 references, the rest on the GPU.

use crate::support::Golden;
use wmic::Array;
use wmic::gpu::{Buffer, Gpu};
use wmic::graph::{Draft, Graph, Mode, Op, Plan, Spec, Tensor};
use wmic::ops::adagrad::{self, Adagrad};
use wmic::ops::adam::{self, Adam};
use wmic::ops::cross_entropy::{CrossEntropy, cross_entropy};
use wmic::ops::instance_labels::{InstanceLabels, TakeInstanceLabels, instance_labels, pack};
use wmic::ops::masked_bce::{Focal, MaskedBce, Normalisation, focal_loss, masked_bce};
use wmic::ops::softmax::{Softmax, softmax};
use wmic::ops::track::{End, NEVER};

/// The cases of the golden file, the loss's name there, and the loss.
const LOSSES: [(&str, &str, MaskedBce); 6] = [
    ("loss", "bce", plain(Normalisation::Observed)),
    ("loss", "partial", plain(Normalisation::Partial { alpha: 1.0, beta: 0.0, gamma: -1.0 })),
    ("loss", "partial_linear", plain(Normalisation::Partial { alpha: -4.45, beta: 5.45, gamma: 1.0 })),
    ("focal", "gamma0", focal(0.0)),
    ("focal", "gamma05", focal(0.5)),
    ("focal", "gamma2", focal(2.0)),
];

const fn plain(norm: Normalisation) -> MaskedBce {
    MaskedBce { norm, focusing: None }
}

const fn focal(gamma: f64) -> MaskedBce {
    MaskedBce { norm: Normalisation::Observed, focusing: Some(gamma) }
}

fn f32s(a: &Array<f64>) -> Vec<f32> {
    a.data().iter().map(|v| *v as f32).collect()
}

fn f64s(v: Vec<f32>) -> Vec<f64> {
    v.into_iter().map(f64::from).collect()
}

/// |got - want| <= atol + rtol |want| everywhere.
#[track_caller]
fn assert_close(what: &str, got: &[f64], want: &[f64], atol: f64, rtol: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= atol + rtol * w.abs(), "{what}[{i}] is {g}, PyTorch gives {w}");
    }
}

#[test]
fn losses_are_pytorchs() {
    let g = Golden::open("layers.safetensors");
    for (case, name, loss) in LOSSES {
        for case in [case.to_owned(), format!("{case}_saturated")] {
            let of = |name: &str| g.tensor(&format!("{case}.{name}"));
            let lengths = Array::new([of("p").shape().rows()], vec![1.0; of("p").shape().rows()]);
            let mut x = vec![of("p"), of("y"), of("mask"), lengths];
            x.extend(loss.focusing.map(|_| of("alpha")));
            let y = loss.reference(&x);
            assert_close(&format!("{case} {name}"), y[0].data(), of(name).data(), 1e-6, 1e-6);
        }
    }
}

/// Values and slopes by plain numpy, on the GPU and by the reference.
#[test]
fn means_over_clips_are_numpys() {
    let golden = Golden::open("layers.safetensors");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/loss_mean.json");
    let want: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let gpu = Gpu::open(None).expect("an adapter");
    for (case, focusing) in [("loss", None), ("focal", Some(2.0))] {
        let op = MaskedBce { norm: Normalisation::Clips, focusing };
        let of = |name: &str| golden.tensor(&format!("{case}.{name}"));
        let numbers =
            |v: &serde_json::Value| -> Vec<f64> { v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
        let loss = [want[case]["loss"].as_f64().unwrap()];
        let mut x = vec![of("p"), of("y"), of("mask"), Array::new([7], vec![1.0; 7])];
        x.extend(focusing.map(|_| of("alpha")));
        assert_close(case, op.reference(&x)[0].data(), &loss, 1e-9, 1e-9);

        let (value, dp) = loss_and_slopes(&gpu, &golden, case, op);
        assert_close(case, &value, &loss, 1e-6, 1e-6);
        assert_close(&format!("{case} dp"), &dp, &numbers(&want[case]["dp"]), 1e-6, 2e-6);
    }
}

/// On the GPU: at p = 0 and 1 the slope is a convention, not a finite difference of the reference.
#[test]
fn slopes_are_pytorchs() {
    let golden = Golden::open("layers.safetensors");
    let gpu = Gpu::open(None).expect("an adapter");
    for (case, name, loss) in LOSSES {
        for case in [case.to_owned(), format!("{case}_saturated")] {
            let of = |name: &str| golden.tensor(&format!("{case}.{name}"));
            let (y, dp) = loss_and_slopes(&gpu, &golden, &case, MaskedBce { ..loss });
            let what = format!("{case} {name}");
            assert_close(&what, &y, of(name).data(), 1e-6, 1e-6);
            assert_close(&format!("{what} dp"), &dp, of(&format!("{name}_dp")).data(), 1e-6, 2e-6);
        }
    }
}

/// A loss of a case of the golden file on the GPU, and its slopes by p.
fn loss_and_slopes(gpu: &Gpu, golden: &Golden, case: &str, loss: MaskedBce) -> (Vec<f64>, Vec<f64>) {
    let MaskedBce { norm, focusing } = loss;
    let of = |name: &str| golden.tensor(&format!("{case}.{name}"));
    let clips = of("p").shape().rows();
    let mut g = Graph::new(Mode::Train);
    let spec = Spec::f32(of("p").shape().clone());
    let p = g.input_with_gradient("p", spec.clone());
    let target = g.input("target", spec.clone());
    let observed = g.input("observed", spec.clone());
    let lengths = g.input("lengths", Spec::u32([clips]));
    let mut bound = vec![
        ("p", gpu.upload("p", &f32s(&of("p"))).unwrap()),
        ("target", gpu.upload("target", &f32s(&of("y"))).unwrap()),
        ("observed", gpu.upload("observed", &f32s(&of("mask"))).unwrap()),
        ("lengths", gpu.upload("lengths", &vec![1u32; clips]).unwrap()),
        ("dy", gpu.upload("dy", &[1f32]).unwrap()),
    ];
    let (loss, _) = match focusing {
        None => masked_bce(&mut g, p, target, observed, lengths, norm).unwrap(),
        Some(gamma) => {
            bound.push(("alpha", gpu.upload("alpha", &f32s(&of("alpha"))).unwrap()));
            let alpha = g.input("alpha", Spec::f32([spec.shape.last()]));
            focal_loss(&mut g, p, target, observed, lengths, norm, Focal { alpha, gamma }).unwrap()
        }
    };
    let draft = Draft::new(&g, gpu.adapter().target(), 1, &[loss], &[(loss, "dy")]).unwrap();
    let plan = draft.realise(gpu, &bound).unwrap();
    gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
    (f64s(plan.read(gpu, loss).unwrap()), f64s(plan.read_gradient(gpu, p).unwrap()))
}

/// The loss of instances with known labels: which clips, which of their instances, and its slopes.
#[test]
fn labels_of_instances_are_pytorchs() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/strong.json");
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let of =
        |name: &str| -> Vec<f64> { golden[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
    let [clips, instances, classes, positions] = std::array::from_fn(|i| of("sizes")[i] as usize);
    let of_clips: Vec<u8> = of("codes").into_iter().map(|code| code as u8).collect();
    let codes: Vec<u32> = of_clips.chunks(instances * classes).flat_map(pack).collect();
    let u32s = |name: &str| of(name).into_iter().map(|v| v as u32).collect::<Vec<u32>>();
    let (rows, how) = (u32s("rows"), TakeInstanceLabels { instances, classes, positions });

    let gpu = Gpu::open(None).expect("an adapter");
    let mut g = Graph::new(Mode::Train);
    let chosen = g.input("rows", Spec::u32([rows.len()]));
    let of_dataset = g.input("labels", Spec::u32([1 + classes, clips]));
    let packed = g.input("codes", Spec::u32([clips, codes.len() / clips]));
    let p = g.input_with_gradient("p", Spec::f32([rows.len() * instances, classes]));
    let labels = instance_labels(&mut g, chosen, of_dataset, packed, how).unwrap();
    let InstanceLabels { target, observed, lengths: valid } = labels;
    let (loss, _) = masked_bce(&mut g, p, target, observed, valid, Normalisation::Observed).unwrap();
    let probabilities: Vec<f32> = of("p").into_iter().map(|v| v as f32).collect();
    let bound = [
        ("rows", gpu.upload("rows", &rows).unwrap()),
        ("labels", gpu.upload("labels", &[u32s("lengths"), vec![0; classes * clips]].concat()).unwrap()),
        ("codes", gpu.upload("codes", &codes).unwrap()),
        ("p", gpu.upload("p", &probabilities).unwrap()),
        ("dy", gpu.upload("dy", &[1f32]).unwrap()),
    ];
    let draft = Draft::new(&g, gpu.adapter().target(), 1, &[loss, target, observed, valid], &[(loss, "dy")]).unwrap();
    let plan = draft.realise(&gpu, &bound).unwrap();
    gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
    assert_eq!(f64s(plan.read(&gpu, target).unwrap()), of("target"));
    assert_eq!(f64s(plan.read(&gpu, observed).unwrap()), of("observed"));
    assert_eq!(plan.read::<u32>(&gpu, valid).unwrap(), u32s("valid"));
    assert_close("loss", &f64s(plan.read(&gpu, loss).unwrap()), &[golden["loss"].as_f64().unwrap()], 1e-6, 1e-6);
    assert_close("dp", &f64s(plan.read_gradient(&gpu, p).unwrap()), &of("dp"), 1e-6, 2e-6);
}

#[test]
fn softmax_and_its_cross_entropy_are_pytorchs() {
    let golden = Golden::open("layers.safetensors");
    let of = |name: &str| golden.tensor(&format!("softmax.{name}"));
    let y = Softmax.reference(&[of("x")]);
    assert_close("softmax", y[0].data(), of("y").data(), 1e-7, 1e-6);
    let loss = CrossEntropy.reference(&[of("x"), of("target"), of("lengths")]);
    assert_close("loss", loss[0].data(), of("loss").data(), 1e-7, 1e-6);

    let gpu = Gpu::open(None).expect("an adapter");
    let single_label = SingleLabel::new(&gpu);
    let got = single_label.run(&gpu, &f32s(&of("x")), &f32s(&of("dy")), &f32s(&of("target")), &f32s(&of("lengths")));
    assert_close("y", &got.y, of("y").data(), 1e-6, 1e-6);
    assert_close("dx", &got.dx, of("dx").data(), 1e-6, 1e-6);
    assert_close("loss", &got.loss, of("loss").data(), 1e-6, 1e-6);
    assert_close("dlogits", &got.dlogits, of("dlogits").data(), 1e-6, 1e-6);
    assert_eq!(got.parts[1], 6.0, "valid rows");
}

/// Training stops at a NaN; the losses must propagate it, even of a class that is not observed.
#[test]
fn nan_is_propagated() {
    let gpu = Gpu::open(None).expect("an adapter");
    let single_label = SingleLabel::new(&gpu);
    let target: Vec<f32> = (0..35).map(|i| if i % 5 == 2 { 1.0 } else { 0.0 }).collect();
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = vec![0.5; 35];
        x[8] = bad;
        let got = single_label.run(&gpu, &x, &[1.0; 35], &target, &[1.0; 7]);
        for row in 0..7 {
            let is_bad = row == 1;
            assert_eq!(
                got.y[5 * row..5 * row + 5].iter().all(|v| v.is_nan()),
                is_bad,
                "row {row} of softmax for {bad}"
            );
            assert_eq!(got.dlogits[5 * row..5 * row + 5].iter().any(|v| v.is_nan()), is_bad, "row {row} of the slope");
        }
        assert!(got.loss[0].is_nan() && got.parts[0].is_nan(), "{bad}");
    }
}

/// Softmax, and cross-entropy, of 7 rows of 5 logits.
struct SingleLabel {
    plan: Plan,
    bound: Vec<(&'static str, Buffer)>,
    logits: [Tensor; 2],
    y: Tensor,
    loss: Tensor,
    parts: Tensor,
}

struct SingleLabelResult {
    y: Vec<f64>,
    dx: Vec<f64>,
    loss: Vec<f64>,
    parts: Vec<f64>,
    dlogits: Vec<f64>,
}

impl SingleLabel {
    fn new(gpu: &Gpu) -> SingleLabel {
        let mut g = Graph::new(Mode::Train);
        let spec = Spec::f32([7, 5]);
        let logits = ["x", "logits"].map(|name| g.input_with_gradient(name, spec.clone()));
        let target = g.input("target", spec.clone());
        let lengths = g.input("lengths", Spec::u32([7]));
        let y = softmax(&mut g, logits[0]).unwrap();
        let (loss, parts) = cross_entropy(&mut g, logits[1], target, lengths).unwrap();
        let seeds = [(y, "dy"), (loss, "dloss")];
        let draft = Draft::new(&g, gpu.adapter().target(), 1, &[y, loss, parts], &seeds).unwrap();
        let bound: Vec<(&str, Buffer)> =
            [("x", 35), ("logits", 35), ("target", 35), ("lengths", 7), ("dy", 35), ("dloss", 1)]
                .map(|(name, len)| (name, gpu.buffer(name, len).unwrap()))
                .into();
        SingleLabel { plan: draft.realise(gpu, &bound).unwrap(), bound, logits, y, loss, parts }
    }

    fn run(&self, gpu: &Gpu, x: &[f32], dy: &[f32], target: &[f32], lengths: &[f32]) -> SingleLabelResult {
        for (name, buffer) in &self.bound {
            match *name {
                "lengths" => gpu.write(buffer, 0, &lengths.iter().map(|n| *n as u32).collect::<Vec<_>>()),
                "target" => gpu.write(buffer, 0, target),
                "dy" => gpu.write(buffer, 0, dy),
                "dloss" => gpu.write(buffer, 0, &[1f32]),
                _ => gpu.write(buffer, 0, x),
            }
            .unwrap();
        }
        gpu.run(|s| s.replay(&[&self.plan.recording], 1)).unwrap();
        let read = |t: Tensor| f64s(self.plan.read(gpu, t).unwrap());
        let slope = |t: Tensor| f64s(self.plan.read_gradient(gpu, t).unwrap());
        let [dx, dlogits] = self.logits.map(slope);
        SingleLabelResult { y: read(self.y), dx, loss: read(self.loss), parts: read(self.parts), dlogits }
    }
}

const ADAM: Adam =
    Adam { lr: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-5, decoupled: false, one_cycle: None };

#[test]
fn adam_is_pytorchs() {
    let g = Golden::open("layers.safetensors");
    let of = |name: &str| g.tensor(&format!("adam.{name}"));
    let zeros = Array::zeros(of("p0").shape().clone());
    let mut state = vec![of("p0"), zeros.clone(), zeros];
    for step in 0..of("grad").shape().rows() {
        let grad = Array::new([37], of("grad").row(step).to_vec());
        let clock = Array::new([4], vec![0.0, 0.0, step as f64, 0.0]);
        state = ADAM.reference(&[state[0].clone(), grad, state[1].clone(), state[2].clone(), clock]);
        for (name, got) in ["p", "m", "v"].iter().zip(&state) {
            assert_close(&format!("{name} after step {step}"), got.data(), of(name).row(step), 1e-7, 1e-6);
        }
    }
}

/// With the learning rate of PyTorch's `OneCycleLR`.
#[test]
fn adamw_is_pytorchs() {
    let g = Golden::open("layers.safetensors");
    let of = |name: &str| g.tensor(&format!("adamw.{name}"));
    let adamw = Adam { lr: 0.1, weight_decay: 0.5, decoupled: true, one_cycle: Some(10), ..ADAM };
    let zeros = Array::zeros(of("p0").shape().clone());
    let mut state = vec![of("p0"), zeros.clone(), zeros];
    assert_eq!(of("grad").shape().rows(), 10);
    for step in 0..10 {
        let grad = Array::new([37], of("grad").row(step).to_vec());
        let clock = Array::new([4], vec![0.0, 0.0, step as f64, 0.0]);
        state = adamw.reference(&[state[0].clone(), grad, state[1].clone(), state[2].clone(), clock]);
        assert_close(&format!("p after step {step}"), state[0].data(), of("p").row(step), 1e-7, 1e-6);
    }
}

/// Ten steps with Keras' constants, by the reference and by the GPU.
#[test]
fn adagrad_is_pytorchs() {
    let golden = Golden::open("layers.safetensors");
    let of = |name: &str| golden.tensor(&format!("adagrad.{name}"));
    let (len, config) = (40, Adagrad::default());
    let mut state = vec![of("p0"), Array::new([37], vec![f64::from(adagrad::INITIAL); 37])];

    // A multiple of 4, as arenas are.
    let padded = |v: &[f64]| -> Vec<f32> { v.iter().map(|v| *v as f32).chain([0.0; 3]).collect() };
    let gpu = Gpu::open(None).expect("an adapter");
    let mut g = Graph::new(Mode::Train);
    let [w, grad, sum] = ["params", "grads", "sum"].map(|name| g.input(name, Spec::f32([len])));
    adagrad::adagrad(&mut g, [w, grad, sum], config, None).unwrap();
    let bound: [(&str, Buffer); 3] = [
        ("params", gpu.upload("params", &padded(of("p0").data())).unwrap()),
        ("grads", gpu.buffer("grads", len).unwrap()),
        ("sum", gpu.upload("sum", &vec![adagrad::INITIAL; len]).unwrap()),
    ];
    let plan = Draft::new(&g, gpu.adapter().target(), 1, &[], &[]).unwrap().realise(&gpu, &bound).unwrap();

    assert_eq!(of("grad").shape().rows(), 10);
    for step in 0..10 {
        let row = of("grad").row(step).to_vec();
        gpu.write(&bound[1].1, 0, &padded(&row)).unwrap();
        gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
        state = config.reference(&[state[0].clone(), Array::new([37], row), state[1].clone()]);
        for (i, (name, tensor)) in [("p", w), ("sum", sum)].into_iter().enumerate() {
            assert_close(&format!("{name} after step {step}"), state[i].data(), of(name).row(step), 1e-7, 1e-6);
            let got = f64s(plan.read(&gpu, tensor).unwrap());
            assert_close(&format!("{name} after step {step} on the GPU"), &got[..37], of(name).row(step), 1e-6, 1e-6);
        }
        assert_eq!(f64s(plan.read(&gpu, w).unwrap())[37..], [0.0; 3], "padding");
    }
}

/// The end of a training step as a plan without memory of its own: everything is in the caller's buffers, in place.
#[test]
fn the_end_of_a_step_runs_in_place() {
    let golden = Golden::open("layers.safetensors");
    let of = |name: &str| golden.tensor(&format!("adam.{name}"));
    // A multiple of 4, as arenas are.
    let padded = |v: &[f64]| -> Vec<f32> { v.iter().map(|v| *v as f32).chain([0.0; 3]).collect() };
    let (len, batches) = (40, 2);
    let gpu = Gpu::open(None).expect("an adapter");
    let mut g = Graph::new(Mode::Train);
    let [w, grad, m, v] = ["params", "grads", "m", "v"].map(|name| g.input(name, Spec::f32([len])));
    let clock = g.input("clock", Spec::u32([4]));
    let parts = g.input("parts", Spec::f32([2]));
    let totals = g.input("totals", Spec::f32([2]));
    let diverged = g.input("diverged", Spec::u32([1]));
    let end = End { parts, clock, totals, diverged, batches };
    adam::adam(&mut g, [w, grad, m, v], clock, ADAM, Some(end)).unwrap();

    let draft = Draft::new(&g, gpu.adapter().target(), 1, &[], &[]).unwrap();
    assert_eq!((draft.dispatches(), draft.memory()), ((1, 0), (0, 0)));
    let zeros = vec![0f32; len];
    let bound: Vec<(&str, Buffer)> = vec![
        ("params", gpu.upload("params", &padded(of("p0").data())).unwrap()),
        ("grads", gpu.upload("grads", &zeros).unwrap()),
        ("m", gpu.upload("m", &zeros).unwrap()),
        ("v", gpu.upload("v", &zeros).unwrap()),
        ("clock", gpu.upload("clock", &[3u32, 4, 0, 0]).unwrap()),
        ("parts", gpu.upload("parts", &[0f32; 2]).unwrap()),
        ("totals", gpu.upload("totals", &[f32::NAN; 2]).unwrap()),
        ("diverged", gpu.upload("diverged", &[NEVER]).unwrap()),
    ];
    let plan = draft.realise(&gpu, &bound).unwrap();
    let buffer = |name: &str| &bound.iter().find(|(n, _)| *n == name).unwrap().1;
    for step in 0..of("grad").shape().rows() {
        gpu.write(buffer("grads"), 0, &padded(of("grad").row(step))).unwrap();
        let parts = if step == 3 { [f32::NAN, 1.0] } else { [step as f32, 1.0] };
        gpu.write(buffer("parts"), 0, &parts).unwrap();
        gpu.write(buffer("clock"), 2, &[step as u32]).unwrap();
        gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
        for (name, tensor) in [("p", w), ("m", m), ("v", v)] {
            let got = f64s(plan.read(&gpu, tensor).unwrap());
            assert_close(&format!("{name} after step {step}"), &got[..37], of(name).row(step), 1e-6, 1e-5);
            assert_eq!(got[37..], [0.0; 3], "padding");
        }
        assert_eq!(plan.read::<u32>(&gpu, clock).unwrap(), [3, 4, step as u32, step as u32 + 1]);
        let noted = if step < 3 { NEVER } else { 3 };
        assert_eq!(plan.read::<u32>(&gpu, diverged).unwrap(), [noted]);
        let sums: Vec<f32> = plan.read(&gpu, totals).unwrap();
        match step {
            1 => assert_eq!(sums, [1.0, 2.0]),
            3 => assert!(sums[0].is_nan()),
            _ => assert_eq!(sums, [step as f32, 1.0], "the first batch of an epoch resets the sums"),
        }
    }
}
