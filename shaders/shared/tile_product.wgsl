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
#import tile_blocks
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

const LINES = SIDE;
alias Lines = array<vec4<f32>, LINES>;
// Of a row of results an invocation has FOURS times four.
const ROWS = 4u * SIDE;
const FOURS = SIDE;
alias Sums = array<array<vec4<f32>, FOURS>, ROWS>;

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
        for (var i = 0u; i < ROWS; i++) {
            for (var h = 0u; h < FOURS; h++) { (*sums)[i][h] += a[i / 4u][i % 4u] * b[h]; }
        }
    }
}

// After the last slice.
fn finish(sums: ptr<function, Sums>, local_index: u32) {}

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

// Whether an invocation has sums of lines that no other one has, and the first line of its h-th four.
fn sums_lines(local_index: u32) -> bool { return local_index % ACROSS == 0u; }

fn line_of(local_index: u32, h: u32) -> u32 { return result_row(local_index, 4u * h); }
