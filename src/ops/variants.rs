//! Which variant of a kernel runs where: the only place that looks at the adapter. Choices depend on it and on shapes,
//! never on R.
//!
//! A variant is a file with its defines; entry points have the same name in all. An op turns it into its shader, the
//! tiles of a workgroup and the rounds of its loops in one place, beside the parameters of these kernels, because these
//! numbers describe how the kernel is written: here they would be far from it, and would make this file and every op
//! import each other.

use crate::gpu::{AdapterKind, Shader, Target};

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
}

/// A shader of `shared/tile_product.wgsl`, by the side of its tiles, 32, 64 or 128, and whether rows are multiples of
/// 4.
pub(super) type Tiles = [[Shader; 2]; 3];

pub(super) const fn tiles(base: Shader) -> Tiles {
    [
        [base, base.with(&["VEC4"])],
        [base.with(&["TILE64"]), base.with(&["TILE64", "VEC4"])],
        [base.with(&["TILE128"]), base.with(&["TILE128", "VEC4"])],
    ]
}

impl Tile {
    pub fn shader(self, tiles: &'static Tiles) -> &'static Shader {
        &tiles[self.side.ilog2() as usize - 5][usize::from(self.vec4)]
    }
}

/// For rows of `lens`, and a result of (rows, columns) in so many copies, replicas not counted.
pub(super) fn product(target: Target, lens: [usize; 2], result: [usize; 2], copies: usize) -> Product {
    let tile = tile(target, lens, result, copies);
    match filters(target) {
        Variant::Tile => Product::Tile(tile),
        Variant::Subgroup8 => Product::Subgroup8 { aligned: tile.vec4 },
    }
}

fn tile(target: Target, lens: [usize; 2], result: [usize; 2], copies: usize) -> Tile {
    Tile { side: side(target, result, copies), vec4: lens.iter().all(|len| len.is_multiple_of(4)) }
}

/// The largest tiles that occupy the adapter and are filled well: an invocation of larger ones has more results for
/// each value that it reads.
fn side(target: Target, result: [usize; 2], copies: usize) -> usize {
    let enough = match target.kind {
        AdapterKind::Software => return 32,
        AdapterKind::Integrated => 32,
        _ => 128,
    };
    let fits = |side: &usize| {
        let groups: usize = result.iter().map(|len| len.div_ceil(*side)).product();
        let filled = result[0] * result[1];
        groups * copies >= enough && groups * side * side * 4 <= filled * 5
    };
    [128, 64].into_iter().find(fits).unwrap_or(32)
}

fn has_subgroup8(target: Target) -> bool {
    matches!(target, Target { kind: AdapterKind::Software, subgroup: Some(8) })
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

/// For a result of (rows, columns) in so many copies, replicas not counted.
pub(super) fn convolution(target: Target, filter: Filter, result: [usize; 2], copies: usize) -> Convolution {
    let Filter { n, c, size, stride } = filter;
    let aligned = c.is_multiple_of(4);
    match matrix_product(target, n, 4) {
        Variant::Tile => Convolution::Tile(tile(target, [n, c], result, copies)),
        // The one that takes the elements of x one by one, at any stride.
        Variant::Subgroup8 if stride > 1 => Convolution::Subgroup8 { aligned: false },
        Variant::Subgroup8 if size == 3 && (c == 1 || aligned) && c <= 112 => {
            let width = match n {
                0..=8 => 1,
                9..=16 => 2,
                _ => 4,
            };
            Convolution::Square3 { single: c == 1, width }
        }
        Variant::Subgroup8 if n <= 16 && size <= 5 => Convolution::Runs { aligned },
        Variant::Subgroup8 => Convolution::Subgroup8 { aligned },
    }
}

/// As [`convolution`], for the gradient of the input, which has no variant for channels that are not aligned.
pub(super) fn convolution_gradient(target: Target, filter: Filter, result: [usize; 2]) -> Convolution {
    match convolution(target, filter, result, 1) {
        Convolution::Subgroup8 { aligned: false }
        | Convolution::Runs { aligned: false }
        | Convolution::Square3 { single: true, .. } => Convolution::Tile(tile(target, [filter.n, filter.c], result, 1)),
        variant => variant,
    }
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
