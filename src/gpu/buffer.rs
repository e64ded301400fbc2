//! Storage buffers of 4-byte elements, and getting data in and out of them.

use std::sync::Arc;

use super::Gpu;
use crate::error::{Error, Result};

/// A 4-byte element that WGSL storage can hold: `f32` or `u32`.
pub trait Element: bytemuck::Pod {}
impl Element for f32 {}
impl Element for u32 {}

/// A GPU buffer; clones share it.
#[derive(Clone)]
pub struct Buffer {
    raw: Arc<wgpu::Buffer>,
    len: usize,
}

impl Buffer {
    pub(super) fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }

    /// Number of 4-byte elements.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Gpu {
    /// A zeroed buffer of `len` elements.
    ///
    /// # Errors
    /// `Limit` when the adapter cannot hold one so large, `Gpu` when it has run out of memory.
    pub fn buffer(&self, label: &str, len: usize) -> Result<Buffer> {
        let bytes = len.max(1) as u64 * 4;
        let have = self.device.limits().max_buffer_size;
        if bytes > have {
            return Err(Error::Limit { what: format!("the buffer of {label}"), need: bytes, have });
        }
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.check()?;
        Ok(Buffer { raw: Arc::new(raw), len })
    }

    pub fn upload<T: Element>(&self, label: &str, data: &[T]) -> Result<Buffer> {
        let buffer = self.buffer(label, data.len())?;
        self.write(&buffer, 0, data)?;
        Ok(buffer)
    }

    /// Overwrites elements from `at` on, before the next submission runs.
    pub fn write<T: Element>(&self, buffer: &Buffer, at: usize, data: &[T]) -> Result<()> {
        assert!(at + data.len() <= buffer.len, "write past the end of a buffer");
        self.queue.write_buffer(&buffer.raw, at as u64 * 4, bytemuck::cast_slice(data));
        self.check()
    }

    /// Waits for the device and copies a whole buffer back.
    pub fn read<T: Element>(&self, buffer: &Buffer) -> Result<Vec<T>> {
        self.read_at(buffer, 0, buffer.len)
    }

    /// Waits for the device and copies `len` elements from `at` on back.
    pub fn read_at<T: Element>(&self, buffer: &Buffer, at: usize, len: usize) -> Result<Vec<T>> {
        Ok(bytemuck::cast_vec(self.read_words(&[(buffer, at, len)])?))
    }

    /// Waits for the device and copies several buffers back at once, as raw words.
    pub fn read_many(&self, buffers: &[&Buffer]) -> Result<Vec<Vec<u32>>> {
        let ranges: Vec<_> = buffers.iter().map(|b| (*b, 0, b.len)).collect();
        let words = self.read_words(&ranges)?;
        let mut rest = words.as_slice();
        let mut part = |len| {
            let (head, tail) = rest.split_at(len);
            rest = tail;
            head.to_vec()
        };
        Ok(buffers.iter().map(|b| part(b.len)).collect())
    }

    /// The ranges (buffer, start, length), one after the other.
    fn read_words(&self, ranges: &[(&Buffer, usize, usize)]) -> Result<Vec<u32>> {
        let total: usize = ranges.iter().map(|(_, _, len)| len).sum();
        if total == 0 {
            return Ok(Vec::new());
        }
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size: total as u64 * 4,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.submit(|s| {
            let mut to = 0;
            for (buffer, at, len) in ranges {
                let bytes = *len as u64 * 4;
                s.encoder.copy_buffer_to_buffer(&buffer.raw, *at as u64 * 4, &staging, to, bytes);
                to += bytes;
            }
        })?;
        let (send, receive) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |mapped| drop(send.send(mapped)));
        self.wait()?;
        let lost = |why: String| Error::Gpu(format!("a readback failed: {why}"));
        receive.recv().map_err(|e| lost(e.to_string()))?.map_err(|e| lost(e.to_string()))?;
        let bytes = staging.get_mapped_range(..).map_err(|e| lost(e.to_string()))?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}
