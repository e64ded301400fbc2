//! Gradients of parameters that are computed in slices, as partial sums over parts of a batch, so that a large GPU is
//! occupied: the slices of several ops are summed together, by the optimiser, or in one dispatch at the end of the
//! backward pass.

use std::collections::BTreeSet;

use super::Sink;
use crate::gpu::{Grid, Pass, Recorder, Shader, SliceSum, Slot, View, params, shader};

const SCALAR: Shader = shader!("slice_sums.wgsl");
/// By whether lengths are multiples of 4.
pub static SHADERS: [Shader; 2] = [SCALAR, SCALAR.with(&["VEC4"])];

params! {
    struct Part {
        end: u32, slices: u32, first: u32, second: u32, first_at: u32, second_at: u32, stride: u32, accumulate: u32,
    }
}

params! {
    struct Params { part0: Part, part1: Part, part2: Part, part3: Part, part4: Part, part5: Part }
}

/// Sums in a dispatch: one for each binding of slices.
const PARTS: usize = 6;
/// Bytes of slices that wait at most: their memory is not free for other tensors until they are summed.
const WAITING: usize = 16 << 20;
/// Most elements between the gradients of a dispatch: a binding of 128 MiB, the least that every adapter allows.
pub(super) const SPAN: usize = 32 << 20;

/// Most ranges of gradients that an optimiser sums.
pub const MOST_RANGES: usize = 32;

/// Neighbouring gradients of a replica that are neighbours in a slice, too.
pub struct Range {
    /// Where they begin in the arena, of the first replica.
    pub into: usize,
    /// And in a slice.
    pub from: usize,
    pub len: usize,
}

impl Sink {
    /// The sum of `slices_view`, (R, slices, len), for a gradient on its own.
    pub fn sum_of_slices(
        &self,
        op: &'static str,
        replicas: usize,
        slices: usize,
        slices_view: View,
        len: usize,
    ) -> SliceSum {
        SliceSum {
            op,
            replicas,
            slices,
            slices_view,
            lens: [len, 0],
            into: self.view,
            at: [0, 0],
            stride: self.stride,
            accumulate: [self.accumulate, false],
        }
    }
}

impl SliceSum {
    /// What it sums to: one range where a weight's gradient and its bias's are neighbours in the arena.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + use<> {
        let ([first, second], [len, len2]) = (self.at.map(|at| self.into.offset + at), self.lens);
        let ranges = match second == first + len {
            true => [Range { into: first, from: 0, len: len + len2 }, Range { into: 0, from: 0, len: 0 }],
            false => [Range { into: first, from: 0, len }, Range { into: second, from: len, len: len2 }],
        };
        ranges.into_iter().filter(|range| range.len > 0)
    }

    /// Whether both sum to one gradient: that of the first replica is enough.
    fn meets(&self, other: &SliceSum) -> bool {
        let overlap = |a: &Range, b: &Range| a.into < b.into + b.len && b.into < a.into + a.len;
        self.into.slot == other.into.slot && self.ranges().any(|one| other.ranges().any(|two| overlap(&one, &two)))
    }

    fn vec4(&self) -> bool {
        self.lens.iter().chain(&self.at).chain([&self.stride]).all(|len| len.is_multiple_of(4))
    }
}

