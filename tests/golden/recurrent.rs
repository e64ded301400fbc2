//! Recurrent layers against PyTorch: both directions, one and three layers, ragged lengths, given initial states,
//! recurrent dropout.

use crate::support::Golden;
use wmic::Array;
use wmic::gpu::{Buffer, Gpu, Target};
use wmic::graph::{Arenas, Draft, Graph, Mode, Plan, Spec, Tensor};
use wmic::nn::layers::Recurrent;
use wmic::ops::recurrent::{Cell, recurrent};
use wmic::ops::recurrent_cell::State;

const BATCH: usize = 5;
const HIDDEN: usize = 8;
/// f32 against PyTorch's f64, relative to a tensor's largest entry. The limit is 1e-4.
const TOLERANCE: f64 = 1e-5;

#[track_caller]
fn assert_close(what: &str, got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*g) - w).abs() <= TOLERANCE * largest, "{what}[{i}] is {g}, PyTorch gives {w}");
    }
}

/// PyTorch's states (2 layers, B, H) as a layer has them, (B, 2 H), and back.
fn of_layer(states: &Array<f64>, layer: usize) -> Vec<f64> {
    let row = |b: usize, direction: usize| states.row((2 * layer + direction) * BATCH + b).to_vec();
    (0..BATCH).flat_map(|b| [row(b, 0), row(b, 1)].concat()).collect()
}

/// A case of the golden file on the GPU.
struct Layers<'a> {
    gpu: &'a Gpu,
    golden: &'a Golden,
    /// Of its tensors.
    prefix: String,
    bound: Vec<(String, Buffer)>,
    seeds: Vec<(Tensor, String)>,
    keep: Vec<(Tensor, String, Vec<f64>)>,
    inputs: Vec<(Tensor, String, Vec<f64>)>,
}

impl Layers<'_> {
    fn golden(&self, name: &str) -> Array<f64> {
        self.golden.tensor(&format!("{}.{name}", self.prefix))
    }

    fn bind(&mut self, name: &str, values: &[f64]) {
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        self.bound.push((name.into(), self.gpu.upload("test", &values).unwrap()));
    }

    /// An input whose gradient is compared with `gradient`.
    fn input(&mut self, g: &mut Graph, name: &str, shape: &[usize], values: &[f64], gradient: Vec<f64>) -> Tensor {
        let tensor = g.input_with_gradient(name, Spec::f32(wmic::Shape::new(shape)));
        self.bind(name, values);
        self.inputs.push((tensor, name.into(), gradient));
        tensor
    }

    fn lengths(&mut self, g: &mut Graph, lengths: &[u32]) -> Tensor {
        self.bound.push(("lengths".into(), self.gpu.upload("test", lengths).unwrap()));
        g.input("lengths", Spec::u32([BATCH]))
    }

    /// An output whose value is compared with `value`, and which has the gradient `dy`.
    fn output(&mut self, tensor: Tensor, name: &str, value: Vec<f64>, dy: &[f64]) {
        self.bind(&format!("d{name}"), dy);
        self.seeds.push((tensor, format!("d{name}")));
        self.keep.push((tensor, name.into(), value));
    }

    /// Runs forward and backward with the kernels of `target` and compares everything.
    fn compare(mut self, g: &Graph, target: Target) {
        let seeds: Vec<(Tensor, &str)> = self.seeds.iter().map(|(t, name)| (*t, name.as_str())).collect();
        let keep: Vec<Tensor> = self.keep.iter().map(|(t, ..)| *t).collect();
        let draft = Draft::new(g, target, 1, &keep, &seeds).unwrap();
        let arenas = Arenas::new(self.gpu, g.layout(), 1, true).unwrap();
        for p in &g.layout().params {
            let name = p.name.strip_prefix("rnn.").unwrap();
            let values: Vec<f32> = self.golden(name).data().iter().map(|v| *v as f32).collect();
            self.gpu.write(&arenas.params, p.offset, &values).unwrap();
        }
        self.bound.extend(arenas.named().map(|(name, buffer)| (name.to_owned(), buffer)));
        let bound: Vec<(&str, Buffer)> = self.bound.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
        let plan: Plan = draft.realise(self.gpu, &bound).unwrap();
        self.gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
        let what = format!("{} {target:?}", self.prefix);
        for (tensor, name, want) in &self.keep {
            assert_close(&format!("{what} {name}"), &plan.read::<f32>(self.gpu, *tensor).unwrap(), want);
        }
        for (tensor, name, want) in &self.inputs {
            assert_close(&format!("{what} d{name}"), &plan.read_gradient(self.gpu, *tensor).unwrap(), want);
        }
        let grads = self.gpu.read::<f32>(&arenas.grads).unwrap();
        for p in &g.layout().params {
            let name = p.name.strip_prefix("rnn.").unwrap();
            let want = self.golden(&format!("d{name}"));
            assert_close(&format!("{what} d{name}"), &grads[p.offset..p.offset + p.shape.len()], want.data());
        }
    }
}

