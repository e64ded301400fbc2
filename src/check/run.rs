//! Runs a case on an adapter and compares everything that can be compared.

use super::case::{Case, Input, Kind};
use crate::array::Array;
use crate::error::Result;
use crate::gpu::{Buffer, Gpu, Target};
use crate::graph::{Arenas, Draft, Dtype, Graph, Mode, Plan, Tensor};
use crate::random::Stream;

/// Elements around every buffer that a kernel must leave alone (256 bytes, the alignment of bindings).
const GUARD: usize = 64;
/// A NaN that no arithmetic produces: fills guards and outputs before a run.
const POISON: u32 = 0x7fc0_dead;
/// Up to this many elements of an input, every coordinate of its gradient is checked; beyond, random directions.
const EVERY_COORDINATE: usize = 160;
const DIRECTIONS: usize = 6;
const BENCH_DIRECTIONS: usize = 2;

/// What a check found.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub op: &'static str,
    pub case: String,
    pub target: Target,
    /// Largest forward error as a share of its tolerance.
    pub forward: f64,
    /// Largest gradient error as a share of its tolerance; `None` without gradients.
    pub gradient: Option<f64>,
    /// What went wrong, empty for a pass.
    pub failures: Vec<String>,
}

impl Outcome {
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Values of all outputs and gradients, replicas one after the other.
#[derive(PartialEq)]
struct Run {
    /// Raw bits, for f32 and u32 alike.
    y: Vec<Vec<u32>>,
    dx: Vec<Option<Vec<u32>>>,
}

/// Checks `case` on `gpu` with the kernel variants of `target`.
pub fn check(gpu: &Gpu, case: &Case, target: Target) -> Result<Outcome> {
    let mut failures = Vec::new();
    let one = Fixture::new(gpu, case, target, &[0], 1)?;
    let alone = one.run(gpu, case, &mut failures)?;
    if one.run(gpu, case, &mut failures)? != alone {
        failures.push("a replay gave other bits".into());
    }
    let (forward, gradient) = compare(case, &one, &alone, &mut failures);

    if gradient.is_some() {
        let twice = Fixture::new(gpu, case, target, &[0], 2)?.run(gpu, case, &mut failures)?;
        for (i, (a, b)) in alone.dx.iter().zip(&twice.dx).enumerate() {
            let doubled = |a: &Vec<u32>| a.iter().map(|v| 2.0 * f32::from_bits(*v)).collect::<Vec<_>>();
            let got = |b: &Vec<u32>| b.iter().map(|v| f32::from_bits(*v)).collect::<Vec<_>>();
            if a.as_ref().map(doubled) != b.as_ref().map(got) {
                failures.push(format!("two consumers do not accumulate twice the gradient of input {i}"));
            }
        }
    }

    if !case.bench {
        let together = Fixture::new(gpu, case, target, &[0, 1, 2], 1)?.run(gpu, case, &mut failures)?;
        for r in 0..3 {
            let single = Fixture::new(gpu, case, target, &[r], 1)?.run(gpu, case, &mut failures)?;
            if !same_replica(&single, &together, r) {
                failures.push(format!("replica {r} of 3 differs from the same alone"));
            }
        }
    }
    failures.dedup();
    Ok(Outcome { op: case.op.name(), case: case.name.clone(), target, forward, gradient, failures })
}

fn same_replica(single: &Run, together: &Run, r: usize) -> bool {
    let part = |a: &[u32], b: &[u32]| a.is_empty() || b.chunks(a.len()).nth(r) == Some(a);
    let gradients = single.dx.iter().zip(&together.dx).all(|(a, b)| match (a, b) {
        (Some(a), Some(b)) => part(a, b),
        (a, b) => a.is_none() && b.is_none(),
    });
    gradients && single.y.iter().zip(&together.y).all(|(a, b)| part(a, b))
}

/// A case's op in a plan, with its data.
struct Fixture {
    /// Per replica, per input.
    x: Vec<Vec<Array<f64>>>,
    /// Per replica, per seeded output.
    dy: Vec<Vec<Array<f64>>>,
    seeded: Vec<usize>,
    graph: Graph,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    plan: Plan,
    external: Vec<(String, Buffer)>,
    arenas: Arenas,
}

impl Fixture {
    /// `replicas` names whose data to use; the op is applied `times` times to the same inputs.
    fn new(gpu: &Gpu, case: &Case, target: Target, replicas: &[usize], times: usize) -> Result<Fixture> {
        let mut graph = Graph::new(Mode::Train);
        let tensor = |(i, input): (usize, &Input)| {
            let (name, spec) = (format!("x{i}"), input.spec.clone());
            match input.kind {
                Kind::Data => graph.input(&name, spec),
                Kind::Shared => graph.shared_input(&name, spec),
                Kind::Gradient => graph.input_with_gradient(&name, spec),
                Kind::Param => graph.param(&name, spec.shape, crate::graph::Init::Constant(0.0)),
                Kind::Statistic => graph.statistic(&name, spec.shape, 0.0),
            }
        };
        let inputs: Vec<Tensor> = case.inputs.iter().enumerate().map(tensor).collect();
        let specs: Vec<_> = case.inputs.iter().map(|i| i.spec.clone()).collect();
        let out = case.op.infer(&specs)?;
        let in_place = |o: usize| out.in_place.iter().any(|(at, _)| *at == o);
        let all = |o: &usize| out.y[*o].dtype == Dtype::F32 && !in_place(*o);
        let trained = case.inputs.iter().any(Input::wants_gradient);
        let seeded: Vec<usize> = match (&case.seeded, trained) {
            (_, false) => vec![],
            (Some(seeded), true) => seeded.clone(),
            (None, true) => (0..out.y.len()).filter(all).collect(),
        };
        let names: Vec<String> = seeded.iter().map(|i| format!("dy{i}")).collect();
        let mut outputs = vec![];
        let mut seeds = vec![];
        for _ in 0..times {
            outputs = graph.push_shared(case.op.clone(), &inputs)?;
            seeds.extend(seeded.iter().zip(&names).map(|(&i, name)| (outputs[i], name.as_str())));
        }

        let x: Vec<Vec<Array<f64>>> =
            replicas.iter().map(|&r| case.inputs.iter().enumerate().map(|(i, x)| x.values(i, r)).collect()).collect();
        let seed_values = |i: &usize, r: usize| Input::data(out.y[*i].shape.dims()).values(100 + i, r);
        let dy: Vec<Vec<Array<f64>>> =
            replicas.iter().map(|&r| seeded.iter().map(|i| seed_values(i, r)).collect()).collect();

        let arenas = Arenas::new(gpu, graph.layout(), replicas.len(), true)?;
        let mut external = vec![];
        for (i, input) in case.inputs.iter().enumerate() {
            let copies = match input.kind {
                Kind::Param | Kind::Statistic => continue,
                Kind::Shared => 1,
                Kind::Data | Kind::Gradient => replicas.len(),
            };
            external.push((format!("x{i}"), gpu.buffer("input", copies * input.spec.shape.len())?));
        }
        for (i, name) in names.iter().enumerate() {
            let data: Vec<f32> = dy.iter().flat_map(|d| d[i].data().iter().map(|v| *v as f32)).collect();
            external.push((name.clone(), gpu.upload("seed", &data)?));
        }
        let draft = Draft::guarded(&graph, target, replicas.len(), &outputs, &seeds, GUARD)?;
        let mut bound: Vec<(&str, Buffer)> = external.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
        bound.extend(arenas.named());
        let plan = draft.realise(gpu, &bound)?;
        Ok(Fixture { x, dy, seeded, graph, inputs, outputs, plan, external, arenas })
    }