/// Takes those sums out that an optimiser can do: of whole vec4, to gradients in `arena`, to which nothing was added
/// before, in slots of at most `room` elements, of `len` each.
pub(super) fn take_for_optimiser(
    r: &mut Recorder,
    arena: Slot,
    mut room: usize,
    len: impl Fn(Slot) -> usize,
) -> Vec<SliceSum> {
    let (mut left, mut counted) = (MOST_RANGES, BTreeSet::new());
    let fits = |sum: &mut SliceSum| {
        let (ranges, slot) = (sum.ranges().count(), sum.slices_view.slot);
        let len = if counted.contains(&slot) { 0 } else { len(slot) };
        let fits =
            sum.into.slot == arena && sum.vec4() && sum.accumulate == [false; 2] && ranges <= left && len <= room;
        if fits {
            (left, room) = (left - ranges, room - len);
            counted.insert(slot);
        }
        fits
    };
    let taken: Vec<SliceSum> = r.slice_sums.extract_if(.., fits).collect();
    // The slices of layers side by side are in one slot, and go together.
    let stays: Vec<Slot> = r.slice_sums.iter().map(|sum| sum.slices_view.slot).collect();
    let (back, taken) = taken.into_iter().partition(|sum| stays.contains(&sum.slices_view.slot));
    r.slice_sums.extend::<Vec<_>>(back);
    taken
}

/// Records the sums that wait, if they are many.
pub(super) fn record_if_many(r: &mut Recorder) {
    let waiting: usize = r.slice_sums.iter().map(|sum| sum.slices_view.len * 4).sum();
    if waiting > WAITING {
        record_waiting(r);
    }
}

/// Records the sums that wait, for what needs their results, or the memory of the slices.
pub fn record_waiting(r: &mut Recorder) {
    let sums = std::mem::take(&mut r.slice_sums);
    record(r, sums);
}

/// Records sums at once.
pub fn record(r: &mut Recorder, mut sums: Vec<SliceSum>) {
    while !sums.is_empty() {
        // As many like the first as fit into a dispatch.
        let (vec4, replicas, mut range) = (sums[0].vec4(), sums[0].replicas, sums[0].into);
        let mut now = vec![];
        sums.retain(|sum| {
            let alike = sum.vec4() == vec4 && sum.replicas == replicas;
            let fits = now.len() < PARTS && alike && !now.iter().any(|other: &SliceSum| other.meets(sum));
            let joined = range.cover(sum.into).filter(|all| fits && all.len <= SPAN.max(range.len));
            let Some(joined) = joined else { return true };
            range = joined;
            now.push(sum.clone());
            false
        });
        dispatch(r, &now, range, vec4);
    }
}

fn dispatch(r: &mut Recorder, sums: &[SliceSum], gradients: View, vec4: bool) {
    let before = (r.op, r.pass);
    (r.op, r.pass) = (sums[0].op, Pass::Backward);
    let width = if vec4 { 4 } else { 1 };
    let mut end = 0;
    let mut parts = sums.iter().map(|sum| {
        let [first, second] = sum.lens.map(|len| len / width);
        end += (first + second).div_ceil(64);
        let [first_at, second_at] = sum.at.map(|at| (sum.into.offset - gradients.offset + at) / width);
        Part {
            end: end as u32,
            slices: sum.slices as u32,
            first: first as u32,
            second: second as u32,
            first_at: first_at as u32,
            second_at: second_at as u32,
            stride: (sum.stride / width) as u32,
            accumulate: sum.accumulate.iter().rev().fold(0, |bits, add| bits << 1 | u32::from(*add)),
        }
    });
    let [part0, part1, part2, part3, part4, part5] =
        std::array::from_fn(|_| parts.next().unwrap_or_else(bytemuck::Zeroable::zeroed));
    drop(parts);
    let p = Params { part0, part1, part2, part3, part4, part5 };
    let names: [&str; PARTS] = ["slices0", "slices1", "slices2", "slices3", "slices4", "slices5"];
    let slices = names.iter().enumerate().map(|(i, name)| (*name, sums.get(i).unwrap_or(&sums[0]).slices_view));
    let bindings: Vec<_> = slices.chain([("gradients", gradients)]).collect();
    let most = sums.iter().map(|sum| sum.slices).max().unwrap_or(0);
    let launch = Grid::folded(end, sums[0].replicas).iterations(most + PARTS);
    r.dispatch(&SHADERS[usize::from(vec4)], "slice_sums", &bindings, p, launch);
    (r.op, r.pass) = before;
}