fn new<'a>(gpu: &'a Gpu, golden: &'a Golden, cell: &str, case: &str) -> Layers<'a> {
    let prefix = format!("{cell}_{case}");
    Layers { gpu, golden, prefix, bound: vec![], seeds: vec![], keep: vec![], inputs: vec![] }
}

fn x(c: &mut Layers, g: &mut Graph) -> Tensor {
    let (x, dx) = (c.golden("x"), c.golden("dx"));
    c.input(g, "x", x.dims(), x.data(), dx.data().to_vec())
}

#[test]
fn layers_are_pytorchs() {
    let (gpu, golden) = (Gpu::open(None).unwrap(), Golden::open("recurrent.safetensors"));
    for (name, cell) in [("tanh", Cell::Tanh), ("gru", Cell::Gru), ("lstm", Cell::Lstm)] {
        for (case, layers, given) in [("whole", 1, false), ("ragged", 1, true), ("deep", 3, true)] {
            for target in [Target::PORTABLE, gpu.adapter().target()] {
                let mut c = new(&gpu, &golden, name, case);
                let mut g = Graph::new(Mode::Train);
                let mut h = x(&mut c, &mut g);
                let lengths: Vec<u32> = c.golden("lengths").data().iter().map(|v| *v as u32).collect();
                let lengths = c.lengths(&mut g, &lengths);
                for layer in 0..layers {
                    let mut first = |state: &str| {
                        let (values, gradient) = (c.golden(&format!("{state}0")), c.golden(&format!("d{state}0")));
                        let (values, gradient) = (of_layer(&values, layer), of_layer(&gradient, layer));
                        c.input(&mut g, &format!("{state}{layer}"), &[BATCH, 2 * HIDDEN], &values, gradient)
                    };
                    let state = given.then(|| {
                        let h = first("h");
                        State { h, c: (cell == Cell::Lstm).then(|| first("c")) }
                    });
                    let part = Recurrent { name: "rnn", layer, cell, hidden: HIDDEN };
                    let (input, directions) = part.directions(&mut g, h, &[false, true]).unwrap();
                    let out = recurrent(&mut g, cell, input, &directions, lengths, None, state).unwrap();
                    h = out.y;
                    for (state, tensor) in [("h", Some(out.state.h)), ("c", out.state.c)] {
                        let Some(tensor) = tensor else { continue };
                        let (value, dy) = (c.golden(&format!("{state}n")), c.golden(&format!("d{state}n")));
                        let name = format!("{state}n{layer}");
                        c.output(tensor, &name, of_layer(&value, layer), &of_layer(&dy, layer));
                    }
                }
                let (y, dy) = (c.golden("y"), c.golden("dy"));
                c.output(h, "y", y.data().to_vec(), dy.data());
                c.compare(&g, target);
            }
        }
    }
}

#[test]
fn recurrent_dropout_masks_the_state_in_products_only() {
    let (gpu, golden) = (Gpu::open(None).unwrap(), Golden::open("recurrent.safetensors"));
    for (name, cell) in [("gru", Cell::Gru), ("lstm", Cell::Lstm)] {
        for target in [Target::PORTABLE, gpu.adapter().target()] {
            let mut c = new(&gpu, &golden, name, "masked");
            let mut g = Graph::new(Mode::Train);
            let x = x(&mut c, &mut g);
            let steps = g.shape(x).dims()[1] as u32;
            let lengths = c.lengths(&mut g, &[steps; BATCH]);
            let mask = c.golden("mask");
            c.bind("mask", mask.data());
            let mask = g.input("mask", Spec::f32([BATCH, HIDDEN]));
            let part = Recurrent { name: "rnn", layer: 0, cell, hidden: HIDDEN };
            let (input, direction) = part.directions(&mut g, x, &[false]).unwrap();
            let out = recurrent(&mut g, cell, input, &direction, lengths, Some(mask), None).unwrap();
            let (y, dy) = (c.golden("y"), c.golden("dy"));
            c.output(out.y, "y", y.data().to_vec(), dy.data());
            c.compare(&g, target);
        }
    }
}
