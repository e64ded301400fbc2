//! A case's op in a graph, in a plan between guard zones, and with its data.

use super::case::{Case, Input, InputRole};
use crate::core::array::Array;
use crate::core::error::Result;
use crate::gpu::{Buffer, Gpu, Target};
use crate::graph::{Draft, DraftOptions, Dtype, Graph, Init, Mode, Plan, Tensor};

/// Guard-zone elements around every buffer (256 bytes, the alignment of bindings).
const GUARD: usize = 64;
/// A NaN that no arithmetic produces: fills guards and outputs before a run.
const POISON: u32 = 0x7fc0_dead;

/// Values of all outputs and gradients, replicas one after the other.
#[derive(PartialEq)]
pub(super) struct Run {
    /// Raw bits, for f32 and u32 alike.
    pub y: Vec<Vec<u32>>,
    pub dx: Vec<Option<Vec<u32>>>,
}

/// A graph with only the case's op.
struct CaseGraph {
    graph: Graph,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    /// Outputs that get a gradient.
    seeded: Vec<usize>,
    /// The tensors of those outputs, and the names of their gradients' bindings.
    seeds: Vec<(Tensor, String)>,
}

impl CaseGraph {
    /// The op is applied `times` times to the same inputs.
    fn new(case: &Case, times: usize) -> Result<CaseGraph> {
        let mut graph = Graph::new(Mode::Train);
        let tensor = |(i, input): (usize, &Input)| {
            let (name, spec) = (format!("x{i}"), input.spec.clone());
            match input.kind {
                InputRole::Data => graph.input(&name, spec),
                InputRole::Shared => graph.shared_input(&name, spec),
                InputRole::Gradient => graph.input_with_gradient(&name, spec),
                InputRole::Param => graph.param(&name, spec.shape, Init::Constant(0.0)),
                InputRole::Statistic => graph.statistic(&name, spec.shape, 0.0),
            }
        };
        let inputs: Vec<Tensor> = case.inputs.iter().enumerate().map(tensor).collect();
        let out = case.infer()?;
        let in_place = |o: usize| out.in_place.iter().any(|(at, _)| *at == o);
        let all = |o: &usize| out.y[*o].dtype == Dtype::F32 && !in_place(*o);
        let seeded: Vec<usize> = match (&case.seeded, case.inputs.iter().any(Input::wants_gradient)) {
            (_, false) => vec![],
            (Some(seeded), true) => seeded.clone(),
            (None, true) => (0..out.y.len()).filter(all).collect(),
        };
        let (mut outputs, mut seeds) = (vec![], vec![]);
        for _ in 0..times {
            outputs = case.push(&mut graph, &inputs)?;
            seeds.extend(seeded.iter().map(|&o| (outputs[o], format!("dy{o}"))));
        }
        Ok(CaseGraph { graph, inputs, outputs, seeded, seeds })
    }

    fn draft(&self, target: Target, replicas: usize, guard: usize) -> Result<Draft> {
        let seeds: Vec<(Tensor, &str)> = self.seeds.iter().map(|(t, name)| (*t, name.as_str())).collect();
        let options = DraftOptions { guard, ..Default::default() };
        Draft::with(&self.graph, target, replicas, &self.outputs, &seeds, options)
    }
}

impl Case {
    /// The dispatches of the case's op for one replica: forward and, if it has trained inputs, backward.
    pub fn draft(&self, target: Target) -> Result<Draft> {
        CaseGraph::new(self, 1)?.draft(target, 1, 0)
    }
}

/// A case in a plan with its data, on no device yet.
pub(crate) struct Prepared<'a> {
    case: &'a Case,
    /// Per replica, per input.
    pub x: Vec<Vec<Array<f64>>>,
    /// Per replica, per seeded output.
    pub dy: Vec<Vec<Array<f64>>>,
    pub draft: Draft,
    built: CaseGraph,
}

