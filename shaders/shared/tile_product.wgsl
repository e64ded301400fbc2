// A product of matrices, C (rows, cols) = A (rows, depth) B (depth, cols), in tiles of workgroup memory. A workgroup
// computes TILE x TILE results in slices of DEPTH steps. Of each operand an invocation fetches LOADS vec4 of the next
// slice, computes its products of the present one, and puts them into the tiles between two barriers. It has
// 4 SIDE x 4 SIDE results: for four of A's lines and four of B's it reads a vec4 of each. TILE64 and TILE128 have
// SIDE = 2, so that a read serves sixteen multiply-adds instead of eight.
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
const LOADS = QUADS * DEPTH / WORKGROUP_SIZE;
// Invocations along a side of C. The four lines that one computes at a time are neighbours, its SIDE sets of four are
// far apart, so that neighbouring invocations read neighbouring vec4.
const ACROSS = QUADS / SIDE;
// vec4 of a step in a tile: with one of padding, operands that are transposed spread over the banks.
const ROW = QUADS + 1u;

var<workgroup> a_tile: array<vec4<f32>, DEPTH * ROW>; // (DEPTH, lines of A)
var<workgroup> b_tile: array<vec4<f32>, DEPTH * ROW>; // (DEPTH, lines of B)

alias Fetched = array<vec4<f32>, LOADS>;
alias Lines = array<vec4<f32>, SIDE>;
alias Sums = array<array<vec4<f32>, SIDE>, 4u * SIDE>; // (lines of A, fours of B)

// Operands that are contiguous along the depth: the line of the tile that the i-th fetched vec4 belongs to, and the
// first of its four steps.
fn line_along(local_index: u32, i: u32) -> u32 { return (i * WORKGROUP_SIZE + local_index) / (DEPTH / 4u); }

fn step_along(local_index: u32, i: u32) -> u32 { return (i * WORKGROUP_SIZE + local_index) % (DEPTH / 4u) * 4u; }

// Those that are contiguous along the lines: the first of four lines, and their step.
fn line_across(local_index: u32, i: u32) -> u32 { return (i * WORKGROUP_SIZE + local_index) % QUADS * 4u; }

fn step_across(local_index: u32, i: u32) -> u32 { return (i * WORKGROUP_SIZE + local_index) / QUADS; }

fn put_a_along(local_index: u32, i: u32, v: vec4<f32>) {
    let place = line_along(local_index, i);
    let first = step_along(local_index, i) * ROW + place / 4u;
    for (var j = 0u; j < 4u; j++) { a_tile[first + j * ROW][place % 4u] = v[j]; }
}

fn put_b_along(local_index: u32, i: u32, v: vec4<f32>) {
    let place = line_along(local_index, i);
    let first = step_along(local_index, i) * ROW + place / 4u;
    for (var j = 0u; j < 4u; j++) { b_tile[first + j * ROW][place % 4u] = v[j]; }
}

fn put_a_across(local_index: u32, i: u32, v: vec4<f32>) {
    a_tile[step_across(local_index, i) * ROW + line_across(local_index, i) / 4u] = v;
}

fn put_b_across(local_index: u32, i: u32, v: vec4<f32>) {
    b_tile[step_across(local_index, i) * ROW + line_across(local_index, i) / 4u] = v;
}

// Adds the products of the slice in the tiles.
fn multiply(sums: ptr<function, Sums>, local_index: u32) {
    for (var d = 0u; d < DEPTH; d++) {
        var a: Lines;
        var b: Lines;
        for (var h = 0u; h < SIDE; h++) {
            a[h] = a_tile[d * ROW + h * ACROSS + local_index / ACROSS];
            b[h] = b_tile[d * ROW + h * ACROSS + local_index % ACROSS];
        }
        for (var i = 0u; i < 4u * SIDE; i++) {
            for (var h = 0u; h < SIDE; h++) { (*sums)[i][h] += a[i / 4u][i % 4u] * b[h]; }
        }
    }
}

// Adds the slice's steps of the lines of A that an invocation computes with.
fn add_lines(lines: ptr<function, Lines>, local_index: u32) {
    for (var d = 0u; d < DEPTH; d++) {
        for (var h = 0u; h < SIDE; h++) { (*lines)[h] += a_tile[d * ROW + h * ACROSS + local_index / ACROSS]; }
    }
}

// The line of A that an invocation's i-th row of results belongs to, and the first of the four of B of its h-th.
fn result_row(local_index: u32, i: u32) -> u32 {
    return (i / 4u * ACROSS + local_index / ACROSS) * 4u + i % 4u;
}

fn result_col(local_index: u32, h: u32) -> u32 { return (h * ACROSS + local_index % ACROSS) * 4u; }