    /// Poisons everything, uploads the inputs, replays once and reads all results.
    fn run(&self, gpu: &Gpu, case: &Case, failures: &mut Vec<String>) -> Result<Run> {
        for own in self.plan.own.iter().chain([&self.arenas.grads]) {
            gpu.write(own, 0, &vec![POISON; own.len()])?;
        }
        let layout = self.graph.layout();
        let mut param = layout.params.iter();
        for (i, input) in case.inputs.iter().enumerate() {
            let bits = |r: usize| -> Vec<u32> { self.x[r][i].data().iter().map(|v| to_bits(input, *v)).collect() };
            match input.kind {
                Kind::Param | Kind::Statistic => {
                    let p = param.next().expect("one parameter per input of that kind");
                    for r in 0..self.x.len() {
                        let (arena, block) = match p.trainable {
                            true => (&self.arenas.params, layout.trained),
                            false => (&self.arenas.stats, layout.stats),
                        };
                        gpu.write(arena, r * block + p.offset, &bits(r))?;
                    }
                }
                kind => {
                    let copies = if kind == Kind::Shared { 1 } else { self.x.len() };
                    let all: Vec<u32> = (0..copies).flat_map(bits).collect();
                    let name = format!("x{i}");
                    let (_, buffer) = self.external.iter().find(|(n, _)| *n == name).expect("bound above");
                    gpu.write(buffer, 0, &all)?;
                }
            }
        }
        gpu.run(|s| s.replay(&[&self.plan.recording], 1))?;

        for own in &self.plan.own {
            let all = gpu.read::<u32>(own)?;
            let guards = all[..GUARD].iter().chain(&all[all.len() - GUARD..]);
            if guards.clone().any(|v| *v != POISON) {
                failures.push("a kernel wrote outside its buffer".into());
            }
        }
        let mut y = vec![];
        for t in &self.outputs {
            y.push(self.read(gpu, *t)?);
        }
        let grads = gpu.read::<u32>(&self.arenas.grads)?;
        let mut touched = vec![false; grads.len()];
        let mut dx = vec![];
        let mut param = layout.params.iter();
        for (i, input) in case.inputs.iter().enumerate() {
            dx.push(match input.kind {
                _ if self.seeded.is_empty() => None,
                Kind::Gradient => {
                    Some(self.plan.read_gradient(gpu, self.inputs[i])?.iter().map(|v| v.to_bits()).collect())
                }
                Kind::Param | Kind::Statistic => {
                    let p = param.next().expect("one parameter per input of that kind");
                    let mut all = vec![];
                    for r in (0..self.x.len()).filter(|_| p.trainable) {
                        let at = r * layout.trained + p.offset;
                        touched[at..at + p.shape.len()].fill(true);
                        all.extend(&grads[at..at + p.shape.len()]);
                    }
                    p.trainable.then_some(all)
                }
                Kind::Data | Kind::Shared => None,
            });
        }
        if grads.iter().zip(&touched).any(|(v, touched)| !touched && *v != POISON) {
            failures.push("a kernel wrote between two parameters' gradients".into());
        }
        if y.iter().chain(dx.iter().flatten()).any(|v| v.contains(&POISON)) {
            failures.push("a kernel left elements unwritten".into());
        }
        Ok(Run { y, dx })
    }

