//! 2D relative self-attention against PyTorch by its definition, and that its memory grows with the positions and not
//! with their square.

use crate::support::Golden;
use wmic::gpu::{Buffer, Gpu, Target};
use wmic::graph::{Arenas, Draft, Graph, Init, Mode, Spec, Tensor};
use wmic::ops::relative_attention::{RelativeAttention, relative_attention};

const BATCH: usize = 2;
const HEADS: usize = 2;
/// f32 against PyTorch's f64, relative to a tensor's largest entry. The limit is 1e-4; 7.3e-6 was observed (dqkv, 11 x
/// 129).
const TOLERANCE: f64 = 2e-5;

/// The op on formula inputs, and what a backward pass needs.
fn graph(batch: usize, heads: usize, [h, w]: [usize; 2], [key, value]: [usize; 2]) -> (Graph, Tensor, Tensor) {
    let mut g = Graph::new(Mode::Train);
    let config = RelativeAttention { heads, key_depth: heads * key, value_depth: heads * value };
    let qkv = g.input_with_gradient("qkv", Spec::f32([batch, h, w, heads * (2 * key + value)]));
    let rel_h = g.param("rel_h", [2 * h - 1, key], Init::Constant(0.0));
    let rel_w = g.param("rel_w", [2 * w - 1, key], Init::Constant(0.0));
    let y = relative_attention(&mut g, qkv, rel_h, rel_w, config).unwrap();
    (g, qkv, y)
}

fn values(len: usize, salt: u32) -> Vec<f32> {
    (0..len).map(|i| (3.0 * crate::formula::frac(i as u32, salt) - 1.5) as f32).collect()
}

/// The largest error of `got` relative to the tensor's largest entry.
fn error(golden: &Golden, name: &str, got: &[f32]) -> f64 {
    let got: Vec<f64> = got.iter().map(|v| f64::from(*v)).collect();
    let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    if got.len() <= 600 {
        let want = golden.tensor(name);
        assert_eq!(got.len(), want.data().len(), "{name}");
        return apart(&got, want.data()) / want.data().iter().fold(0.0f64, |m, v| m.max(v.abs()));
    }
    let (about, want) = (golden.tensor(&format!("{name}.about")), golden.tensor(&format!("{name}.samples")));
    let samples: Vec<f64> = got.iter().step_by((got.len() / 1000) | 1).take(1000).copied().collect();
    assert_eq!(samples.len(), want.data().len(), "{name}");
    let norm = got.iter().map(|v| v * v).sum::<f64>().sqrt();
    let sum: f64 = got.iter().sum();
    let largest = got.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    // A sum's error is relative to the norm: biased errors of its terms would be visible.
    let whole = [(norm, about[0], about[0]), (sum, about[1], about[0]), (largest, about[2], about[2])];
    whole
        .iter()
        .fold(apart(&samples, want.data()) / about[2], |m, (got, want, scale)| m.max((got - want).abs() / scale))
}

#[test]
fn attention_is_that_of_its_definition() {
    let (gpu, golden) = (Gpu::open(None).unwrap(), Golden::open("attention.safetensors"));
    let cases = [("3x5", [3, 5], [3, 2]), ("6x65", [6, 65], [1, 1]), ("11x129", [11, 129], [8, 8])];
    for (i, (case, size, depths)) in cases.into_iter().enumerate() {
        let salt = 4000 + 10 * i as u32;
        for target in [Target::PORTABLE, gpu.adapter().target()] {
            let (g, qkv, y) = graph(BATCH, HEADS, size, depths);
            let draft = Draft::new(&g, target, 1, &[y], &[(y, "dy")]).unwrap();
            let arenas = Arenas::new(&gpu, g.layout(), 1, true).unwrap();
            let up = |len, salt| gpu.upload("test", &values(len, salt)).unwrap();
            let mut bound: Vec<(&str, Buffer)> = arenas.named().to_vec();
            bound.push(("qkv", up(g.shape(qkv).len(), salt)));
            bound.push(("dy", up(g.shape(y).len(), salt + 3)));
            for (p, salt) in g.layout().params.iter().zip([salt + 1, salt + 2]) {
                gpu.write(&arenas.params, p.offset, &values(p.shape.len(), salt)).unwrap();
            }
            let plan = draft.realise(&gpu, &bound).unwrap();
            gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
            let grads = gpu.read::<f32>(&arenas.grads).unwrap();
            let tables = g.layout().params.iter().map(|p| (p.name.as_str(), &grads[p.offset..][..p.shape.len()]));
            let got = [("y", plan.read(&gpu, y).unwrap()), ("dqkv", plan.read_gradient(&gpu, qkv).unwrap())];
            let got = got.into_iter().map(|(n, v)| (n.to_owned(), v));
            for (name, got) in got.chain(tables.map(|(n, v)| (format!("d{n}"), v.to_vec()))) {
                let error = error(&golden, &format!("{case}.{name}"), &got);
                println!("{case} {name} {target:?}: {error:.1e}");
                assert!(error <= TOLERANCE, "{case} {name} {target:?}: {error:.1e} of the largest entry");
            }
        }
    }
}

const MANY_HEADS: usize = 8;

/// Bytes of a training plan's own memory.
fn memory(target: Target, batch: usize, size: [usize; 2]) -> f64 {
    let (g, _, y) = graph(batch, MANY_HEADS, size, [8, 8]);
    Draft::new(&g, target, 1, &[y], &[(y, "dy")]).unwrap().memory().0 as f64
}

#[test]
fn memory_grows_with_the_positions() {
    let gpu = Gpu::open(None).unwrap();
    for target in [Target::PORTABLE, gpu.adapter().target()] {
        let once = memory(target, 16, [11, 129]);
        for (times, size) in [(2.0, [22, 129]), (2.0, [11, 258]), (4.0, [22, 258]), (4.0, [44, 129])] {
            let growth = memory(target, 16, size) / once;
            println!("{size:?} {target:?}: {:.1} MB, {growth:.2} x", memory(target, 16, size) / 1e6);
            assert!(growth <= 1.05 * times, "{times} x the positions take {growth:.2} x the memory");
        }
        let stored = (16 * MANY_HEADS * (11 * 129) * (11 * 129) * 4) as f64;
        println!("{target:?}: {:.1} MB, one matrix of logits {:.1} MB", once / 1e6, stored / 1e6);
        assert!(once < stored / 10.0, "{once} bytes, one matrix of logits takes {stored}");
    }
}
