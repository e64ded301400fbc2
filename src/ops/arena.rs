//! Arenas larger than a storage binding are bound in slices.

use std::fmt::Debug;
use std::ops::Range;

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Recorder, View};
use crate::graph::{Bound, Cost, Io, Op, Outputs, Spec};

/// Elements in 128 MiB, the least that every adapter can bind at once.
pub(super) const PART: usize = 32 << 20;
/// Slices begin at multiples of 256 bytes, WebGPU's alignment of bindings, as the parameters of an arena do.
pub(super) const ALIGN: usize = 64;

/// Some elements of some replicas of arenas (R, P).
#[derive(Debug, PartialEq)]
pub(super) struct Slice {
    pub first_replica: usize,
    pub replicas: usize,
    /// Elements of each replica.
    pub elements: Range<usize>,
}

impl Slice {
    /// Position of the slice in an arena.
    pub fn view(&self, arena: &Bound) -> View {
        View {
            offset: arena.view.offset + self.first_replica * arena.stride + self.elements.start,
            len: (self.replicas - 1) * arena.stride + self.elements.len(),
            ..arena.view
        }
    }
}

/// Arenas of `replicas` times `len` elements in slices of at most `most`, in order: one slice if they fit, else as many
/// replicas per slice as fit, else each replica in several slices.
///
/// # Errors
/// `Shape` for a `len` at which no binding can begin, if there is more than one slice.
fn slices(op: &'static str, len: usize, replicas: usize, most: usize) -> Result<Vec<Slice>> {
    let together = (most / len).clamp(1, replicas);
    let step = if together * len <= most { len } else { (most / ALIGN * ALIGN).max(ALIGN) };
    let starts = (0..replicas).step_by(together).flat_map(|r| (0..len).step_by(step).map(move |at| (r, at)));
    let slices: Vec<Slice> = starts
        .map(|(r, at)| Slice {
            first_replica: r,
            replicas: together.min(replicas - r),
            elements: at..len.min(at + step),
        })
        .collect();
    match slices.len() > 1 && replicas > 1 && !len.is_multiple_of(ALIGN) {
        true => Err(Error::shape(op, format!("P a multiple of {ALIGN}, to be bound in slices"), len.to_string())),
        false => Ok(slices),
    }
}

/// An op that updates every element of an arena independently, so that slicing does not change a bit of the result.
pub(super) trait Elementwise: Op {
    fn record(&self, io: &Io, r: &mut Recorder, slice: &Slice);

    /// Records the op for arenas of the length of input 0, in slices of at most `most` elements.
    fn record_all(&self, io: &Io, r: &mut Recorder, most: usize) -> Result<()> {
        let slices = slices(self.name(), io.x(0).shape.len(), io.replicas, most)?;
        slices.iter().for_each(|slice| self.record(io, r, slice));
        Ok(())
    }
}

/// The op in smaller slices than an adapter requires, to check that slicing changes nothing.
#[derive(Debug)]
pub(super) struct Sliced<O> {
    pub op: O,
    pub most: usize,
}

impl<O: Elementwise> Op for Sliced<O> {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        self.op.infer(x)
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        self.op.record_all(io, r, self.most)
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        self.op.reference(x)
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        self.op.cost(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(len: usize, replicas: usize, most: usize) -> Vec<(usize, usize, Range<usize>)> {
        let all = slices("test", len, replicas, most).unwrap();
        all.into_iter().map(|p| (p.first_replica, p.replicas, p.elements)).collect()
    }

    #[test]
    fn slices_cover_every_element_once() {
        assert_eq!(cut(12, 1, 64), [(0, 1, 0..12)]);
        assert_eq!(cut(128, 3, 384), [(0, 3, 0..128)]);
        assert_eq!(cut(128, 3, 383), [(0, 2, 0..128), (2, 1, 0..128)]);
        assert_eq!(cut(192, 2, 130), [(0, 1, 0..128), (0, 1, 128..192), (1, 1, 0..128), (1, 1, 128..192)]);
        assert_eq!(cut(130, 1, 128), [(0, 1, 0..128), (0, 1, 128..130)]);
    }

    #[test]
    fn a_replica_at_an_unaligned_offset_is_rejected() {
        assert!(slices("test", 132, 3, 64).unwrap_err().to_string().contains("multiple of 64"));
        assert!(slices("test", 132, 3, 1000).is_ok());
    }
}
