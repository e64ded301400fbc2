//! A plan as plain data, for replay without wgpu: buffers, dispatches with the numbers of their bindings, and where
//! tensors are.

use std::collections::HashMap;
use std::rc::Rc;

use super::memory::Lifetime;
use super::{Draft, Tensor};
use crate::core::error::{Error, Result};
use crate::gpu::{Binding, Dispatch, Reflections, Shader, Slot, View};

/// What a draft needs on a device, and does there.
pub struct PlanData {
    pub buffers: Vec<BufferData>,
    pub steps: Vec<StepData>,
    places: HashMap<Tensor, Place>,
    gradients: HashMap<Tensor, Place>,
}

impl PlanData {
    /// Where all replicas of a tensor are: a kept one, an input or a parameter.
    pub fn place(&self, t: Tensor) -> Place {
        self.places[&t]
    }

    /// Where the gradient of an input or a parameter is.
    pub fn gradient(&self, t: Tensor) -> Place {
        self.gradients[&t]
    }
}

/// A buffer of `len` 4-byte elements.
pub struct BufferData {
    pub len: usize,
    pub content: Content,
}

/// What is in a buffer at first.
pub enum Content {
    /// Nothing: memory of the plan itself, in which tensors of disjoint lifetimes follow each other.
    Own,
    /// A table, never overwritten.
    Constant(Rc<[u32]>),
    /// What the caller binds by this name: weights and inputs.
    External(String),
}

/// A range of a buffer, in 4-byte elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index into [`PlanData::buffers`].
    pub buffer: usize,
    pub offset: usize,
    pub len: usize,
}

/// A dispatch.
pub struct StepData {
    pub shader: &'static Shader,
    pub entry: &'static str,
    /// Values of `override` constants.
    pub constants: Vec<(&'static str, f64)>,
    /// The number of the binding of the uniform `p`, if the kernel has it, and its content.
    pub uniform: Option<u32>,
    pub params: Vec<u8>,
    /// Numbers of the other bindings, and what is bound.
    pub bindings: Vec<(u32, Place)>,
    /// Workgroups in x, y and z.
    pub groups: [u32; 3],
}

/// Indices of the buffers of slots.
struct Slots(Vec<Option<usize>>);

impl Slots {
    /// `None` for what no dispatch uses.
    fn place(&self, view: View) -> Option<Place> {
        let Slot(slot) = view.slot;
        Some(Place { buffer: self.0[slot as usize]?, offset: view.offset, len: view.len })
    }
}

impl Draft {
    /// The plan as data.
    ///
    /// # Errors
    /// `Shader` for WGSL that does not compile, `Binding` for names that it does not have, and for kernels that read
    /// textures: those are for software adapters.
    pub fn data(&self) -> Result<PlanData> {
        let own = |len: &usize| BufferData { len: *len, content: Content::Own };
        let mut buffers: Vec<BufferData> = self.memory.lens.iter().map(own).collect();
        let slots = self.slots.iter().zip(&self.memory.buffer).map(|(slot, own)| {
            let content = match &slot.lifetime {
                Lifetime::External(name) => Content::External(name.clone()),
                Lifetime::Constant(words) => Content::Constant(words.clone()),
                Lifetime::Kept | Lifetime::Transient => return *own,
            };
            buffers.push(BufferData { len: slot.len, content });
            Some(buffers.len() - 1)
        });
        let slots = Slots(slots.collect());
        let mut known = Reflections::default();
        let steps = self
            .dispatches
            .iter()
            .map(|d| step(d, known.bindings(d.shader, d.entry)?, &slots))
            .collect::<Result<_>>()?;
        let values = self.views.iter().filter_map(|(t, views)| Some((*t, slots.place(views.value)?)));
        let gradients = self.views.iter().filter_map(|(t, views)| Some((*t, slots.place(views.gradient?)?)));
        Ok(PlanData { buffers, steps, places: values.collect(), gradients: gradients.collect() })
    }
}

fn step(d: &Dispatch, bindings: &[Binding], slots: &Slots) -> Result<StepData> {
    let fail = |reason: String| Error::Binding { kernel: d.entry.into(), reason };
    if !d.shader.textures.is_empty() {
        return Err(fail("reads textures, which only software adapters have it do".into()));
    }
    let (mut uniform, mut bound) = (None, vec![]);
    for binding in bindings {
        if binding.name == "p" {
            uniform = Some(binding.index);
            continue;
        }
        let given = d.bindings.iter().find(|(name, _)| *name == binding.name);
        let (_, view) = given.ok_or_else(|| fail(format!("binding {} was not given", binding.name)))?;
        bound.push((binding.index, slots.place(*view).expect("a dispatched slot has a buffer")));
    }
    let (shader, entry, constants) = (d.shader, d.entry, d.constants.clone());
    let (params, groups) = (d.params.clone(), d.launch.groups());
    Ok(StepData { shader, entry, constants, uniform, params, bindings: bound, groups })
}