impl<'a> Prepared<'a> {
    /// `replicas`: the replicas whose data to use; the op is applied `times` times to the same inputs.
    fn new(case: &'a Case, target: Target, replicas: &[usize], times: usize, guard: usize) -> Result<Prepared<'a>> {
        let built = CaseGraph::new(case, times)?;
        let draft = built.draft(target, replicas.len(), guard)?;
        let values = |r: &usize| case.inputs.iter().enumerate().map(|(i, x)| x.values(i, *r)).collect();
        let seed_values = |o: &usize, r: usize| {
            let shape = built.graph.shape(built.outputs[*o]);
            Input::data(shape.dims()).values(100 + o, r)
        };
        let x = replicas.iter().map(values).collect();
        let dy = replicas.iter().map(|&r| built.seeded.iter().map(|o| seed_values(o, r)).collect()).collect();
        Ok(Prepared { case, x, dy, draft, built })
    }

    /// For one replica, for replay without wgpu.
    pub fn portable(case: &'a Case) -> Result<Prepared<'a>> {
        Prepared::new(case, Target::PORTABLE, &[0], 1, 0)
    }

    /// Outputs that get a gradient.
    pub fn seeded(&self) -> &[usize] {
        &self.built.seeded
    }

    /// The tensors of the outputs, and those of the inputs.
    pub fn tensors(&self) -> (&[Tensor], &[Tensor]) {
        (&self.built.outputs, &self.built.inputs)
    }

    /// Words of everything that the plan refers to by name: inputs, gradients of outputs, arenas. Gradients are
    /// poisoned.
    pub fn bound(&self) -> Vec<(String, Vec<u32>)> {
        let (layout, replicas) = (self.built.graph.layout(), self.x.len());
        let arena = |block: usize, word: u32| vec![word; block.max(1) * replicas];
        let (mut params, mut stats) = (arena(layout.trained, 0), arena(layout.stats, 0));
        let (mut bound, mut param) = (vec![], layout.params.iter());
        for (i, input) in self.case.inputs.iter().enumerate() {
            let bits = |r: usize| self.x[r][i].data().iter().map(|v| to_bits(input, *v));
            match input.kind {
                InputRole::Param | InputRole::Statistic => {
                    let p = param.next().expect("one parameter per input of that kind");
                    let (arena, block) =
                        if p.trainable { (&mut params, layout.trained) } else { (&mut stats, layout.stats) };
                    for r in 0..replicas {
                        let into = arena[r * block + p.offset..].iter_mut();
                        into.zip(bits(r)).for_each(|(into, word)| *into = word);
                    }
                }
                kind => {
                    let copies = if kind == InputRole::Shared { 1 } else { replicas };
                    bound.push((format!("x{i}"), (0..copies).flat_map(bits).collect()));
                }
            }
        }
        for (i, o) in self.built.seeded.iter().enumerate() {
            let words = self.dy.iter().flat_map(|dy| dy[i].data().iter().map(|v| (*v as f32).to_bits()));
            bound.push((format!("dy{o}"), words.collect()));
        }
        let grads = arena(layout.trained, POISON);
        bound.extend([("params", params), (GRADS, grads), ("stats", stats)].map(|(name, words)| (name.into(), words)));
        bound
    }
}

/// A case on a device. Its tensors share no memory, so every dispatch can be replayed on its own.
pub(crate) struct Fixture<'a> {
    pub prepared: Prepared<'a>,
    pub plan: Plan,
    /// By name, with their first contents.
    external: Vec<(String, Vec<u32>, Buffer)>,
}

/// The arena of the parameters' gradients.
const GRADS: &str = "grads";

impl<'a> Fixture<'a> {
    /// `replicas`: the replicas whose data to use; the op is applied `times` times to the same inputs.
    pub fn new(gpu: &Gpu, case: &'a Case, target: Target, replicas: &[usize], times: usize) -> Result<Fixture<'a>> {
        let prepared = Prepared::new(case, target, replicas, times, GUARD)?;
        let mut external = vec![];
        for (name, words) in prepared.bound() {
            let buffer = gpu.buffer(&name, words.len())?;
            external.push((name, words, buffer));
        }
        let bound: Vec<(&str, Buffer)> = external.iter().map(|(n, _, buffer)| (n.as_str(), buffer.clone())).collect();
        let plan = prepared.draft.realise(gpu, &bound)?;
        Ok(Fixture { prepared, plan, external })
    }

    /// Poisons everything and uploads the inputs.
    pub fn fill(&self, gpu: &Gpu) -> Result<()> {
        for own in &self.plan.own {
            gpu.write(own, 0, &vec![POISON; own.len()])?;
        }
        self.external.iter().try_for_each(|(_, words, buffer)| gpu.write(buffer, 0, words))
    }

    /// Fills everything, replays once and reads all results.
    pub(super) fn run(&self, gpu: &Gpu, failures: &mut Vec<String>) -> Result<Run> {
        self.fill(gpu)?;
        gpu.run(|s| s.replay(&[&self.plan.recording], 1))?;

        for own in &self.plan.own {
            let all = gpu.read::<u32>(own)?;
            let guards = all[..GUARD].iter().chain(&all[all.len() - GUARD..]);
            if guards.clone().any(|v| *v != POISON) {
                failures.push("a kernel wrote into a guard zone".into());
            }
        }
        let mut y = vec![];
        let Prepared { case, built, x, .. } = &self.prepared;
        for t in &built.outputs {
            y.push(self.read(gpu, *t)?);
        }
        let (_, _, grads) = self.external.iter().find(|(name, ..)| name == GRADS).expect("bound above");
        let grads = gpu.read::<u32>(grads)?;
        let layout = built.graph.layout();
        let mut touched = vec![false; grads.len()];
        let mut dx = vec![];
        let mut param = layout.params.iter();
        for (i, input) in case.inputs.iter().enumerate() {
            dx.push(match input.kind {
                _ if built.seeded.is_empty() => None,
                InputRole::Gradient => {
                    Some(self.plan.read_gradient(gpu, built.inputs[i])?.iter().map(|v| v.to_bits()).collect())
                }
                InputRole::Param | InputRole::Statistic => {
                    let p = param.next().expect("one parameter per input of that kind");
                    let mut all = vec![];
                    for r in (0..x.len()).filter(|_| p.trainable) {
                        let at = r * layout.trained + p.offset;
                        touched[at..at + p.shape.len()].fill(true);
                        all.extend(&grads[at..at + p.shape.len()]);
                    }
                    p.trainable.then_some(all)
                }
                InputRole::Data | InputRole::Shared => None,
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

    /// All replicas of an output, which may be in an arena or in an input.
    fn read(&self, gpu: &Gpu, t: Tensor) -> Result<Vec<u32>> {
        let (len, replicas) = (self.prepared.built.graph.shape(t).len(), self.prepared.x.len());
        let all = self.plan.read::<u32>(gpu, t)?;
        let stride = if replicas > 1 { (all.len() - len) / (replicas - 1) } else { len };
        Ok((0..replicas).flat_map(|r| all[r * stride..r * stride + len].to_vec()).collect())
    }
}

fn to_bits(input: &Input, v: f64) -> u32 {
    match input.spec.dtype {
        Dtype::F32 => (v as f32).to_bits(),
        Dtype::U32 => v as u32,
    }
}
