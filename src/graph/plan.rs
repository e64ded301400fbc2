//! A graph becomes lists of dispatches (`Draft`, plain data), and those a replayable `Plan`.

use std::collections::HashMap;

use super::memory::{Assignment, Lifetime, SlotInfo, assign};
use super::op::{Bound, Io, Op, Sink, Spec};
use super::{Graph, Layout, Storage, StorageKind, Tensor};
use crate::core::error::{Error, Result};
use crate::gpu::{Buffer, Dispatch, Element, Gpu, Recorder, Recording, Slot, Target, View};

/// Names under which the arenas of a model are bound.
const PARAMS: &str = "params";
const GRADS: &str = "grads";
const STATS: &str = "stats";

/// The dispatches of a graph and the memory they need, before any of it exists on a device.
pub struct Draft {
    pub replicas: usize,
    dispatches: Vec<Dispatch>,
    slots: Vec<SlotInfo>,
    memory: Assignment,
    views: HashMap<Tensor, TensorViews>,
    /// How many of the dispatches are the forward pass.
    forward: usize,
}

#[derive(Clone, Copy, Debug)]
struct TensorViews {
    value: View,
    gradient: Option<View>,
}

/// The parameter arenas of a model with R replicas.
#[derive(Clone)]
pub struct Arenas {
    pub params: Buffer,
    pub grads: Buffer,
    pub stats: Buffer,
}

impl Arenas {
    /// The arenas under their names in plans.
    pub fn named(&self) -> [(&'static str, Buffer); 3] {
        [(PARAMS, self.params.clone()), (GRADS, self.grads.clone()), (STATS, self.stats.clone())]
    }

    /// Zeroed arenas.
    pub fn new(gpu: &Gpu, layout: &Layout, replicas: usize, train: bool) -> Result<Arenas> {
        let arena = |label, len: usize| gpu.buffer(label, len.max(1) * replicas);
        Ok(Arenas {
            params: arena("parameters", layout.trained)?,
            grads: arena("gradients", if train { layout.trained } else { 0 })?,
            stats: arena("running statistics", layout.stats)?,
        })
    }
}

struct Builder<'g> {
    graph: &'g Graph,
    replicas: usize,
    slots: Vec<SlotInfo>,
    storage_view: HashMap<Storage, View>,
    gradients: HashMap<Storage, View>,
    /// Guard-zone elements before and after each of the plan's own tensors.
    guard: usize,
    arena_slot: HashMap<&'static str, Slot>,
    kept: Vec<Storage>,
}

