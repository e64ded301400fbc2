// The dataset rows of a step's batch, from the clock alone, in which the step begins.
//
// A shuffled position is found by a Feistel network over the next power of two, whose round function is Philox under
// the replica's seed; a value outside 0 .. n - 1 goes through the network again until it is inside (cycle walking),
// which makes the network a permutation of 0 .. n - 1.
#import grid
#import philox

struct Params {
    n: u32,         // clips of the pool
    batch: u32,     // B
    batches: u32,   // of an epoch
    shuffled: u32,
    low_bits: u32,  // of a position, which has low_bits + high_bits
    high_bits: u32,
    pool_stride: u32,
    stream: u32,    // distinguishes shuffles
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> clock: array<u32>; // (R, 4): seed low, seed high, step, done
@group(0) @binding(2) var<storage, read> pool: array<u32>;        // (n) every pool_stride
@group(0) @binding(3) var<storage, read_write> y: array<u32>;     // (R, B)

const ROUNDS = 4u; // even, so that both halves end with their initial widths
const PADDING = 0xffffffffu;

fn feistel(value: u32, epoch: u32, key: vec2<u32>) -> u32 {
    var low_bits = p.low_bits;
    var high_bits = p.high_bits;
    var low = value & ((1u << low_bits) - 1u);
    var high = value >> low_bits;
    for (var round = 0u; round < ROUNDS; round++) {
        let word = philox(vec4(low, round, epoch, p.stream), key).x;
        let mixed = (high ^ word) & ((1u << high_bits) - 1u);
        high = low;
        low = mixed;
        let bits = low_bits;
        low_bits = high_bits;
        high_bits = bits;
    }
    return (high << low_bits) | low;
}

@compute @workgroup_size(64)
fn sample_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) local_index: u32) {
    let b = group_index(id, count) * 64u + local_index;
    if b >= p.batch { return; }
    let at = 4u * id.z;
    let step = clock[at + 3u];
    if b == 0u { clock[at + 2u] = step; }
    var position = step % p.batches * p.batch + b;
    var row = PADDING;
    if position < p.n {
        if p.shuffled == 1u {
            let epoch = step / p.batches;
            let key = vec2(clock[at], clock[at + 1u]);
            position = feistel(position, epoch, key);
            while position >= p.n { position = feistel(position, epoch, key); }
        }
        row = pool[id.z * p.pool_stride + position];
    }
    y[id.z * p.batch + b] = row;
}
