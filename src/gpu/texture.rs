//! Views copied into textures before a kernel reads them: software adapters load from a texture several times as fast
//! as from a storage buffer, and a copy costs little beside one load of each element. The textures are storage
//! textures: a load from a sampled one first looks up the size of the texel's mip level.

use super::buffer::Buffer;
use super::device::Gpu;
use super::dispatch::{Dispatch, View};
use super::kernel::Binding;
use crate::core::error::{Error, Result};

/// Texels of a row, four elements each (see `shaders/shared/texel.wgsl`).
const WIDTH: usize = 4096;
const TEXEL_BYTES: usize = 16;

/// Rows of the texture that holds a view, and at least a texel more: rows of a matrix that are no number of texels are
/// read two texels at a time.
pub(super) fn rows(view: &View) -> usize {
    (texels(view) + 1).div_ceil(WIDTH)
}

/// Texels of a view. The last may contain up to three elements that follow it, for kernels to ignore: buffers end with
/// a whole texel.
fn texels(view: &View) -> usize {
    view.len.div_ceil(4)
}

/// The views that a dispatch reads as textures, by name.
pub(super) fn views(d: &Dispatch) -> impl Iterator<Item = (&'static str, View)> {
    d.bindings.iter().copied().filter(|(name, _)| d.shader.textures.contains(name))
}

/// Rows of the textures of a recording: dispatches use them in turn, each as many as it reads.
fn rows_of_all(dispatches: &[Dispatch]) -> Vec<usize> {
    let mut all = vec![];
    for (i, (_, view)) in dispatches.iter().flat_map(|d| views(d).enumerate()) {
        all.resize(all.len().max(i + 1), 1);
        all[i] = all[i].max(rows(&view));
    }
    all
}

/// 4-byte elements of the textures of a recording.
pub(crate) fn texture_len(dispatches: &[Dispatch]) -> usize {
    rows_of_all(dispatches).iter().map(|rows| rows * WIDTH * 4).sum()
}

struct Texture {
    raw: wgpu::Texture,
    view: wgpu::TextureView,
    /// What it holds at this place of the recording.
    holds: Option<(Buffer, View)>,
}

/// The textures of a recording while it is made.
pub(super) struct Textures(Vec<Texture>);

impl Textures {
    pub(super) fn new(gpu: &Gpu, dispatches: &[Dispatch]) -> Result<Textures> {
        let create = |rows: usize| {
            let raw = gpu.device.create_texture(&wgpu::TextureDescriptor {
                label: Some("view"),
                size: extent(WIDTH, rows),
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format: wgpu::TextureFormat::Rgba32Float,
                usage: wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            });
            gpu.check()?;
            let view = raw.create_view(&wgpu::TextureViewDescriptor::default());
            Ok(Texture { raw, view, holds: None })
        };
        rows_of_all(dispatches).into_iter().map(create).collect::<Result<_>>().map(Textures)
    }

    /// The texture for a dispatch's `i`-th view.
    pub(super) fn at(&self, i: usize) -> &wgpu::TextureView {
        &self.0[i].view
    }

    /// The copies that a dispatch needs before it runs: a texture that still holds the same values stays as it is.
    pub(super) fn fill(&mut self, d: &Dispatch, bound: &[Buffer], bindings: &[Binding]) -> Result<Vec<Copy>> {
        let mut copies = vec![];
        for ((name, view), texture) in views(d).zip(&mut self.0) {
            if !view.offset.is_multiple_of(4) {
                let reason = format!("{name} is read as a texture, and does not begin at a vec4");
                return Err(Error::Binding { kernel: d.entry.into(), reason });
            }
            let at = d.bindings.iter().position(|(n, _)| *n == name).expect("one of the dispatch's views");
            let held = texture.holds.as_ref().is_some_and(|(b, v)| b.raw() == bound[at].raw() && *v == view);
            if !held {
                texture.holds = Some((bound[at].clone(), view));
                copies.push(Copy { buffer: bound[at].clone(), view, texture: texture.raw.clone() });
            }
        }
        for ((name, _), buffer) in d.bindings.iter().zip(bound) {
            if bindings.iter().any(|b| b.name == *name && b.written) {
                self.0.iter_mut().for_each(|t| drop(t.holds.take_if(|(held, _)| held.raw() == buffer.raw())));
            }
        }
        Ok(copies)
    }
}

fn extent(width: usize, rows: usize) -> wgpu::Extent3d {
    wgpu::Extent3d { width: width as u32, height: rows as u32, depth_or_array_layers: 1 }
}

/// A copy of a view into a texture.
pub(super) struct Copy {
    buffer: Buffer,
    view: View,
    texture: wgpu::Texture,
}

impl Copy {
    pub(super) fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        let (whole, rest) = (texels(&self.view) / WIDTH, texels(&self.view) % WIDTH);
        for (first, width, rows) in [(0, WIDTH, whole), (whole, rest, 1)] {
            if width * rows == 0 {
                continue;
            }
            let from = wgpu::TexelCopyBufferInfo {
                buffer: self.buffer.raw(),
                layout: wgpu::TexelCopyBufferLayout {
                    offset: (self.view.offset * 4 + first * WIDTH * TEXEL_BYTES) as u64,
                    bytes_per_row: Some((WIDTH * TEXEL_BYTES) as u32),
                    rows_per_image: None,
                },
            };
            let to = wgpu::TexelCopyTextureInfo {
                texture: &self.texture,
                mip_level: 0,
                origin: wgpu::Origin3d { x: 0, y: first as u32, z: 0 },
                aspect: wgpu::TextureAspect::All,
            };
            encoder.copy_buffer_to_texture(from, to, extent(width, rows));
        }
    }
}
