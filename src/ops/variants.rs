//! Which variant of a kernel runs where: the only place that looks at the adapter. Choices depend on it and on shapes,
//! never on R. Tiles may be those that `wmic tune` has measured, see [`Recorder::tiling`].
//!
//! A variant is a file with its defines; entry points have the same name in all. An op turns it into its shader, the
//! tiles of a workgroup and the rounds of its loops in one place, beside the parameters of these kernels, because these
//! numbers describe how the kernel is written: here they would be far from it, and would make this file and every op
//! import each other.

use std::ops::RangeInclusive;

use crate::gpu::{AdapterKind, CooperativeMatrix, Precision, Problem, Recorder, Shader, Target, Tiling};

/// Variants of matrix products, and of filters at frame centres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// Tiles in workgroup memory: any GPU, any shape.
    Tile,
    /// Registers and subgroup broadcasts: software adapters with 8 invocations per subgroup.
    Subgroup8,
}

/// Variants of a fully connected layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    /// As of a matrix product.
    Tile(Tile),
    /// As of a matrix product, with rows that are multiples of 4 (`aligned`) or not.
    Subgroup8 { aligned: bool },
}

/// A tile in workgroup memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Rows and columns of its results: 32, 64 or 128.
    pub side: usize,
    /// Whether all rows are multiples of 4.
    pub vec4: bool,
    /// Of the operands.
    pub precision: Precision,
    /// The cooperative matrices that multiply it.
    pub matrix: Option<CooperativeMatrix>,
}

/// The shaders of `shared/tile_product.wgsl` and of `shared/cooperative_product.wgsl`.
pub(super) struct Tiles {
    /// By the precision, the side of the tiles, 32, 64 or 128, and whether rows are multiples of 4.
    pub plain: [[[Shader; 2]; 3]; 2],
    /// By the side of the matrices, 8 or 16, and whether rows are multiples of 4.
    pub cooperative: [[Shader; 2]; 2],
}

pub(super) const fn tiles(base: Shader) -> Tiles {
    Tiles {
        plain: [
            [
                [base, base.with(&["VEC4"])],
                [base.with(&["TILE64"]), base.with(&["TILE64", "VEC4"])],
                [base.with(&["TILE128"]), base.with(&["TILE128", "VEC4"])],
            ],
            [
                [base.with(&["F16"]), base.with(&["F16", "VEC4"])],
                [base.with(&["F16", "TILE64"]), base.with(&["F16", "TILE64", "VEC4"])],
                [base.with(&["F16", "TILE128"]), base.with(&["F16", "TILE128", "VEC4"])],
            ],
        ],
        cooperative: [
            [base.with(&["F16", "COOPERATIVE", "MATRIX8"]), base.with(&["F16", "COOPERATIVE", "MATRIX8", "VEC4"])],
            [base.with(&["F16", "COOPERATIVE"]), base.with(&["F16", "COOPERATIVE", "VEC4"])],
        ],
    }
}

impl Tile {
    fn new(target: Target, side: usize, vec4: bool, precision: Precision) -> Tile {
        let halves = target.matrix.filter(|_| precision == Precision::F16);
        Tile { side, vec4, precision, matrix: halves.filter(|matrix| cooperative_side(*matrix) == side) }
    }

