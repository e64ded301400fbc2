//! A model is described once as a `Graph` of ops, which a `Plan` turns into dispatches.

mod barriers;
mod builder;
mod data;
mod memory;
pub mod onnx;
mod op;
mod params;
mod plan;
mod reference;
pub mod slice_sums;

pub use barriers::Barriers;
pub use data::{BufferData, Content, Place, PlanData, StepData};
pub use op::{Bound, Cost, Dtype, Io, Op, Outputs, Sink, Spec};
pub use params::{Init, Layout, Param};
pub use plan::{Arenas, Draft, DraftOptions, Plan};

use std::collections::HashSet;
use std::rc::Rc;

use crate::core::error::Result;
use crate::core::shape::Shape;

/// What a graph is built for. Layers that behave differently in training (dropout, batch norm) depend on it when they
/// are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Train,
    Eval,
}

/// A handle to a tensor of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tensor(usize);

/// Memory behind one or more tensors (a reshaped tensor has the storage of the original).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Storage(usize);

#[derive(Clone, Debug)]
enum StorageKind {
    /// Bound by the caller, by name. `shared`: one copy for all replicas.
    Input {
        name: String,
        shared: bool,
    },
    Param(usize),
    /// A table that the plan uploads itself, one copy for all replicas; f32 as bits.
    Constant(Rc<[u32]>),
    /// Zeros that the plan uploads itself, one copy per replica.
    Zeros,
    /// The memory of another tensor, without its gradient.
    Detached(Tensor),
    /// Written by a node, one copy per replica.
    Computed,
}

#[derive(Debug)]
struct StorageInfo {
    kind: StorageKind,
    len: usize,
    wants_gradient: bool,
}

#[derive(Debug)]
struct Node {
    op: Rc<dyn Op>,
    x: Vec<Tensor>,
    y: Vec<Tensor>,
    saved: Vec<Spec>,
    scratch: Vec<Spec>,
}

/// An op in a graph of its own.
pub struct Alone {
    pub graph: Graph,
    pub outputs: Vec<Tensor>,
    /// In training the outputs with a gradient, and the names that it is bound under.
    pub seeds: Vec<(Tensor, String)>,
}

/// Ops and the tensors between them, in the order in which they run.
#[derive(Debug)]
pub struct Graph {
    mode: Mode,
    tensors: Vec<(Spec, Storage)>,
    storages: Vec<StorageInfo>,
    nodes: Vec<Node>,
    layout: Layout,
}

