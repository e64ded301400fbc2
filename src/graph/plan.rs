//! A graph becomes lists of dispatches (`Draft`, plain data), and those a replayable `Plan`.

use std::collections::HashMap;

use super::barriers::{self, Barriers};
use super::builder::{Builder, GRADS, PARAMS, STATS};
use super::memory::{Assignment, Lifetime, SlotInfo, assign};
use super::{Graph, Layout, Tensor};
use crate::core::error::{Error, Result};
use crate::gpu::{
    Buffer, Dispatch, Element, Gpu, Pass, Recorder, Recording, SliceSum, Slot, TiledProduct, Tuned, View, texture_len,
};

/// The dispatches of a graph and the memory they need, before any of it exists on a device.
pub struct Draft {
    pub replicas: usize,
    pub(super) dispatches: Vec<Dispatch>,
    pub(super) slots: Vec<SlotInfo>,
    pub(super) memory: Assignment,
    pub(super) views: HashMap<Tensor, TensorViews>,
    products: Vec<TiledProduct>,
    /// Sums that are left to the optimiser.
    left: Vec<SliceSum>,
}

/// How the dispatches of a graph are recorded.
#[derive(Clone, Copy, Debug, Default)]
pub struct DraftOptions {
    /// Elements around each tensor; tensors share no memory if there are any. For the op checks.
    pub guard: usize,
    /// In a training step: gradients of parameters that are computed in slices are left to be summed by the optimiser
    /// of [`Draft::update`], which must run next. The slices lie behind the gradients.
    pub leaves_sums: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct TensorViews {
    pub value: View,
    pub gradient: Option<View>,
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

impl Draft {
    /// Records forward; then, if `seeds` names tensors whose gradients the caller binds (as inputs of those names),
    /// backward.
    ///
    /// `keep` lists computed tensors that the caller will read.
    ///
    /// # Errors
    /// `NoGradient` for an op below a seed that has none, `Usage` for a parameter that no seed reaches,
    /// and whatever the ops themselves raise.
    pub fn new(
        graph: &Graph,
        kernels: impl Into<Tuned>,
        replicas: usize,
        keep: &[Tensor],
        seeds: &[(Tensor, &str)],
    ) -> Result<Draft> {
        Draft::with(graph, kernels, replicas, keep, seeds, DraftOptions::default())
    }

    /// As `new`, with options.
    pub fn with(
        graph: &Graph,
        kernels: impl Into<Tuned>,
        replicas: usize,
        keep: &[Tensor],
        seeds: &[(Tensor, &str)],
        options: DraftOptions,
    ) -> Result<Draft> {
        Draft::record(graph, Recorder::new(kernels), replicas, keep, seeds, options)
    }

    /// The dispatches of the graph that ends a step of this one, with an optimiser of its parameters.
    pub fn update(&self, graph: &Graph, kernels: impl Into<Tuned>) -> Result<Draft> {
        let mut r = Recorder::new(kernels);
        r.slice_sums = self.left.clone();
        Draft::record(graph, r, self.replicas, &[], &[], DraftOptions::default())
    }

    fn record(
        graph: &Graph,
        mut r: Recorder,
        replicas: usize,
        keep: &[Tensor],
        seeds: &[(Tensor, &str)],
        DraftOptions { guard, leaves_sums }: DraftOptions,
    ) -> Result<Draft> {
        let keep = keep.iter().map(|t| graph.memory_of(*t)).collect();
        let mut b = Builder::new(graph, replicas, keep, guard);
        let ios = b.forward(seeds, &mut r)?;
        assert!(r.slice_sums.is_empty(), "the optimiser does the sums that are left to it");
        let left = if seeds.is_empty() { vec![] } else { b.backward(ios, seeds, leaves_sums, &mut r)? };
        let views = (0..graph.tensors.len())
            .map(Tensor)
            .map(|t| (t, TensorViews { value: b.bound(t).view, gradient: b.gradient(t) }))
            .collect();
        let memory = assign(&b.slots, &r.dispatches);
        let Recorder { dispatches, products, .. } = r;
        Ok(Draft { replicas, dispatches, slots: b.slots, memory, views, products, left })
    }

    /// Elements of the gradients of the parameters of all replicas, and of slices behind them.
    pub fn gradients(&self) -> usize {
        let is_arena = |slot: &&SlotInfo| slot.lifetime == Lifetime::External(GRADS.into());
        self.slots.iter().find(is_arena).map_or(0, |slot| slot.len)
    }

    /// Kernel calls of one replay: forward; backward, or both at once.
    pub fn dispatches(&self) -> (usize, usize) {
        let forward = self.dispatches.iter().filter(|d| d.pass == Pass::Forward).count();
        (forward, self.dispatches.len() - forward)
    }

    /// The dispatches as data, for profiles and benchmarks.
    pub fn steps(&self) -> &[Dispatch] {
        &self.dispatches
    }

    /// Its products with a choice of tiles.
    pub fn products(&self) -> &[TiledProduct] {
        &self.products
    }

    /// Bytes of the plan's own buffers and textures (arenas and inputs not counted), and what they would be without
    /// sharing of buffers.
    pub fn memory(&self) -> (u64, u64) {
        let textures = texture_len(&self.dispatches);
        let bytes = |lens: &mut dyn Iterator<Item = usize>| lens.chain([textures]).map(|n| n as u64 * 4).sum();
        let own = self.slots.iter().zip(&self.memory.buffer).filter(|(_, buffer)| buffer.is_some());
        (bytes(&mut self.memory.lens.iter().copied()), bytes(&mut own.map(|(s, _)| s.len)))
    }

    /// How often dispatches of a replay wait for those before.
    ///
    /// # Errors
    /// `Shader` for WGSL that does not compile.
    pub fn barriers(&self) -> Result<Barriers> {
        let own = self.memory.lens.len();
        let number = |slot: Slot| {
            let at = slot.0 as usize;
            // Buffers of the caller's are numbered by the first slot of the name.
            let first = || self.slots.iter().position(|other| other.lifetime == self.slots[at].lifetime);
            match &self.slots[at].lifetime {
                Lifetime::External(_) => own + first().expect("at least the slot itself"),
                _ => self.memory.buffer[at].unwrap_or(own + at),
            }
        };
        barriers::count(&self.dispatches, &number)
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
    /// Some of its dispatches on their own, to time them.
    pub fn part(&self, gpu: &Gpu, dispatches: &[Dispatch]) -> Result<Recording> {
        let find = |slot: Slot| self.buffers[slot.0 as usize].clone().expect("a dispatched slot has a buffer");
        Recording::new(gpu, dispatches, &find)
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
