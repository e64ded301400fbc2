// A product of matrices in tiles: 64 invocations compute 32 x 32 results, 4 x 4 each. The invocations of a workgroup
// fill a_tile and b_tile with a slice of the depth, multiply after a barrier, and wait at another.
const TILE = 32u;  // rows and columns of a workgroup's result
const DEPTH = 16u; // of the tiles of A and B
const WORKGROUP_SIZE = 64u;

var<workgroup> a_tile: array<f32, 512>; // (DEPTH, TILE)
var<workgroup> b_tile: array<f32, 512>; // (DEPTH, TILE)

// Adds the product of the two tiles to this invocation's 4 x 4 results.
fn multiply(acc: ptr<function, array<vec4<f32>, 4>>, row: u32, col: u32) {
    for (var d = 0u; d < DEPTH; d++) {
        let at_a = d * TILE + row;
        let at_b = d * TILE + col;
        let bv = vec4(b_tile[at_b], b_tile[at_b + 1u], b_tile[at_b + 2u], b_tile[at_b + 3u]);
        for (var i = 0u; i < 4u; i++) {
            (*acc)[i] += a_tile[at_a + i] * bv;
        }
    }
}
