//! Convolution and max pooling against PyTorch: the references, and a reduced-width VGGish stack on this machine's
//! adapter.

use crate::formula::frac;
use crate::support::{Golden, gradient};
use wmic::Array;
use wmic::gpu::{Buffer, Gpu};
use wmic::graph::{Arenas, Draft, Graph, Init, Mode, Op, Plan, Spec, Tensor};
use wmic::ops::conv2d::{Conv2d, conv2d};
use wmic::ops::depthwise_conv2d::DepthwiseConv2d;
use wmic::ops::max_pool2d::{Rounding, max_pool2d};

/// f32 rounding of the stored values, relative to numbers of this size.
const TOLERANCE: f64 = 1e-6;
/// What f32 kernels may differ by, relative to the largest element of a tensor.
const KERNEL_TOLERANCE: f64 = 1e-4;

#[track_caller]
fn assert_close(name: &str, got: &[f64], want: &Array<f64>) {
    assert_eq!(got.len(), want.data().len(), "{name}");
    for (i, (got, want)) in got.iter().zip(want.data()).enumerate() {
        assert!((got - want).abs() <= TOLERANCE * want.abs().max(1.0), "{name}[{i}] is {got}, PyTorch gives {want}");
    }
}

#[track_caller]
fn assert_kernels_close(name: &str, got: &[f32], want: &Array<f64>) {
    assert_eq!(got.len(), want.data().len(), "{name}");
    let largest = want.data().iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(largest > 0.0, "{name} is all 0");
    for (i, (got, want)) in got.iter().zip(want.data()).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= KERNEL_TOLERANCE * largest, "{name}[{i}] is {got}, PyTorch gives {want}");
    }
}

#[test]
fn convolution_is_pytorchs() {
    let golden = Golden::open("images.safetensors");
    for (case, names) in [
        ("conv3", vec!["x", "w", "b"]),
        ("conv3_relu", vec!["x", "w", "b"]),
        ("conv1_no_bias", vec!["x", "w"]),
        ("conv5_relu", vec!["x", "w", "b"]),
        ("conv3_stride", vec!["x", "w", "b"]),
        ("conv5_stride_relu", vec!["x", "w", "b"]),
        ("depthwise", vec!["x", "w", "b"]),
        ("depthwise_stride_relu", vec!["x", "w", "b"]),
    ] {
        let tensor = |name: &str| golden.tensor(&format!("{case}.{name}"));
        let (relu, stride) = (case.ends_with("relu"), if case.contains("stride") { 2 } else { 1 });
        let op: &dyn Op = match case.starts_with("depthwise") {
            true => &DepthwiseConv2d { stride, relu },
            false => &Conv2d { stride, relu },
        };
        let x: Vec<_> = names.iter().map(|name| tensor(name)).collect();
        assert_close(&format!("{case}.y"), op.reference(&x)[0].data(), &tensor("y"));
        for (i, name) in names.iter().enumerate() {
            let want = tensor(&format!("d{name}"));
            assert_close(&format!("{case}.d{name}"), &gradient(op, &x, i, &tensor("dy")), &want);
        }
    }
}

/// The plan of `g` with these values bound, replayed once forward and backward. It keeps `y`.
fn replayed(gpu: &Gpu, g: &Graph, arenas: &Arenas, x: &[f32], y: Tensor, dy: &[f32]) -> Plan {
    let mut bound: Vec<(&str, Buffer)> = arenas.named().to_vec();
    bound.extend([("x", gpu.upload("x", x).unwrap()), ("dy", gpu.upload("dy", dy).unwrap())]);
    let plan = Draft::new(g, gpu.adapter().target(), 1, &[y], &[(y, "dy")]).unwrap().realise(gpu, &bound).unwrap();
    gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
    plan
}

fn f32s(values: &Array<f64>) -> Vec<f32> {
    values.data().iter().map(|v| *v as f32).collect()
}

/// On the adapter, because a window has its largest value twice: central differences cannot choose the first.
#[test]
fn max_pooling_is_pytorchs() {
    let golden = Golden::open("images.safetensors");
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    for (case, rounding) in [("pool_down", Rounding::Down), ("pool_up", Rounding::Up)] {
        let tensor = |name: &str| golden.tensor(&format!("{case}.{name}"));
        let mut g = Graph::new(Mode::Train);
        let x = g.input_with_gradient("x", Spec::f32(tensor("x").shape().clone()));
        let y = max_pool2d(&mut g, x, rounding, false).unwrap();
        assert_eq!(g.shape(y), tensor("y").shape(), "{case}");
        let arenas = Arenas::new(&gpu, g.layout(), 1, true).unwrap();
        let plan = replayed(&gpu, &g, &arenas, &f32s(&tensor("x")), y, &f32s(&tensor("dy")));
        assert_eq!(plan.read::<f32>(&gpu, y).unwrap(), f32s(&tensor("y")), "{case}.y");
        assert_eq!(plan.read_gradient(&gpu, x).unwrap(), f32s(&tensor("dx")), "{case}.dx");
    }
}

/// As in `tests/golden/README.md`.
fn numbers(len: usize, salt: u32) -> Vec<f32> {
    (0..len).map(|i| (2.0 * frac(i as u32, salt) - 1.0) as f32).collect()
}

#[test]
fn a_reduced_width_vggish_stack_is_pytorchs() {
    const CHANNELS: [usize; 6] = [4, 8, 16, 16, 32, 32];
    const POOLED: [usize; 4] = [0, 1, 3, 5];
    let golden = Golden::open("images.safetensors");
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let mut g = Graph::new(Mode::Train);
    let x = g.input("x", Spec::f32([2, 96, 64, 1]));
    let mut y = x;
    for (i, n) in CHANNELS.into_iter().enumerate() {
        let c = g.shape(y).last();
        let w = g.param(&format!("{i}.weight"), [n, c, 3, 3], Init::Constant(0.0));
        let b = g.param(&format!("{i}.bias"), [n], Init::Constant(0.0));
        let pooled = POOLED.contains(&i);
        y = conv2d(&mut g, y, w, Some(b), Conv2d { relu: !pooled, ..Conv2d::default() }).unwrap();
        if pooled {
            y = max_pool2d(&mut g, y, Rounding::Down, true).unwrap();
        }
    }
    assert_eq!(g.shape(y).dims(), [2, 6, 4, 32]);
    let arenas = Arenas::new(&gpu, g.layout(), 1, true).unwrap();
    let tensors: Vec<_> = g.layout().params.iter().map(|p| (p.name.as_str(), p.shape.dims())).collect();
    for (p, values) in g.layout().params.iter().zip(crate::formula::weights(&tensors)) {
        gpu.write(&arenas.params, p.offset, &values).unwrap();
    }
    let (input, dy) = (numbers(2 * 96 * 64, 80), numbers(g.shape(y).len(), 81));
    let plan = replayed(&gpu, &g, &arenas, &input, y, &dy);
    assert_kernels_close("y", &plan.read(&gpu, y).unwrap(), &golden.tensor("vggish.y"));
    let grads = gpu.read::<f32>(&arenas.grads).unwrap();
    for p in &g.layout().params {
        let got = &grads[p.offset..p.offset + p.shape.len()];
        assert_kernels_close(&p.name, got, &golden.tensor(&format!("vggish.grad.{}", p.name)));
    }
}
