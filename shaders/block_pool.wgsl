// Maximum and mean over consecutive blocks of frames, see src/ops/block_pool.rs.
#import grid
alias Value = f32;
alias Bits = u32;
#import nan

struct Params {
    clips: u32,  // R B
    t: u32,      // T
    width: u32,  // F
    blocks: u32, // M
    frames: u32, // a block is frames / per long
    per: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;       // (R, B, T, F)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (R, B, M, 2, F)

// An invocation per clip, block and column.
@compute @workgroup_size(64)
fn block_pool_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                      @builtin(local_invocation_index) local_index: u32) {
    let i = group_index(id, count) * 64u + local_index;
    if i >= p.clips * p.blocks * p.width { return; }
    let row = i / p.width;
    let clip = row / p.blocks;
    let block = row - clip * p.blocks;
    let first = block * p.frames / p.per;
    let end = (block + 1u) * p.frames / p.per;
    let column = i - row * p.width;
    var at = (clip * p.t + first) * p.width + column;
    var greatest = x[at];
    var sum = 0.0;
    for (var frame = first; frame < end; frame++) {
        let v = x[at];
        greatest = keep_nan(greatest + v, max(greatest, v));
        sum += v;
        at += p.width;
    }
    y[2u * row * p.width + column] = greatest;
    y[(2u * row + 1u) * p.width + column] = sum / f32(end - first);
}
