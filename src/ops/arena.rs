//! What the optimisers share: arenas larger than a storage binding are bound in slices, gradients of which there are
//! still slices are summed, and the last dispatch of a training step ends it.

use std::fmt::Debug;
use std::ops::Range;
use std::rc::Rc;

use super::track::{self, End, NEVER, Tail};
use crate::check::{Case, Input};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::gpu::{Grid, Params, Recorder, Shader, View, params};
use crate::graph::slice_sums::MOST_RANGES;
use crate::graph::{Bound, Cost, Graph, Io, Op, Outputs, Spec, Tensor};

/// Elements in 128 MiB, the least that every adapter can bind at once.
pub(super) const PART: usize = 32 << 20;
/// Slices begin at multiples of 256 bytes, WebGPU's alignment of bindings, as the parameters of an arena do.
pub(super) const ALIGN: usize = 64;

params! {
    pub(super) struct Sum { first: u32, end: u32, at: u32, slices: u32, step: u32, stride: u32, pad: [u32; 2] }
}

params! {
    /// The first parameters of every optimiser's kernel.
    pub(super) struct Arena {
        sums: [Sum; MOST_RANGES], count: u32, quads: u32, stride: u32, first_replica: u32, batches: u32, pad: [u32; 3],
    }
}

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

/// A dispatch of an optimiser.
pub(super) struct Update<'a> {
    pub arena: Arena,
    slice: &'a Slice,
    grad: View,
    tail: Option<&'a Tail>,
    /// Of the sums.
    iterations: usize,
}