    pub fn shader(self, tiles: &'static Tiles) -> &'static Shader {
        let of_side = match self.matrix {
            Some(matrix) => &tiles.cooperative[usize::from(matrix.side == 16)],
            None => &tiles.plain[usize::from(self.precision == Precision::F16)][self.side.ilog2() as usize - 5],
        };
        &of_side[usize::from(self.vec4)]
    }

    /// The shader's constants.
    pub fn constants(self) -> Option<(&'static str, f64)> {
        self.matrix.map(CooperativeMatrix::workgroup)
    }
}

/// The side of tiles of cooperative matrices.
fn cooperative_side(matrix: CooperativeMatrix) -> usize {
    4 * matrix.side as usize
}

/// For operands with rows of `lens`, and the slices of its sums, at most the last of `slices`.
pub(super) fn product(
    r: &mut Recorder,
    problem: Problem,
    lens: [usize; 2],
    slices: RangeInclusive<usize>,
) -> (Product, usize) {
    let (precision, vec4) = (problem.precision, aligned(lens));
    let tiled = precision == Precision::F16 || filters(r.target) == Variant::Tile;
    let default = tiled.then(|| own_tiling(r.target, problem, *slices.end()));
    match r.tiling(problem, *slices.end(), default) {
        Some(tiling) => (Product::Tile(Tile::new(r.target, tiling.side, vec4, precision)), within(tiling, slices)),
        None => (Product::Subgroup8 { aligned: vec4 }, 1),
    }
}

fn aligned(lens: [usize; 2]) -> bool {
    lens.iter().all(|len| len.is_multiple_of(4))
}

/// The slices of a tiling, which may be of a file.
fn within(tiling: Tiling, slices: RangeInclusive<usize>) -> usize {
    tiling.slices.clamp(*slices.start(), *slices.end())
}

/// Without measurements.
fn own_tiling(target: Target, problem: Problem, slices: usize) -> Tiling {
    Tiling { side: side(target, problem, problem.copies * slices), slices }
}

/// The tiles that are filled well: those of cooperative matrices, if they are large, else the largest that occupy the
/// adapter. An invocation of large ones has more results for each value that it reads.
fn side(target: Target, problem: Problem, copies: usize) -> usize {
    let enough = match target.kind {
        AdapterKind::Software => usize::MAX,
        AdapterKind::Integrated => 32,
        _ => 128,
    };
    let groups = |side: usize| -> usize { problem.result.iter().map(|len| len.div_ceil(side)).product() };
    let filled = |side: &usize| groups(*side) * side * side * 4 <= problem.result[0] * problem.result[1] * 5;
    let matrix = target.matrix.filter(|_| problem.precision == Precision::F16).map(cooperative_side);
    let large = || [128, 64].into_iter().find(|side| groups(*side) * copies >= enough && filled(side));
    matrix.filter(|side| *side >= 64 && filled(side)).or_else(large).unwrap_or(32)
}

fn has_subgroup8(target: Target) -> bool {
    matches!(target, Target { kind: AdapterKind::Software, subgroup: Some(8), .. })
}

/// For rows of `n` and of `k`, which must be multiples of 4 for subgroups of 8.
pub(super) fn matrix_product(target: Target, n: usize, k: usize) -> Variant {
    match n.is_multiple_of(4) && k.is_multiple_of(4) {
        true => filters(target),
        false => Variant::Tile,
    }
}

/// For complex filters at frame centres.
pub(super) fn filters(target: Target) -> Variant {
    if has_subgroup8(target) { Variant::Subgroup8 } else { Variant::Tile }
}

/// The scalar or the vec4 variant for rows of `n`, and its vector width.
pub(super) fn by_row(n: usize, scalar: &'static Shader, vec4: &'static Shader) -> (&'static Shader, usize) {
    let width = row_width(n);
    (if width == 4 { vec4 } else { scalar }, width)
}

/// The vector width of these variants.
pub(super) fn row_width(n: usize) -> usize {
    if n.is_multiple_of(4) { 4 } else { 1 }
}

/// As [`by_row`], with the vec4 variant that reads textures where these are cheaper than storage buffers.
pub(super) fn by_row_texels(target: Target, n: usize, shaders: &'static [Shader; 3]) -> (&'static Shader, usize) {
    let [scalar, vec4, texels] = shaders;
    by_row(n, scalar, if has_subgroup8(target) { texels } else { vec4 })
}

/// Whether two elements are best loaded and stored at once (see `shaders/shared/stored.wgsl`).
pub(super) fn stores_wide(target: Target) -> bool {
    has_subgroup8(target)
}

/// Kernels that sum over the invocations of a workgroup: in its memory, and first over subgroups.
pub(super) type Lanes = [Shader; 2];

/// Most iterations of such a sum over so many lanes: for subgroups of 4.
pub(super) const fn lane_rounds(lanes: usize) -> usize {
    lanes / 4
}

/// Whether these sum over subgroups first: where subgroups have a fixed size. On a CPU they are lanes of one thread
/// already.
pub(super) fn sums_subgroups(target: Target) -> bool {
    target.subgroup.is_some() && target.kind != AdapterKind::Software
}

/// The variant for a target.
pub(super) fn lanes(target: Target, shaders: &'static Lanes) -> &'static Shader {
    &shaders[usize::from(sums_subgroups(target))]
}

/// Whether the kernels that copy a batch draw its rows themselves. On a CPU drawing one for each value costs more than
/// a dispatch.
pub(super) fn draws_within(target: Target) -> bool {
    target.kind != AdapterKind::Software
}

/// How the rows of a matrix are summed by columns, for all rows to use the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    /// In slices of rows, which every workgroup of the next dispatch joins.
    Slices,
    /// The same, which every invocation joins: where a workgroup's invocations are the lanes of a CPU, what is live at
    /// a barrier goes through memory.
    Alone,
    /// In one dispatch: a workgroup sums all rows of its columns and goes on with them.
    Whole,
}

/// Most rows that are summed in one dispatch, 16 by an invocation: larger matrices take longer than a second dispatch.
const WHOLE_ROWS: usize = 4096;

pub(super) fn reduction(target: Target, rows: usize) -> Reduction {
    match target.kind {
        AdapterKind::Software => Reduction::Alone,
        _ if rows <= WHOLE_ROWS => Reduction::Whole,
        _ => Reduction::Slices,
    }
}

/// Invocations that work on a frame of the Fourier transform: where a subgroup is 8 lanes of a CPU, a barrier between
/// several of them costs more than it gains.
pub(super) fn fourier_lanes(target: Target) -> u32 {
    if target.kind == AdapterKind::Software { 8 } else { 64 }
}

/// Of a convolution: `c` channels in, `n` out, and a square kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    pub n: usize,
    pub c: usize,
    pub size: usize,
    pub stride: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convolution {
    /// As for a matrix product.
    Tile(Tile),
    /// As for a matrix product. Not `aligned`: input channels that are not a multiple of 4 (a first layer's one or
    /// three), or a stride above 1.
    Subgroup8 { aligned: bool },
    /// Tiles of pixels with all taps of a 3 x 3 kernel, `width` output channels for an invocation: for inputs of one
    /// channel (`single`) or a multiple of 4, up to 112: those with more have small images, which fill few tiles.
    Square3 { single: bool, width: usize },
    /// Each invocation computes a run of pixels: for few output channels, a multiple of 4, and kernels of up to 5 x 5.
    Runs { aligned: bool },
}

/// And the slices of its sums, at most `slices`.
pub(super) fn convolution(r: &mut Recorder, problem: Problem, filter: Filter, slices: usize) -> (Convolution, usize) {
    let own = own_convolution(r.target, filter);
    choose(r, problem, filter, slices, own)
}

/// As [`convolution`], for the gradient of the input, which has no variant for channels that are not aligned.
pub(super) fn convolution_gradient(r: &mut Recorder, problem: Problem, filter: Filter) -> Convolution {
    let own = own_convolution(r.target, filter).filter(|variant| {
        use Convolution::{Runs, Square3, Subgroup8};
        !matches!(variant, Subgroup8 { aligned: false } | Runs { aligned: false } | Square3 { single: true, .. })
    });
    choose(r, problem, filter, 1, own).0
}

fn choose(
    r: &mut Recorder,
    problem: Problem,
    filter: Filter,
    slices: usize,
    own: Option<Convolution>,
) -> (Convolution, usize) {
    let default = own.is_none().then(|| own_tiling(r.target, problem, slices));
    match (r.tiling(problem, slices, default), own) {
        (None, Some(own)) => (own, slices),
        (chosen, _) => {
            let tiling = chosen.or(default).expect("there is a default without a variant of its own");
            let tile = Tile::new(r.target, tiling.side, aligned([filter.n, filter.c]), problem.precision);
            (Convolution::Tile(tile), within(tiling, 1..=slices))
        }
    }
}

/// `None`: in tiles.
fn own_convolution(target: Target, filter: Filter) -> Option<Convolution> {
    let Filter { n, c, size, stride } = filter;
    let aligned = c.is_multiple_of(4);
    if target.precision == Precision::F16 || matrix_product(target, n, 4) == Variant::Tile {
        return None;
    }
    // The one that takes the elements of x one by one, at any stride.
    if stride > 1 {
        return Some(Convolution::Subgroup8 { aligned: false });
    }
    Some(match size {
        3 if (c == 1 || aligned) && c <= 112 => {
            let width = match n {
                0..=8 => 1,
                9..=16 => 2,
                _ => 4,
            };
            Convolution::Square3 { single: c == 1, width }
        }
        ..=5 if n <= 16 => Convolution::Runs { aligned },
        _ => Convolution::Subgroup8 { aligned },
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attention {
    /// Tiles in workgroup memory: any GPU, any shape.
    Tile,
    /// The same with more workgroups that accumulate sums, each in fewer iterations (see
    /// [`MAX_ITERATIONS`](crate::gpu::MAX_ITERATIONS)): software adapters, at the cost of memory.
    TileSoftware,
    /// Subgroup broadcasts: software adapters with 8 invocations per subgroup, heads of up to 8 channels, up to 128
    /// rows of positions.
    Subgroup8,
}

/// For images of `height` rows and heads of up to `depth` channels.
pub(super) fn attention(target: Target, height: usize, depth: usize) -> Attention {
    match has_subgroup8(target) {
        true if height <= 128 && depth <= 8 => Attention::Subgroup8,
        _ if target.kind == AdapterKind::Software => Attention::TileSoftware,
        _ => Attention::Tile,
    }
}
