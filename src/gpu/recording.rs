//! Dispatches as bind groups ready for replay.

use std::ops::Range;
use std::sync::Arc;

use super::adapter::AdapterKind;
use super::buffer::Buffer;
use super::device::Gpu;
use super::dispatch::{Dispatch, MAX_GROUPS, MAX_ITERATIONS, Slot, View};
use super::kernel::{Kernel, Key};
use super::texture::{self, Copy, Textures};
use crate::core::error::{BYTES, Error, Result};

struct Step {
    /// What is copied into textures before.
    copies: Vec<Copy>,
    kernel: Arc<Kernel>,
    bind_group: wgpu::BindGroup,
    groups: [u32; 3],
}

/// Dispatches with their pipelines and bind groups, ready for replay.
pub struct Recording {
    steps: Vec<Step>,
}

/// Uniform slices start at multiples of WebGPU's default `minUniformBufferOffsetAlignment`.
const UNIFORM_ALIGN: usize = 256;

impl Dispatch {
    /// Checks that the adapter supports this dispatch.
    ///
    /// # Errors
    /// `Limit` for a view larger than the adapter can bind, and for more workgroups or loop iterations than it
    /// supports.
    pub fn fits(&self, gpu: &Gpu) -> Result<()> {
        let fits = |what: &dyn Fn() -> String, unit, need: u64, have: u64| match need > have {
            true => Err(Error::limit(what(), unit, need, have)),
            false => Ok(()),
        };
        let op = || self.op.to_string();
        for groups in self.launch.groups() {
            fits(&op, "workgroups in a dimension", groups.into(), MAX_GROUPS as u64)?;
        }
        // Software drivers abort longer loops.
        if gpu.adapter().kind == AdapterKind::Software {
            fits(&op, "loop iterations", self.launch.iterations() as u64, MAX_ITERATIONS as u64)?;
        }
        texture::views(self).try_for_each(|(name, view)| {
            let have = gpu.device.limits().max_texture_dimension_2d;
            fits(&|| format!("{name} of {}", self.entry), "rows of a texture", texture::rows(&view) as u64, have.into())
        })?;
        self.bindings.iter().try_for_each(|(name, view)| {
            fits(&|| format!("{name} of {}", self.entry), BYTES, view.len as u64 * 4, gpu.max_binding())
        })
    }
}