impl Builder<'_> {
    fn slot(&mut self, label: impl Into<String>, len: usize, lifetime: Lifetime) -> Slot {
        self.slots.push(SlotInfo { label: label.into(), len, lifetime });
        Slot(self.slots.len() as u32 - 1)
    }

    /// A slot of the plan itself, between guard zones.
    fn own(&mut self, label: impl Into<String>, len: usize, lifetime: Lifetime) -> View {
        let lifetime = if self.guard > 0 { Lifetime::Kept } else { lifetime };
        let slot = self.slot(label, len + 2 * self.guard, lifetime);
        View { slot, offset: self.guard, len }
    }

    fn arena(&mut self, name: &'static str, block: usize) -> Slot {
        if let Some(slot) = self.arena_slot.get(name) {
            return *slot;
        }
        let slot = self.slot(name, block * self.replicas, Lifetime::External(name.into()));
        self.arena_slot.insert(name, slot);
        slot
    }

    /// View of parameter `index` in the arena of values, or of gradients.
    fn param(&mut self, index: usize, gradient: bool) -> (View, usize) {
        let p = &self.graph.layout.params[index];
        let (name, block) = match (p.trainable, gradient) {
            (true, false) => (PARAMS, self.graph.layout.trained),
            (true, true) => (GRADS, self.graph.layout.trained),
            (false, _) => (STATS, self.graph.layout.stats),
        };
        let (offset, len) = (p.offset, p.shape.len());
        let slot = self.arena(name, block);
        (View { slot, offset, len: block * (self.replicas - 1) + len }, block)
    }

    fn bound(&mut self, t: Tensor) -> Bound {
        let (spec, storage) = self.graph.tensors[t.0].clone();
        let shape = spec.shape;
        let info = &self.graph.storages[storage.0];
        let len = info.len;
        let (view, stride) = match &info.kind {
            StorageKind::Param(index) => self.param(*index, false),
            StorageKind::Detached(of) => {
                let Bound { view, stride, .. } = self.bound(*of);
                (view, stride)
            }
            kind => {
                let shared = matches!(kind, StorageKind::Input { shared: true, .. } | StorageKind::Constant(_));
                let total = if shared { len } else { len * self.replicas };
                let view = match (self.storage_view.get(&storage), kind) {
                    (Some(view), _) => *view,
                    (None, StorageKind::Input { name, .. }) => {
                        let slot = self.slot(name, total, Lifetime::External(name.clone()));
                        View { slot, offset: 0, len: total }
                    }
                    (None, StorageKind::Constant(words)) => {
                        let slot = self.slot(format!("table {}", t.0), total, Lifetime::Constant(words.clone()));
                        View { slot, offset: 0, len: total }
                    }
                    (None, StorageKind::Zeros) => {
                        let slot =
                            self.slot(format!("zeros {}", t.0), total, Lifetime::Constant(vec![0; total].into()));
                        View { slot, offset: 0, len: total }
                    }
                    (None, _) => {
                        let lifetime = if self.kept.contains(&storage) { Lifetime::Kept } else { Lifetime::Transient };
                        self.own(format!("tensor {}", t.0), total, lifetime)
                    }
                };
                self.storage_view.insert(storage, view);
                (view, if shared { 0 } else { len })
            }
        };
        Bound { view, shape, stride }
    }

    fn temporary(&mut self, op: &dyn Op, spec: &Spec) -> Bound {
        let len = spec.shape.len();
        let view = self.own(op.name(), self.replicas * len, Lifetime::Transient);
        Bound { view, shape: spec.shape.clone(), stride: len }
    }

    /// The gradient of a tensor that is not a parameter.
    fn gradient(&self, t: Tensor) -> Option<View> {
        self.gradients.get(&self.graph.tensors[t.0].1).copied()
    }

    /// A sink for one more contribution to the gradient of `t`.
    fn sink(&mut self, t: Tensor, contributed: &mut Vec<Storage>) -> Option<Sink> {
        let storage = self.graph.tensors[t.0].1;
        let info = &self.graph.storages[storage.0];
        if !info.wants_gradient {
            return None;
        }
        let len = info.len;
        let accumulate = contributed.contains(&storage);
        if !accumulate {
            contributed.push(storage);
        }
        let (view, stride) = match info.kind {
            StorageKind::Param(index) => self.param(index, true),
            _ => {
                let known = self.gradients.get(&storage).copied();
                let view = known.unwrap_or_else(|| {
                    // The caller reads the gradients of inputs; those between ops may share memory.
                    let lifetime = if matches!(info.kind, StorageKind::Input { .. }) {
                        Lifetime::Kept
                    } else {
                        Lifetime::Transient
                    };
                    self.own(format!("gradient of tensor {}", t.0), len * self.replicas, lifetime)
                });
                self.gradients.insert(storage, view);
                (view, len)
            }
        };
        Some(Sink { view, stride, accumulate })
    }

    fn forward(&mut self, r: &mut Recorder) -> Result<Vec<Io>> {
        let mut ios = Vec::with_capacity(self.graph.nodes.len());
        for node in &self.graph.nodes {
            let io = Io {
                replicas: self.replicas,
                x: node.x.iter().map(|&t| self.bound(t)).collect(),
                y: node.y.iter().map(|&t| self.bound(t)).collect(),
                saved: node.saved.iter().map(|s| self.temporary(&*node.op, s)).collect(),
                scratch: node.scratch.iter().map(|s| self.temporary(&*node.op, s)).collect(),
                dy: vec![],
                dx: vec![],
            };
            r.op = node.op.name();
            node.op.forward(&io, r)?;
            ios.push(io);
        }
        Ok(ios)
    }

    /// Iterates over the ops in reverse; each turns the gradients of its outputs into contributions to those of its inputs.
    fn backward(&mut self, ios: Vec<Io>, seeds: &[(Tensor, &str)], r: &mut Recorder) -> Result<()> {
        for (t, name) in seeds {
            let storage = self.graph.tensors[t.0].1;
            let consumed = self.graph.nodes.iter().any(|n| n.x.iter().any(|x| self.graph.tensors[x.0].1 == storage));
            if consumed || self.gradients.contains_key(&storage) {
                // Its gradient would be the caller's buffer and a sum of contributions at once.
                return Err(Error::Usage(format!("{name} is the gradient of a tensor that has another one")));
            }
            let len = self.graph.storages[storage.0].len * self.replicas;
            let slot = self.slot(*name, len, Lifetime::External((*name).into()));
            self.gradients.insert(storage, View { slot, offset: 0, len });
        }
        let mut contributed = vec![];
        for (node, mut io) in self.graph.nodes.iter().zip(ios).rev() {
            io.dy = node.y.iter().map(|&t| self.gradient(t)).collect();
            if io.dy.iter().all(Option::is_none) {
                continue;
            }
            io.dx = node.x.iter().map(|&t| self.sink(t, &mut contributed)).collect();
            if io.dx.iter().any(Option::is_some) {
                // Backward has its own working memory: that of forward may be reused already.
                io.scratch = node.scratch.iter().map(|s| self.temporary(&*node.op, s)).collect();
                r.op = node.op.name();
                node.op.backward(&io, r)?;
            }
        }
        let unreached = self.graph.storages.iter().enumerate().find_map(|(i, s)| match s.kind {
            StorageKind::Param(p) if s.wants_gradient && !contributed.contains(&Storage(i)) => Some(p),
            _ => None,
        });
        match unreached {
            Some(p) => Err(Error::Usage(format!("parameter {} gets no gradient", self.graph.layout.params[p].name))),
            None => Ok(()),
        }
    }
}

