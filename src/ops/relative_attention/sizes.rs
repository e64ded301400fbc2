//! Sizes of the attention, and how its kernels divide positions and channels.

use crate::gpu::Grid;
use crate::ops::variants::Attention;

/// Most channels that an invocation of a portable kernel holds in registers: others share a position's.
const MAX_PART: usize = 16;
/// Positions of a workgroup of the portable kernels where an invocation has all channels and rows are long, and
/// elsewhere.
const MANY_LANES: usize = 64;
const LANES: usize = 32;
/// Workgroup memory of a portable kernel, in vec4: of up to 64 invocations (six workgroups are on each of an AMD GPU's
/// SIMD units), and of more.
const SMALL_MEMORY: usize = 640;
const MEMORY: usize = 1024;
/// Most positions of a tile.
const MAX_TILE: usize = 32;
/// Iterations of a workgroup for its queries, where it accumulates sums on a software adapter.
const MAX_ITERATIONS: usize = 50_000;
/// Approximate number of workgroups that accumulate the tables' gradients. A workgroup's sums take 2 (H + W) rows.
const GROUPS: usize = 2048;
/// The same for subgroups of 8 CPU lanes: each lane has its own sums.
const GROUPS_SUBGROUP8: usize = 64;
/// Rows and columns of positions that a subgroup takes.
pub(super) const BLOCK: [usize; 2] = [4, 8];

/// Sizes; depths of one head.
#[derive(Clone, Copy)]
pub(super) struct Dims {
    pub(super) batch: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) key: usize,
    pub(super) value: usize,
}

/// How the portable kernels divide positions and channels.
struct Tiling {
    /// Positions of a workgroup, and invocations of each.
    lanes: usize,
    parts: usize,
    /// vec4 of a key and of a value, with those that fill the parts up.
    key: usize,
    value: usize,
    /// Of a tile.
    rows: usize,
    columns: usize,
}

impl Tiling {
    /// Loads of an invocation for `items` of a workgroup.
    fn share(&self, items: usize) -> usize {
        items.div_ceil(self.lanes * self.parts)
    }

    fn load_rounds(&self) -> usize {
        let positions = self.rows * self.columns;
        self.share(positions * self.key) + self.share(positions * self.value)
    }
}

impl Dims {
    /// Workgroups of `rows` x `columns` positions that cover all images and heads.
    pub(super) fn blocks(&self, [rows, columns]: [usize; 2], replicas: usize) -> Grid {
        let blocks = self.height.div_ceil(rows) * self.width.div_ceil(columns);
        Grid::folded(self.batch * self.heads * blocks, replicas)
    }

    /// Units of neighbouring queries of an image and head, and the workgroups that accumulate their sums for the
    /// tables.
    fn units(&self, variant: Attention) -> usize {
        match variant {
            Attention::Tile | Attention::TileSoftware => self.height * self.width.div_ceil(self.lanes(variant)),
            Attention::Subgroup8 => self.height.div_ceil(BLOCK[0]),
        }
    }

    pub(super) fn groups(&self, variant: Attention) -> usize {
        let units = self.units(variant);
        let (most, of_group) = match variant {
            Attention::Tile => (GROUPS, units),
            Attention::TileSoftware => (GROUPS, (MAX_ITERATIONS / self.unit_rounds(variant)).max(1)),
            Attention::Subgroup8 => (GROUPS_SUBGROUP8, units),
        };
        units.min(most.div_ceil(self.batch * self.heads).max(units.div_ceil(of_group)))
    }

    /// Invocations that share a position of the portable kernels.
    fn parts(&self) -> usize {
        self.key.max(self.value).div_ceil(MAX_PART)
    }

    /// Positions of a workgroup of theirs. More of them would idle on a software adapter.
    pub(super) fn lanes(&self, variant: Attention) -> usize {
        let many = variant == Attention::Tile && self.parts() == 1 && self.width > LANES;
        if many { MANY_LANES } else { LANES }
    }

    fn tiling(&self, variant: Attention) -> Tiling {
        let (lanes, parts) = (self.lanes(variant), self.parts());
        let [key, value] = [self.key, self.value].map(|n| n.div_ceil(4 * parts) * parts);
        let memory = if lanes * parts > 64 { MEMORY } else { SMALL_MEMORY };
        // Beside the ring: keys, values and terms of a tile, the parts' sums, and at most as many rows' sums, which the
        // forward kernel has for each part.
        let of_sums = if parts > 1 { lanes * parts } else { 0 };
        let of_position = key + value + (parts + of_sums).div_ceil(2) + lanes * parts / 4;
        let most = ((memory - lanes * key) / of_position).min(MAX_TILE);
        // Blocks of about the same number of rows.
        let rows = self.height.div_ceil(self.height.div_ceil(most));
        let columns = if rows < self.height { 1 } else { most / rows };
        Tiling { lanes, parts, key, value, rows, columns }
    }

