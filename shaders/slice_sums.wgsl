// Sums over the slices of gradients of parameters, of several layers at once, in the order of the slices.
#import grid
#import value

// The slices of a layer. Lengths and places count Values.
struct Part {
    end: u32,        // of its workgroups, which begin where those of the part before end
    slices: u32,
    first: u32,      // Values of a slice that belong to one parameter,
    second: u32,     //   and to another one
    first_at: u32,   // where their gradients begin
    second_at: u32,
    stride: u32,     // from one replica's gradients to the next
    accumulate: u32, // bits: 1 add to the gradient of the first, 2 of the second
}

struct Params {
    part0: Part,
    part1: Part,
    part2: Part,
    part3: Part,
    part4: Part,
    part5: Part,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> slices0: array<Value>; // (R, slices, first + second), each
@group(0) @binding(2) var<storage, read> slices1: array<Value>;
@group(0) @binding(3) var<storage, read> slices2: array<Value>;
@group(0) @binding(4) var<storage, read> slices3: array<Value>;
@group(0) @binding(5) var<storage, read> slices4: array<Value>;
@group(0) @binding(6) var<storage, read> slices5: array<Value>;
@group(0) @binding(7) var<storage, read_write> gradients: array<Value>;

const WORKGROUP_SIZE = 64u;

fn slice_value(which: u32, at: u32) -> Value {
    switch which {
        case 0u: { return slices0[at]; }
        case 1u: { return slices1[at]; }
        case 2u: { return slices2[at]; }
        case 3u: { return slices3[at]; }
        case 4u: { return slices4[at]; }
        default: { return slices5[at]; }
    }
}

fn part_of(which: u32) -> Part {
    switch which {
        case 0u: { return p.part0; }
        case 1u: { return p.part1; }
        case 2u: { return p.part2; }
        case 3u: { return p.part3; }
        case 4u: { return p.part4; }
        default: { return p.part5; }
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn slice_sums(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) local_index: u32) {
    let group = group_index(id, count);
    var which = 0u;
    var part = p.part0;
    var begin = 0u;
    while group >= part.end && which < 5u {
        begin = part.end;
        which++;
        part = part_of(which);
    }
    let i = (group - begin) * WORKGROUP_SIZE + local_index;
    let len = part.first + part.second;
    if i >= len { return; }
    var sum = Value(0.0);
    for (var s = 0u; s < part.slices; s++) { sum += slice_value(which, (id.z * part.slices + s) * len + i); }
    let is_first = i < part.first;
    let at = id.z * part.stride + select(part.second_at + i - part.first, part.first_at + i, is_first);
    if (part.accumulate & select(2u, 1u, is_first)) != 0u { sum += gradients[at]; }
    gradients[at] = sum;
}