impl Update<'_> {
    /// `shaders`: without and with the end of a step. `arenas`: of the optimiser. `clock`: if it reads that, too.
    /// `p` begins with `self.arena`. `iterations`: of its own loops.
    pub fn record<P: Params>(
        self,
        r: &mut Recorder,
        (shaders, entry): (&'static [Shader; 2], &'static str),
        arenas: &[(&'static str, &Bound)],
        clock: Option<&Bound>,
        p: P,
        iterations: usize,
    ) {
        let arenas = arenas.iter().map(|(name, bound)| (*name, self.slice.view(bound)));
        let mut bindings: Vec<_> = [("grad", self.grad)].into_iter().chain(arenas).collect();
        match self.tail {
            Some(tail) => bindings.extend(tail.bindings),
            None => bindings.extend(clock.map(|clock| ("clock", clock.view))),
        }
        let grid = Grid::items(self.slice.elements.len() / 4, 64, self.slice.replicas);
        let launch = grid.iterations(self.iterations + iterations);
        let constants: &[_] = if self.arena.count == 0 { &[("SUMS", 0.0)] } else { &[] };
        r.dispatch_with(&shaders[usize::from(self.tail.is_some())], entry, constants, &bindings, p, launch);
    }
}

/// An op that updates every element of an arena independently, so that slicing does not change a bit of the result.
/// Its first inputs are the weights and their gradients, (P) each.
pub(super) trait Optimiser: Op {
    fn record(&self, io: &Io, r: &mut Recorder, update: Update);

    /// Records it for arenas of the length of input 0, in slices of at most `most` elements. The dispatch with a
    /// replica's first elements ends its step, if there is a `tail`.
    fn record_all(&self, io: &Io, r: &mut Recorder, most: usize, tail: Option<&Tail>) -> Result<()> {
        let (len, grad) = (io.x(0).shape.len(), io.x(1));
        let all = slices(self.name(), len, io.replicas, most)?;
        let (sums, whole) = sums(r, grad.view);
        assert!(sums.is_empty() || all.len() == 1, "gradients with slices are bound at once");
        let mut table = [bytemuck::Zeroable::zeroed(); MOST_RANGES];
        table[..sums.len()].copy_from_slice(&sums);
        for slice in &all {
            let grad = if sums.is_empty() { slice.view(grad) } else { whole };
            let ends = slice.elements.start == 0;
            let arena = Arena {
                sums: table,
                count: sums.len() as u32,
                quads: (slice.elements.len() / 4) as u32,
                stride: (io.x(0).stride / 4) as u32,
                first_replica: slice.first_replica as u32,
                batches: tail.filter(|_| ends).map_or(0, |tail| tail.batches as u32),
                pad: [0; 3],
            };
            let iterations = MOST_RANGES + sums.iter().map(|sum| sum.slices as usize).max().unwrap_or(0);
            self.record(io, r, Update { arena, slice, grad, tail, iterations });
        }
        Ok(())
    }
}

/// The sums that are left to the optimiser, in the order of the gradients, and these with all slices: one buffer.
fn sums(r: &mut Recorder, grads: View) -> (Vec<Sum>, View) {
    let (mut sums, mut whole) = (vec![], grads);
    for sum in std::mem::take(&mut r.slice_sums) {
        let (len, slices) = (sum.lens.iter().sum::<usize>(), sum.slices);
        let View { offset, len: all, .. } = sum.slices_view;
        whole.len = whole.len.max(offset + all);
        sums.extend(sum.ranges().map(|range| Sum {
            first: (range.into / 4) as u32,
            end: ((range.into + range.len) / 4) as u32,
            at: ((offset + range.from) / 4) as u32,
            slices: slices as u32,
            step: (len / 4) as u32,
            stride: (slices * len / 4) as u32,
            pad: [0; 2],
        }));
    }
    sums.sort_by_key(|sum| sum.first);
    (sums, whole)
}

/// The inputs and outputs of an optimiser: w, grad and others (P) each, of which all but grad are updated, and maybe a
/// clock.
pub(super) fn infer(op: &'static str, expected: &str, x: &[Spec], in_place: Vec<(usize, usize)>) -> Result<Outputs> {
    let (w, len) = (&x[0], x[0].shape.len());
    let (arenas, clock) = x.split_at(in_place.len() + 1);
    let fits = arenas.iter().all(|s| *s == Spec::f32([len])) && clock.iter().all(|s| *s == Spec::u32([4]));
    if !fits || len == 0 || !len.is_multiple_of(4) {
        let got: Vec<String> = x.iter().map(|s| s.shape.to_string()).collect();
        return Err(Error::shape(op, expected, got.join(", ")));
    }
    Ok(Outputs { y: vec![w.clone(); in_place.len()], in_place, ..Default::default() })
}

/// Adds an optimiser, which ends the step if `end` is given.
pub(super) fn push(g: &mut Graph, op: impl Optimiser + 'static, x: &[Tensor], end: Option<End>) -> Result<()> {
    match end {
        None => g.push(op, x).map(drop),
        Some(end) => {
            let x = [x, &end.tensors()].concat();
            g.push(Ending { op, batches: end.batches, most: PART }, &x).map(drop)
        }
    }
}

/// An optimiser and the end of the step: its inputs, then those of [`track`], and outputs likewise.
#[derive(Debug)]
struct Ending<O> {
    pub op: O,
    pub batches: usize,
    /// Elements bound at once.
    pub most: usize,
}

/// Of the inputs those of the optimiser.
fn own<T>(x: &[T]) -> usize {
    x.len() - track::INPUTS
}

impl<O: Optimiser> Op for Ending<O> {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        let n = own(x);
        let (mut all, end) = (self.op.infer(&x[..n])?, track::infer(&x[n..], self.batches)?);
        let first = all.y.len();
        all.in_place.extend(end.in_place.iter().map(|(y, x)| (first + y, n + x)));
        all.y.extend(end.y);
        Ok(all)
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        let tail = Tail::of(io, io.inputs() - track::INPUTS, self.batches);
        self.op.record_all(io, r, self.most, Some(&tail))
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        let n = own(x);
        [self.op.reference(&x[..n]), track::reference(&x[n..], self.batches)].concat()
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        self.op.cost(x)
    }
}

/// The op in smaller slices than an adapter requires, to check that slicing changes nothing.
#[derive(Debug)]
struct Sliced<O> {
    pub op: O,
    pub most: usize,
}

impl<O: Optimiser> Op for Sliced<O> {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn infer(&self, x: &[Spec]) -> Result<Outputs> {
        self.op.infer(x)
    }

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()> {
        self.op.record_all(io, r, self.most, None)
    }

    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        self.op.reference(x)
    }

    fn cost(&self, x: &[Spec]) -> Cost {
        self.op.cost(x)
    }
}

/// Cases of arenas in slices, of the end of a step, and of both, for an optimiser with this case for a length.
pub(super) fn cases<O: Optimiser + Copy>(op: O, case: impl Fn(&str, usize) -> Case) -> Vec<Case> {
    let slices = [("in slices", 192, 128), ("in slices of two replicas", 128, 256)];
    let sliced = slices.map(|(name, len, most)| Case { op: Rc::new(Sliced { op, most }), ..case(name, len) });
    let ending = [("whole", 1028, PART), slices[0], slices[1]].map(|(name, len, most)| {
        let mut ending = case(&format!("at the end of a step, {name}"), len);
        ending.inputs.extend(track::inputs(Input::data([2]), 7, NEVER));
        Case { op: Rc::new(Ending { op, batches: 5, most }), ..ending }
    });
    sliced.into_iter().chain(ending).collect()
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