    /// Most loop iterations of the subgroup kernels for a block over all positions.
    fn block_rounds(&self) -> usize {
        self.width.div_ceil(BLOCK[1]) * (1 + self.height)
    }

    /// Most loop iterations of a query in the forward kernel.
    pub(super) fn forward_rounds(&self, variant: Attention) -> usize {
        if variant == Attention::Subgroup8 {
            return self.block_rounds();
        }
        let t = self.tiling(variant);
        let of_tile = 1 + t.load_rounds() + t.columns * (1 + 2 * t.rows);
        let of_rows = 1 + t.rows + self.width.div_ceil(t.columns) * of_tile;
        self.height.div_ceil(t.rows) * of_rows + MAX_PART
    }

    /// Most loop iterations of a key in its backward kernel.
    pub(super) fn key_rounds(&self, variant: Attention) -> usize {
        if variant == Attention::Subgroup8 {
            return self.block_rounds();
        }
        let t = self.tiling(variant);
        let of_terms = t.share(t.rows * t.columns * t.parts);
        let of_tile = 1 + t.load_rounds() + of_terms + t.columns * (1 + 2 * t.rows);
        self.width.div_ceil(t.columns) * (1 + self.height.div_ceil(t.rows) * of_tile) + 2 * MAX_PART
    }

    /// Most loop iterations of a unit of queries in the backward kernel that accumulates sums.
    fn unit_rounds(&self, variant: Attention) -> usize {
        if variant == Attention::Subgroup8 {
            return self.width.div_ceil(BLOCK[1]) * (1 + 2 * self.height + self.block_rounds());
        }
        let t = self.tiling(variant);
        let of_tile = 1 + t.load_rounds() + 2 * t.columns * (1 + t.rows);
        let of_rows = 1
            + t.share(t.rows * t.lanes)
            + self.width.div_ceil(t.columns) * of_tile
            + t.share(t.lanes * t.key)
            + t.share(t.rows * t.key) * (1 + t.lanes);
        1 + self.height.div_ceil(t.rows) * of_rows + MAX_PART
    }

    /// Most loop iterations of a workgroup that accumulates sums: it clears them, and takes its part of the queries.
    pub(super) fn gathering_rounds(&self, variant: Attention) -> usize {
        let clearing = match variant {
            Attention::Subgroup8 => self.part(variant).div_ceil(BLOCK[1]),
            _ => {
                let t = self.tiling(variant);
                t.share(self.part(variant) / 4) + t.share(t.lanes * t.key)
            }
        };
        clearing + self.units(variant).div_ceil(self.groups(variant)) * self.unit_rounds(variant)
    }

    /// Elements of a row of those sums.
    pub(super) fn sums(&self, variant: Attention) -> [usize; 2] {
        match variant {
            Attention::Tile | Attention::TileSoftware => [4 * self.tiling(variant).key, 1],
            Attention::Subgroup8 => [self.key * BLOCK[1], BLOCK[1]],
        }
    }

    /// Elements of a group's sums.
    pub(super) fn part(&self, variant: Attention) -> usize {
        (2 * (self.height + self.width) - 2) * self.sums(variant)[0]
    }

    pub(super) fn partial(&self, variant: Attention) -> usize {
        self.batch * self.heads * self.groups(variant) * self.part(variant)
    }

    /// The shaders' constants.
    pub(super) fn constants(&self, variant: Attention) -> Vec<(&'static str, f64)> {
        let mut constants = vec![("KEY_DEPTH", self.key), ("VALUE_DEPTH", self.value)];
        match variant {
            Attention::Tile | Attention::TileSoftware => {
                let Tiling { lanes, parts, rows, columns, .. } = self.tiling(variant);
                constants.extend([("LANES", lanes), ("PARTS", parts), ("ROWS", rows), ("COLUMNS", columns)]);
            }
            Attention::Subgroup8 => constants.push(("ROWS", self.height)),
        }
        constants.into_iter().map(|(name, n)| (name, n as f64)).collect()
    }
}