    /// All replicas of an output, which may lie in an arena or in an input.
    fn read(&self, gpu: &Gpu, t: Tensor) -> Result<Vec<u32>> {
        let len = self.graph.shape(t).len();
        let all = self.plan.read::<u32>(gpu, t)?;
        let stride = if self.x.len() > 1 { (all.len() - len) / (self.x.len() - 1) } else { len };
        Ok((0..self.x.len()).flat_map(|r| all[r * stride..r * stride + len].to_vec()).collect())
    }
}

fn to_bits(input: &Input, v: f64) -> u32 {
    match input.spec.dtype {
        Dtype::F32 => (v as f32).to_bits(),
        Dtype::U32 => v as u32,
    }
}

/// Compares replica 0 with the reference: outputs, then gradients with central differences.
fn compare(case: &Case, fixture: &Fixture, run: &Run, failures: &mut Vec<String>) -> (f64, Option<f64>) {
    let x = &fixture.x[0];
    let want = case.op.reference(x);
    let specs: Vec<_> = case.inputs.iter().map(|i| i.spec.clone()).collect();
    let dtypes: Vec<Dtype> = case.op.infer(&specs).expect("inferred before").y.iter().map(|s| s.dtype).collect();
    let mut worst = 0.0f64;
    for (o, (got, want)) in run.y.iter().zip(&want).enumerate() {
        for (i, (bits, want)) in got.iter().zip(want.data()).enumerate() {
            let got = match dtypes[o] {
                Dtype::F32 => f64::from(f32::from_bits(*bits)),
                Dtype::U32 => f64::from(*bits),
            };
            let share = case.forward.share(got, *want);
            if share > 1.0 && worst <= 1.0 {
                failures.push(format!("output {o}[{i}] is {got}, the reference says {want}"));
            }
            worst = worst.max(share);
        }
    }
    if fixture.seeded.is_empty() {
        return (worst, None);
    }
    let mut worst_gradient = 0.0f64;
    for (i, dx) in run.dx.iter().enumerate() {
        let Some(dx) = dx else { continue };
        let dx: Vec<f64> = dx.iter().map(|v| f64::from(f32::from_bits(*v))).collect();
        for (name, direction) in directions(dx.len(), case.bench) {
            let got: f64 = dx.iter().zip(&direction).map(|(g, d)| g * d).sum();
            let size: f64 = dx.iter().zip(&direction).map(|(g, d)| (g * d).abs()).sum();
            let want = slope(case, fixture, i, &direction);
            // A direction sums up many errors, so what is allowed grows with the terms, not with their sum.
            let allowed = case.gradient.atol * direction.iter().map(|d| d * d).sum::<f64>().sqrt()
                + case.gradient.rtol * size.max(want.abs());
            let share = if (got - want).is_nan() { f64::INFINITY } else { (got - want).abs() / allowed };
            if share > 1.0 && worst_gradient <= 1.0 {
                failures.push(format!("gradient of input {i}, {name}: {got}, central differences say {want}"));
            }
            worst_gradient = worst_gradient.max(share);
        }
    }
    (worst, Some(worst_gradient))
}

/// Unit vectors for small inputs, a few random directions for large ones.
fn directions(len: usize, bench: bool) -> Vec<(String, Vec<f64>)> {
    if len <= EVERY_COORDINATE && !bench {
        let unit = |i: usize| (0..len).map(|j| f64::from(u8::from(i == j))).collect();
        return (0..len).map(|i| (format!("element {i}"), unit(i))).collect();
    }
    let count = if bench { BENCH_DIRECTIONS } else { DIRECTIONS };
    (0..count)
        .map(|d| {
            let mut stream = Stream::new(0xD1_2EC7, d as u32);
            (format!("direction {d}"), (0..len).map(|_| stream.uniform(1.0)).collect())
        })
        .collect()
}

/// Central difference of sum(dy y) along a direction of input `i`.
fn slope(case: &Case, fixture: &Fixture, i: usize, direction: &[f64]) -> f64 {
    let value = |step: f64| -> f64 {
        let mut x = fixture.x[0].clone();
        x[i].data_mut().iter_mut().zip(direction).for_each(|(v, d)| *v += step * d);
        let y = case.op.reference(&x);
        fixture
            .seeded
            .iter()
            .zip(&fixture.dy[0])
            .map(|(&o, dy)| y[o].data().iter().zip(dy.data()).map(|(y, dy)| y * dy).sum::<f64>())
            .sum()
    };
    const STEP: f64 = 1e-5;
    (value(STEP) - value(-STEP)) / (2.0 * STEP)
}