impl Recording {
    /// Resolves every binding by name and creates all bind groups. `buffer` maps slots to buffers.
    ///
    /// # Errors
    /// `Shader` for WGSL that does not compile, `Binding` for a missing, extra or differently laid out name,
    /// `Limit` for a view larger than the adapter can bind.
    pub fn new(gpu: &Gpu, dispatches: &[Dispatch], buffer: &dyn Fn(Slot) -> Buffer) -> Result<Recording> {
        let stride = |d: &Dispatch| d.params.len().max(16).next_multiple_of(UNIFORM_ALIGN);
        let mut uniforms = vec![0u8; dispatches.iter().map(stride).sum()];
        let mut at = 0;
        for d in dispatches {
            uniforms[at..at + d.params.len()].copy_from_slice(&d.params);
            at += stride(d);
        }
        let uniform = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: uniforms.len().max(UNIFORM_ALIGN) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        gpu.queue.write_buffer(&uniform, 0, &uniforms);

        let mut steps = Vec::with_capacity(dispatches.len());
        let mut at = 0u64;
        dispatches.iter().try_for_each(|d| d.fits(gpu))?;
        let keys: Vec<Key> = dispatches.iter().map(|d| Key::new(*d.shader, d.entry, &d.constants)).collect();
        let mut textures = Textures::new(gpu, dispatches)?;
        for (d, kernel) in dispatches.iter().zip(gpu.kernels.get(&gpu.device, &keys)?) {
            let buffers: Vec<Buffer> = d.bindings.iter().map(|(_, view)| buffer(view.slot)).collect();
            let bind_group = bind(gpu, d, &kernel, (&uniform, at), &buffers, &textures)?;
            let copies = textures.fill(d, &buffers, &kernel.bindings)?;
            steps.push(Step { copies, kernel, bind_group, groups: d.launch.groups() });
            at += stride(d) as u64;
        }
        gpu.check()?;
        Ok(Recording { steps })
    }

    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Appends dispatches to `pass`, which is begun where there is none; copies end it.
    pub(super) fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        pass: &mut Option<wgpu::ComputePass<'static>>,
        part: Range<usize>,
    ) {
        for step in &self.steps[part] {
            if !step.copies.is_empty() {
                *pass = None;
                step.copies.iter().for_each(|copy| copy.encode(encoder));
            }
            let begin = || encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime();
            let pass = pass.get_or_insert_with(begin);
            pass.set_pipeline(&step.kernel.pipeline);
            pass.set_bind_group(0, &step.bind_group, &[]);
            let [x, y, z] = step.groups;
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

fn bind(
    gpu: &Gpu,
    d: &Dispatch,
    kernel: &Kernel,
    (uniform, uniform_at): (&wgpu::Buffer, u64),
    buffers: &[Buffer],
    textures: &Textures,
) -> Result<wgpu::BindGroup> {
    let fail = |reason: String| Error::Binding { kernel: d.entry.into(), reason };
    if let Some((extra, _)) = d.bindings.iter().find(|(n, _)| !kernel.bindings.iter().any(|b| b.name == *n)) {
        return Err(fail(format!("binding {extra} was given, but the shader does not use it")));
    }
    if let Some((a, b)) = overlap(d, kernel, buffers) {
        return Err(fail(format!("{}'s bindings {a} and {b} overlap, and the shader writes one of them", d.op)));
    }
    let mut entries = Vec::with_capacity(kernel.bindings.len());
    for binding in &kernel.bindings {
        let (raw, offset, size) = if binding.name == "p" {
            let same = binding.uniform.iter().map(|(n, o)| (n.as_str(), *o)).eq(d.fields.iter().copied());
            if !same {
                let got: Vec<_> = d.fields.iter().collect();
                return Err(fail(format!("Params differ: WGSL has {:?}, Rust has {got:?}", binding.uniform)));
            }
            (uniform, uniform_at, d.params.len().max(16) as u64)
        } else {
            let Some(i) = d.bindings.iter().position(|(n, _)| *n == binding.name) else {
                return Err(fail(format!("binding {} was not given", binding.name)));
            };
            let as_texture = texture::views(d).position(|(name, _)| name == binding.name);
            if as_texture.is_some() != binding.texture {
                return Err(fail(format!("only one of WGSL and Rust says that {} is a texture", binding.name)));
            }
            if let Some(i) = as_texture {
                let resource = wgpu::BindingResource::TextureView(textures.at(i));
                entries.push(wgpu::BindGroupEntry { binding: binding.index, resource });
                continue;
            }
            let view = &d.bindings[i].1;
            let bytes = view.len as u64 * 4;
            (buffers[i].raw(), view.offset as u64 * 4, bytes)
        };
        let size = std::num::NonZeroU64::new(size).ok_or_else(|| fail(format!("binding {} is empty", binding.name)))?;
        entries.push(wgpu::BindGroupEntry {
            binding: binding.index,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: raw, offset, size: Some(size) }),
        });
    }
    let descriptor = wgpu::BindGroupDescriptor { label: Some(d.entry), layout: &kernel.layout, entries: &entries };
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let bind_group = gpu.device.create_bind_group(&descriptor);
    match pollster::block_on(scope.pop()) {
        Some(error) => Err(fail(error.to_string())),
        None => Ok(bind_group),
    }
}

/// Two bindings that WebGPU forbids together: overlapping ranges of a buffer of which one is written. Textures are
/// copies, and not concerned.
fn overlap(d: &Dispatch, kernel: &Kernel, buffers: &[Buffer]) -> Option<(&'static str, &'static str)> {
    let written = |name: &str| kernel.bindings.iter().any(|b| b.name == name && b.written);
    let is_texture = |name: &str| d.shader.textures.contains(&name);
    let bound: Vec<_> = d.bindings.iter().zip(buffers).filter(|((name, _), _)| !is_texture(name)).collect();
    bound.iter().enumerate().find_map(|(i, ((a, x), x_buffer))| {
        let meets = |((b, y), y_buffer): &&(&(&'static str, View), &Buffer)| {
            let apart = x.offset + x.len <= y.offset || y.offset + y.len <= x.offset;
            x_buffer.raw() == y_buffer.raw() && !apart && (written(a) || written(b))
        };
        bound[..i].iter().find(meets).map(|((b, _), _)| (*b, *a))
    })
}
