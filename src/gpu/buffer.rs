//! Storage buffers of 4-byte elements, uploads and readbacks.

use std::sync::Arc;

use super::device::Gpu;
use crate::core::error::{BYTES, Error, Result};

/// A 4-byte element that WGSL storage can hold: `f32` or `u32`.
pub trait Element: bytemuck::Pod {}
impl Element for f32 {}
impl Element for u32 {}

/// Most elements transferred at once (64 MiB), which bounds the memory of staging buffers.
const STAGING: usize = 16 << 20;

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
    /// `Limit` if the adapter does not support this size, `Gpu` if it is out of memory.
    pub fn buffer(&self, label: &str, len: usize) -> Result<Buffer> {
        // A whole number of vec4, in which textures are filled.
        let bytes = len.max(1).next_multiple_of(4) as u64 * 4;
        let have = self.device.limits().max_buffer_size;
        if bytes > have {
            return Err(Error::limit(format!("the buffer of {label}"), BYTES, bytes, have));
        }
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            // UNIFORM: a kernel may read a part of up to 64 KiB as a uniform array.
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::UNIFORM
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
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

    /// Overwrites elements from `at` on, before the next submission runs. Waits for the device if they are too many for
    /// one transfer.
    pub fn write<T: Element>(&self, buffer: &Buffer, at: usize, data: &[T]) -> Result<()> {
        assert!(at + data.len() <= buffer.len, "write past the end of a buffer");
        for (i, part) in data.chunks(STAGING).enumerate() {
            if i > 0 {
                // Only a submission releases the staging memory of the previous part.
                self.queue.submit([]);
                self.wait()?;
            }
            self.queue.write_buffer(&buffer.raw, (at + i * STAGING) as u64 * 4, bytemuck::cast_slice(part));
        }
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

    /// Waits for the device and copies several buffers back at once, as raw bits.
    pub(crate) fn read_many(&self, buffers: &[&Buffer]) -> Result<Vec<Vec<u32>>> {
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

    /// The ranges (buffer, start, length), concatenated.
    fn read_words(&self, ranges: &[(&Buffer, usize, usize)]) -> Result<Vec<u32>> {
        let total: usize = ranges.iter().map(|(_, _, len)| len).sum();
        let mut words = Vec::with_capacity(total);
        if total == 0 {
            return Ok(words);
        }
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size: total.min(STAGING) as u64 * 4,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let lost = |why: String| Error::Gpu(format!("a readback failed: {why}"));
        for load in loads(ranges, STAGING) {
            let mut bytes = 0;
            self.submit(|s| {
                for (buffer, at, len) in load {
                    let size = len as u64 * 4;
                    s.encoder.copy_buffer_to_buffer(&buffer.raw, at as u64 * 4, &staging, bytes, size);
                    bytes += size;
                }
            })?;
            let (send, receive) = std::sync::mpsc::channel();
            staging.map_async(wgpu::MapMode::Read, ..bytes, move |mapped| drop(send.send(mapped)));
            self.wait()?;
            receive.recv().map_err(|e| lost(e.to_string()))?.map_err(|e| lost(e.to_string()))?;
            let mapped = staging.get_mapped_range(..bytes).map_err(|e| lost(e.to_string()))?;
            words.extend(mapped.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]])));
            drop(mapped);
            staging.unmap();
        }
        Ok(words)
    }
}

/// The ranges (of something, start, length) in loads of at most `most` elements, split as needed.
fn loads<T: Copy>(ranges: &[(T, usize, usize)], most: usize) -> Vec<Vec<(T, usize, usize)>> {
    let mut loads = vec![vec![]];
    let mut free = most;
    for &(of, mut at, mut len) in ranges {
        while len > 0 {
            if free == 0 {
                loads.push(vec![]);
                free = most;
            }
            let now = len.min(free);
            loads.last_mut().expect("begun above").push((of, at, now));
            (at, len, free) = (at + now, len - now, free - now);
        }
    }
    loads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_full_and_in_order() {
        let all = loads(&[("a", 5, 3), ("b", 0, 9), ("c", 7, 0), ("d", 1, 2)], 4);
        assert_eq!(all, [vec![("a", 5, 3), ("b", 0, 1)], vec![("b", 1, 4)], vec![("b", 5, 4)], vec![("d", 1, 2)],]);
        assert_eq!(loads(&[("a", 0, 4)], 4).len(), 1);
    }
}
