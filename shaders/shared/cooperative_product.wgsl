// As `tile_product.wgsl`, with cooperative matrices: each of four subgroups computes 2 x 2 matrices of results.
#import cooperative_matrix

const TILE = 4u * MATRIX;
const DEPTH = MATRIX;
#import tile_blocks

// Elements of a step in a tile: rows of matrices begin at multiples of 16 bytes, in different banks.
const ROW = TILE + 8u;
var<workgroup> a_tile: array<f16, DEPTH * ROW>; // (DEPTH, lines of A)
var<workgroup> b_tile: array<f16, DEPTH * ROW>; // (DEPTH, lines of B)

// Results of a subgroup: (2, 2) matrices.
var<private> products: array<Product, 4>;
// Those of a row of matrices: (subgroups, 2, MATRIX, MATRIX).
var<workgroup> product_tile: array<f32, 8u * ELEMENTS>;

// The first 2 BLOCKS invocations have results, in ROWS rows FOURS times four, which are MATRIX apart.
const ROWS = 2u;
const FOURS = 4u;
alias Sums = array<array<vec4<f32>, FOURS>, ROWS>;
const LINES = 1u;
alias Lines = array<vec4<f32>, LINES>;

fn put_a(line0: u32, step: u32, block: Block) {
    for (var j = 0u; j < 4u; j++) {
        for (var i = 0u; i < 4u; i++) { a_tile[(step + j) * ROW + line0 + i] = f16(block[j][i]); }
    }
}

fn put_b(line0: u32, step: u32, block: Block) {
    for (var j = 0u; j < 4u; j++) {
        for (var i = 0u; i < 4u; i++) { b_tile[(step + j) * ROW + line0 + i] = f16(block[j][i]); }
    }
}

// Adds the products of the slice in the tiles.
fn multiply(sums: ptr<function, Sums>, local_index: u32) {
    let subgroup = subgroup_of(local_index);
    let line_a = subgroup / 2u * 2u * MATRIX;
    let line_b = subgroup % 2u * 2u * MATRIX;
    let a0 = coopLoad<Left>(&a_tile[line_a], ROW);
    let a1 = coopLoad<Left>(&a_tile[line_a + MATRIX], ROW);
    let b0 = coopLoadT<Right>(&b_tile[line_b], ROW);
    let b1 = coopLoadT<Right>(&b_tile[line_b + MATRIX], ROW);
    products[0] = coopMultiplyAdd(a0, b0, products[0]);
    products[1] = coopMultiplyAdd(a0, b1, products[1]);
    products[2] = coopMultiplyAdd(a1, b0, products[2]);
    products[3] = coopMultiplyAdd(a1, b1, products[3]);
}

// After the last slice: gives each invocation its results.
fn finish(sums: ptr<function, Sums>, local_index: u32) {
    let first = subgroup_of(local_index) * 2u * ELEMENTS;
    coopStoreT(products[0], &product_tile[first], MATRIX);
    coopStoreT(products[1], &product_tile[first + ELEMENTS], MATRIX);
    workgroupBarrier();
    (*sums)[0] = results_of(local_index);
    workgroupBarrier();
    coopStoreT(products[2], &product_tile[first], MATRIX);
    coopStoreT(products[3], &product_tile[first + ELEMENTS], MATRIX);
    workgroupBarrier();
    (*sums)[1] = results_of(local_index);
}

// Of the row of matrices in `product_tile`.
fn results_of(local_index: u32) -> array<vec4<f32>, FOURS> {
    var results: array<vec4<f32>, FOURS>;
    if has_results(local_index) {
        let row = local_index / QUADS_OF_MATRIX;
        let four = local_index % QUADS_OF_MATRIX * 4u;
        for (var h = 0u; h < FOURS; h++) {
            // Two subgroups have the same rows of matrices.
            let at = (row / MATRIX * 4u + h) * ELEMENTS + row % MATRIX * MATRIX + four;
            results[h] =
                vec4(product_tile[at], product_tile[at + 1u], product_tile[at + 2u], product_tile[at + 3u]);
        }
    }
    return results;
}

const QUADS_OF_MATRIX = MATRIX / 4u;

fn has_results(local_index: u32) -> bool { return local_index < 2u * BLOCKS; }

// The line of A that an invocation's i-th row of results belongs to, beyond all if it has none, and the first of the
// four of B of its h-th.
fn result_row(local_index: u32, i: u32) -> u32 {
    if !has_results(local_index) { return 0x40000000u; }
    let row = local_index / QUADS_OF_MATRIX;
    return (row / MATRIX * 2u + i) * MATRIX + row % MATRIX;
}

fn result_col(local_index: u32, h: u32) -> u32 { return h * MATRIX + local_index % QUADS_OF_MATRIX * 4u; }

// Adds the slice's steps of four lines of A: an invocation for each four.
fn add_lines(lines: ptr<function, Lines>, local_index: u32) {
    if !sums_lines(local_index) { return; }
    for (var d = 0u; d < DEPTH; d++) {
        let at = d * ROW + line_of(local_index, 0u);
        (*lines)[0] += vec4(f32(a_tile[at]), f32(a_tile[at + 1u]), f32(a_tile[at + 2u]), f32(a_tile[at + 3u]));
    }
}

// Whether an invocation has sums of lines, and the first line of its h-th four.
fn sums_lines(local_index: u32) -> bool { return local_index < QUADS; }

fn line_of(local_index: u32, h: u32) -> u32 { return local_index * 4u; }
