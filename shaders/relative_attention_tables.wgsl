// Gradients of relative self-attention's tables from the sums of relative_attention_backward_input.
#import grid

const LN_2 = 0.6931471805599453;

struct Params {
    len: u32,        // elements of the table
    depth: u32,      // columns of it
    parts: u32,      // (B, N, groups)
    part: u32,       // elements of a part
    first: u32,      // where the table begins in a part
    row: u32,        // elements of a part's row
    lanes: u32,      // sums of each element
    stride: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> sums: array<f32>;             // (R, parts, table rows, row)
@group(0) @binding(2) var<storage, read_write> grad_table: array<f32>; // every stride

// The gradient of a table, from all parts in order.
@compute @workgroup_size(64)
fn relative_attention_backward_table(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                                     @builtin(local_invocation_index) lane: u32) {
    let i = group_index(id, count) * 64u + lane;
    if i >= p.len { return; }
    let start = p.first + i / p.depth * p.row + i % p.depth * p.lanes;
    var sum = 0.0;
    for (var part = 0u; part < p.parts; part++) {
        let at = (id.z * p.parts + part) * p.part + start;
        for (var j = 0u; j < p.lanes; j++) { sum += sums[at + j]; }
    }
    let to = id.z * p.stride + i;
    if p.accumulate == 1u { grad_table[to] += sum * LN_2; } else { grad_table[to] = sum * LN_2; }
}