impl Draft {
    /// Records forward; then, if `seeds` names tensors whose gradients the caller binds (as inputs of those names), backward.
    ///
    /// `keep` lists computed tensors that the caller will read.
    ///
    /// # Errors
    /// `NoGradient` for an op below a seed that has none, `Usage` for a parameter that no seed reaches,
    /// and whatever the ops themselves raise.
    pub fn new(
        graph: &Graph,
        target: Target,
        replicas: usize,
        keep: &[Tensor],
        seeds: &[(Tensor, &str)],
    ) -> Result<Draft> {
        Draft::guarded(graph, target, replicas, keep, seeds, 0)
    }

    /// As `new`, with `guard` elements around each tensor and no sharing of memory, for the op checks.
    pub fn guarded(
        graph: &Graph,
        target: Target,
        replicas: usize,
        keep: &[Tensor],
        seeds: &[(Tensor, &str)],
        guard: usize,
    ) -> Result<Draft> {
        let mut b = Builder {
            graph,
            replicas,
            slots: vec![],
            storage_view: HashMap::new(),
            gradients: HashMap::new(),
            guard,
            arena_slot: HashMap::new(),
            kept: keep.iter().map(|t| graph.memory_of(*t)).collect(),
        };
        let mut r = Recorder::new(target);
        let ios = b.forward(&mut r)?;
        let forward = r.dispatches.len();
        if !seeds.is_empty() {
            b.backward(ios, seeds, &mut r)?;
        }
        let views = (0..graph.tensors.len())
            .map(Tensor)
            .map(|t| (t, TensorViews { value: b.bound(t).view, gradient: b.gradient(t) }))
            .collect();
        let memory = assign(&b.slots, &r.dispatches);
        Ok(Draft { replicas, forward, dispatches: r.dispatches, slots: b.slots, memory, views })
    }

    /// Kernel calls of one replay: forward, backward.
    pub fn dispatches(&self) -> (usize, usize) {
        (self.forward, self.dispatches.len() - self.forward)
    }

    /// The dispatches as data, for profiles and benchmarks.
    pub fn steps(&self) -> &[Dispatch] {
        &self.dispatches
    }

    /// Bytes of the plan's own buffers (arenas and inputs not counted), and what they would be without sharing.
    pub fn memory(&self) -> (u64, u64) {
        let bytes = |lens: &mut dyn Iterator<Item = usize>| lens.map(|n| n as u64 * 4).sum();
        let own = self.slots.iter().zip(&self.memory.buffer).filter(|(_, buffer)| buffer.is_some());
        (bytes(&mut self.memory.lens.iter().copied()), bytes(&mut own.map(|(s, _)| s.len)))
    }

