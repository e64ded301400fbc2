// A product of matrices for subgroups of 8 invocations, which together compute 32 x 32 results.
const TILE = 32u;

// Eight rows of a tile. An invocation holds 4 neighbouring columns of each.
alias Rows = array<vec4<f32>, 8>;

// t += a b for four steps of the depth. a: invocation i holds the elements of row i. b: its columns are the steps, for
// this invocation's columns of the tile. A row takes all four steps at once: when registers run out, it is moved once
// instead of four times. Constant indices only: an array indexed by a loop variable would be in memory.
fn update(t: ptr<function, Rows>, a: vec4<f32>, b: mat4x4<f32>) {
    (*t)[0] = multiply_add((*t)[0], subgroupBroadcast(a, 0u), b);
    (*t)[1] = multiply_add((*t)[1], subgroupBroadcast(a, 1u), b);
    (*t)[2] = multiply_add((*t)[2], subgroupBroadcast(a, 2u), b);
    (*t)[3] = multiply_add((*t)[3], subgroupBroadcast(a, 3u), b);
    (*t)[4] = multiply_add((*t)[4], subgroupBroadcast(a, 4u), b);
    (*t)[5] = multiply_add((*t)[5], subgroupBroadcast(a, 5u), b);
    (*t)[6] = multiply_add((*t)[6], subgroupBroadcast(a, 6u), b);
    (*t)[7] = multiply_add((*t)[7], subgroupBroadcast(a, 7u), b);
}

fn multiply_add(t: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return t + a.x * b[0] + a.y * b[1] + a.z * b[2] + a.w * b[3];
}
