//! A layer and arenas beyond what the least adapter can bind at once (128 MiB) train: AACNN's first dense layer.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::formula::frac;
use wmic::gpu::{Buffer, Gpu, Target};
use wmic::graph::{Arenas, Draft, Graph, Init, Mode, Plan, Spec};
use wmic::ops::adagrad::{self, Adagrad, adagrad};
use wmic::ops::linear::linear;

const BATCH: usize = 2;
/// Features, units of the large layer, and of one more that brings the arena to the 65.7 million parameters of AACNN.
const SIZES: [usize; 3] = [50_688, 1024, 13_456];
/// 2.1e-5 was observed, of the accumulator.
const TOLERANCE: f64 = 1e-4;
const LEAST_BINDING: usize = 128 << 20;

/// Numbers in (-bound, bound) that are exact in f32.
fn values(len: usize, salt: u32, bound: f64) -> Vec<f32> {
    (0..len).map(|i| (bound * (2.0 * frac(i as u32, salt) - 1.0)) as f32).collect()
}

fn dot(a: impl IntoIterator<Item = f64>, b: &[f32]) -> f64 {
    a.into_iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum()
}

fn wide(v: &[f32]) -> impl Iterator<Item = f64> + '_ {
    v.iter().map(|v| f64::from(*v))
}