    /// Checks before any memory is allocated whether the adapter can bind it.
    ///
    /// # Errors
    /// `Limit`, naming the first dispatch that exceeds it.
    pub fn fits(&self, gpu: &Gpu) -> Result<()> {
        self.dispatches.iter().try_for_each(|d| d.fits(gpu))
    }

    /// Creates buffers and bind groups. `external`: the buffers that the graph refers to by name, including the arenas.
    ///
    /// # Errors
    /// `Limit` or `Gpu` if there is not enough memory, `Binding` if an external buffer is missing or too short.
    pub fn realise(&self, gpu: &Gpu, external: &[(&str, Buffer)]) -> Result<Plan> {
        let label = |index: usize| {
            let at =
                self.memory.buffer.iter().position(|buffer| *buffer == Some(index)).expect("every buffer has a slot");
            self.slots[at].label.as_str()
        };
        let own = self.memory.lens.iter().enumerate();
        let own = own.map(|(i, &len)| gpu.buffer(label(i), len)).collect::<Result<Vec<_>>>()?;
        let mut buffers = Vec::with_capacity(self.slots.len());
        for (slot, buffer) in self.slots.iter().zip(&self.memory.buffer) {
            buffers.push(match (&slot.lifetime, buffer) {
                (Lifetime::External(name), _) => {
                    let given = external.iter().find(|(n, b)| n == name && b.len() >= slot.len);
                    let (_, buffer) = given.ok_or_else(|| Error::Binding {
                        kernel: "plan".into(),
                        reason: format!("no buffer of {} elements was bound as {name}", slot.len),
                    })?;
                    Some(buffer.clone())
                }
                (Lifetime::Constant(words), _) => Some(gpu.upload(&slot.label, words)?),
                (_, Some(buffer)) => Some(own[*buffer].clone()),
                (_, None) => None,
            });
        }
        let find = |slot: Slot| buffers[slot.0 as usize].clone().expect("a dispatched slot has a buffer");
        let recording = Recording::new(gpu, &self.dispatches, &find)?;
        let kept = self.slots.iter().map(|slot| slot.lifetime != Lifetime::Transient).collect();
        Ok(Plan { recording, own, dispatches: self.dispatches.clone(), buffers, kept, views: self.views.clone() })
    }
}

/// A plan on a device, ready for replay.
pub struct Plan {
    pub recording: Recording,
    /// The plan's own memory.
    pub own: Vec<Buffer>,
    /// The dispatches of `recording`.
    pub dispatches: Vec<Dispatch>,
    buffers: Vec<Option<Buffer>>,
    /// Slots that keep their contents after a replay.
    kept: Vec<bool>,
    views: HashMap<Tensor, TensorViews>,
}

impl Plan {
    /// The bind groups of single dispatches of `draft`, to time them one by one.
    pub fn single(&self, gpu: &Gpu, dispatch: &Dispatch) -> Result<Recording> {
        let find = |slot: Slot| self.buffers[slot.0 as usize].clone().expect("a dispatched slot has a buffer");
        Recording::new(gpu, std::slice::from_ref(dispatch), &find)
    }

    /// Reads all replicas of a kept tensor or an input.
    pub fn read<T: Element>(&self, gpu: &Gpu, t: Tensor) -> Result<Vec<T>> {
        self.read_view(gpu, self.views[&t].value)
    }

    /// Reads all replicas of the gradient of an input.
    pub fn read_gradient(&self, gpu: &Gpu, t: Tensor) -> Result<Vec<f32>> {
        self.read_view(gpu, self.views[&t].gradient.expect("the tensor has a gradient"))
    }

    /// The buffer of a kept tensor, and its offset.
    pub fn buffer(&self, t: Tensor) -> (&Buffer, usize) {
        let view = self.views[&t].value;
        (self.kept(view), view.offset)
    }

    fn read_view<T: Element>(&self, gpu: &Gpu, view: View) -> Result<Vec<T>> {
        gpu.read_at(self.kept(view), view.offset, view.len)
    }

    /// Panics for memory shared with other tensors: the caller forgot to keep the tensor.
    fn kept(&self, view: View) -> &Buffer {
        assert!(self.kept[view.slot.0 as usize], "only kept tensors, inputs and their gradients can be read");
        self.buffers[view.slot.0 as usize].as_ref().expect("a kept tensor has a buffer")
    }
}