impl Graph {
    pub fn new(mode: Mode) -> Self {
        Graph { mode, tensors: vec![], storages: vec![], nodes: vec![], layout: Layout::default() }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn shape(&self, t: Tensor) -> &Shape {
        &self.tensors[t.0].0.shape
    }

    fn add_storage(&mut self, kind: StorageKind, len: usize, wants_gradient: bool) -> Storage {
        self.storages.push(StorageInfo { kind, len, wants_gradient });
        Storage(self.storages.len() - 1)
    }

    fn add_tensor(&mut self, spec: Spec, storage: Storage) -> Tensor {
        self.tensors.push((spec, storage));
        Tensor(self.tensors.len() - 1)
    }

    /// A tensor that the caller binds under `name`, one copy per replica.
    pub fn input(&mut self, name: &str, spec: Spec) -> Tensor {
        self.named_input(name, spec, false, false)
    }

    /// A tensor that the caller binds under `name`, one copy for all replicas (a dataset).
    pub fn shared_input(&mut self, name: &str, spec: Spec) -> Tensor {
        self.named_input(name, spec, true, false)
    }

    /// As `input`, with a gradient.
    pub fn input_with_gradient(&mut self, name: &str, spec: Spec) -> Tensor {
        self.named_input(name, spec, false, true)
    }

    fn named_input(&mut self, name: &str, spec: Spec, shared: bool, gradient: bool) -> Tensor {
        let kind = StorageKind::Input { name: name.into(), shared };
        let storage = self.add_storage(kind, spec.shape.len(), gradient);
        self.add_tensor(spec, storage)
    }

    /// A table that is part of the model's definition (a filter bank): uploaded with the plan, one copy for all
    /// replicas. `bits` are the elements' raw bits. Panics if their number is not that of `spec` (a bug of the caller).
    pub fn constant(&mut self, spec: Spec, bits: Vec<u32>) -> Tensor {
        assert_eq!(spec.shape.len(), bits.len(), "a constant of shape {}", spec.shape);
        let storage = self.add_storage(StorageKind::Constant(bits.into()), spec.shape.len(), false);
        self.add_tensor(spec, storage)
    }

    /// Constant zeros (an initial state), one copy per replica.
    pub fn zeros(&mut self, spec: Spec) -> Tensor {
        let storage = self.add_storage(StorageKind::Zeros, spec.shape.len(), false);
        self.add_tensor(spec, storage)
    }

    /// A trained parameter.
    pub fn param(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Tensor {
        self.add_param(name, shape.into(), init, true)
    }

    /// A running statistic: saved with the weights, not trained.
    pub fn statistic(&mut self, name: &str, shape: impl Into<Shape>, first: f64) -> Tensor {
        self.add_param(name, shape.into(), Init::Constant(first), false)
    }

    fn add_param(&mut self, name: &str, shape: Shape, init: Init, trainable: bool) -> Tensor {
        let index = self.layout.add(name, shape.clone(), init, trainable);
        let storage = self.add_storage(StorageKind::Param(index), shape.len(), trainable);
        self.add_tensor(Spec::f32(shape), storage)
    }

    /// Adds an op. Shape errors surface here.
    pub fn push(&mut self, op: impl Op + 'static, x: &[Tensor]) -> Result<Vec<Tensor>> {
        self.push_shared(Rc::new(op), x)
    }

    pub(crate) fn push_shared(&mut self, op: Rc<dyn Op>, x: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs: Vec<Spec> = x.iter().map(|t| self.tensors[t.0].0.clone()).collect();
        let out = op.infer(&specs)?;
        let wants = !out.detached && x.iter().any(|t| self.storages[self.tensors[t.0].1.0].wants_gradient);
        let mut y = Vec::with_capacity(out.y.len());
        for (i, spec) in out.y.into_iter().enumerate() {
            let storage = match out.in_place.iter().find(|(o, _)| *o == i) {
                Some(&(_, input)) => self.tensors[x[input].0].1,
                None => self.add_storage(StorageKind::Computed, spec.shape.len(), wants && spec.dtype == Dtype::F32),
            };
            y.push(self.add_tensor(spec, storage));
        }
        self.nodes.push(Node { op, x: x.to_vec(), y: y.clone(), saved: out.saved, scratch: out.scratch });
        Ok(y)
    }

    /// The same elements under another shape; no copy, no kernel. Panics if the lengths differ (a bug of the caller).
    pub fn reshape(&mut self, t: Tensor, shape: impl Into<Shape>) -> Tensor {
        let (spec, storage) = self.tensors[t.0].clone();
        let shape = shape.into();
        assert_eq!(spec.shape.len(), shape.len(), "reshape of {} to {shape}", spec.shape);
        self.add_tensor(Spec { shape, dtype: spec.dtype }, storage)
    }

    /// The same elements, through which no gradient passes; no copy, no kernel.
    pub fn detach(&mut self, t: Tensor) -> Tensor {
        let spec = self.tensors[t.0].0.clone();
        let storage = self.add_storage(StorageKind::Detached(t), spec.shape.len(), false);
        self.add_tensor(spec, storage)
    }

    /// Storage of a tensor's elements.
    fn memory_of(&self, t: Tensor) -> Storage {
        let storage = self.tensors[t.0].1;
        match self.storages[storage.0].kind {
            StorageKind::Detached(of) => self.memory_of(of),
            _ => storage,
        }
    }

    /// Each op of that name on its own, in a graph with inputs of the same kinds; alike ones once.
    ///
    /// # Errors
    /// None that building this graph has not raised.
    pub fn alone(&self, op: &str) -> Result<Vec<Alone>> {
        let (mut seen, mut all) = (HashSet::new(), vec![]);
        for node in self.nodes.iter().filter(|node| node.op.name() == op) {
            let mut graph = Graph::new(self.mode);
            let inputs: Vec<Tensor> =
                node.x.iter().enumerate().map(|(i, t)| self.copy_input(&mut graph, i, *t)).collect();
            if seen.insert(format!("{:?} {:?}", node.op, (&graph.tensors, &graph.storages))) {
                let outputs = graph.push_shared(node.op.clone(), &inputs)?;
                let wants =
                    |y: &Tensor| self.mode == Mode::Train && graph.storages[graph.tensors[y.0].1.0].wants_gradient;
                let seeds = outputs.iter().filter(|y| wants(y)).map(|y| (*y, format!("dy{}", y.0))).collect();
                all.push(Alone { graph, outputs, seeds });
            }
        }
        Ok(all)
    }

    fn copy_input(&self, to: &mut Graph, i: usize, t: Tensor) -> Tensor {
        let (spec, storage) = self.tensors[t.0].clone();
        let StorageInfo { kind, wants_gradient, .. } = &self.storages[storage.0];
        let name = format!("x{i}");
        match kind {
            StorageKind::Param(index) => {
                to.add_param(&name, spec.shape, Init::Constant(0.0), self.layout.params[*index].trainable)
            }
            StorageKind::Input { shared: true, .. } | StorageKind::Constant(_) => to.shared_input(&name, spec),
            _ => to.named_input(&name, spec, false, *wants_gradient),
        }
    }

    /// What the caller binds, by name.
    pub fn external(&self) -> impl Iterator<Item = (&str, &Spec)> {
        self.tensors.iter().filter_map(|(spec, storage)| match &self.storages[storage.0].kind {
            StorageKind::Input { name, .. } => Some((name.as_str(), spec)),
            _ => None,
        })
    }

    /// Work of the forward pass of one replica.
    pub fn forward_cost(&self) -> Cost {
        self.nodes.iter().fold(Cost::default(), |sum, node| {
            let specs: Vec<Spec> = node.x.iter().map(|t| self.tensors[t.0].0.clone()).collect();
            let cost = node.op.cost(&specs);
            Cost { flops: sum.flops + cost.flops, bytes: sum.bytes + cost.bytes }
        })
    }
}
