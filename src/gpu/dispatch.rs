//! Dispatches as plain data, and the `Recorder` that collects them.

use super::adapter::Target;
use super::kernel::{Params, Shader, UniformField};
use super::tiling::{Problem, TiledProduct, Tiling, Tilings, Tuned};

/// A buffer of a plan before memory is laid out. Slots become buffers when a `Recording` is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// A range of a slot, in 4-byte elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub slot: Slot,
    pub offset: usize,
    pub len: usize,
}

impl View {
    /// The range from the first to the last element of both, of one slot. Two interleaved views that a kernel writes,
    /// as those of parameters of several replicas, must be bound as one: WebGPU forbids overlapping writable bindings.
    pub fn cover(self, other: View) -> Option<View> {
        let offset = self.offset.min(other.offset);
        let end = (self.offset + self.len).max(other.offset + other.len);
        (self.slot == other.slot).then_some(View { offset, len: end - offset, ..self })
    }

    /// The range of views of one slot that follow each other at equal distances, and the elements from one to the next.
    pub fn span(views: &[View]) -> Option<(View, usize)> {
        let apart = views.get(1).map_or(0, |next| next.offset.saturating_sub(views[0].offset));
        let equal = views.windows(2).all(|pair| apart > 0 && pair[0].offset + apart == pair[1].offset);
        let range = views[1..].iter().try_fold(views[0], |range, view| range.cover(*view))?;
        equal.then_some((range, apart))
    }
}

/// Numbers of workgroups, folded if they exceed the limit of one dimension. `z` is the replica for ops with parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid([u32; 3]);

/// Loop iterations of an invocation, over all its loops, that every adapter supports: llvmpipe silently ends loops
/// after 65 535. Kernels that may need more work in slices of so many.
pub const MAX_ITERATIONS: usize = 60_000;

/// WebGPU's default limit of workgroups per dimension.
pub(super) const MAX_GROUPS: usize = 65_535;

impl Grid {
    /// `groups` workgroups, folded into x and y beyond the limit (see `shared/grid.wgsl`), times `z`.
    pub fn folded(groups: usize, z: usize) -> Grid {
        let groups = groups.max(1);
        let y = groups.div_ceil(MAX_GROUPS);
        Grid([groups.div_ceil(y) as u32, y as u32, z as u32])
    }

    /// Enough workgroups of `size` invocations for `items`, times `z`.
    pub fn items(items: usize, size: usize, z: usize) -> Grid {
        Grid::folded(items.div_ceil(size), z)
    }

    /// For a kernel with at most `iterations` loop iterations per invocation, over all its loops. Loops of a constant
    /// count of up to four need not be counted: compilers unroll them.
    pub fn iterations(self, iterations: usize) -> Launch {
        Launch { grid: self, iterations }
    }

    /// For a kernel without loops.
    pub fn no_loops(self) -> Launch {
        self.iterations(0)
    }
}

/// Size of a dispatch: its workgroups, and the loop iterations of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    grid: Grid,
    iterations: usize,
}

impl Launch {
    /// Workgroups in x, y and z.
    pub fn groups(&self) -> [u32; 3] {
        self.grid.0
    }

    /// With more loop iterations.
    pub fn and(self, iterations: usize) -> Launch {
        Launch { iterations: self.iterations + iterations, ..self }
    }

    /// Most loop iterations of an invocation, over all its loops.
    pub fn iterations(&self) -> usize {
        self.iterations
    }
}

/// The pass of a plan that a dispatch is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Forward,
    Backward,
    /// Forward and backward at once.
    Both,
}

/// One kernel call, as plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// The op it belongs to, for errors and profiles.
    pub op: &'static str,
    pub pass: Pass,
    pub shader: &'static Shader,
    pub entry: &'static str,
    pub constants: Vec<(&'static str, f64)>,
    pub bindings: Vec<(&'static str, View)>,
    pub params: Vec<u8>,
    pub fields: &'static [UniformField],
    pub launch: Launch,
}

/// Slices whose sum is the gradient of one or two parameters, left for the end of the backward pass.
#[derive(Clone, Debug)]
pub struct SliceSum {
    /// The op that they belong to.
    pub op: &'static str,
    pub replicas: usize,
    pub slices: usize,
    /// (R, slices, sum of `lens`).
    pub slices_view: View,
    /// Elements of each parameter; of a second one 0 if there is none.
    pub lens: [usize; 2],
    /// A range with the gradients of all replicas, and where they begin in it.
    pub into: View,
    pub at: [usize; 2],
    /// Elements from one replica's gradients to the next.
    pub stride: usize,
    pub accumulate: [bool; 2],
}

/// Collects dispatches while ops describe themselves.
#[derive(Debug)]
pub struct Recorder {
    pub target: Target,
    pub op: &'static str,
    pub pass: Pass,
    pub dispatches: Vec<Dispatch>,
    /// Recorded later, at the latest after the dispatches of the pass.
    pub slice_sums: Vec<SliceSum>,
    tilings: Tilings,
    /// Every product with a choice of tiles, once.
    pub products: Vec<TiledProduct>,
}

impl Recorder {
    pub fn new(kernels: impl Into<Tuned>) -> Self {
        let Tuned { target, tilings } = kernels.into();
        let (op, pass) = ("", Pass::Forward);
        Recorder { target, op, pass, dispatches: vec![], slice_sums: vec![], tilings, products: vec![] }
    }

    /// The tiling of a product whose sums are in at most so many slices: the one that was chosen, else `default`,
    /// `None` for a kernel without tiles.
    pub fn tiling(&mut self, problem: Problem, slices: usize, default: Option<Tiling>) -> Option<Tiling> {
        let product = TiledProduct { op: self.op, problem, slices, default };
        if !self.products.contains(&product) {
            self.products.push(product);
        }
        self.tilings.get(&problem).or(default)
    }

    pub fn dispatch<P: Params>(
        &mut self,
        shader: &'static Shader,
        entry: &'static str,
        bindings: &[(&'static str, View)],
        params: P,
        launch: Launch,
    ) {
        self.dispatch_with(shader, entry, &[], bindings, params, launch);
    }

    /// As `dispatch`, with values for the shader's `override` constants.
    pub fn dispatch_with<P: Params>(
        &mut self,
        shader: &'static Shader,
        entry: &'static str,
        constants: &[(&'static str, f64)],
        bindings: &[(&'static str, View)],
        params: P,
        launch: Launch,
    ) {
        self.dispatches.push(Dispatch {
            op: self.op,
            pass: self.pass,
            shader,
            entry,
            constants: constants.to_vec(),
            bindings: bindings.to_vec(),
            params: bytemuck::bytes_of(&params).to_vec(),
            fields: P::FIELDS,
            launch,
        });
    }
}