/// The largest error of each quantity against f64, as |got - want| / (1 + |want|), and where it was.
#[derive(Default)]
struct Errors(BTreeMap<&'static str, (f64, [usize; 2])>);

impl Errors {
    fn see(&mut self, what: &'static str, at: [usize; 2], got: f32, want: f64) {
        let error = (f64::from(got) - want).abs() / (1.0 + want.abs());
        let worst = self.0.entry(what).or_default();
        if error.is_nan() || error > worst.0 {
            *worst = (error, at);
        }
    }
}

fn assert_bound_in_parts(plan: &Plan) {
    for d in &plan.dispatches {
        for (name, view) in &d.bindings {
            assert!(4 * view.len <= LEAST_BINDING, "{name} of {} takes {} elements", d.entry, view.len);
        }
    }
}

fn train_a_step(gpu: &Gpu, target: Target) {
    let [k, n, last] = SIZES;
    let mut g = Graph::new(Mode::Train);
    let x = g.input_with_gradient("x", Spec::f32([BATCH, k]));
    let mut param = |name, shape: &[usize]| g.param(name, wmic::Shape::new(shape), Init::Constant(0.0));
    let [w0, b0] = [param("0.weight", &[n, k]), param("0.bias", &[n])];
    let [w1, b1] = [param("1.weight", &[last, n]), param("1.bias", &[last])];
    let h = linear(&mut g, x, w0, Some(b0)).unwrap();
    let y = linear(&mut g, h, w1, Some(b1)).unwrap();
    let len = g.layout().trained;
    assert!(len >= 65_692_403 && 4 * k * n > LEAST_BINDING);

    let mut end = Graph::new(Mode::Train);
    let [w, grad, sum] = ["params", "grads", "sum"].map(|name| end.input(name, Spec::f32([len])));
    let config = Adagrad { lr: 0.1, ..Adagrad::default() };
    adagrad(&mut end, [w, grad, sum], config, None).unwrap();

    let bounds = [(3.0 / k as f64).sqrt(), 0.1, (3.0 / n as f64).sqrt(), 0.1];
    let params: Vec<Vec<f32>> =
        (0u32..).zip(&g.layout().params).map(|(i, p)| values(p.shape.len(), i, bounds[i as usize])).collect();
    let offsets: Vec<usize> = g.layout().params.iter().map(|p| p.offset).collect();
    let [x_values, dy] = [(BATCH * k, 10), (BATCH * last, 11)].map(|(len, salt)| values(len, salt, 1.0));

    let arenas = Arenas::new(gpu, g.layout(), 1, true).unwrap();
    let mut block = vec![0f32; len];
    for (values, at) in params.iter().zip(&offsets) {
        block[*at..at + values.len()].copy_from_slice(values);
    }
    gpu.write(&arenas.params, 0, &block).unwrap();
    let mut bound: Vec<(&str, Buffer)> = arenas.named().to_vec();
    bound.extend([
        ("x", gpu.upload("x", &x_values).unwrap()),
        ("dy", gpu.upload("dy", &dy).unwrap()),
        ("sum", gpu.upload("sum", &vec![adagrad::INITIAL; len]).unwrap()),
    ]);
    let step = Draft::new(&g, target, 1, &[h, y], &[(y, "dy")]).unwrap().realise(gpu, &bound).unwrap();
    let update = Draft::new(&end, target, 1, &[], &[]).unwrap().realise(gpu, &bound).unwrap();
    assert_bound_in_parts(&step);
    assert_bound_in_parts(&update);
    assert_eq!(update.dispatches.len(), 2, "two parts hold the arena");
    let times = [&step, &update].map(|plan| {
        let start = Instant::now();
        gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
        start.elapsed()
    });
    println!("{target}: forward and backward {:.2?}, update {:.2?}", times[0], times[1]);

    let row = |v: &[f32], i: usize, width: usize| v[i * width..(i + 1) * width].to_vec();
    let got_h: Vec<f32> = step.read(gpu, h).unwrap();
    let want_h: Vec<Vec<f64>> = (0..BATCH)
        .map(|b| {
            (0..n)
                .map(|i| dot(wide(&row(&x_values, b, k)), &params[0][i * k..(i + 1) * k]) + f64::from(params[1][i]))
                .collect()
        })
        .collect();
    let got_y: Vec<f32> = step.read(gpu, y).unwrap();
    let got_dx = step.read_gradient(gpu, x).unwrap();
    // dh = dy w1
    let mut dh = vec![0.0; BATCH * n];
    for (b, dh) in dh.chunks_mut(n).enumerate() {
        for i in 0..last {
            let d = f64::from(dy[b * last + i]);
            dh.iter_mut().zip(wide(&params[2][i * n..(i + 1) * n])).for_each(|(sum, w)| *sum += d * w);
        }
    }
    let mut errors = Errors::default();
    for b in 0..BATCH {
        for i in 0..n {
            errors.see("h", [b, i], got_h[b * n + i], want_h[b][i]);
        }
        for i in (0..last).step_by(97).chain([last - 1]) {
            let want = dot(want_h[b].iter().copied(), &params[2][i * n..(i + 1) * n]) + f64::from(params[3][i]);
            errors.see("y", [b, i], got_y[b * last + i], want);
        }
        for j in (0..k).step_by(331).chain([k - 1]) {
            let want: f64 = (0..n).map(|i| dh[b * n + i] * f64::from(params[0][i * k + j])).sum();
            errors.see("dx", [b, j], got_dx[b * k + j], want);
        }
    }

    let after =
        [&arenas.params, &arenas.grads, &bound.last().unwrap().1].map(|buffer| gpu.read::<f32>(buffer).unwrap());
    // Element `at` of parameter `p`, whose gradient is `slope`.
    let mut see_update = |p: usize, at: usize, slope: f64| {
        let place = offsets[p] + at;
        let sum = f64::from(adagrad::INITIAL) + slope * slope;
        errors.see("gradient", [p, at], after[1][place], slope);
        errors.see("accumulator", [p, at], after[2][place], sum);
        let want = f64::from(params[p][at]) - config.lr * slope / (sum.sqrt() + config.eps);
        errors.see("updated", [p, at], after[0][place], want);
    };
    let over_rows = |f: &dyn Fn(usize) -> f64| (0..BATCH).map(f).sum::<f64>();
    for i in 0..n {
        // Some of every row, and more where parts of w meet: 640 outputs fit a binding, and 33 554 432 elements of an
        // arena.
        let seam = [0, 639, 640, 661, 662, n - 1].contains(&i);
        for j in (i % 7..k).step_by(if seam { 7 } else { 4999 }).chain([0, k - 1]) {
            see_update(0, i * k + j, over_rows(&|b| dh[b * n + i] * f64::from(x_values[b * k + j])));
        }
        see_update(1, i, over_rows(&|b| dh[b * n + i]));
    }
    for i in 0..last {
        for j in [i % n, n - 1] {
            see_update(2, i * n + j, over_rows(&|b| f64::from(dy[b * last + i]) * want_h[b][j]));
        }
        see_update(3, i, over_rows(&|b| f64::from(dy[b * last + i])));
    }
    println!("{target}: {:?}", errors.0);
    for (what, (error, at)) in errors.0 {
        assert!(error <= TOLERANCE, "{target}: {what}{at:?} is off by {error:e}");
    }
}

#[test]
fn weights_and_arenas_beyond_a_binding_train() {
    let gpu = Gpu::open(None).expect("an adapter");
    // Not the portable kernels on a software adapter: llvmpipe aborts an invocation's loops after 65 535 iterations in
    // total, which their sums over 50 688 inputs exceed.
    train_a_step(&gpu, gpu.adapter().target());
}
