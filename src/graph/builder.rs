//! The dispatches of a graph, forward and backward, with views of the memory they use.

use std::collections::{BTreeSet, HashMap};

use super::memory::{Lifetime, SlotInfo};
use super::op::{Bound, Io, Loss, Op, Sink, Spec};
use super::params::ALIGN;
use super::{Graph, Node, Storage, StorageKind, Tensor, slice_sums};
use crate::core::error::{Error, Result};
use crate::gpu::{Pass, Recorder, SliceSum, Slot, View};

/// Names under which the arenas of a model are bound.
pub(super) const PARAMS: &str = "params";
pub(super) const GRADS: &str = "grads";
pub(super) const STATS: &str = "stats";

/// A graph's dispatches and memory under construction.
pub(super) struct Builder<'g> {
    graph: &'g Graph,
    replicas: usize,
    pub slots: Vec<SlotInfo>,
    storage_view: HashMap<Storage, View>,
    gradients: HashMap<Storage, View>,
    /// Guard-zone elements before and after each of the plan's own tensors.
    guard: usize,
    arena_slot: HashMap<&'static str, Slot>,
    kept: Vec<Storage>,
    /// How often ops read a storage, also as the memory of a detached tensor.
    reads: HashMap<Storage, usize>,
}

impl<'g> Builder<'g> {
    /// `kept`: what the caller will read.
    pub fn new(graph: &'g Graph, replicas: usize, kept: Vec<Storage>, guard: usize) -> Builder<'g> {
        let (storage_view, gradients, arena_slot) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut reads = HashMap::new();
        for x in graph.nodes.iter().flat_map(|node| &node.x) {
            *reads.entry(graph.memory_of(*x)).or_default() += 1;
        }
        Builder { graph, replicas, slots: vec![], storage_view, gradients, guard, arena_slot, kept, reads }
    }

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

    pub fn bound(&mut self, t: Tensor) -> Bound {
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

    /// The gradient of a tensor, of all replicas.
    pub fn gradient(&self, t: Tensor) -> Option<View> {
        let storage = self.graph.tensors[t.0].1;
        let StorageKind::Param(index) = self.graph.storages[storage.0].kind else {
            return self.gradients.get(&storage).copied();
        };
        let p = &self.graph.layout.params[index];
        let slot = *self.arena_slot.get(GRADS).filter(|_| p.trainable)?;
        let len = self.graph.layout.trained * (self.replicas - 1) + p.shape.len();
        Some(View { slot, offset: p.offset, len })
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

    fn is_param(&self, t: Tensor) -> bool {
        matches!(self.graph.storages[self.graph.tensors[t.0].1.0].kind, StorageKind::Param(_))
    }

    /// Makes the gradient of `y` that of `x`, whose elements are the same and which no other op reads: nothing else
    /// will be added to it.
    fn pass_gradient(&mut self, y: Tensor, x: Tensor, contributed: &mut Vec<Storage>) -> bool {
        let storage = self.graph.tensors[x.0].1;
        let info = &self.graph.storages[storage.0];
        let own = info.wants_gradient && matches!(info.kind, StorageKind::Computed) && self.reads[&storage] == 1;
        let view = self.gradient(y).filter(|_| own && !self.gradients.contains_key(&storage));
        if let Some(view) = view {
            self.gradients.insert(storage, view);
            contributed.push(storage);
        }
        view.is_some()
    }

    fn is_input(&self, storage: Storage) -> bool {
        self.graph.nodes.iter().any(|n| n.x.iter().any(|x| self.graph.tensors[x.0].1 == storage))
    }

    /// Whether the caller differentiates this output of an op, which no other op reads.
    fn is_loss(&self, node: &Node, seeds: &[(Tensor, &str)]) -> bool {
        seeds.iter().any(|(t, _)| *t == node.y[0])
            && node.y.iter().all(|t| !self.reads.contains_key(&self.graph.memory_of(*t)))
            && self.wants_gradient(node.y[0])
    }

    /// The op that computes what a loss is of, if only the loss reads that, and nobody what the op computes besides.
    fn source(&self, loss: &Node) -> Option<usize> {
        let storage = |t: &Tensor| self.graph.tensors[t.0].1;
        let reads = |t: &Tensor| {
            let by_caller = usize::from(self.kept.contains(&storage(t)));
            by_caller + self.reads.get(&storage(t)).copied().unwrap_or(0)
        };
        let (p, labels) = loss.x.split_first()?;
        let computes_p = |node: &Node| node.y.first().is_some_and(|y| storage(y) == storage(p));
        let source = self.graph.nodes.iter().position(computes_p)?;
        let is_sole = reads(p) == 1 && self.graph.nodes[source].y[1..].iter().all(|t| reads(t) == 0);
        let of_p_alone = self.wants_gradient(*p) && !labels.iter().any(|t| self.wants_gradient(*t));
        (is_sole && of_p_alone).then_some(source)
    }

    fn wants_gradient(&self, t: Tensor) -> bool {
        self.graph.storages[self.graph.tensors[t.0].1.0].wants_gradient
    }

    /// Leaves forward to backward where a dispatch does both: of a loss, or of the op that computes what it is of.
    fn join_passes(&self, ios: &mut [Io], seeds: &[(Tensor, &str)]) {
        let nodes = &self.graph.nodes;
        for (i, loss) in nodes.iter().enumerate().filter(|(_, node)| self.is_loss(node, seeds)) {
            if let Some(source) = self.source(loss) {
                let of = Loss { node: i, op: loss.op.clone(), io: Box::new(ios[i].clone()) };
                let joined = Io { loss: Some(of), with_forward: true, ..ios[source].clone() };
                if nodes[source].op.joins_loss(&joined) {
                    (ios[source], ios[i].with_forward) = (joined, true);
                    continue;
                }
            }
            let specs: Vec<Spec> = loss.x.iter().map(|t| self.graph.tensors[t.0].0.clone()).collect();
            ios[i].with_forward = loss.op.joins_passes(&specs);
        }
    }

    /// `seeds`: of backward, if it follows.
    pub fn forward(&mut self, seeds: &[(Tensor, &str)], r: &mut Recorder) -> Result<Vec<Io>> {
        let graph = self.graph;
        let io = |node: &Node| Io {
            replicas: self.replicas,
            x: node.x.iter().map(|&t| self.bound(t)).collect(),
            y: node.y.iter().map(|&t| self.bound(t)).collect(),
            saved: node.saved.iter().map(|s| self.temporary(&*node.op, s)).collect(),
            scratch: node.scratch.iter().map(|s| self.temporary(&*node.op, s)).collect(),
            with_forward: false,
            loss: None,
            dy: vec![],
            dx: vec![],
        };
        let mut ios: Vec<Io> = graph.nodes.iter().map(io).collect();
        self.join_passes(&mut ios, seeds);
        r.pass = Pass::Forward;
        for (node, io) in graph.nodes.iter().zip(&ios).filter(|(_, io)| !io.with_forward) {
            r.op = node.op.name();
            node.op.forward(io, r)?;
        }
        Ok(ios)
    }

    /// Iterates over the ops in reverse; each turns the gradients of its outputs into contributions to those of its
    /// inputs. Sums of slices are left to the optimiser where they can be, if it `leaves_sums`.
    pub fn backward(
        &mut self,
        ios: Vec<Io>,
        seeds: &[(Tensor, &str)],
        leaves_sums: bool,
        r: &mut Recorder,
    ) -> Result<Vec<SliceSum>> {
        for (t, name) in seeds {
            let storage = self.graph.tensors[t.0].1;
            if self.is_input(storage) || self.gradients.contains_key(&storage) {
                // Its gradient would be the caller's buffer and a sum of contributions at once.
                return Err(Error::Usage(format!("{name} is the gradient of a tensor that has another one")));
            }
            let len = self.graph.storages[storage.0].len * self.replicas;
            let slot = self.slot(*name, len, Lifetime::External((*name).into()));
            self.gradients.insert(storage, View { slot, offset: 0, len });
        }
        let mut contributed = vec![];
        let joined: Vec<usize> = ios.iter().filter_map(|io| io.loss.as_ref()).map(|loss| loss.node).collect();
        let all = self.graph.nodes.iter().zip(ios).enumerate().rev();
        for (_, (node, mut io)) in all.filter(|(i, _)| !joined.contains(i)) {
            io.dy = node.y.iter().map(|&t| self.gradient(t)).collect();
            match &mut io.loss {
                Some(Loss { node, io, .. }) => {
                    io.dy = self.graph.nodes[*node].y.iter().map(|&t| self.gradient(t)).collect();
                }
                None if io.dy.iter().all(Option::is_none) => continue,
                None => {}
            }
            let passes = node.op.passes_gradient();
            let sink = |&t: &Tensor| match passes && self.pass_gradient(node.y[0], t, &mut contributed) {
                true => None,
                false => self.sink(t, &mut contributed),
            };
            io.dx = node.x.iter().map(sink).collect();
            // What is added to a parameter's gradient must come after what is there.
            let adds = node
                .x
                .iter()
                .zip(&io.dx)
                .any(|(&x, dx)| self.is_param(x) && dx.as_ref().is_some_and(|dx| dx.accumulate));
            if adds {
                slice_sums::record_waiting(r);
            }
            if io.dx.iter().any(Option::is_some) {
                // Backward has its own working memory: that of forward may be reused already.
                io.scratch = node.scratch.iter().map(|s| self.temporary(&*node.op, s)).collect();
                (r.op, r.pass) = (node.op.name(), if io.with_forward { Pass::Both } else { Pass::Backward });
                node.op.backward(&io, r)?;
                if let Some(Loss { op, io, .. }) = &io.loss {
                    (r.op, r.pass) = (op.name(), Pass::Forward);
                    op.forward(io, r)?;
                }
                // Gradients of computed tensors are read by the ops that computed them.
                let arena = self.arena_slot.get(GRADS);
                match r.slice_sums.iter().any(|sum| Some(&sum.into.slot) != arena) {
                    true => slice_sums::record_waiting(r),
                    false => slice_sums::record_if_many(r),
                }
            }
        }
        let left = if leaves_sums { self.leave_sums(r) } else { vec![] };
        slice_sums::record_waiting(r);
        let unreached = self.graph.storages.iter().enumerate().find_map(|(i, s)| match s.kind {
            StorageKind::Param(p) if s.wants_gradient && !contributed.contains(&Storage(i)) => Some(p),
            _ => None,
        });
        match unreached {
            Some(p) => Err(Error::Usage(format!("parameter {} gets no gradient", self.graph.layout.params[p].name))),
            None => Ok(left),
        }
    }

    /// Takes sums out whose slices then lie behind all gradients, so that the optimiser binds both at once.
    fn leave_sums(&mut self, r: &mut Recorder) -> Vec<SliceSum> {
        let Some(&arena) = self.arena_slot.get(GRADS) else { return vec![] };
        let len = |slots: &[SlotInfo], slot: Slot| slots[slot.0 as usize].len.next_multiple_of(ALIGN);
        let room = slice_sums::SPAN.saturating_sub(len(&self.slots, arena));
        let mut left = slice_sums::take_for_optimiser(r, arena, room, |slot| len(&self.slots, slot));
        let own = left.iter().map(|sum| sum.slices_view.slot).collect::<BTreeSet<_>>();
        for slot in own {
            let at = len(&self.slots, arena);
            self.slots[arena.0 as usize].len = at + len(&self.slots, slot);
            let bound = r.dispatches.iter_mut().flat_map(|d| &mut d.bindings).map(|(_, view)| view);
            let slices = left.iter_mut().map(|sum| &mut sum.slices_view);
            for view in bound.chain(slices).filter(|view| view.slot == slot) {
                *view = View { slot: arena, offset: at + view.offset, ..*view };
            }
        }
        left
    }
}
