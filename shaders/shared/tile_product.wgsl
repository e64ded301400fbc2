// A product of matrices, C (rows, cols) = A (rows, depth) B (depth, cols), in tiles of workgroup memory. A workgroup
// computes TILE x TILE results in slices of DEPTH steps. An invocation fetches a block of four lines and four steps of
// one operand's next slice, adds its products of the present one, and puts the block into the tile between two
// barriers: whole vec4 only, as invocations that write components of the same one would race. It has 4 SIDE x 4 SIDE
// results: for four of A's lines and four of B's it reads a vec4 of each. TILE64 and TILE128 have SIDE = 2, so that a
// read serves sixteen multiply-adds instead of eight.
#ifdef TILE128
const TILE = 128u;
const SIDE = 2u;
const DEPTH = 8u;
const WORKGROUP_SIZE = 256u;
#else
#ifdef TILE64
const TILE = 64u;
const SIDE = 2u;
const DEPTH = 8u;
const WORKGROUP_SIZE = 64u;
#else
const TILE = 32u;
const SIDE = 1u;
const DEPTH = 16u;
const WORKGROUP_SIZE = 64u;
#endif
#endif
const QUADS = TILE / 4u;
// Of a slice of an operand, four lines by four steps; the first invocations fetch those of A, the next those of B.
const BLOCKS = QUADS * DEPTH / 4u;
// Invocations along a side of C. The four lines that one computes at a time are neighbours, its SIDE sets of four are
// far apart, so that neighbouring invocations read neighbouring vec4.
const ACROSS = QUADS / SIDE;
// vec4 of a step in a tile: with one of padding, the blocks of neighbours are in different banks.
const ROW = QUADS + 1u;

#ifdef F16
// Rounded to half precision: half the workgroup memory, and half of what is read from it. Sums are in f32.
alias Operands = vec4<f16>;
#else
alias Operands = vec4<f32>;
#endif

var<workgroup> a_tile: array<Operands, DEPTH * ROW>; // (DEPTH, lines of A)
var<workgroup> b_tile: array<Operands, DEPTH * ROW>; // (DEPTH, lines of B)

alias Block = array<vec4<f32>, 4>;
alias Lines = array<vec4<f32>, SIDE>;
alias Sums = array<array<vec4<f32>, SIDE>, 4u * SIDE>; // (lines of A, fours of B)

fn fetches_a(local_index: u32) -> bool { return local_index < BLOCKS; }

fn fetches_b(local_index: u32) -> bool { return local_index >= BLOCKS && local_index < 2u * BLOCKS; }

// The first line and the first step of an invocation's block. Operands that are contiguous along the depth are fetched
// as four lines of four steps, with neighbours along the depth.
fn line_along(local_index: u32) -> u32 { return local_index % BLOCKS / (DEPTH / 4u) * 4u; }

fn step_along(local_index: u32) -> u32 { return local_index % (DEPTH / 4u) * 4u; }

// Those that are contiguous along the lines as four steps of four lines, with neighbours along the lines.
fn line_across(local_index: u32) -> u32 { return local_index % QUADS * 4u; }

fn step_across(local_index: u32) -> u32 { return local_index % BLOCKS / QUADS * 4u; }

// Four steps of four lines.
fn transposed(block: Block) -> Block {
    let m = transpose(mat4x4(block[0], block[1], block[2], block[3]));
    return Block(m[0], m[1], m[2], m[3]);
}

// Puts a block of four steps whose first line and step these are.
fn put_a(line0: u32, step: u32, block: Block) {
    for (var j = 0u; j < 4u; j++) { a_tile[(step + j) * ROW + line0 / 4u] = Operands(block[j]); }
}

fn put_b(line0: u32, step: u32, block: Block) {
    for (var j = 0u; j < 4u; j++) { b_tile[(step + j) * ROW + line0 / 4u] = Operands(block[j]); }
}

// Adds the products of the slice in the tiles.
fn multiply(sums: ptr<function, Sums>, local_index: u32) {
    for (var d = 0u; d < DEPTH; d++) {
        var a: Lines;
        var b: Lines;
        for (var h = 0u; h < SIDE; h++) {
            a[h] = vec4<f32>(a_tile[d * ROW + h * ACROSS + local_index / ACROSS]);
            b[h] = vec4<f32>(b_tile[d * ROW + h * ACROSS + local_index % ACROSS]);
        }
        for (var i = 0u; i < 4u * SIDE; i++) {
            for (var h = 0u; h < SIDE; h++) { (*sums)[i][h] += a[i / 4u][i % 4u] * b[h]; }
        }
    }
}

// Adds the slice's steps of the lines of A that an invocation computes with.
fn add_lines(lines: ptr<function, Lines>, local_index: u32) {
    for (var d = 0u; d < DEPTH; d++) {
        for (var h = 0u; h < SIDE; h++) {
            (*lines)[h] += vec4<f32>(a_tile[d * ROW + h * ACROSS + local_index / ACROSS]);
        }
    }
}

// The line of A that an invocation's i-th row of results belongs to, and the first of the four of B of its h-th.
fn result_row(local_index: u32, i: u32) -> u32 {
    return (i / 4u * ACROSS + local_index / ACROSS) * 4u + i % 4u;
}

fn result_col(local_index: u32, h: u32) -> u32 { return (h * ACROSS + local_index % ACROSS) * 4u; }
